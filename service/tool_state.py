"""How each project fares in each annotation tool: where it is there, what is due, and what hinders it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import update
from sqlmodel import Session, col, select

from annotation.types import Connector
from retrain.types import sha256_of
from service import ledger, projects
from service.clock import utcnow
from service.queue import JobQueue, Lease
from service.settings import Settings
from service.tables import AnnotationTask, ConnectorKind, JobKind, Project, TaskState, ToolProject

# Contested tasks are read again too: an adjudicator's answer may come without its webhook.
NEXT = {
    TaskState.SELECTED: JobKind.SEND,
    TaskState.SENT: JobKind.SYNC,
    TaskState.CONTESTED: JobKind.SYNC,
}
# Somebody who switches a webhook off again and again is heard once an hour; polls go on meanwhile.
PUT_BACK_EVERY = timedelta(hours=1)
# One failure passes by itself; so many in a row are an alarm, once until it works again.
AWAY_AFTER = 3
# A look at everything may take this share of the time, whatever the tool holds.
LOOK_SHARE = 0.05
NAMED_AT_ONCE = 5000  # in one statement

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Hook:
    """Where the tool's webhook reaches us."""

    url: str
    secret: str


def find(session: Session, project_id: UUID, tool: ConnectorKind) -> ToolProject | None:
    """Return how a project is in a tool, if it ever was to be there."""
    of_tool = (ToolProject.project_id == project_id, ToolProject.connector == tool)
    return session.exec(select(ToolProject).where(*of_tool)).first()


def of(session: Session, project_id: UUID, tool: ConnectorKind) -> ToolProject:
    """Return how a project is in a tool; written down first if nobody has."""
    found = find(session, project_id, tool)
    if found is None:
        # Locked, so that on PostgreSQL two jobs do not both write it down.
        session.get_one(Project, project_id, with_for_update=True)
        found = find(session, project_id, tool) or ToolProject(project_id=project_id, connector=tool)
        session.add(found)
        session.flush()
    return found


def tools_of(session: Session, project_id: UUID) -> list[ConnectorKind]:
    """Return the tools that a project uses: its own, those that it was in, and those that its rules chose."""
    selected = (AnnotationTask.project_id == project_id, AnnotationTask.state == TaskState.SELECTED)
    chosen = session.exec(select(AnnotationTask.connector).where(*selected).distinct())
    known = session.exec(select(ToolProject.connector).where(ToolProject.project_id == project_id))
    return sorted({session.get_one(Project, project_id).connector, *chosen, *known} - {ConnectorKind.NONE})


def due(session: Session) -> list[tuple[ConnectorKind, UUID, JobKind]]:
    """Return what is to be sent and read where, without what waits because a tool failed lately."""
    opened = (
        select(AnnotationTask.connector, AnnotationTask.project_id, AnnotationTask.state)
        .where(AnnotationTask.connector != ConnectorKind.NONE, col(AnnotationTask.state).in_(NEXT))
        .distinct()
    )
    wanted = {
        (ConnectorKind(tool), project_id, NEXT[TaskState(state)])
        for tool, project_id, state in session.exec(opened)
    }
    now = utcnow()
    known = session.exec(select(ToolProject)).all()
    wanted |= {
        (row.connector, row.project_id, JobKind.SYNC)
        for row in known
        if row.external_id and (row.look_due_at is None or row.look_due_at <= now)
    }
    resting = {(row.connector, row.project_id) for row in known if row.not_before and row.not_before > now}
    return sorted(each for each in wanted if (each[0], each[1]) not in resting)


def ask(
    queue: JobQueue,
    session: Session,
    kind: JobKind,
    project_id: UUID,
    tool: ConnectorKind,
    *,
    after_seconds: float = 0,
) -> UUID:
    """Ask for a project to be sent to or read from a tool, once however often; return the job's id."""
    return queue.ask(
        session,
        kind,
        project_id,
        project_id=project_id,
        unique_key=f"{kind}:{project_id}:{tool}",
        options={"tool": tool.value},
        after_seconds=after_seconds,
    )


def succeeded(session: Session, project_id: UUID, tool: ConnectorKind) -> None:
    """Say that nothing hinders a project in a tool."""
    of(session, project_id, tool).sqlmodel_update({"failures": 0, "not_before": None, "problem": None})


def failed(session: Session, project_id: UUID, tool: ConnectorKind, problem: str, settings: Settings) -> None:
    """Say what hinders a project in a tool, and let it rest, the longer the more often it failed."""
    row = of(session, project_id, tool)
    row.failures += 1
    row.problem = problem[:1000]
    row.not_before = utcnow() + timedelta(
        seconds=rest_seconds(
            row.failures,
            first=settings.tool_retry_seconds,
            most=settings.tool_retry_max_seconds,
            chance=random.random(),
        )
    )
    log.warning("tool_failed", tool=tool.value, failures=row.failures, problem=problem)
    if row.failures == AWAY_AFTER:
        slug = session.get_one(Project, project_id).slug
        ledger.append(session, actor=tool.value, action="tool_away", subject=slug, project_id=project_id)


def rest_seconds(failures: int, *, first: float, most: float, chance: float) -> float:
    """Return how long to rest after this many failures in a row: twice as long each time, up to `most`.

    `chance`, from 0 to 1, takes up to half of it away, so that projects which failed together do not come back
    together.
    """
    return min(most, first * 2.0 ** min(failures - 1, 30)) * (1 - chance / 2)


def set_up(lease: Lease, project_id: UUID, tool: ConnectorKind, connector: Connector, hook: Hook) -> str:
    """Have the project in the tool as it should be, and return its id there.

    A project that was deleted there is made anew, and its open tasks wait to be sent again. A webhook that was
    switched off there is put back. Both are noted in the ledger.
    """
    seal = sha256_of([hook.url, hook.secret])
    with lease.transaction() as session:
        project = session.get_one(Project, project_id)
        schema = projects.label_schema(session, project)
        row = of(session, project_id, tool)
        was_hooked = row.hook_sha256 == seal
        is_left = was_hooked and row.hook_put_back_at and utcnow() - row.hook_put_back_at < PUT_BACK_EVERY
        slug, known_id = project.slug, row.external_id
        guidelines = str(projects.questions(session, project_id)[1])
    url = None if is_left else hook.url
    made = connector.set_up(
        slug=slug, schema=schema, hook_url=url, hook_secret=hook.secret, known_id=known_id
    )
    with lease.transaction() as session:
        row = of(session, project_id, tool)
        was_lost = row.external_id not in (None, made.external_id)
        if was_lost:
            _lose(session, row)
        elif was_hooked and made.is_hook_new:
            row.hook_put_back_at = utcnow()
            ledger.append(
                session, actor=tool.value, action="webhook_put_back", subject=slug, project_id=project_id
            )
        row.external_id, row.url = made.external_id, made.url
        row.hook_secret = made.hook_secret or row.hook_secret
        row.hook_sha256 = seal if hook.url else None
        if guidelines not in [each["id"] for each in row.guidelines_shown[-1:]]:
            since = {"id": guidelines, "since": utcnow().isoformat()}
            row.guidelines_shown = [*row.guidelines_shown, since]
    return made.external_id


def guidelines_at(row: ToolProject | None, at: datetime) -> UUID | None:
    """Return which guidelines a project's page showed at a time, if that is known."""
    shown = row.guidelines_shown if row else []
    known = (each["id"] for each in reversed(shown) if datetime.fromisoformat(each["since"]) <= at)
    return next(map(UUID, known), None)


def ask_again(session: Session, project_id: UUID, tasks: Sequence[UUID]) -> None:
    """Have tasks that are gone from their tool wait to be sent again, with today's questions; answers stay."""
    schema_id, guidelines_id = projects.questions(session, project_id)
    again: dict[str, Any] = {"state": TaskState.SELECTED, "external_id": None, "sent_at": None}
    again |= {"schema_id": schema_id, "guidelines_id": guidelines_id}
    for start in range(0, len(tasks), NAMED_AT_ONCE):
        some = col(AnnotationTask.id).in_(tasks[start : start + NAMED_AT_ONCE])
        session.execute(update(AnnotationTask).where(some).values(**again))


def _lose(session: Session, row: ToolProject) -> None:
    """Note that a project was deleted in its tool."""
    opened = select(AnnotationTask.id).where(
        AnnotationTask.project_id == row.project_id,
        AnnotationTask.connector == row.connector,
        col(AnnotationTask.state).in_((TaskState.SENT, TaskState.CONTESTED)),
    )
    tasks = session.exec(opened).all()
    ask_again(session, row.project_id, tasks)
    row.sqlmodel_update({"lost_at": utcnow(), "cursor": None, "look_due_at": None})
    ledger.append(
        session,
        actor=row.connector.value,
        action="tool_project_lost",
        subject=row.external_id or "",
        project_id=row.project_id,
        facts={"tasks": len(tasks)},
    )
