"""Jobs with the annotation tools: the connectors are made here, and only here."""

from typing import Any

from annotation.label_studio import LabelStudioConnector
from annotation.types import Connector
from service import label_studio_server
from service.errors import TryAgain, WrongState
from service.queue import Lease
from service.runtime import Runtime
from service.stages import labelling
from service.stages import triage as triage_stage
from service.tables import ConnectorKind, Project


def triage(_runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Choose what experts are asked."""
    return triage_stage.run(lease, lease.row_id)


def send(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Hand selected tasks to the project's tool."""
    hook = labelling.Hook(
        url=f"{runtime.settings.own_url}/hooks/label-studio/{runtime.secrets.hook_secret}",
        secret=runtime.secrets.hook_secret,
    )
    return labelling.send(lease, lease.row_id, connector_for(runtime, lease), hook)


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
        TryAgain: the bundled Label Studio is still being set up.
    """
    with runtime.db.reading() as session:
        project = session.get_one(Project, lease.row_id)
    if project.connector is not ConnectorKind.LABEL_STUDIO:
        raise WrongState(f"project {project.slug}: no tool is connected; use errata labelling import")
    chosen = runtime.settings
    url, token = chosen.label_studio_url, chosen.label_studio_token.get_secret_value()
    if not url:
        running = label_studio_server.running(chosen.data_dir)
        if running is None:
            raise TryAgain("Label Studio is not up yet")
        url, token = running.url, running.token
    return LabelStudioConnector(url, token)
