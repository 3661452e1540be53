"""The jobs that train an adapter, and train it again."""

from typing import Any

from service.jobs.torch_tools import TorchTools
from service.queue import Lease
from service.runtime import Runtime
from service.stages import reproducing, training


def train(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Train a requested run."""
    return training.perform(runtime, lease, lease.row_id, TorchTools(runtime.settings))


def reproduce(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Train a finished run again and compare."""
    return reproducing.perform(runtime, lease, lease.row_id, TorchTools(runtime.settings))
