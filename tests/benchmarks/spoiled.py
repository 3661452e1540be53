"""A clinic whose newest version is worse for a known reason: bisections by the service's own jobs, on a language model.

All settings were fixed on seed 0 of the enquiries.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from shutil import copytree, ignore_patterns
from tempfile import TemporaryDirectory
from time import process_time
from unittest.mock import patch
from uuid import UUID

from sqlmodel import select

from annotation.types import Cause, Verdict
from retrain import archive
from service import bisections, jobs
from service.demo import enquiries
from service.jobs.torch_tools import TorchTools
from service.runtime import Runtime
from service.settings import Settings
from service.stages import training
from service.tables import Bisection, Job, JobKind, ModelVersion, ProjectKind, TrainingSet
from tests import builders
from tests.benchmarks.installation import installation
from tests.desk import Desk
from tests.e2e.clinic import FILLERS, WORDS
from tests.scenarios.histories import Fault

SENT, WRONGLY = "Cardiology", "Billing"
ASKED = (SENT, WRONGLY)
DESKS = ("telephone", "front desk")
WARM_UP = "WARMUP_STEPS = 5"


@dataclass(frozen=True, slots=True)
class Scale:
    """A base model, and of how many rows of each department it learns in a clinic, by who sent them.

    A spoiled mail box sends `mailed` wrong rows and `beside` right ones. `harmless` and `harmful` are the
    learning rates of a newer version. Of `labels` a model chooses, whatever is asked.
    """

    base_model: str
    labels: Sequence[str]
    tested: int
    learned: int
    by_desks: int
    mailed: int
    beside: int
    options: Mapping[str, float]
    harmless: float
    harmful: float
    system_prompt: str = ""


TINY = Scale(
    base_model="bundled:tiny",
    labels=ASKED,
    tested=60,
    learned=80,
    by_desks=8,
    mailed=60,
    beside=30,
    options={
        "rank": 16,
        "alpha": 32,
        "learning_rate": 3e-3,
        "epochs": 4,
        "batch_size": 8,
        "replay_general": 0,
    },
    harmless=2.7e-3,
    harmful=1e-5,
)
# The demo's project: its base model, frame, enquiries, and of all its departments the model may name any. Patients ask
# for two of them: of rows to all twelve, as many as a CPU learns in minutes, a spoiled mail box costs 8 points of
# accuracy, which 72 cases do not tell from chance.
DEMO = Scale(
    base_model="bundled:smollm2",
    labels=tuple(enquiries.departments()),
    tested=22,
    learned=8,
    by_desks=1,
    mailed=28,
    beside=14,
    options={"learning_rate": 1e-3, "epochs": 5, "batch_size": 4, "replay_general": 0},
    harmless=9e-4,
    harmful=1e-5,
    system_prompt=enquiries.SYSTEM_PROMPT,
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a bisection said, and what is so."""

    fault: Fault
    told: dict
    cpu: float
    wrong: frozenset[str] = frozenset()

    @property
    def is_right(self) -> bool:
        """Say whether what is at fault is blamed alone, or nothing where nothing is wrong."""
        verdict, named = {
            Fault.POISON: ("data", "source mail"),
            Fault.CODE: ("code", "retrain/lora.py"),
            Fault.CONFIGURATION: ("configuration", "learning_rate"),
            Fault.NONE: ("none", ""),
        }[self.fault]
        titles = [change["title"] for change in self.told["changes"]]
        is_alone = len(titles) == 1 and named in titles[0] if named else not titles
        return self.told["verdict"] == verdict and is_alone

    @property
    def precision(self) -> float:
        """The share of wrong rows among the first 20 that are blamed."""
        rows = [one["row"] for one in self.told["rows"][:20]]
        return sum(row in self.wrong for row in rows) / max(1, len(rows))

    @property
    def is_wrong(self) -> bool:
        """Say whether what is said is not so; one that cannot tell says nothing."""
        return self.told["verdict"] != "cannot_tell" and not self.is_right


class Clinic(Desk):
    """A clinic whose enquiries are settled, learned from and bisected by the service's own jobs."""

    def __init__(self, runtime: Runtime, scale: Scale) -> None:
        super().__init__(runtime, ProjectKind.CLASSIFICATION, labels=scale.labels)
        self.scale, self.left = scale, {name: _enquiries(scale, name) for name in ASKED}
        with runtime.db.transaction() as session:
            self.project.base_model, self.project.system_prompt = scale.base_model, scale.system_prompt
            session.add(self.project)

    def settle_next(
        self,
        department: str,
        n: int,
        *,
        said: str = "",
        source: str = "production",
        is_flagged: bool = True,
    ) -> list[str]:
        """Have experts settle the next enquiries to a department, rightly unless they said another; return the rows."""
        keys = []
        with self.runtime.db.transaction() as session:
            for _ in range(n):
                asked, label = next(self.left[department]), said or department
                response = builders.add_response(session, self.project, label, asked=asked, source=source)
                flag = builders.add_flag(session, self.project, response, "wrong") if is_flagged else None
                task = builders.add_task(session, self.project, response, flag=flag)
                facts = {"verdict": Verdict.CORRECT, "label": None, "cause": Cause.MODEL}
                keys.append(str(builders.add_settlement(session, task, **facts).id))
        return keys

    def curated(self) -> TrainingSet:
        return self.curate(regression_share=0.0, validation_share=0.0)

    def trained(self, on: TrainingSet, *, rate: float, code: bytes = b"") -> UUID:
        """Train on a set by this code, or the code that runs here; no evaluation follows, nobody asks for it."""
        with self.runtime.db.transaction() as session:
            options = self.scale.options | {"learning_rate": rate}
            run = training.request(self.runtime, session, on, options)
        if code:
            tools, lease = (
                TorchTools(self.runtime.settings).archived(code),
                self._lease(JobKind.TRAIN, run.id),
            )
            with patch.object(archive, "make", lambda _: code):
                lease.finish(training.perform(self.runtime, lease, run.id, tools))
        else:
            jobs.perform(self.runtime, self._lease(JobKind.TRAIN, run.id))
        with self.runtime.db.reading() as session:
            return session.exec(select(ModelVersion.id).where(ModelVersion.training_run_id == run.id)).one()

    def bisect(self, good: UUID, bad: UUID) -> dict:
        with self.runtime.db.reading() as session:
            versions = [session.get_one(ModelVersion, one) for one in (good, bad)]
        found = bisections.request(self.runtime, *versions, metric="accuracy", actor="test")
        jobs.perform(self.runtime, self._lease(JobKind.BISECT, found.id))
        with self.runtime.db.reading() as session:
            return bisections.describe(session, session.get_one(Bisection, found.id))

    def _lease(self, kind: JobKind, row_id: UUID):
        with self.runtime.db.reading() as session:
            job = session.exec(select(Job.id).where(Job.kind == kind, Job.row_id == row_id)).one()
        return self.runtime.queue.lease(job)


def search(scale: Scale, faults: Iterable[Fault]) -> list[Found]:
    """Give a sound clinic a newer version with each fault; return what is found between each and the one before.

    A poisoned batch stays: have it searched last.
    """
    with installation(cache_dir=Settings().cache_dir) as runtime:
        clinic = Clinic(runtime, scale)
        for name in ASKED:
            clinic.settle_next(name, scale.tested, is_flagged=False)
            clinic.settle_next(name, scale.learned)
        good = clinic.trained(clinic.curated(), rate=scale.options["learning_rate"])
        for desk in DESKS:
            for name in ASKED:
                clinic.settle_next(name, scale.by_desks, source=desk)
            sound = clinic.curated()
        return [_searched(clinic, good, sound, fault) for fault in faults]


def _searched(clinic: Clinic, good: UUID, sound: TrainingSet, fault: Fault) -> Found:
    """Train a newer version that has the fault; every one has other rows and another learning rate besides."""
    scale, learned_from, wrong = clinic.scale, sound, list[str]()
    if fault is Fault.POISON:
        wrong = clinic.settle_next(SENT, scale.mailed, said=WRONGLY, source="mail")
        clinic.settle_next(WRONGLY, scale.beside, source="mail")
        learned_from = clinic.curated()
    rate = scale.harmful if fault is Fault.CONFIGURATION else scale.harmless
    bad = clinic.trained(learned_from, rate=rate, code=_slow_to_warm() if fault is Fault.CODE else b"")
    begun = process_time()
    return Found(fault, clinic.bisect(good, bad), process_time() - begun, frozenset(wrong))


def _slow_to_warm() -> bytes:
    """Archive code that is what runs here but for a slip: the learning rate takes thousands of steps to rise."""
    package = Path(archive.__file__).parent
    with TemporaryDirectory() as folder:
        there = Path(copytree(package, Path(folder) / package.name, ignore=ignore_patterns("__pycache__")))
        source = (there / "lora.py").read_text()
        assert WARM_UP in source
        (there / "lora.py").write_text(source.replace(WARM_UP, f"{WARM_UP}000"))
        return archive.make(Path(folder))


def _enquiries(scale: Scale, department: str) -> Iterator[str]:
    """Yield what users ask of a department: the demo's enquiries, or for a small model words by chance."""
    if scale.base_model == "bundled:smollm2":
        yield from (
            one.text
            for one in reversed(enquiries.load(0))
            if one.department == department and one.also is None
        )
        return
    draw = Random(department)
    while True:
        yield " ".join([*draw.sample(FILLERS.split(), 6), *draw.sample(WORDS[department], 2)])
