"""What became of a feedback, as its sender and its project are told."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, case, exists
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from annotation.types import Cause, Verdict
from retrain.types import Split
from service.tables import (
    AnnotationTask,
    Document,
    Feedback,
    ModelState,
    ModelVersion,
    Project,
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
    task = select(TaskFlag.task_id).where(TaskFlag.feedback_id == feedback.id)
    settled = select(Settlement).where(col(Settlement.task_id).in_(task))
    return session.exec(settled.where(col(Settlement.withdrawn_at).is_(None))).first()


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
        .join(
            Settlement,
            (col(Settlement.task_id) == AnnotationTask.id) & col(Settlement.withdrawn_at).is_(None),
            isouter=True,
        )
    )


def told_state() -> Any:
    """Return what a flagger is told, as a column: a walk along the keys from their feedback to the champion.

    A model has learned only what it was trained on; a correction kept to measure it stays "corrected".
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
