"""Beside stage 3: how far annotators agree and can be trusted, by all that they have answered so far."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Subquery
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from annotation.types import Answer
from annotation.votes import Outcome, Vote, in_short
from retrain.export import BrokenEntities, canonical_entities
from retrain.types import canonical_json
from service.clock import utcnow
from service.queue import Lease
from service.settlements import IN_FORCE
from service.tables import (
    Annotation,
    AnnotationTask,
    Feedback,
    Project,
    ProjectKind,
    QualityReport,
    Settlement,
    TaskFlag,
)

COUNTED = 100_000  # tasks, the newest

Report = Callable[..., dict[str, Any]]

log = structlog.get_logger()


def run(lease: Lease, project_id: UUID, report: Report) -> dict[str, Any]:
    """Compute a project's report anew and keep it in place of the one before."""
    at = utcnow()
    with lease.transaction() as session:
        is_extraction = session.get_one(Project, project_id).kind is ProjectKind.EXTRACTION
        tasks = _newest_tasks(project_id)
        votes = _votes(session, tasks)
        facts = {
            "reasons": _reasons(session, tasks),
            "gold": _gold(session, tasks),
            "outcomes": _outcomes(session, tasks),
        }
    content = report(votes, **facts, spans_of=_entities if is_extraction else None)
    with lease.transaction() as session:
        found = session.exec(select(QualityReport).where(QualityReport.project_id == project_id)).first()
        row = found or QualityReport(project_id=project_id, content=content, computed_at=at)
        row.content, row.computed_at = content, at
        session.add(row)
    told = {"answers": len(votes), "annotators": len(content["annotators"])}
    log.info("quality_computed", **told)
    return told


def _newest_tasks(project_id: UUID) -> Subquery:
    ids = select_columns(
        col(AnnotationTask.id), col(AnnotationTask.gold_of_id), col(AnnotationTask.created_at)
    )
    of_project = ids.where(col(AnnotationTask.project_id) == project_id)
    return of_project.order_by(col(AnnotationTask.id).desc()).limit(COUNTED).subquery()


def _votes(session: Session, tasks: Subquery) -> list[Vote]:
    """Return each annotator's newest answer to each task; an adjudicator saw the others' and is left out."""
    rows = session.execute(
        select_columns(
            col(Annotation.task_id),
            col(Annotation.annotator_id),
            col(Annotation.verdict),
            col(Annotation.label),
            col(Annotation.labels),
            col(Annotation.correction),
            col(Annotation.cause),
            col(Annotation.ratings),
            col(Annotation.revised_at),
            col(Annotation.seconds_spent),
        )
        .join(tasks, col(Annotation.task_id) == tasks.c.id)
        .where(col(Annotation.reason).is_(None), col(Annotation.withdrawn_at).is_(None))
        .order_by(col(Annotation.revised_at), col(Annotation.id))
    )
    newest = {(row.task_id, row.annotator_id): row for row in rows}
    return [
        Vote(
            task=str(row.task_id),
            annotator=str(row.annotator_id),
            answer=Answer(
                row.verdict,
                label=row.label,
                labels=tuple(row.labels),
                correction=row.correction,
                cause=row.cause,
                ratings=row.ratings,
            ),
            at=row.revised_at,
            seconds=row.seconds_spent,
        )
        for row in newest.values()
        if row.verdict
    ]


def _reasons(session: Session, tasks: Subquery) -> Mapping[str, list[str]]:
    flags = (
        select_columns(col(TaskFlag.task_id), col(Feedback.reasons))
        .join(Feedback, col(TaskFlag.feedback_id) == Feedback.id)
        .join(tasks, col(TaskFlag.task_id) == tasks.c.id)
        .where(col(Feedback.withdrawn_at).is_(None))
    )
    found: dict[str, set[str]] = {}
    for task_id, reasons in session.execute(flags):
        found.setdefault(str(task_id), set()).update(reasons)
    return {task: sorted(reasons) for task, reasons in found.items()}


def _gold(session: Session, tasks: Subquery) -> Mapping[str, str]:
    known = (
        select_columns(tasks.c.id, col(Settlement.verdict), col(Settlement.label), col(Settlement.labels))
        .join(Settlement, col(Settlement.task_id) == tasks.c.gold_of_id)
        .where(IN_FORCE)
    )
    return {str(task_id): in_short(*said) for task_id, *said in session.execute(known)}


def _outcomes(session: Session, tasks: Subquery) -> Mapping[str, Outcome]:
    settled = (
        select_columns(
            tasks.c.id,
            tasks.c.created_at,
            col(Settlement.created_at),
            col(Settlement.verdict),
            col(Settlement.label),
            col(Settlement.labels),
        )
        .join(Settlement, col(Settlement.task_id) == tasks.c.id)
        .where(col(Settlement.admission_id).is_(None), IN_FORCE)
    )
    return {
        str(task_id): Outcome(in_short(*said), at, (at - made).total_seconds() / 3600)
        for task_id, made, at, *said in session.execute(settled)
    }


def _entities(text: str) -> Iterable[str]:
    """Return the entities that a corrected answer names, each as one span."""
    try:
        return [canonical_json(entity).decode() for entity in json.loads(canonical_entities(text))]
    except BrokenEntities:
        return [text]
