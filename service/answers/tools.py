"""How a project fares in its annotation tools: what waits for each, since when, and what a person can do."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from service.tables import (
    AnnotationTask,
    ConnectorKind,
    LedgerEntry,
    Project,
    TaskState,
    ToolProject,
)
from service.tables.base import first_id

COUNTED = 10_000
RECENT = timedelta(days=7)
ALARMS = ("annotation_quarantined", "webhook_put_back", "tool_project_lost")


@dataclass(frozen=True, slots=True)
class InTool:
    """One tool: how many tasks wait to be sent since when, what hinders that, and the last week's alarms by name."""

    tool: ConnectorKind
    url: str | None
    waiting: int
    oldest: datetime | None
    problem: str | None
    retry_at: datetime | None
    foreign_tasks: int
    alarms: dict[str, int]

    @property
    def is_worth_a_line(self) -> bool:
        """Say whether anybody need know."""
        return bool(self.waiting or self.problem or self.foreign_tasks or self.alarms)


def in_tools(session: Session, project: Project, *, now: datetime) -> list[InTool]:
    """Return how a project fares in each tool that it uses."""
    rows = select(ToolProject).where(ToolProject.project_id == project.id)
    known = {row.connector: row for row in session.exec(rows)}
    used = {project.connector, *known, *_waiting_in(session, project)} - {ConnectorKind.NONE}
    alarms = _alarms(session, project, now - RECENT)
    return [_in_tool(session, project, tool, known.get(tool), alarms.get(tool, {})) for tool in sorted(used)]


def _in_tool(
    session: Session, project: Project, tool: ConnectorKind, row: ToolProject | None, alarms: dict[str, int]
) -> InTool:
    selected = (*_selected(project), AnnotationTask.connector == tool)
    counted = select(AnnotationTask.id).where(*selected).limit(COUNTED).subquery()
    oldest = select(func.min(AnnotationTask.created_at)).where(*selected)
    return InTool(
        tool=tool,
        url=row.url if row else None,
        waiting=session.execute(select_columns(func.count()).select_from(counted)).scalar_one(),
        oldest=session.exec(oldest).one(),
        problem=row.problem if row else None,
        retry_at=row.not_before if row else None,
        foreign_tasks=row.foreign_tasks if row else 0,
        alarms=alarms,
    )


def _waiting_in(session: Session, project: Project) -> set[ConnectorKind]:
    waiting = select_columns(col(AnnotationTask.connector)).where(*_selected(project)).distinct()
    return set(session.scalars(waiting))


def _selected(project: Project) -> tuple[Any, Any]:
    return AnnotationTask.project_id == project.id, AnnotationTask.state == TaskState.SELECTED


def _alarms(session: Session, project: Project, since: datetime) -> dict[ConnectorKind, dict[str, int]]:
    recent = select(LedgerEntry.actor, LedgerEntry.action, func.count()).where(
        LedgerEntry.project_id == project.id,
        col(LedgerEntry.id) >= first_id(since),
        col(LedgerEntry.action).in_(ALARMS),
    )
    found: dict[ConnectorKind, dict[str, int]] = {}
    for actor, action, count in session.exec(recent.group_by(LedgerEntry.actor, LedgerEntry.action)):
        found.setdefault(ConnectorKind(actor), {})[action] = count
    return found
