"""What became of a feedback, as its sender and its project are told."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, case, exists
from sqlalchemy import select as select_columns
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from annotation.types import Cause, Verdict
from retrain.types import Split
from service.confirmed import holding, says_alike
from service.tables import (
    AnnotationTask,
    Document,
    Feedback,
    ModelState,
    ModelVersion,
    Project,
    Promotion,
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
    experts who were asked again confirmed.
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
    is_corrected = (col(Settlement.verdict) == Verdict.INCORRECT) & (col(Settlement.cause) == Cause.MODEL)
    return case(
        (col(Feedback.withdrawn_at).is_not(None), "withdrawn"),
        (is_corrected & live, "live"),
        (is_corrected & trained, "trained"),
        (is_corrected, "corrected"),
        (col(Settlement.id).is_not(None), "declined"),
        (col(AnnotationTask.id).is_(None), "received"),
        (col(AnnotationTask.state) == TaskState.SELECTED, "grouped"),
        (col(AnnotationTask.state) == TaskState.WITHDRAWN, "declined"),
        else_="checking",
    )


def gone_live(session: Session, model: ModelVersion, promotion: Promotion) -> Iterator[dict[str, Any]]:
    """Yield what is told of each flag whose correction is live for the first time with a model."""
    example, run, was_live = aliased(TrainingSetExample), aliased(TrainingRun), aliased(ModelVersion)
    taught = exists().where(
        *_teaches(TrainingSetExample),
        col(TrainingSetExample.training_set_id) == TrainingRun.training_set_id,
        col(TrainingRun.id) == model.training_run_id,
    )
    known = exists().where(
        *_teaches(example),
        col(run.training_set_id) == example.training_set_id,
        col(was_live.training_run_id) == run.id,
        col(Promotion.model_version_id) == was_live.id,
        col(Promotion.id) != promotion.id,
    )
    flags = (
        select(Feedback.id, Feedback.event_id)  # many flags may be taught, and their texts are not needed
        .join(TaskFlag, col(TaskFlag.feedback_id) == Feedback.id)
        .join(AnnotationTask, col(AnnotationTask.id) == TaskFlag.task_id)
        .join(Settlement, col(Settlement.id) == holding(AnnotationTask))
        .where(Settlement.verdict == Verdict.INCORRECT, Settlement.cause == Cause.MODEL, taught, ~known)
        .where(Feedback.project_id == model.project_id, col(Feedback.withdrawn_at).is_(None))
        .order_by(col(Feedback.id))
    )
    for flag_id, event_id in session.exec(flags):
        yield {"feedback": str(flag_id), "event_id": str(event_id), "state": "live"}


def _teaches(example: type[TrainingSetExample]) -> tuple[ColumnElement[bool], ...]:
    """Say in SQL of a set's row whether one learns from it what a `Settlement` says, which an earlier one may have."""
    taught, task = aliased(Settlement), aliased(AnnotationTask)
    return (
        col(task.response_id) == AnnotationTask.response_id,
        col(taught.task_id) == task.id,
        says_alike(taught, Settlement),
        col(example.settlement_id) == taught.id,
        col(example.split) == Split.TRAIN,
    )
