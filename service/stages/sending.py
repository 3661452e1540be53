"""Stage 3: hand selected tasks to the tool in which their experts work."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import update
from sqlmodel import Session, col, select

from annotation.suggestions import SuggestionSource, is_blind, suggested
from annotation.types import Connector, NewTask
from service import tool_state
from service.clock import utcnow
from service.queue import Lease
from service.settlements import schema_of
from service.tables import (
    AnnotationTask,
    ConnectorKind,
    Feedback,
    Project,
    Response,
    TaskFlag,
    TaskState,
)
from service.tool_state import Hook

PUSH_BATCH = 200

log = structlog.get_logger()


def send(
    lease: Lease, project_id: UUID, tool: ConnectorKind, connector: Connector, hook: Hook
) -> dict[str, Any]:
    """Push every task selected for a tool, most urgent first; a task whose push succeeded twice exists once."""
    project = tool_state.set_up(lease, project_id, tool, connector, hook)
    sent = 0
    while batch := _selected(lease, project_id, tool):
        keys = connector.push(project, [_new_task(task, response, flags) for task, response, flags in batch])
        with lease.transaction() as session:
            sent += sum(_mark_sent(session, task.id, keys[str(task.id)]) for task, _, _ in batch)
        lease.report(sent=sent)
    log.info("tasks_sent", tool=tool.value, count=sent)
    return {"sent": sent}


def _selected(
    lease: Lease, project_id: UUID, tool: ConnectorKind
) -> Sequence[tuple[AnnotationTask, Response, list[Feedback]]]:
    with lease.transaction() as session:
        rows = session.exec(
            select(AnnotationTask, Response)
            .join(Response, col(AnnotationTask.response_id) == Response.id)
            .where(AnnotationTask.project_id == project_id, AnnotationTask.state == TaskState.SELECTED)
            .where(AnnotationTask.connector == tool)
            .order_by(col(AnnotationTask.priority).desc(), col(AnnotationTask.id))
            .limit(PUSH_BATCH)
        ).all()
        # A task that asks again is about the flags of the one before.
        first = {task.id: task.rechecks_id or task.id for task, _ in rows}
        flags: dict[UUID, list[Feedback]] = {task_id: [] for task_id in first.values()}
        about = (
            select(TaskFlag.task_id, Feedback)
            .join(Feedback, col(TaskFlag.feedback_id) == Feedback.id)
            .where(col(TaskFlag.task_id).in_(list(flags)), col(Feedback.withdrawn_at).is_(None))
        )
        for task_id, feedback in session.exec(about):
            flags[task_id].append(feedback)
        chosen = [(task, response, flags[first[task.id]]) for task, response in rows]
        _suggest(session, chosen)
    return chosen


def _suggest(session: Session, chosen: Sequence[tuple[AnnotationTask, Response, Sequence[Feedback]]]) -> None:
    """Decide what each task suggests, and whether it is shown, before the tool hears of it; once decided it stays."""
    for task, response, flags in chosen:
        project = session.get_one(Project, task.project_id)
        if task.is_blind is not None or project.suggestion is SuggestionSource.NONE:
            continue
        corrections = [flag.correction for flag in flags if flag.correction]
        own = project.suggestion is SuggestionSource.RESPONSE
        text = response.text if own else corrections[-1] if corrections else ""
        task.suggestion = suggested(text, schema_of(session, task))
        task.is_blind = is_blind(str(task.id), project.blind_share)


def _new_task(task: AnnotationTask, response: Response, flags: Sequence[Feedback]) -> NewTask:
    codes = {code for flag in flags for code in flag.reasons}
    comments = {flag.comment for flag in flags if flag.comment}
    return NewTask(
        key=str(task.id),
        prompt="\n\n".join(f"{m['role']}: {m['content']}" for m in response.messages)
        if len(response.messages) > 1
        else response.messages[0]["content"],
        response=response.text,
        context="\n\n".join(passage["text"] for passage in response.context),
        reasons=" · ".join([*sorted(codes), *sorted(comments)]),
        suggestion={} if task.is_blind else task.suggestion,
    )


def _mark_sent(session: Session, task_id: UUID, external_id: str) -> bool:
    """Say that a task is with the tool, unless it was withdrawn while it was being pushed."""
    selected = (col(AnnotationTask.id) == task_id, col(AnnotationTask.state) == TaskState.SELECTED)
    sent = {"state": TaskState.SENT, "external_id": external_id, "sent_at": utcnow()}
    return session.exec(update(AnnotationTask).where(*selected).values(**sent)).rowcount == 1
