"""What became of a feedback, as its sender and its project are told."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, case, exists, func
from sqlalchemy import select as select_columns
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from annotation.types import Cause, Verdict
from retrain.types import Mending, Split
from service.confirmed import holding, is_of_alike
from service.tables import (
    AnnotationTask,
    Document,
    Feedback,
    ModelState,
    ModelVersion,
    Project,
    Promotion,
    Recheck,
    Settlement,
    TaskFlag,
    TaskState,
    TrainingRun,
    TrainingSetExample,
)

TOLD = {
    *("id", "event_id", "response_id", "rating", "reasons", "comment", "correction", "created_at", "consent"),
    *("selection", "session", "trace_id", "span_id", "is_trusted", "is_mismatched", "masked"),
    "withdrawn_at",
}


@dataclass(frozen=True, slots=True)
class Step:
    """A state on the way of a feedback; without a time it is not reached. `others` were grouped with it."""

    state: str
    at: datetime | None
    others: int = 0
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Rechecked:
    """How a version did that was asked again, and since when it is live."""

    version: int
    passed: bool
    outcome: Mending
    live_since: datetime | None


def state_of(session: Session, feedback: Feedback) -> str:
    """Say what became of a feedback."""
    return states_of(session, [feedback.id])[feedback.id]


def states_of(session: Session, feedback_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Say what became of each feedback, in one query."""
    told = joined_to_state(select_columns(col(Feedback.id), told_state().label("state")))
    return {row.id: row.state for row in session.execute(told.where(col(Feedback.id).in_(feedback_ids)))}


def settlement_of(session: Session, feedback: Feedback) -> Settlement | None:
    """Return what experts settled on about a feedback, if that is in force."""
    settled = select(Settlement).join(AnnotationTask, col(Settlement.id) == holding(AnnotationTask))
    of_flag = settled.join(TaskFlag, col(TaskFlag.task_id) == AnnotationTask.id)
    return session.exec(of_flag.where(TaskFlag.feedback_id == feedback.id)).first()


def steps_of(session: Session, feedback: Feedback) -> list[Step]:
    """Return the way of a feedback that is neither declined nor withdrawn: when it reached what, by which version."""
    flag = session.exec(select(TaskFlag).where(TaskFlag.feedback_id == feedback.id)).first()
    task = session.get(AnnotationTask, flag.task_id) if flag else None
    settlement = settlement_of(session, feedback)
    corrected_at = settlement.created_at if settlement else None
    learned = _first_to_learn(session, settlement) if settlement else None
    fixed = recheck_of(session, settlement) if settlement else None
    return [
        Step("received", feedback.created_at),
        Step("grouped", flag.created_at, others=_others(session, flag)) if flag else Step("grouped", None),
        Step("checking", task.sent_at if task and task.sent_at else corrected_at),
        Step("corrected", corrected_at),
        Step("trained", learned.created_at, version=learned.number) if learned else Step("trained", None),
        Step("live", *((fixed.live_since, 0, fixed.version) if fixed and fixed.passed else (None,))),
    ]


def recheck_of(session: Session, settlement: Settlement) -> Rechecked | None:
    """Return how the newest version did that was asked again, the champion if it was; of several, the first to pass."""
    live = select_columns(func.min(Promotion.created_at)).where(
        col(Promotion.model_version_id) == ModelVersion.id
    )
    rows = session.execute(
        select_columns(Recheck, ModelVersion, live.correlate(ModelVersion).scalar_subquery())
        .join(ModelVersion, col(Recheck.model_version_id) == ModelVersion.id)
        .where(col(Settlement.id) == settlement.id, col(Settlement.task_id) == AnnotationTask.id)
        .where(*is_of_alike(col(Recheck.settlement_id)))
        .order_by(col(ModelVersion.state) == ModelState.CHAMPION, col(Recheck.id))
    ).all()
    if not rows:
        return None
    alike = list(takewhile(lambda row: row[0].passed == rows[-1][0].passed, reversed(rows)))
    recheck, version, live_since = alike[-1] if rows[-1][0].passed else rows[-1]
    return Rechecked(version.number, recheck.passed, Mending(recheck.reason), live_since)


def told(session: Session, project: Project, *, after: UUID | None, size: int) -> list[dict[str, Any]]:
    """Return a project's feedback after an id, oldest first, as programs are told of it."""
    listed = select(Feedback).where(Feedback.project_id == project.id).order_by(col(Feedback.id)).limit(size)
    found = session.exec(listed.where(col(Feedback.id) > after) if after else listed).all()
    return rows(session, found)


def rows(session: Session, found: Sequence[Feedback]) -> list[dict[str, Any]]:
    """Return feedback as programs are told of it."""
    states = states_of(session, [row.id for row in found])
    documents = select(Document.id, Document.version).where(
        col(Document.id).in_({row.reasons_id for row in found})
    )
    versions = {document: version for document, version in session.exec(documents)}  # noqa: C416  rows are no pairs
    return [
        row.model_dump(include=TOLD)
        | {"state": states[row.id], "reasons_version": row.reasons_id and versions[row.reasons_id]}
        for row in found
    ]


def joined_to_state(feedback: Select[Any]) -> Select[Any]:
    """Join the rows along whose keys a feedback's state is found."""
    return (
        feedback.join(TaskFlag, col(TaskFlag.feedback_id) == Feedback.id, isouter=True)
        .join(AnnotationTask, col(AnnotationTask.id) == TaskFlag.task_id, isouter=True)
        .join(Settlement, col(Settlement.id) == holding(AnnotationTask), isouter=True)
    )


def told_state() -> Any:
    """Return what a flagger is told, as a column: a walk along the keys from their feedback to the champion.

    A model has learned only what it was trained on; a correction kept to measure it stays "corrected". It knows what
    experts who were asked again confirmed. It is "live" once a champion that learned it was asked again and passed;
    where it did not, experts look again, but not thrice.
    """
    trained = (
        exists()
        .where(
            *_teaches(TrainingSetExample),
            col(TrainingSetExample.training_set_id) == TrainingRun.training_set_id,
            col(TrainingRun.id) == ModelVersion.training_run_id,
            col(ModelVersion.state) != ModelState.REFUSED,
        )
        .correlate(Settlement, AnnotationTask)
    )
    live = trained.where(col(ModelVersion.state) == ModelState.CHAMPION)
    passes = func.coalesce(_rechecked(of_champion=True), _rechecked(of_champion=False))
    again = aliased(AnnotationTask)
    is_open = col(again.state).in_((TaskState.SELECTED, TaskState.SENT, TaskState.CONTESTED))
    reopened = exists().where(col(again.rechecks_id) == Settlement.task_id, is_open).correlate(Settlement)
    is_corrected = (col(Settlement.verdict) == Verdict.INCORRECT) & (col(Settlement.cause) == Cause.MODEL)
    return case(
        (col(Feedback.withdrawn_at).is_not(None), "withdrawn"),
        (is_corrected & live & passes, "live"),
        (is_corrected & live & passes.is_(False) & reopened, "checking"),
        (is_corrected & trained & ~(live & passes.is_(False)), "trained"),
        (is_corrected, "corrected"),
        (col(Settlement.id).is_not(None), "declined"),
        (col(AnnotationTask.id).is_(None), "received"),
        (col(AnnotationTask.state) == TaskState.SELECTED, "grouped"),
        (col(AnnotationTask.state) == TaskState.WITHDRAWN, "declined"),
        else_="checking",
    )


def _first_to_learn(session: Session, settlement: Settlement) -> ModelVersion | None:
    taught = (
        select(ModelVersion)
        .join(TrainingRun, col(TrainingRun.id) == ModelVersion.training_run_id)
        .join(TrainingSetExample, col(TrainingSetExample.training_set_id) == TrainingRun.training_set_id)
        .where(Settlement.id == settlement.id, Settlement.task_id == AnnotationTask.id)
        .where(*_teaches(TrainingSetExample), ModelVersion.state != ModelState.REFUSED)
    )
    return session.exec(taught.order_by(col(ModelVersion.number)).limit(1)).first()


def _others(session: Session, flag: TaskFlag) -> int:
    together = select(func.count()).select_from(TaskFlag).where(TaskFlag.task_id == flag.task_id)
    return session.exec(together).one() - 1


def _rechecked(*, of_champion: bool) -> Any:
    """Return whether the answer passed when it was asked again: of the champion, or of whichever version came last."""
    newest = select_columns(col(Recheck.passed)).where(*is_of_alike(col(Recheck.settlement_id)))
    if of_champion:
        version = aliased(ModelVersion)
        newest = newest.join(version, col(version.id) == Recheck.model_version_id)
        newest = newest.where(col(version.state) == ModelState.CHAMPION)
    newest = newest.order_by(col(Recheck.id).desc()).limit(1)
    return newest.correlate(Settlement, AnnotationTask).scalar_subquery()


def _teaches(example: type[TrainingSetExample]) -> tuple[ColumnElement[bool], ...]:
    """Say in SQL of a set's row whether one learns from it what a `Settlement` says, which an earlier one may have."""
    return (*is_of_alike(col(example.settlement_id)), col(example.split) == Split.TRAIN)
