"""The job that chooses what experts are asked; it waits for no tool."""

from typing import Any

from retrain.language import language_of
from service.queue import Lease
from service.runtime import Runtime
from service.stages import triage as triage_stage


def triage(_runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Choose what experts are asked."""
    return triage_stage.run(lease, lease.row_id, language_of)
