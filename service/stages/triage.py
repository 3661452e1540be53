"""Stage 2: choose the feedback that deserves a person's time."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog
from sqlmodel import Session, col, select

from annotation.triage import Flag, prioritise, random_share
from retrain.near_duplicates import clusters
from retrain.types import sha256_of
from service.clock import utcnow
from service.queue import Lease
from service.tables import (
    AnnotationTask,
    Document,
    DocumentKind,
    Feedback,
    Project,
    Rating,
    Response,
    TaskFlag,
    TaskPurpose,
    TaskState,
)

BATCH = 2000

log = structlog.get_logger()


def run(lease: Lease, project_id: UUID) -> dict[str, Any]:
    """Turn flags nobody looked at into tasks, near-equal ones into one, and draw the random share.

    Works in batches of `BATCH`, each in one transaction, until nothing is left.
    """
    flagged = drawn = 0
    while True:
        with lease.transaction() as session:
            project = session.get_one(Project, project_id)
            flags, responses = (
                _untriaged_flags(session, project_id),
                _untriaged_responses(session, project_id),
            )
            if not flags and not responses:
                break
            flagged += _select_flagged(session, project, flags)
            drawn += _draw(session, project, responses)
    log.info("triage_finished", tasks_from_flags=flagged, tasks_drawn=drawn)
    return {"tasks_from_flags": flagged, "tasks_drawn": drawn}


def preview(session: Session, project_id: UUID) -> dict[str, Any]:
    """Say how much is waiting, changing nothing."""
    return {
        "flags": len(_untriaged_flags(session, project_id)),
        "responses": len(_untriaged_responses(session, project_id)),
    }


def _untriaged_flags(session: Session, project_id: UUID) -> Sequence[tuple[Feedback, Response]]:
    waiting = (
        select(Feedback, Response)
        .join(Response, col(Feedback.response_id) == Response.id)
        .where(Feedback.project_id == project_id, col(Feedback.triaged_at).is_(None))
        .order_by(col(Feedback.id))
        .limit(BATCH)
    )
    return session.exec(waiting).all()


def _untriaged_responses(session: Session, project_id: UUID) -> Sequence[Response]:
    waiting = select(Response).where(Response.project_id == project_id, col(Response.triaged_at).is_(None))
    return session.exec(waiting.order_by(col(Response.id)).limit(BATCH)).all()


def _select_flagged(session: Session, project: Project, rows: Sequence[tuple[Feedback, Response]]) -> int:
    """Group the flags with each other and with the tasks still open; return how many tasks were added."""
    now = utcnow()
    for feedback, _ in rows:
        feedback.triaged_at = now
    flags = [row for row in rows if row[0].rating is Rating.DOWN and row[0].withdrawn_at is None]
    if not flags:
        return 0
    opened = _open_tasks(session, project.id)
    texts = [_text(response) for _, response in opened] + [_text(response) for _, response in flags]
    cluster_of = clusters(texts)
    task_of = {cluster: task for (task, _), cluster in zip(opened, cluster_of, strict=False)}
    severity = _severities(session, project.id)
    by_key = {str(feedback.id): (feedback, response) for feedback, response in flags}
    cases = prioritise(
        [
            Flag(
                key=str(feedback.id),
                group=str(cluster),
                severity=max((severity.get(code, 1.0) for code in feedback.reasons), default=1.0),
                at=feedback.created_at,
            )
            for (feedback, _), cluster in zip(flags, cluster_of[len(opened) :], strict=True)
        ]
    )
    added = 0
    for case in cases:
        feedbacks = [by_key[key][0] for key in case.keys]
        task = task_of.get(int(case.group))
        if task is None:
            response = by_key[case.keys[0]][1]
            task = _add_task(session, project, response, TaskPurpose.FLAG, case.priority, flag=feedbacks[0])
            added += 1
        else:
            task.priority += case.priority
        session.add_all([TaskFlag(task_id=task.id, feedback_id=feedback.id) for feedback in feedbacks])
    return added


def _draw(session: Session, project: Project, responses: Sequence[Response]) -> int:
    """Add a task for a random share of responses; chance hangs on the prompt, so a repeated run draws alike."""
    now = utcnow()
    for response in responses:
        response.triaged_at = now
    by_key = {f"{sha256_of(response.messages)}:{response.external_id}": response for response in responses}
    busy = {response.id for _, response in _open_tasks(session, project.id)}
    chosen = [by_key[key] for key in random_share(list(by_key), project.random_share, seed="triage")]
    fresh = [response for response in chosen if response.id not in busy]
    for response in fresh:
        _add_task(session, project, response, TaskPurpose.RANDOM, 0.0, flag=None)
    return len(fresh)


def _open_tasks(session: Session, project_id: UUID) -> Sequence[tuple[AnnotationTask, Response]]:
    opened = (
        select(AnnotationTask, Response)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .where(AnnotationTask.project_id == project_id)
        .where(col(AnnotationTask.state).in_([TaskState.SELECTED, TaskState.SENT]))
        .order_by(col(AnnotationTask.id))
    )
    return session.exec(opened).all()


def _add_task(
    session: Session,
    project: Project,
    response: Response,
    purpose: TaskPurpose,
    priority: float,
    *,
    flag: Feedback | None,
) -> AnnotationTask:
    task = AnnotationTask(
        project_id=project.id,
        response_id=response.id,
        purpose=purpose,
        flag_id=flag.id if flag else None,
        schema_id=_newest(session, project.id, DocumentKind.LABEL_SCHEMA),
        guidelines_id=_newest(session, project.id, DocumentKind.GUIDELINES),
        priority=priority,
    )
    session.add(task)
    session.flush()
    return task


def _newest(session: Session, project_id: UUID, kind: DocumentKind) -> UUID:
    newest = select(Document.id).where(Document.project_id == project_id, Document.kind == kind)
    return session.exec(newest.order_by(col(Document.version).desc()).limit(1)).one()


def _severities(session: Session, project_id: UUID) -> dict[str, float]:
    newest = select(Document.content).where(
        Document.project_id == project_id, Document.kind == DocumentKind.REASONS
    )
    reasons = session.exec(newest.order_by(col(Document.version).desc()).limit(1)).one()
    return {code: float(reason.get("severity", 1.0)) for code, reason in reasons.items()}


def _text(response: Response) -> str:
    """Return what makes two flags near-equal: what was asked last, and what was answered."""
    return f"{response.messages[-1]['content']}\n{response.text}"
