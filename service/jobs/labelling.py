"""Jobs with the annotation tools: the connectors are made here, and only here."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from annotation.argilla import ArgillaConnector
from annotation.errors import ToolRefused, ToolUnavailable
from annotation.label_studio import LabelStudioConnector
from annotation.types import Connector
from service import tool_state, tools
from service.errors import TryAgain, WrongState
from service.queue import Lease
from service.runtime import Runtime
from service.settings import Settings
from service.stages import labelling, sending
from service.tables import ConnectorKind, Project
from service.tool_state import Hook

Work = Callable[[ConnectorKind, Connector, Hook], dict[str, Any]]


def send(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Hand selected tasks to their tools."""
    return _in_each(
        runtime, lease, lambda tool, connector, hook: sending.send(lease, lease.row_id, tool, connector, hook)
    )


def sync(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Read what experts answered."""
    return _in_each(
        runtime,
        lease,
        lambda tool, connector, hook: labelling.sync(
            lease, lease.row_id, tool, connector, hook, accounts=tools.accounts(runtime.settings, tool)
        ),
    )


def import_answers(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Take answers that experts gave without a tool."""
    return labelling.import_answers(lease, lease.row_id, lease.options["answers"])


def connect(chosen: Settings, tool: ConnectorKind) -> ArgillaConnector | LabelStudioConnector:
    """Connect to the tool of a kind that the settings name, or that is bundled.

    Raises:
        TryAgain: the bundled tool is still being set up.
    """
    running = tools.running(chosen, tool)
    if running is None:
        raise TryAgain(f"{tools.bundled(tool).TITLE} is not up yet")
    if tool is ConnectorKind.ARGILLA:
        return ArgillaConnector(running.url, running.token, members=running.members)
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
            outcome.update(work(tool, connect(runtime.settings, tool), _hook(runtime, tool)))
        except (ToolUnavailable, ToolRefused, TryAgain) as error:
            waiting[tool.value] = str(error)
            with lease.transaction() as session:
                tool_state.failed(session, lease.row_id, tool, str(error), runtime.settings)
        else:
            with lease.transaction() as session:
                tool_state.succeeded(session, lease.row_id, tool)
    return {**outcome, "waiting": waiting} if waiting else dict(outcome)


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
