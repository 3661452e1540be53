"""How a tool is read this time, how far it was read, and what it is to forget."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import delete, text, update
from sqlmodel import Session, col, select

from annotation.errors import ToolRefused, ToolUnavailable
from annotation.types import Connector
from service import held_tasks, tool_state
from service.clock import utcnow
from service.db import Database
from service.errors import TryAgain
from service.queue import Lease
from service.tables import Annotation, AnnotationTask, ConnectorKind, InboxEvent, TaskState
from service.tables.labelling import TO_CLOSE

MAX_HINTED = 50
CLOSED_AT_ONCE = 100  # at each look
PRUNED_AT_ONCE = AT_ONCE = 5000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reading:
    """How a tool is read this time: everything, what webhooks named, or what changed since the cursor."""

    project: str
    cursor: datetime | None
    is_full: bool
    hints: Sequence[UUID]
    hinted: Sequence[str]
    at: datetime


@dataclass(slots=True)
class Seen:
    """What was read so far."""

    newest: datetime | None
    tasks: set[str] = field(default_factory=set)
    outcome: Counter[str] = field(default_factory=Counter)


def begin(lease: Lease, project_id: UUID, tool: ConnectorKind) -> Reading | None:
    """Say how to read a project's tool this time; None while the project is not there."""
    now = utcnow()
    with lease.queue.db.reading() as session:
        row = tool_state.find(session, project_id, tool)
        if row is None or row.external_id is None:
            return None
        hints = session.exec(
            select(InboxEvent).where(
                InboxEvent.project_id == project_id,
                InboxEvent.source == tool.value,
                col(InboxEvent.handled_at).is_(None),
            )
        ).all()
        polled = lease.queue.settings.sync_seconds
        is_fresh = row.polled_at is not None and now - row.polled_at < timedelta(seconds=polled)
        return Reading(
            project=row.external_id,
            cursor=row.cursor,
            is_full=row.look_due_at is None or row.look_due_at <= now,
            hints=[hint.id for hint in hints],
            hinted=_hinted(session, hints) if is_fresh else [],
            at=now,
        )


def end(
    session: Session, reading: Reading, seen: Seen, project_id: UUID, tool: ConnectorKind, *, seconds: float
) -> None:
    """Write down how far was read, and have open tasks that are gone sent again."""
    row = tool_state.of(session, project_id, tool)
    if reading.is_full:
        looked_for = None
        row.foreign_tasks = seen.outcome["foreign"]
        row.look_due_at = utcnow() + timedelta(seconds=seconds / tool_state.LOOK_SHARE)
    else:
        looked_for = reading.hinted
    missing = held_tasks.missing(session, row, seen.tasks, sent_before=reading.at, among=looked_for)
    tool_state.ask_again(session, project_id, missing)
    seen.outcome["asked_again"] = len(missing)
    if not looked_for:
        row.polled_at = reading.at
        # An early task may have been answered while later ones were still read.
        if seen.newest and (row.cursor is None or seen.newest - timedelta(seconds=seconds) > row.cursor):
            row.cursor = seen.newest - timedelta(seconds=seconds)
    for start in range(0, len(reading.hints), AT_ONCE):
        some = col(InboxEvent.id).in_(reading.hints[start : start + AT_ONCE])
        session.execute(update(InboxEvent).where(some).values(handled_at=utcnow()))


def prune(db: Database, *, before: datetime) -> int:
    """Drop webhooks that were handled before a moment, the oldest first and some at a time; return how many.

    One that comes again after that is read again, which changes nothing.
    """
    row = InboxEvent
    old = select(row.id).where(col(row.created_at) < before, col(row.handled_at) < before)
    with db.reading() as session:
        ids = session.exec(old.order_by(col(row.created_at)).limit(PRUNED_AT_ONCE)).all()
    if ids:
        with db.transaction() as session:
            session.execute(delete(row).where(col(row.id).in_(ids)))
    return len(ids)


def forget(lease: Lease, project_id: UUID, tool: ConnectorKind, connector: Connector, project: str) -> None:
    """Delete from the tool what was erased or taken back with us; only what was read to be gone is forgotten.

    What others flagged too is sent again, without the words that were taken back.
    """
    while gone := held_tasks.gone(lease, project_id, tool):
        connector.delete(project, list(gone.values()))
        with lease.transaction() as session:
            _note_gone(session, project_id, gone)


def close(lease: Lease, project_id: UUID, tool: ConnectorKind, connector: Connector, project: str) -> None:
    """Have the tool ask nobody any more about some tasks that came to something, and again about those reopened.

    A tool knows no settlement: it would go on offering them to every expert, and first. Where it refuses, they wait.
    """
    is_there = (
        AnnotationTask.project_id == project_id,
        AnnotationTask.connector == tool,
        col(AnnotationTask.external_id).is_not(None),
    )
    asked = select(AnnotationTask.id, AnnotationTask.external_id).where(*is_there).limit(CLOSED_AT_ONCE)
    opened = col(AnnotationTask.state).in_((TaskState.SENT, TaskState.CONTESTED))
    for change, which, is_closed in (
        (connector.close, text(TO_CLOSE), True),
        (connector.reopen, opened & col(AnnotationTask.is_closed), False),
    ):
        with lease.queue.db.reading() as session:
            found = {task_id: there for task_id, there in session.exec(asked.where(which)) if there}
        if not found:
            continue
        try:
            change(project, list(found.values()))
        except (ToolRefused, ToolUnavailable) as error:
            log.warning("tasks_not_closed", tool=tool.value, problem=str(error))
            return
        with lease.transaction() as session:
            of_found = update(AnnotationTask).where(col(AnnotationTask.id).in_(found))
            session.execute(of_found.values(is_closed=is_closed))


def recall(lease: Lease, tasks: Collection[UUID], connect: Callable[[ConnectorKind], Connector]) -> None:
    """Delete tasks in every tool that may show them, and read that they are gone; open ones are to be sent again.

    Everything there is looked at, for a push whose answer was lost left a task whose id nobody wrote down.

    Raises:
        TryAgain: a tool does not answer or refuses; what the others show is deleted.
    """
    with lease.queue.db.reading() as session:
        of_tasks = select(AnnotationTask).where(col(AnnotationTask.id).in_(tasks))
        places: defaultdict[tuple[ConnectorKind, str, UUID], dict[UUID, str | None]] = defaultdict(dict)
        for task in session.exec(of_tasks):
            row = tool_state.find(session, task.project_id, task.connector)
            if row and row.external_id:
                places[task.connector, row.external_id, task.project_id][task.id] = task.external_id
    failures = []
    for (tool, place, project_id), held in places.items():
        try:
            _delete(connect(tool), place, held)
        except (ToolUnavailable, ToolRefused, TryAgain) as error:
            failures.append(f"{tool}: {error}")
            continue
        with lease.transaction() as session:
            _note_gone(session, project_id, held)
    if failures:
        raise TryAgain(f"tools still hold what is erased here: {'; '.join(failures)}")


def _note_gone(session: Session, project_id: UUID, tasks: Collection[UUID]) -> None:
    """Note that tasks were deleted from their tool; those still open are to be sent again."""
    shown = (TaskState.SENT, TaskState.CONTESTED)
    of_tasks = select(AnnotationTask.id).where(col(AnnotationTask.id).in_(tasks))
    tool_state.ask_again(
        session, project_id, session.exec(of_tasks.where(col(AnnotationTask.state).in_(shown))).all()
    )
    session.execute(update(AnnotationTask).where(col(AnnotationTask.id).in_(tasks)).values(external_id=None))


def _delete(connector: Connector, place: str, held: Mapping[UUID, str | None]) -> None:
    keys, ids = {str(key) for key in held}, {known for known in held.values() if known}
    while left := [
        one.external_id
        for one in connector.pull(place, None)
        if one.key in keys or (not one.key and one.external_id in ids)
    ]:
        connector.delete(place, left)


def _hinted(session: Session, hints: Sequence[InboxEvent]) -> list[str]:
    """Return the tool's tasks that webhooks name, directly or by an annotation; none if they are too many."""
    tasks = {str(task) for hint in hints for task in hint.facts["task_ids"]}
    named = {str(one) for hint in hints if not hint.facts["task_ids"] for one in hint.facts["annotations"]}
    of_named = select(Annotation.tool_task).where(col(Annotation.external_id).in_(named)).distinct()
    tasks |= {task for task in session.exec(of_named) if task} if named else set()
    return sorted(tasks) if len(tasks) <= MAX_HINTED else []
