"""Beside stage 3: how far annotators agree and can be trusted, by all that they have answered so far."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Subquery, func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, exists, select

from annotation.types import Verdict
from annotation.votes import Outcome, in_short
from retrain.export import BrokenEntities, canonical_entities
from retrain.types import canonical_json
from service import projects, standing
from service.clock import utcnow
from service.queue import Lease
from service.settlements import IN_FORCE, MAY_SETTLE, OPEN, accuracies, settle_task
from service.tables import (
    Annotation,
    AnnotationTask,
    Feedback,
    Project,
    ProjectKind,
    QualityReport,
    Response,
    Settlement,
    TaskFlag,
    TaskPurpose,
    TaskState,
)

COUNTED = 100_000  # tasks, the newest
SETTLED_AT_ONCE = 200

Report = Callable[..., dict[str, Any]]

log = structlog.get_logger()


def run(lease: Lease, project_id: UUID, report: Report) -> dict[str, Any]:
    """Compute a project's report anew and keep it in place of the one before."""
    at = utcnow()
    # Read without the lock for writing, for intake waits for that; it takes seconds.
    with lease.queue.db.reading() as session:
        project = session.get_one(Project, project_id)
        is_extraction = project.kind is ProjectKind.EXTRACTION
        tasks = _newest_tasks(project_id)
        told = standing.told_by(session, project, tasks)
        facts = {
            "reasons": _reasons(session, project, tasks),
            "gold": told.gold,
            "outcomes": _outcomes(session, tasks),
            "repeats": told.repeats,
            "unflagged": _unflagged(session, project_id),
        }
    content = report(told.votes, **facts, spans_of=_entities if is_extraction else None)
    with lease.transaction() as session:
        found = session.exec(select(QualityReport).where(QualityReport.project_id == project_id)).first()
        row = found or QualityReport(project_id=project_id, content=content, computed_at=at)
        row.content, row.computed_at = content, at
        session.add(row)
    settled = _settle_again(lease, project_id)
    counts = {"answers": len(told.votes), "annotators": len(content["annotators"]), "settled": settled}
    log.info("quality_computed", **counts)
    return counts


def _settle_again(lease: Lease, project_id: UUID) -> int:
    """Look by the new weights at what is contested or waits for answers; return how many tasks that settles.

    What is settled stays so, whatever became of the weights of those who settled it.
    """
    with lease.queue.db.reading() as session:
        known = accuracies(session, project_id)
        answered = exists().where(
            col(Annotation.task_id) == AnnotationTask.id, col(Annotation.verdict).is_not(None)
        )
        unsettled = select(AnnotationTask.id).where(
            AnnotationTask.project_id == project_id, col(AnnotationTask.state).in_(OPEN), MAY_SETTLE, answered
        )
        waiting = session.exec(unsettled.order_by(col(AnnotationTask.id))).all()
    settled = 0
    for start in range(0, len(waiting), SETTLED_AT_ONCE):
        with lease.transaction() as session:
            project = session.get_one(Project, project_id)
            for task_id in waiting[start : start + SETTLED_AT_ONCE]:
                task = session.get_one(AnnotationTask, task_id)
                # Locked as an answer from the tool is, so that two never settle a task at once.
                session.get_one(Response, task.response_id, with_for_update=True)
                session.refresh(task)
                settled += settle_task(session, project, task, known) is TaskState.SETTLED
    return settled


def _newest_tasks(project_id: UUID) -> Subquery:
    ids = select_columns(
        col(AnnotationTask.id), col(AnnotationTask.gold_of_id), col(AnnotationTask.created_at)
    )
    of_project = ids.where(col(AnnotationTask.project_id) == project_id)
    return of_project.order_by(col(AnnotationTask.id).desc()).limit(COUNTED).subquery()


def _reasons(session: Session, project: Project, tasks: Subquery) -> Mapping[str, list[str]]:
    flags = (
        select_columns(col(TaskFlag.task_id), col(Feedback.reasons))
        .join(Feedback, col(TaskFlag.feedback_id) == Feedback.id)
        .join(tasks, col(TaskFlag.task_id) == tasks.c.id)
        .where(col(Feedback.withdrawn_at).is_(None))
    )
    known, found = projects.reason_codes(session, project.id), dict[str, set[str]]()
    for task_id, reasons in session.execute(flags):
        found.setdefault(str(task_id), set()).update(known.intersection(reasons))
    return {task: sorted(reasons) for task, reasons in found.items()}


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


def _unflagged(session: Session, project_id: UUID) -> tuple[int, int]:
    """Return how many of the responses drawn at random were settled as wrong, and how many as wrong or right."""
    drawn = (
        select_columns(col(Settlement.verdict), func.count())
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .where(
            col(AnnotationTask.project_id) == project_id, col(AnnotationTask.purpose) == TaskPurpose.RANDOM
        )
        .where(col(Settlement.admission_id).is_(None), IN_FORCE)
        .group_by(col(Settlement.verdict))
    )
    counts = {Verdict(verdict): count for verdict, count in session.execute(drawn)}
    wrong = counts.get(Verdict.INCORRECT, 0)
    return wrong, wrong + counts.get(Verdict.CORRECT, 0)


def _entities(text: str) -> Iterable[str]:
    """Return the entities that a corrected answer names, each as one span."""
    try:
        return [canonical_json(entity).decode() for entity in json.loads(canonical_entities(text))]
    except BrokenEntities:
        return [text]
