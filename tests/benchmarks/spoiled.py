"""The demo's clinic on SmolLM2, whose mail box sent hearts to Billing: a bisection all the way through the service."""

from dataclasses import dataclass
from time import process_time
from uuid import UUID

from sqlmodel import select

from annotation.types import Cause, Verdict
from service import bisections, jobs
from service.demo import enquiries
from service.runtime import Runtime
from service.settings import Settings
from service.stages import training
from service.tables import Bisection, Job, JobKind, ModelVersion, ProjectKind, TrainingSet
from tests import builders
from tests.benchmarks.installation import installation
from tests.desk import Desk

SENT, WRONGLY = "Cardiology", "Billing"
ASKED = (SENT, WRONGLY)
TESTED, LEARNED, LATER, SPOILED = 22, 8, 1, 28  # to judge by, to begin with, by each desk, by the mail box
OPTIONS = {"learning_rate": 1e-3, "epochs": 5, "batch_size": 4, "replay_general": 0}
SLOWER = OPTIONS | {"learning_rate": 9e-4}


@dataclass(frozen=True, slots=True)
class Found:
    """What a bisection said, and what is so."""

    told: dict
    is_spoiled: bool
    cpu: float

    @property
    def is_right(self) -> bool:
        """Say whether the mail box is blamed alone, or nothing where nothing is wrong."""
        titles = [change["title"] for change in self.told["changes"]]
        if not self.is_spoiled:
            return self.told["verdict"] == "none"
        return self.told["verdict"] == "data" and len(titles) == 1 and "source mail" in titles[0]

    @property
    def is_wrong(self) -> bool:
        """Say whether what is said is not so; one that cannot tell says nothing."""
        return self.told["verdict"] != "cannot_tell" and not self.is_right


class Clinic(Desk):
    """A clinic whose enquiries are settled, learned from and bisected by the service's own jobs."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime, ProjectKind.CLASSIFICATION, labels=ASKED)
        with runtime.db.transaction() as session:
            self.project.base_model = "bundled:smollm2"
            self.project.system_prompt = enquiries.SYSTEM_PROMPT
            session.add(self.project)
        self.left = {
            name: [one.text for one in enquiries.load(0) if one.department == name and one.also is None]
            for name in ASKED
        }

    def settle_next(
        self,
        department: str,
        n: int,
        *,
        said: str = "",
        source: str = "production",
        is_flagged: bool = True,
    ) -> None:
        """Have experts settle the next enquiries to a department, rightly unless they said another."""
        with self.runtime.db.transaction() as session:
            for _ in range(n):
                asked, label = self.left[department].pop(), said or department
                response = builders.add_response(session, self.project, label, asked=asked, source=source)
                flag = builders.add_flag(session, self.project, response, "wrong") if is_flagged else None
                task = builders.add_task(session, self.project, response, flag=flag)
                facts = {"verdict": Verdict.CORRECT, "label": None, "cause": Cause.MODEL}
                builders.add_settlement(session, task, **facts)

    def curated(self) -> TrainingSet:
        return self.curate(regression_share=0.0, validation_share=0.0)

    def trained(self, on: TrainingSet, **options: float) -> UUID:
        """Train on a set; the evaluation that would follow has nothing to do with what is asked here."""
        with self.runtime.db.transaction() as session:
            run = training.request(self.runtime, session, on, options)
        self._do(JobKind.TRAIN, run.id)
        with self.runtime.db.reading() as session:
            return session.exec(select(ModelVersion.id).where(ModelVersion.training_run_id == run.id)).one()

    def bisect(self, good: UUID, bad: UUID) -> dict:
        with self.runtime.db.transaction() as session:
            versions = [session.get_one(ModelVersion, one) for one in (good, bad)]
            found = bisections.request(self.runtime, session, *versions, metric="accuracy", actor="test")
        self._do(JobKind.BISECT, found.id)
        with self.runtime.db.reading() as session:
            return bisections.describe(session, session.get_one(Bisection, found.id))

    def _do(self, kind: JobKind, row_id: UUID) -> None:
        with self.runtime.db.reading() as session:
            job = session.exec(select(Job.id).where(Job.kind == kind, Job.row_id == row_id)).one()
        jobs.perform(self.runtime, self.runtime.queue.lease(job))


def search() -> tuple[Found, Found]:
    """Spoil a clinic; return what is found between its good and its bad version, and between two good ones."""
    with installation(cache_dir=Settings().cache_dir) as runtime:
        clinic = Clinic(runtime)
        for name in ASKED:
            clinic.settle_next(name, TESTED, is_flagged=False)
            clinic.settle_next(name, LEARNED)
        good = clinic.trained(clinic.curated(), **OPTIONS)
        for desk in ("telephone", "front desk"):
            for name in ASKED:
                clinic.settle_next(name, LATER, source=desk)
            sound = clinic.curated()
        clinic.settle_next(SENT, SPOILED, said=WRONGLY, source="mail")
        bad = clinic.trained(clinic.curated(), **SLOWER)
        return (
            _timed(clinic, good, bad, is_spoiled=True),
            _timed(clinic, good, clinic.trained(sound, **SLOWER), is_spoiled=False),
        )


def _timed(clinic: Clinic, good: UUID, bad: UUID, *, is_spoiled: bool) -> Found:
    begun = process_time()
    told = clinic.bisect(good, bad)
    return Found(told, is_spoiled, process_time() - begun)
