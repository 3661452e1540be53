"""What became of a feedback, as its sender and its project are told."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any
from uuid import UUID

from sqlalchemy import Select, case, exists, func
from sqlalchemy import select as select_columns
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from annotation.types import Cause, Verdict
from retrain.types import Mending, Split
from service.tables import (
    AnnotationTask,
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
    *("id", "event_id", "response_id", "rating", "reasons", "comment", "correction", "created_at"),
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
    task = select(TaskFlag.task_id).where(TaskFlag.feedback_id == feedback.id)
    settled = select(Settlement).where(col(Settlement.task_id).in_(task))
    return session.exec(settled.where(col(Settlement.withdrawn_at).is_(None))).first()


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
        .where(col(Recheck.settlement_id) == settlement.id)
        .order_by(col(ModelVersion.state) == ModelState.CHAMPION, col(Recheck.id))
    ).all()
    if not rows:
        return None
    alike = list(takewhile(lambda row: row[0].passed == rows[-1][0].passed, reversed(rows)))
    recheck, version, live_since = alike[-1] if rows[-1][0].passed else rows[-1]
    return Rechecked(version.number, recheck.passed, Mending(recheck.reason), live_since)


def told(session: Session, project: Project, *, after: UUID | None, size: int) -> list[dict[str, Any]]:
    """Return a project's feedback after an id, oldest first, as programs are told of it."""
    rows = select(Feedback).where(Feedback.project_id == project.id).order_by(col(Feedback.id)).limit(size)
    found = session.exec(rows.where(col(Feedback.id) > after) if after else rows).all()
    states = states_of(session, [row.id for row in found])
    return [row.model_dump(include=TOLD) | {"state": states[row.id]} for row in found]


def joined_to_state(feedback: Select[Any]) -> Select[Any]:
    """Join the rows along whose keys a feedback's state is found."""
    return (
        feedback.join(TaskFlag, col(TaskFlag.feedback_id) == Feedback.id, isouter=True)
        .join(AnnotationTask, col(AnnotationTask.id) == TaskFlag.task_id, isouter=True)
        .join(
            Settlement,
            (col(Settlement.task_id) == AnnotationTask.id) & col(Settlement.withdrawn_at).is_(None),
            isouter=True,
        )
    )


def told_state() -> Any:
    """Return what a flagger is told, as a column: a walk along the keys from their feedback to the champion.

    A model has learned only what it was trained on; a correction kept to measure it stays "corrected". It is "live"
    once a champion that learned it was asked again and passed; where it did not, experts look again, but not thrice.
    """
    trained = (
        exists()
        .where(
            col(TrainingSetExample.settlement_id) == Settlement.id,
            col(TrainingSetExample.training_set_id) == TrainingRun.training_set_id,
            col(TrainingRun.id) == ModelVersion.training_run_id,
            col(TrainingSetExample.split) == Split.TRAIN,
            col(ModelVersion.state) != ModelState.REFUSED,
        )
        .correlate(Settlement)
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
        .where(TrainingSetExample.settlement_id == settlement.id)
        .where(TrainingSetExample.split == Split.TRAIN, ModelVersion.state != ModelState.REFUSED)
    )
    return session.exec(taught.order_by(col(ModelVersion.number)).limit(1)).first()


def _others(session: Session, flag: TaskFlag) -> int:
    together = select(func.count()).select_from(TaskFlag).where(TaskFlag.task_id == flag.task_id)
    return session.exec(together).one() - 1


def _rechecked(*, of_champion: bool) -> Any:
    """Return whether the answer passed when it was asked again: of the champion, or of whichever version came last."""
    newest = select_columns(col(Recheck.passed)).where(col(Recheck.settlement_id) == Settlement.id)
    if of_champion:
        version = aliased(ModelVersion)
        newest = newest.join(version, col(version.id) == Recheck.model_version_id)
        newest = newest.where(col(version.state) == ModelState.CHAMPION)
    return newest.order_by(col(Recheck.id).desc()).limit(1).correlate(Settlement).scalar_subquery()
