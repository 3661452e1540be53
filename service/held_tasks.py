"""Which of our tasks a tool's are: by our key, by the tool's id, or adopted because somebody added them there."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, exists, func, select

from annotation.exchange import as_written, shown, texts
from annotation.types import HeldTask, NewTask
from annotation.visible import visible
from retrain.types import sha256_of
from service import projects
from service.clock import utcnow
from service.errors import Invalid
from service.queue import Lease
from service.tables import (
    AnnotationTask,
    ConnectorKind,
    Feedback,
    Project,
    Response,
    Source,
    TaskFlag,
    TaskPurpose,
    TaskState,
    ToolProject,
)

MAX_CHARS = 100_000  # of a case that an expert brings
DELETED_AT_ONCE = 50
JUDGED = ("prompt", "response", "rival", "context")


def ours(
    session: Session, project: Project, tool: ConnectorKind, held: Sequence[HeldTask]
) -> dict[str, AnnotationTask]:
    """Return our task of each of the tool's, by the tool's id; those that nobody can answer as ours are missing.

    The id that the tool gave it tells: what a task says of itself, its key, somebody may have written there.
    """
    keys, ids = {key for one in held if (key := _key(one.key))}, {one.external_id for one in held}
    of_key, of_id = col(AnnotationTask.id).in_(keys), col(AnnotationTask.external_id).in_(ids)
    of_tool = of_key | (of_id & (col(AnnotationTask.connector) == tool))
    rows = session.exec(select(AnnotationTask).where(AnnotationTask.project_id == project.id, of_tool)).all()
    by_key = {task.id: task for task in rows}
    by_id = {task.external_id: task for task in rows if task.connector is tool and task.external_id}
    found: dict[str, AnnotationTask] = {}
    for one in held:
        named = by_key.get(key) if (key := _key(one.key)) else None
        is_named = named is not None and named.external_id in (None, one.external_id)
        task = named if is_named else by_id.get(one.external_id, named)
        if task is None and not one.key:
            task = _adopt(session, project, tool, one)
        if task is None:
            continue
        found[one.external_id] = task
        # Whoever pushed it may have been ended before they wrote that down.
        if task.state is TaskState.WITHDRAWN:
            task.external_id = task.external_id or one.external_id
    return found


def is_as_sent(session: Session, task: AnnotationTask, held: HeldTask, tool: ConnectorKind) -> bool:
    """Say whether a tool's task still is where ours was sent, under its key, and shows what we asked."""
    if held.key and held.key != str(task.id):
        return False
    if task.external_id and (task.external_id, task.connector) != (held.external_id, tool):
        return False
    response = session.get_one(Response, task.response_id)
    rival = session.get_one(Response, task.rival_id) if task.rival_id else None
    wanted, there = texts(shown(asked(task, response, rival.text if rival else None))), held.shown
    # Argilla's page is sent signs that are like ours; what was alike before cannot be told from them.
    return all(
        as_written(wanted.get(name, "")) == as_written(visible(there.get(name, ""))) for name in JUDGED
    )


def asked(task: AnnotationTask, response: Response, rival: str | None) -> NewTask:
    """Return what a tool is to show of a task, without what readers said."""
    messages = response.messages
    return NewTask(
        key=str(task.id),
        prompt="\n\n".join(f"{m['role']}: {m['content']}" for m in messages)
        if len(messages) > 1
        else messages[0]["content"],
        response=response.text,
        context="\n\n".join(passage["text"] for passage in response.context),
        rival=rival,
    )


def missing(
    session: Session,
    row: ToolProject,
    seen: Collection[str],
    *,
    sent_before: datetime,
    among: Collection[str] | None,
) -> list[UUID]:
    """Return the open tasks, all or some, that a tool should hold and does not.

    What was settled stays so: to tidy up in the tool takes nothing back.
    """
    opened = select(AnnotationTask.id, AnnotationTask.external_id).where(
        AnnotationTask.project_id == row.project_id,
        AnnotationTask.connector == row.connector,
        col(AnnotationTask.state).in_((TaskState.SENT, TaskState.CONTESTED)),
        col(AnnotationTask.sent_at) < sent_before,
    )
    if among is not None:
        opened = opened.where(col(AnnotationTask.external_id).in_(among))
    return [task_id for task_id, external_id in session.exec(opened) if external_id not in seen]


def gone(lease: Lease, project_id: UUID, tool: ConnectorKind) -> dict[UUID, str]:
    """Return some tasks that the tool still holds, with their ids there, although nobody may read them as they are.

    What they ask about was erased, or whoever flagged it took that back: no other flag stands, or what they said is
    shown there.
    """
    flags = col(TaskFlag.task_id) == AnnotationTask.id, col(TaskFlag.feedback_id) == Feedback.id
    is_unflagged = (
        (col(AnnotationTask.purpose) == TaskPurpose.FLAG)
        & col(AnnotationTask.state).in_((TaskState.WITHDRAWN, TaskState.SETTLED))
        & ((col(AnnotationTask.state) == TaskState.WITHDRAWN) | exists().where(*flags))
        & ~exists().where(*flags, col(Feedback.withdrawn_at).is_(None))
    )
    # A task that asks again shows what the flags of the one before say.
    first = func.coalesce(AnnotationTask.rechecks_id, AnnotationTask.gold_of_id, AnnotationTask.id)
    shows_withdrawn = (
        exists()
        .where(col(TaskFlag.task_id) == first, col(TaskFlag.feedback_id) == Feedback.id)
        .where(col(Feedback.withdrawn_at) > col(AnnotationTask.sent_at))
    )
    with lease.queue.db.reading() as session:
        left = (
            select(AnnotationTask.id, AnnotationTask.external_id)
            .join(Response, col(AnnotationTask.response_id) == Response.id)
            .where(
                AnnotationTask.project_id == project_id,
                AnnotationTask.connector == tool,
                col(AnnotationTask.external_id).is_not(None),
                col(Response.erased_at).is_not(None) | is_unflagged | shows_withdrawn,
            )
            .limit(DELETED_AT_ONCE)
        )
        return {task_id: external_id for task_id, external_id in session.exec(left) if external_id}


def batches(held: Iterable[HeldTask], size: int) -> Iterator[list[HeldTask]]:
    """Yield what is read in parts, so that no transaction stays open while the tool is asked."""
    rest = iter(held)
    while part := list(islice(rest, size)):
        yield part


def add_case(
    session: Session,
    project: Project,
    where: str,
    *,
    prompt: str,
    answer: str,
    context: str | None,
    **facts: Any,
) -> AnnotationTask:
    """Make a task of a case that an expert brings, in a tool or here; the `facts` say where it is asked.

    Raises:
        Invalid: it does not say what was asked and answered, or is too long.
    """
    if not prompt.strip() or not answer.strip():
        raise Invalid("a case says what was asked and what was answered")
    if len(prompt) + len(answer) + len(context or "") > MAX_CHARS:
        raise Invalid(f"a case has at most {MAX_CHARS:,} characters")
    source = _source(session, project, where)
    response = _answered(session, source, prompt, answer, context)
    schema_id, guidelines_id = projects.questions(session, project.id)
    task = AnnotationTask(
        project_id=project.id,
        response_id=response.id,
        purpose=TaskPurpose.ADDED,
        source_id=source.id,
        schema_id=schema_id,
        guidelines_id=guidelines_id,
        priority=0.0,
        **facts,
    )
    session.add(task)
    session.flush()
    return task


def _answered(session: Session, source: Source, prompt: str, answer: str, context: str | None) -> Response:
    messages = [{"role": "user", "content": prompt}]
    response = Response(
        project_id=source.project_id,
        source_id=source.id,
        messages=messages,
        text=answer,
        body_sha256=sha256_of({"messages": messages, "response": answer}),
        context=[{"text": context}] if context else [],
        legal_basis="added by an expert",
        triaged_at=utcnow(),  # what triage looks at was answered to users
    )
    session.add(response)
    session.flush()
    return response


def _adopt(session: Session, project: Project, tool: ConnectorKind, held: HeldTask) -> AnnotationTask | None:
    """Make a task of ours of one that somebody added in the tool, if it says what was asked and answered."""
    prompt, answer = held.shown.get("prompt") or "", held.shown.get("response") or ""
    there = {"connector": tool, "state": TaskState.SENT, "external_id": held.external_id}
    try:
        return add_case(
            session,
            project,
            f"in {tool}",
            prompt=prompt,
            answer=answer,
            context=held.shown.get("context"),
            sent_at=utcnow(),
            **there,
        )
    except Invalid:
        return None


def _source(session: Session, project: Project, where: str) -> Source:
    name = f"added {where}"
    found = session.exec(select(Source).where(Source.project_id == project.id, Source.name == name)).first()
    if found is None:
        found = Source(project_id=project.id, name=name)
        session.add(found)
        session.flush()
    return found


def _key(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
