"""Stage 3: hand selected tasks to the tool in which their experts work."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import update
from sqlmodel import Session, col, select

from annotation.questions import questions
from annotation.suggestions import SuggestionSource, is_blind, suggested
from annotation.types import Connector, NewTask
from annotation.visible import visible
from service import capacity, experts, held_tasks, tool_state
from service.clock import utcnow
from service.queue import Lease
from service.settlements import schema_of
from service.tables import (
    AnnotationTask,
    ConnectorKind,
    Document,
    Feedback,
    Project,
    Response,
    TaskFlag,
    TaskState,
)
from service.tool_state import Hook

PUSH_BATCH = 200

Asked = tuple[AnnotationTask, Response]

log = structlog.get_logger()


def send(
    lease: Lease, project_id: UUID, tool: ConnectorKind, connector: Connector, hook: Hook
) -> dict[str, Any]:
    """Push the tasks selected for a tool, most urgent first; a task whose push succeeded twice exists once.

    What the experts have no room for today stays selected, and is asked for again.
    """
    project = tool_state.set_up(lease, project_id, tool, connector, hook)
    sent = 0
    while batch := _selected(lease, project_id, tool):
        keys = connector.push(project, batch)
        with lease.transaction() as session:
            sent += sum(_mark_sent(session, UUID(task.key), keys[task.key]) for task in batch)
        lease.report(sent=sent)
    log.info("tasks_sent", tool=tool.value, count=sent)
    return {"sent": sent}


def _selected(lease: Lease, project_id: UUID, tool: ConnectorKind) -> Sequence[NewTask]:
    with lease.transaction() as session:
        rows = _fitting(session, session.get_one(Project, project_id), tool)
        # A task that asks again is about the flags of the one before.
        first = {task.id: task.rechecks_id or task.gold_of_id or task.id for task, _ in rows}
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
        rivals = _rivals(session, [task for task, _ in rows])
        said = {task.id: _said(session, task, flags) for task, _, flags in chosen}
    return [_new_task(task, response, said[task.id], rivals.get(task.id)) for task, response, _ in chosen]


def _rivals(session: Session, tasks: Sequence[AnnotationTask]) -> dict[UUID, str]:
    """Return the other answer of each task that compares two."""
    wanted = {task.rival_id: task.id for task in tasks if task.rival_id}
    if not wanted:
        return {}
    found = session.exec(select(Response.id, Response.text).where(col(Response.id).in_(wanted)))
    return {wanted[response_id]: text for response_id, text in found}


def _fitting(session: Session, project: Project, tool: ConnectorKind) -> Sequence[Asked]:
    """Return the most urgent tasks, for as many answers as the experts have room for today.

    A pool without room keeps its own tasks waiting; what does not fit into everybody's room keeps all behind it.
    """
    rooms = capacity.rooms(session, project, experts.experts(session, project), now=utcnow())
    left = {pool: room.answers for pool, room in rooms.items()}
    full: set[str | None] = set()
    while True:
        fit: list[Asked] = []
        rows, known = _most_urgent(session, project.id, tool, full), len(full)
        for task, response in rows:
            own = {None, task.pool} & rooms.keys()
            cost = min([task.overlap or project.overlap, *(rooms[pool].heads for pool in own)])
            tight = {pool for pool in own if left[pool] < cost}
            if None in tight:
                break
            if tight:
                full |= tight
                continue
            left |= {pool: left[pool] - cost for pool in own}
            fit.append((task, response))
        if fit or len(full) == known:
            return fit


def _most_urgent(
    session: Session, project_id: UUID, tool: ConnectorKind, but: Iterable[str | None]
) -> Sequence[Asked]:
    """Return what is to be sent first, without some pools."""
    pool = col(AnnotationTask.pool)
    return session.exec(
        select(AnnotationTask, Response)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .where(AnnotationTask.project_id == project_id, AnnotationTask.state == TaskState.SELECTED)
        .where(AnnotationTask.connector == tool, pool.is_(None) | pool.not_in(but))
        .order_by(col(AnnotationTask.priority).desc(), col(AnnotationTask.id))
        .limit(PUSH_BATCH)
    ).all()


def _suggest(session: Session, chosen: Sequence[tuple[AnnotationTask, Response, Sequence[Feedback]]]) -> None:
    """Decide what each task suggests, and whether it is shown, before the tool hears of it; once decided it stays."""
    for task, response, flags in chosen:
        project = session.get_one(Project, task.project_id)
        if task.is_blind is not None or project.suggestion is SuggestionSource.NONE:
            continue
        may_show = (
            flag for flag in flags if flag.consent or (project.presumes_consent and flag.consent is None)
        )
        said = (flag.correction for flag in may_show if flag.correction)
        # An expert who accepts one could not see what hides in it.
        corrections = [text for text in said if visible(text) == text]
        own = project.suggestion is SuggestionSource.RESPONSE
        text = response.text if own else corrections[-1] if corrections else ""
        task.suggestion = suggested(text, schema_of(session, task))
        task.is_blind = is_blind(str(task.id), project.blind_share)


def _said(session: Session, task: AnnotationTask, flags: Sequence[Feedback]) -> str:
    """Return what readers said: reasons, each with its question where experts are asked that, and comments."""
    asked = {one.name: one.title for one in questions(schema_of(session, task))}
    codes = set()
    for flag in flags:
        taxonomy = session.get(Document, flag.reasons_id) if flag.reasons_id else None
        known = taxonomy.content if taxonomy else {}
        leads = {code: asked.get(known.get(code, {}).get("question")) for code in flag.reasons}
        codes |= {f"{code} ({question})" if question else code for code, question in leads.items()}
    return " · ".join([*sorted(codes), *sorted({flag.comment for flag in flags if flag.comment})])


def _new_task(task: AnnotationTask, response: Response, said: str, rival: str | None) -> NewTask:
    return replace(
        held_tasks.asked(task, response, rival),
        reasons=said,
        suggestion={} if task.is_blind else task.suggestion,
    )


def _mark_sent(session: Session, task_id: UUID, external_id: str) -> bool:
    """Say that a task is with the tool; of one withdrawn meanwhile only where, so that it can be deleted there."""
    of_task = update(AnnotationTask).where(col(AnnotationTask.id) == task_id)
    selected = of_task.where(col(AnnotationTask.state) == TaskState.SELECTED)
    sent = {"state": TaskState.SENT, "external_id": external_id, "sent_at": utcnow(), "is_closed": False}
    if session.exec(selected.values(**sent)).rowcount == 1:
        return True
    withdrawn = of_task.where(col(AnnotationTask.state) == TaskState.WITHDRAWN)
    session.exec(withdrawn.values(external_id=external_id))
    return False
