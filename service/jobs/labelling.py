"""Jobs with the annotation tools: the connectors are made here, and only here."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from annotation.argilla import ArgillaConnector
from annotation.errors import InvalidSchema, ToolRefused, ToolUnavailable
from annotation.label_studio import LabelStudioConnector
from annotation.types import Connector
from service import experts, tool_state, tools
from service.clock import utcnow
from service.errors import TryAgain, WrongState
from service.queue import Lease
from service.runtime import Runtime
from service.settings import Settings
from service.stages import gold, labelling, sending
from service.tables import ConnectorKind, Project
from service.tool_server import ToolFailed
from service.tool_state import Hook

Work = Callable[[ConnectorKind, Connector, Hook], dict[str, Any]]


def send(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Hand selected tasks to their tools, gold among them."""
    gold.hide(lease, lease.row_id, now=utcnow())
    return _in_each(
        runtime, lease, lambda tool, connector, hook: sending.send(lease, lease.row_id, tool, connector, hook)
    )


def sync(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Read what experts answered."""
    return _in_each(
        runtime,
        lease,
        lambda tool, connector, hook: labelling.sync(
            lease,
            lease.row_id,
            tool,
            connector,
            hook,
            accounts=tools.accounts(runtime.settings, tool),
            known_as=_known_as(runtime, tool),
        ),
    )


def import_answers(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Take answers that experts gave without a tool."""
    known_as = _known_as(runtime, ConnectorKind.NONE)
    return labelling.import_answers(lease, lease.row_id, lease.options["answers"], known_as=known_as)


def connect(
    chosen: Settings, tool: ConnectorKind, known_as: Callable[[str], str] = str
) -> ArgillaConnector | LabelStudioConnector:
    """Connect to the tool of a kind that the settings name, or that is bundled; who has left is let in nowhere.

    Raises:
        TryAgain: the bundled tool is still being set up.
    """
    running = tools.running(chosen, tool)
    if running is None:
        raise TryAgain(f"{tools.bundled(tool).TITLE} is not up yet")
    if tool is ConnectorKind.ARGILLA:
        members = [name for name in running.members if known_as(name) == name]
        return ArgillaConnector(running.url, running.token, members=members)
    return LabelStudioConnector(running.url, running.token)


def _in_each(runtime: Runtime, lease: Lease, work: Work) -> dict[str, Any]:
    """Work with the tool that was asked for, or with each that the project uses, and add up what came of it.

    A tool that fails is let rest, and the console says why; the job itself is done, since what waits is asked for
    again by itself.
    """
    outcome: Counter[str] = Counter()
    waiting: dict[str, str] = {}
    for tool in _tools(runtime, lease):
        try:
            _check_blindness(runtime, lease, tool)
            _let_in(runtime, lease, tool)
            known_as = _known_as(runtime, tool)
            connector = connect(runtime.settings, tool, known_as)
            outcome.update(work(tool, connector, _hook(runtime, tool)))
            # Last, for Label Studio tells by no name who gave what is read after that.
            tools.lock_out(runtime.settings, tool, known_as)
        except (ToolUnavailable, ToolRefused, InvalidSchema, TryAgain, ToolFailed) as error:
            waiting[tool.value] = str(error)
            with lease.transaction() as session:
                tool_state.failed(session, lease.row_id, tool, str(error), runtime.settings)
        else:
            with lease.transaction() as session:
                tool_state.succeeded(session, lease.row_id, tool)
    return {**outcome, "waiting": waiting} if waiting else dict(outcome)


def _check_blindness(runtime: Runtime, lease: Lease, tool: ConnectorKind) -> None:
    """Refuse to work in a tool that shows every answer to everybody, where a project forbids that.

    Raises:
        ToolRefused: the project needs blindness, and this is a Label Studio that Errata did not bring.
    """
    with runtime.db.reading() as session:
        project = session.get_one(Project, lease.row_id)
    if project.needs_blindness and tool is ConnectorKind.LABEL_STUDIO and tools.own(runtime.settings, tool):
        raise ToolRefused(
            "its experts can read each other's answers, which this project forbids: ask in Argilla, or leave"
            " ERRATA_LABEL_STUDIO_URL out for the Label Studio that Errata brings"
        )


def _let_in(runtime: Runtime, lease: Lease, tool: ConnectorKind) -> None:
    """Make accounts in a bundled tool for the experts who joined the project and have none there yet.

    Raises:
        TryAgain: the tool is not up, or refuses.
    """
    if tools.own(runtime.settings, tool):
        return
    with runtime.db.reading() as session:
        joined = experts.joined(session, lease.row_id)
    names = [user.name for user in joined]
    missing = [name for name in names if tools.account(runtime.settings, tool, name) is None]
    running = tools.running(runtime.settings, tool) if missing else None
    if running:
        with lease.transaction() as session:
            for user in joined:
                experts.link(session, tool, tools.bundled(tool).login_of(user.name), user)
        try:
            tools.bundled(tool).ensure_accounts(running.url, runtime.settings.data_dir, missing)
        except ToolFailed as error:
            raise TryAgain(str(error)) from error


def _known_as(runtime: Runtime, tool: ConnectorKind) -> Callable[[str], str]:
    with runtime.db.reading() as session:
        return experts.alias(session, runtime.secrets, tool)


def _tools(runtime: Runtime, lease: Lease) -> list[ConnectorKind]:
    if "tool" in lease.options:
        return [ConnectorKind(lease.options["tool"])]
    with runtime.db.reading() as session:
        found = tool_state.tools_of(session, lease.row_id)
        if not found:
            slug = session.get_one(Project, lease.row_id).slug
            raise WrongState(f"project {slug}: no tool is connected; use errata labelling import")
    return found


def _hook(runtime: Runtime, tool: ConnectorKind) -> Hook:
    secret = runtime.secrets.hook_secret
    # Label Studio shows its secret in the path as well, Argilla signs with a secret of its own.
    path = f"{tool}/{secret}" if tool is ConnectorKind.LABEL_STUDIO else tool.value
    return Hook(url=f"{runtime.settings.own_url}/hooks/{path}", secret=secret)
