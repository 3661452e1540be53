"""What holds for a flag whose answer experts were asked about again: confirmed, or settled otherwise."""

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, String, cast
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from service.tables import AnnotationTask, Settlement, TaskFlag


def holding(first: type[AnnotationTask]) -> ScalarSelect[UUID]:
    """Return in SQL the settlement that holds for a task's flags: of those in force that of who was asked last."""
    task, settlement = aliased(AnnotationTask), aliased(Settlement)
    in_force = (
        select(settlement.id)
        .join(task, col(settlement.task_id) == task.id)
        .where(_answers(first, task), col(settlement.withdrawn_at).is_(None))
    )
    return in_force.order_by(col(task.id).desc()).limit(1).correlate(first).scalar_subquery()


def says_alike(one: type[Settlement], other: type[Settlement]) -> ColumnElement[bool]:
    """Say in SQL whether two settlements of one response teach the same, so that who learned one knows the other."""
    return (
        (col(one.verdict) == other.verdict)
        & col(one.label).is_not_distinct_from(other.label)
        & col(one.correction).is_not_distinct_from(other.correction)
        & (cast(one.labels, String) == cast(other.labels, String))
    )


def is_of_alike(settlement_id: Any) -> tuple[ColumnElement[bool], ...]:
    """Say in SQL whether an id is that of the `Settlement`, or of one of the same response that says the same."""
    taught, task = aliased(Settlement), aliased(AnnotationTask)
    return (
        col(task.response_id) == AnnotationTask.response_id,
        col(taught.task_id) == task.id,
        says_alike(taught, Settlement),
        settlement_id == taught.id,
    )


def is_known(session: Session, settlement: Settlement) -> bool:
    """Say whether the flags were told the same before: who is asked again often confirms what was settled."""
    task = session.get_one(AnnotationTask, settlement.task_id)
    other = aliased(AnnotationTask)
    earlier = (
        select(Settlement)
        .join(other, col(Settlement.task_id) == other.id)
        .join(AnnotationTask, _answers(AnnotationTask, other))
        .join(TaskFlag, col(TaskFlag.task_id) == AnnotationTask.id)
        .where(AnnotationTask.response_id == task.response_id, Settlement.id != settlement.id)
    )
    newest = session.exec(earlier.order_by(col(Settlement.id).desc()).limit(1)).first()
    return newest is not None and all(
        getattr(newest, name) == getattr(settlement, name)
        for name in ("verdict", "cause", "label", "labels", "correction")
    )


def _answers(first: type[AnnotationTask], task: type[AnnotationTask]) -> ColumnElement[bool]:
    """Say in SQL whether a task answers the flags of the `first`: it is that one, or asks the same again."""
    is_first_or_again = (col(task.id) == first.id) | col(task.rechecks_id).is_not(None)
    return (col(task.response_id) == first.response_id) & is_first_or_again
