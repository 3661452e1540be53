"""Jobs with the annotation tools: the connectors are made here, and only here."""

from typing import Any

from annotation.argilla import ArgillaConnector
from annotation.label_studio import LabelStudioConnector
from annotation.types import Connector
from service import tools
from service.errors import TryAgain, WrongState
from service.queue import Lease
from service.runtime import Runtime
from service.settings import Settings
from service.stages import labelling
from service.stages import triage as triage_stage
from service.tables import ConnectorKind, Project


def triage(_runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Choose what experts are asked."""
    return triage_stage.run(lease, lease.row_id)


def send(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Hand selected tasks to the project's tool."""
    connector, secret = connector_for(runtime, lease), runtime.secrets.hook_secret
    # Label Studio shows its secret in the path as well, Argilla signs with a secret of its own.
    path = f"label-studio/{secret}" if connector.name == LabelStudioConnector.name else connector.name
    hook = labelling.Hook(url=f"{runtime.settings.own_url}/hooks/{path}", secret=secret)
    return labelling.send(lease, lease.row_id, connector, hook)


def sync(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Read what experts answered."""
    return labelling.sync(lease, lease.row_id, connector_for(runtime, lease))


def import_answers(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Take answers that experts gave without a tool."""
    return labelling.import_answers(lease, lease.row_id, lease.options["answers"])


def connector_for(runtime: Runtime, lease: Lease) -> Connector:
    """Connect to the tool in which the project's experts work.

    Raises:
        WrongState: the project works without a tool.
        TryAgain: the bundled tool is still being set up.
    """
    with runtime.db.reading() as session:
        project = session.get_one(Project, lease.row_id)
    if project.connector is ConnectorKind.NONE:
        raise WrongState(f"project {project.slug}: no tool is connected; use errata labelling import")
    return connect(runtime.settings, project.connector)


def connect(chosen: Settings, kind: ConnectorKind) -> ArgillaConnector | LabelStudioConnector:
    """Connect to the tool of a kind that the settings name, or that is bundled.

    Raises:
        TryAgain: the bundled tool is still being set up.
    """
    running = tools.running(chosen, kind)
    if running is None:
        raise TryAgain(f"{tools.bundled(kind).TITLE} is not up yet")
    if kind is ConnectorKind.ARGILLA:
        return ArgillaConnector(running.url, running.token, members=running.members)
    return LabelStudioConnector(running.url, running.token)
