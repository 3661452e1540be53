"""The job that trains an adapter."""

from typing import Any

from service.jobs.torch_tools import TorchTools
from service.queue import Lease
from service.runtime import Runtime
from service.stages import training


def train(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Train a requested run."""
    return training.perform(runtime, lease, lease.row_id, TorchTools(runtime.settings))
