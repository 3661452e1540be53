"""How a project fares in its annotation tools: what waits for each, since when, and what a person can do."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlmodel import Session, col, select

from service.tables import (
    AnnotationTask,
    ConnectorKind,
    Project,
    ToolProject,
)

RECENT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class InTool:
    """One tool: since when the oldest task waits to be sent, what hinders that, and the last week's alarms by name."""

    tool: ConnectorKind
    url: str | None
    oldest: datetime | None
    problem: str | None
    retry_at: datetime | None
    foreign_tasks: int
    alarms: list[str]

    @property
    def is_worth_a_line(self) -> bool:
        """Say whether anybody need know."""
        return bool(self.oldest or self.problem or self.foreign_tasks or self.alarms)


def in_tools(session: Session, project: Project, *, now: datetime) -> list[InTool]:
    """Return how a project fares in each tool that it uses."""
    rows = select(ToolProject).where(ToolProject.project_id == project.id)
    known = {row.connector: row for row in session.exec(rows)}
    return [
        found
        for tool in (ConnectorKind.LABEL_STUDIO, ConnectorKind.ARGILLA)
        if (found := _in_tool(session, project, tool, known.get(tool), now))
        if tool in {project.connector, *known} or found.oldest
    ]


def _in_tool(
    session: Session, project: Project, tool: ConnectorKind, row: ToolProject | None, now: datetime
) -> InTool:
    # In the order of their ids, which is that of their times.
    selected = (
        select(AnnotationTask.created_at)
        .where(
            AnnotationTask.project_id == project.id,
            text("annotation_task.state = 'selected'"),  # as the index says it, not as a parameter
            AnnotationTask.connector == tool,
        )
        .order_by(col(AnnotationTask.id))
        .limit(1)
    )
    return InTool(
        tool=tool,
        url=row.url if row else None,
        oldest=session.exec(selected).first(),
        problem=row.problem if row else None,
        retry_at=row.not_before if row else None,
        foreign_tasks=row.foreign_tasks if row else 0,
        alarms=_alarms(row, now - RECENT),
    )


def _alarms(row: ToolProject | None, since: datetime) -> list[str]:
    happened = {
        "quarantined": row and row.quarantined_at,
        "webhook_put_back": row and row.hook_put_back_at,
        "project_lost": row and row.lost_at,
    }
    return [name for name, at in happened.items() if at and at >= since]
