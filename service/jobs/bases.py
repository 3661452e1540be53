"""The job that compares base models."""

from typing import Any

from service.jobs.torch_tools import TorchTools
from service.queue import Lease
from service.runtime import Runtime
from service.stages import bases


def compare(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Score the models asked for on a training set's validation rows."""
    return bases.compare(runtime, lease, lease.row_id, lease.options["bases"], TorchTools(runtime.settings))
