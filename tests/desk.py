"""A project whose settlements become training sets, and those who decide about them."""

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from sqlmodel import select

from annotation.types import Cause, Verdict
from retrain import parquet
from retrain.audit import Finding, Repair, RepairKind, Severity, checks
from retrain.recipe import Recipe
from retrain.types import Example
from service.answers.audits import findings_of
from service.answers.changes import compare
from service.answers.examples import examples_of
from service.clock import utcnow
from service.stages import asking, auditing, curation, evaluation, training
from service.tables import (
    AcceptedRepair,
    AnnotationTask,
    AuditFinding,
    Evaluation,
    JobKind,
    LedgerEntry,
    ProjectKind,
    Role,
    Score,
    Settlement,
    TrainingRun,
    TrainingSet,
)
from tests import builders

TOMORROW = timedelta(days=1)


class Reviewer:
    """An audit that finds what a test puts before it, in sets that hold the rows; the rest is real."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.seen = None
        self.encode = None

    write = staticmethod(parquet.write)
    versions = staticmethod(checks.versions)

    def audit(self, examples, context, *, checks, report):
        self.seen = context
        held = {example.key for example in examples}
        return [finding for finding in self.findings if held & set(finding.keys)]


class Parrot:
    """An examiner, and its model, that chooses the first label always, and writes one answer to everything."""

    def __init__(self, said: str) -> None:
        self.said = said

    read = staticmethod(parquet.read)

    def open(self, base_model, system_prompt):
        return self

    def add_adapter(self, name, directory): ...

    def using(self, name):
        return nullcontext()

    def answer(self, conversations, *, max_new_tokens):
        return [self.said for _ in conversations]

    def score_labels(self, conversations, labels):
        return [[0.0, *(-1.0 for _ in labels[1:])] for _ in conversations]


class Desk:
    """A project whose settlements become sets."""

    def __init__(self, runtime, kind: ProjectKind, *, labels: Sequence[str] = builders.LABELS) -> None:
        self.runtime, self.reviewer = runtime, Reviewer()
        with runtime.db.transaction() as session:
            self.project = builders.add_project(session, labels=labels)
            self.project.kind = kind
            session.add(self.project)
            builders.add_criteria(session, self.project)
            self.olga, _ = builders.add_person(session, Role.APPROVER, "olga")

    def settle(self, asked: str, text: str, verdict=Verdict.CORRECT, **more) -> str:
        of_flag = more.pop("of_flag", {})
        of_response = {name: more.pop(name) for name in ("may_train", "subject") if name in more}
        with self.runtime.db.transaction() as session:
            response = builders.add_response(session, self.project, text, asked=asked, **of_response)
            flag = builders.add_flag(session, self.project, response, "wrong", **of_flag)
            task = builders.add_task(session, self.project, response, flag=flag)
            facts = {"verdict": verdict, "label": None, "cause": Cause.MODEL} | more
            return str(builders.add_settlement(session, task, **facts).id)

    def settle_again(self, key: str, way: str, correction: str) -> str:
        """Have experts asked once more about a settled row, in one of both ways; return what they settle on now."""
        if way == "repair":
            self.reviewer.findings.clear()
            self.finds(key, severity=Severity.WARN, proposals=[Repair(RepairKind.ASK, (key,))])
            self.accept(self.finding(self.curate()))
        with self.runtime.db.transaction() as session:
            first = session.get_one(Settlement, UUID(key))
            if way == "schema":
                asking.ask_about(session, self.project, [first.id], actor="olga")
            task = session.exec(
                select(AnnotationTask).where(AnnotationTask.rechecks_id == first.task_id)
            ).one()
            return str(builders.add_settlement(session, task, label=None, correction=correction).id)

    def curate(self, **recipe) -> TrainingSet:
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(session, JobKind.CURATE, self.project.id, project_id=self.project.id)
        lease = self.runtime.queue.lease(job)
        made = curation.run(self.runtime, lease, self.project.id, Recipe(**recipe), self.reviewer)
        lease.finish(made)
        with self.runtime.db.reading() as session:
            return session.get_one(TrainingSet, UUID(made["id"]))

    def rebuild(self, training_set: TrainingSet) -> dict:
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(
                session, JobKind.REBUILD, training_set.id, project_id=self.project.id
            )
        return curation.rebuild(self.runtime, self.runtime.queue.lease(job), training_set.id, self.reviewer)

    def examples(self, training_set: TrainingSet) -> dict[str, Example]:
        with self.runtime.db.reading() as session:
            return {row.key: row for row in examples_of(session, training_set)}

    def compare(self, a: TrainingSet, b: TrainingSet) -> dict:
        with self.runtime.db.reading() as session:
            return compare(session, a, b)

    def finds(self, *keys: str, severity=Severity.BLOCK, proposals: Sequence[Repair] = ()) -> None:
        self.reviewer.findings.append(
            Finding("noise", 1, severity, keys, "rows say nothing", "Leave them out.", tuple(proposals))
        )

    def finding(self, training_set: TrainingSet) -> AuditFinding:
        with self.runtime.db.reading() as session:
            return findings_of(session, training_set)[0]

    def waive(self, finding: AuditFinding, until=None) -> None:
        with self.runtime.db.transaction() as session:
            until = until or utcnow().date() + TOMORROW
            auditing.waive(session, self.project, finding.id, user=self.olga, reason="known", until=until)

    def accept(self, finding: AuditFinding, place: int = 0) -> AcceptedRepair:
        with self.runtime.db.transaction() as session:
            return auditing.accept(
                session, self.project, finding.id, place=place, user=self.olga, reason="yes"
            )

    def undo(self, accepted: AcceptedRepair) -> None:
        with self.runtime.db.transaction() as session:
            auditing.undo(session, self.project, accepted.id, user=self.olga)

    def train(self, training_set: TrainingSet) -> None:
        with self.runtime.db.transaction() as session:
            training.request(self.runtime, session, training_set, {})

    def judge(self, newest: TrainingSet, said: str | Parrot = "") -> tuple[Evaluation, list[Score]]:
        """Let a model that learned a set, as it were, be judged by what a parrot says."""
        with TemporaryDirectory() as folder:
            (Path(folder) / "weights").write_text("none")
            adapter = self.runtime.artifacts.put_directory(Path(folder))
        with self.runtime.db.transaction() as session:
            model = builders.add_challenger(session, self.project, number=newest.version + 100)
            session.get_one(TrainingRun, model.training_run_id).training_set_id = newest.id
            model.adapter_sha256 = adapter
        self.judge_again(model.id, said)
        with self.runtime.db.reading() as session:
            found = session.exec(select(Evaluation).where(Evaluation.model_version_id == model.id)).one()
            return found, list(session.exec(select(Score).where(Score.evaluation_id == found.id)))

    def judge_again(self, model_id: UUID, said: str | Parrot = "") -> None:
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(session, JobKind.EVALUATE, model_id, project_id=self.project.id)
        parrot = said if isinstance(said, Parrot) else Parrot(said)
        lease = self.runtime.queue.lease(job)
        lease.finish(evaluation.perform(self.runtime, lease, model_id, parrot))

    def actions(self) -> list[str]:
        with self.runtime.db.reading() as session:
            return [entry.action for entry in session.exec(select(LedgerEntry).order_by(LedgerEntry.seq))]
