"""In which tool a project's experts are asked, of how many and of whom: its rules, a versioned document."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from annotation.errors import InvalidRouting
from annotation.routing import Asked, Rule, read_rules, route
from service import projects
from service.errors import Invalid
from service.tables import ConnectorKind, Document, DocumentKind, Project

TOOLS = tuple(kind.value for kind in ConnectorKind if kind is not ConnectorKind.NONE)


@dataclass(frozen=True, slots=True)
class Routing:
    """A project's rules, and where a case goes that fits none."""

    rules: Sequence[Rule]
    default: ConnectorKind
    kind: str

    def place(
        self, *, reasons: Iterable[str] = (), severity: float = 0.0, language: str | None = None
    ) -> dict[str, Any]:
        """Return a task's `connector`, `overlap` and `pool`."""
        rule = route(self.rules, Asked(frozenset(reasons), severity, language, self.kind))
        if rule is None:
            return {"connector": self.default, "overlap": None, "pool": None}
        return {"connector": ConnectorKind(rule.tool), "overlap": rule.overlap, "pool": rule.pool}


def routing_of(session: Session, project: Project) -> Routing:
    """Return what the newest version of a project's rules says."""
    found = projects.document(session, project.id, DocumentKind.ROUTING)
    rules = read_rules(found.content, tools=TOOLS) if found else []
    return Routing(rules, project.connector, projects.label_schema(session, project).kind)


def set_routing(session: Session, project: Project, content: Any, *, actor: str) -> Document:
    """Say which cases are asked where; tasks that exist already stay where they are.

    Raises:
        Invalid: the rules cannot be read.
    """
    try:
        read_rules(content, tools=TOOLS)
    except InvalidRouting as error:
        raise Invalid(str(error)) from error
    return projects.add_document(session, project, DocumentKind.ROUTING, content, actor=actor)
