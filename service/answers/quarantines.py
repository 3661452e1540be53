"""What is in quarantine: which feedback and settlements it holds back, and where rows of it stand already."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import exists
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from retrain.types import Split
from service.answers.erasures import learned_by
from service.tables import (
    AnnotationTask,
    Feedback,
    ModelVersion,
    Project,
    Quarantine,
    Response,
    Settlement,
    Source,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
    User,
)


def is_held() -> Any:
    """Say which responses are in quarantine, by their source or by who asked."""
    return _held(_is_of_response())


def is_feedback_held() -> Any:
    """Say which feedback, joined with its response, waits: it is held back, or its response or giver in quarantine."""
    in_quarantine = _held(_is_of_response() | (col(Quarantine.subject) == Feedback.subject))
    return in_quarantine | col(Feedback.held_for).is_not(None)


def held_settlements(session: Session, project_id: UUID, *conditions: Any) -> dict[str, str]:
    """Return the quarantine that keeps each settlement out of the next set, by settlement."""
    rows = _caused(select_columns(col(Settlement.id), col(Quarantine.id))).where(
        col(Quarantine.project_id) == project_id, col(Quarantine.lifted_at).is_(None), *conditions
    )
    return {str(key): str(by) for key, by in session.execute(rows.order_by(col(Quarantine.id).desc()))}


def in_force(session: Session, project_id: UUID) -> Sequence[Quarantine]:
    """Return what is in quarantine now, the oldest first."""
    rows = select(Quarantine).where(Quarantine.project_id == project_id, col(Quarantine.lifted_at).is_(None))
    return session.exec(rows.order_by(col(Quarantine.id))).all()


def describe_quarantine(session: Session, quarantine: Quarantine) -> dict[str, Any]:
    """Return a quarantine as the API, the console and the command line show it, with who holds rows of it."""
    source = session.get(Source, quarantine.source_id) if quarantine.source_id else None
    lifted_by = session.get(User, quarantine.lifted_by) if quarantine.lifted_by else None
    held = _caused(select_columns(col(TrainingSetExample.training_set_id)).distinct()).join(
        TrainingSetExample, col(TrainingSetExample.settlement_id) == Settlement.id
    )
    held = held.where(col(Quarantine.id) == quarantine.id)
    named = select(Project.slug, TrainingSet.version).join(
        TrainingSet, col(TrainingSet.project_id) == Project.id
    )
    sets = session.exec(named.where(col(TrainingSet.id).in_(held)).order_by(col(TrainingSet.version)))
    taught = held.where(col(TrainingSetExample.split) == Split.TRAIN)
    runs = session.exec(select(TrainingRun.id).where(col(TrainingRun.training_set_id).in_(taught)))
    models = select(ModelVersion.number).where(
        col(ModelVersion.id).in_(learned_by(session, quarantine.project_id, set(runs)))
    )
    return {
        "id": str(quarantine.id),
        "source": source.name if source else None,
        "subject": quarantine.subject,
        "reason": quarantine.reason,
        "by": session.get_one(User, quarantine.user_id).name,
        "at": quarantine.created_at.isoformat(),
        "lifted_by": lifted_by.name if lifted_by else None,
        "lifted_at": quarantine.lifted_at.isoformat() if quarantine.lifted_at else None,
        "sets": [f"{slug}/v{version}" for slug, version in sets],
        "models": sorted(session.exec(models)),
    }


def _is_of_response() -> Any:
    return (col(Quarantine.source_id) == Response.source_id) | (col(Quarantine.subject) == Response.subject)


def _held(matches: Any) -> Any:
    of_project = (col(Quarantine.project_id) == Response.project_id, col(Quarantine.lifted_at).is_(None))
    return exists().where(*of_project, matches).correlate(Response, Feedback)


def _caused(settlements: Any) -> Any:
    """Join settlements with the quarantines of their response or of whoever flagged it first."""
    return (
        settlements.select_from(Settlement)
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .join(Feedback, col(AnnotationTask.flag_id) == Feedback.id, isouter=True)
        .join(
            Quarantine,
            (col(Quarantine.project_id) == Settlement.project_id)
            & (_is_of_response() | (col(Quarantine.subject) == Feedback.subject)),
        )
    )
