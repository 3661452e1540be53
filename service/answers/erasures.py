"""What erasures take and leave: rows without words, sets that lost some, their mirror, and models that had learned."""

from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import case, func, null, tuple_
from sqlmodel import Session, col, select

from retrain.types import Contents, Split
from service.runtime import Runtime
from service.tables import (
    Annotation,
    AnnotationTask,
    Feedback,
    LedgerEntry,
    ModelVersion,
    Project,
    Response,
    Settlement,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
)

NO_WORDS = [{"role": "user", "content": ""}]
FILLED_AGAIN = "training_set_filled_again"
AUDITED_AGAIN = "training_set_audited_again"
ERASED_SETS = select(TrainingSetExample.training_set_id).where(col(TrainingSetExample.erased_at).is_not(None))

REVISION = 1 + (
    select(func.count())
    .where(
        LedgerEntry.project_id == TrainingSet.project_id,
        col(LedgerEntry.action).in_((FILLED_AGAIN, AUDITED_AGAIN)),
    )
    .where(LedgerEntry.subject == TrainingSet.fingerprint)
    .correlate(TrainingSet)
    .scalar_subquery()
)


class Repository(Protocol):
    """`retrain.versions.DataRepository`, whose libraries only a worker loads."""

    def publish(self, name: str, version: int, contents: Contents, *, revision: int = 1) -> str: ...
    def add_run(self, name: str, version: int, run: str, contents: Contents, *, revision: int = 1) -> str: ...
    def commit_of(self, tag: str) -> str | None: ...
    def tags(self) -> list[str]: ...
    def shards(self, tag: str) -> dict[str, str]: ...
    def forget(self, digests: Callable[[], Iterable[str]]) -> None: ...
    def content(self, digest: str) -> Path | None: ...
    def push(self) -> int: ...
    def unpushed(self, tags: Iterable[str]) -> set[str]: ...
    def collect(self, keep: Callable[[], Iterable[str]]) -> int: ...


class RowFiles(Protocol):
    """`retrain.parquet`, whose libraries only a worker loads."""

    def names(self, path: Path) -> set[str]: ...
    def shards(self, path: Path, folder: Path) -> dict[str, Path]: ...
    def leave_out(self, path: Path, names: Container[str], destination: Path) -> None: ...


def of_subject(table: Any, subject: str, project_id: UUID | None) -> Any:
    """Say which rows of a table are in a person's name, in one project or in all."""
    in_name = col(table.subject) == subject
    return in_name if project_id is None else in_name & (col(table.project_id) == project_id)


def is_of(subject: str, project_id: UUID | None) -> Any:
    """Say which responses are a person's: those in their name, and in nobody's those on which they had a word.

    All turns of a conversation repeat what was said before: those in nobody's name go with the others. Copies that
    people compare stand in a project of their own, and go with what they were made of.
    """
    nobody = col(Response.subject).is_(None)
    judged = select(Feedback.response_id).where(
        of_subject(Feedback, subject, project_id), col(Feedback.response_id).is_not(None)
    )
    named = of_subject(Response, subject, project_id) | nobody & col(Response.id).in_(judged)
    talks = select(Response.project_id, Response.conversation_id).where(
        named, col(Response.conversation_id).is_not(None)
    )
    own = named | nobody & tuple_(col(Response.project_id), col(Response.conversation_id)).in_(talks)
    return own | col(Response.copy_of_id).in_(select(Response.id).where(own))


def said_nothing(at: datetime) -> dict[str, Any]:
    """Return what stands in an erased feedback's columns instead of words."""
    return {
        **dict.fromkeys(
            ("comment", "correction", "subject", "session", "trace_id", "span_id", "text_sha256")
        ),
        **dict.fromkeys(("response_ref", "body_sha256"), ""),
        "earlier_events": {},
        "masked": {},
        "selection": null(),
        "withdrawn_at": func.coalesce(Feedback.withdrawn_at, at),
        "triaged_at": func.coalesce(Feedback.triaged_at, at),
    }


def answered_nothing(at: datetime) -> dict[str, Any]:
    """Return what stands in an erased response's columns instead of words."""
    names = (
        "subject",
        "external_id",
        "conversation_id",
        "language",
        "legal_basis",
        "trace_id",
        "text_sha256",
    )
    return {
        **dict.fromkeys(names),
        **dict.fromkeys(("text", "body_sha256"), ""),
        "messages": NO_WORDS,
        "context": [],
        "attributes": {},
        "host_metadata": {},
        "masked": {},
        "may_train": False,
        "triaged_at": func.coalesce(Response.triaged_at, at),
    }


def reach(session: Session, responses: Any) -> dict[str, Any]:
    """Return where these responses led: tasks, annotations, rows of sets, and models that learned from those sets."""
    of_task = select(AnnotationTask.id).join(Response, col(AnnotationTask.response_id) == Response.id)
    tasks = set(session.exec(of_task.where(responses)))
    answers = select(func.count()).where(col(Annotation.task_id).in_(of_task.where(responses)))
    settled = select(Settlement.id).where(col(Settlement.task_id).in_(of_task.where(responses)))
    held = (
        select(TrainingSet, Project.slug, func.count(), func.sum(_is_taught()))
        .join(Project, col(TrainingSet.project_id) == Project.id)
        .join(TrainingSetExample, col(TrainingSetExample.training_set_id) == TrainingSet.id)
        .where(col(TrainingSetExample.settlement_id).in_(settled))
        .group_by(col(TrainingSet.id), col(Project.slug))
        .order_by(col(Project.slug), col(TrainingSet.version))
    )
    sets = session.exec(held).all()
    taught = {training_set.id for training_set, _, _, in_training in sets if in_training}
    runs = set(session.exec(select(TrainingRun.id).where(col(TrainingRun.training_set_id).in_(taught))))
    projects = {training_set.project_id for training_set, *_ in sets}
    learned = {key for project_id in projects for key in learned_by(session, project_id, runs)}
    models = select(ModelVersion, Project.slug).join(Project, col(ModelVersion.project_id) == Project.id)
    return {
        "tasks": len(tasks),
        "annotations": session.exec(answers).one(),
        "sets": [
            {"set": f"{slug}/v{one.version}", "fingerprint": one.fingerprint, "rows": rows}
            for one, slug, rows, _ in sets
        ],
        "models": [
            {"model": f"{slug}/v{model.number}", "adapter_sha256": model.adapter_sha256}
            for model, slug in session.exec(models.where(col(ModelVersion.id).in_(learned)))
        ],
    }


def _is_taught() -> Any:
    return case((col(TrainingSetExample.split) == Split.TRAIN, 1), else_=0)


def erased_rows(session: Session, training_set: TrainingSet) -> int:
    """Count the rows that a set was frozen with and that were erased since."""
    gone = select(func.count()).where(
        TrainingSetExample.training_set_id == training_set.id, col(TrainingSetExample.erased_at).is_not(None)
    )
    return session.exec(gone).one()


def erased_shards(runtime: Runtime, repository: Repository, files: RowFiles, sets: Any) -> set[str]:
    """Return the digests of what these sets were mirrored with and what holds a row that they do not have any more.

    What lies on the remote alone cannot be looked into, and is taken to hold one.
    """
    with runtime.db.reading() as session:
        named = select(Project.slug, TrainingSet.version, TrainingSet.id).join(
            TrainingSet, col(TrainingSet.project_id) == Project.id
        )
        emptied = session.exec(named.where(col(TrainingSet.id).in_(sets))).all()
        left = {f"{slug}/v{version}": _contents(session, set_id) for slug, version, set_id in emptied}
    mirrored: defaultdict[str, set[str]] = defaultdict(set)
    for tag in repository.tags() if left else []:
        if (name := _without_revision(tag)) in left:
            mirrored[name].update(repository.shards(tag).values())
    return {
        digest
        for name, digests in mirrored.items()
        for digest in digests
        if (file := repository.content(digest)) is None or not files.names(file) <= left[name]
    }


def _contents(session: Session, set_id: UUID) -> set[str]:
    """Return the hashes of the rows that a set has."""
    of_set = select(TrainingSetExample.content_sha256).where(TrainingSetExample.training_set_id == set_id)
    return set(session.exec(of_set))


def set_before(session: Session, training_set: TrainingSet) -> UUID | None:
    """Return the set whose rows are earlier ones to a training on this set.

    One that an erasure left with just this set's rows is none: had nobody been erased, it would not be another set.
    """
    left = _contents(session, training_set.id) - {""}
    before_id = training_set.parent_id
    while before_id:
        before = session.get_one(TrainingSet, before_id)
        if not erased_rows(session, before) or _contents(session, before_id) - {""} != left:
            break
        before_id = before.parent_id
    return before_id


def revision_of(session: Session, training_set: TrainingSet) -> int:
    """Count what a set was: once new, once more for each time it got rows after an erasure, or another audit."""
    return int(session.exec(select(REVISION).where(TrainingSet.id == training_set.id)).one())


def _without_revision(tag: str) -> str:
    """Return `NAME/vN` for `NAME/vN-2`; a name may have a hyphen too."""
    name, slash, version = tag.rpartition("/")
    return f"{name}{slash}{version.partition('-')[0]}"


def learned_from_erased(session: Session, project_id: UUID) -> set[UUID]:
    """Return the model versions that learned from rows erased since, and those that were trained on from such."""
    began = func.coalesce(TrainingRun.started_at, TrainingRun.created_at)
    taught = (
        select(TrainingRun.id)
        .join(TrainingSetExample, col(TrainingSetExample.training_set_id) == TrainingRun.training_set_id)
        .where(TrainingSetExample.split == Split.TRAIN, col(TrainingSetExample.erased_at) > began)
        .where(col(TrainingSetExample.erased_at).is_not(None))  # as the index of erased rows wants it
    )
    return learned_by(
        session, project_id, set(session.exec(taught.where(TrainingRun.project_id == project_id).distinct()))
    )


def learned_by(session: Session, project_id: UUID, runs: Collection[UUID]) -> set[UUID]:
    """Return the model versions that these runs made, and those that were trained on from such."""
    learned: set[UUID] = set()
    versions = select(ModelVersion).where(ModelVersion.project_id == project_id)
    for version in session.exec(versions.order_by(col(ModelVersion.number))):
        if version.training_run_id in runs or version.parent_id in learned:
            learned.add(version.id)
    return learned
