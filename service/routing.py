"""In which tool a project's experts are asked, of how many and of whom: its rules, a versioned document."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from annotation.errors import InvalidRouting
from annotation.routing import Asked, Rule, read_rules, route
from service import projects, tool_state
from service.errors import Invalid
from service.tables import (
    AnnotationTask,
    ConnectorKind,
    Document,
    DocumentKind,
    Feedback,
    Project,
    Response,
    TaskFlag,
)

TOOLS = tuple(kind.value for kind in ConnectorKind if kind is not ConnectorKind.NONE)


@dataclass(frozen=True, slots=True)
class Routing:
    """A project's rules, where a case goes that fits none, and how severe each reason is.

    Where a project has no rules, `tool_of` says where the worst reason given leads. With `needs_argilla` what would be
    asked in Label Studio is asked in Argilla.
    """

    rules: Sequence[Rule]
    default: ConnectorKind
    kind: str
    severity: Mapping[str, float]
    tool_of: Mapping[str, ConnectorKind] = field(default_factory=dict)
    needs_argilla: bool = False

    def place(
        self, *, reasons: Iterable[str] = (), severity: float = 0.0, language: str | None = None
    ) -> dict[str, Any]:
        """Return a task's `connector`, `overlap` and `pool`."""
        reasons = frozenset(reasons)
        rule = route(self.rules, Asked(reasons, severity, language, self.kind))
        chosen = self._tool_of_worst(reasons) if rule is None else ConnectorKind(rule.tool)
        # Every Argilla keeps experts from reading each other's answers, not every Label Studio does.
        is_moved = self.needs_argilla and chosen is ConnectorKind.LABEL_STUDIO
        return {
            "connector": ConnectorKind.ARGILLA if is_moved else chosen,
            "overlap": rule and rule.overlap,
            "pool": rule and rule.pool,
        }

    def _tool_of_worst(self, reasons: Iterable[str]) -> ConnectorKind:
        worst = sorted(reasons, key=lambda code: (-self.severity.get(code, 1.0), code))
        return self.tool_of.get(worst[0], self.default) if worst else self.default

    def place_of(self, session: Session, response_id: UUID, flags: Sequence[Feedback]) -> dict[str, Any]:
        """Return where a flagged response is asked: by all reasons given, the worst of them, and its language."""
        reasons = {code for flag in flags for code in flag.reasons}
        return self.place(
            reasons=reasons,
            severity=max((self.severity.get(code, 1.0) for code in reasons), default=1.0 if flags else 0.0),
            language=session.get_one(Response, response_id).language,
        )

    def place_again(self, session: Session, task: AnnotationTask) -> dict[str, Any]:
        """Return where a task is asked again, by the flags that it is about."""
        flags = (
            select(Feedback)
            .join(TaskFlag, col(TaskFlag.feedback_id) == Feedback.id)
            .where(TaskFlag.task_id == (task.rechecks_id or task.id), col(Feedback.withdrawn_at).is_(None))
        )
        return self.place_of(session, task.response_id, session.exec(flags).all())


def routing_of(session: Session, project: Project) -> Routing:
    """Return what the newest version of a project's rules says."""
    found = projects.document(session, project.id, DocumentKind.ROUTING)
    rules = read_rules(found.content, tools=TOOLS) if found else []
    written = projects.current(session, project.id, DocumentKind.REASONS)
    used = tool_state.tools_of(session, project.id)
    tools = {*used, *(ConnectorKind(rule.tool) for rule in rules)}
    return Routing(
        rules,
        default=project.connector,
        kind=projects.label_schema(session, project).kind,
        severity={code: float(reason.get("severity", 1.0)) for code, reason in written.content.items()},
        tool_of={} if rules else _tools_of_reasons(written, project, used),
        needs_argilla=project.needs_blindness and ConnectorKind.ARGILLA in tools,
    )


def _tools_of_reasons(
    written: Document, project: Project, used: Collection[ConnectorKind]
) -> dict[str, ConnectorKind]:
    """Return where each reason leads: to a tool that the project uses, or that somebody wrote down for it."""
    if project.connector is ConnectorKind.NONE:
        return {}
    named = {code: ConnectorKind(each["tool"]) for code, each in written.content.items() if "tool" in each}
    return {code: tool for code, tool in named.items() if tool in used or written.version > 1}


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
