"""The jobs that find what made a model worse, and what each of its rows was worth."""

from typing import Any

from service.jobs.torch_tools import TorchTools
from service.queue import Lease
from service.runtime import Runtime
from service.stages import bisecting, valuing


def bisect(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Search between two model versions."""
    return bisecting.perform(runtime, lease, lease.row_id, TorchTools(runtime.settings))


def value(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Estimate what a model version's rows were worth to it, and check that where it is asked for."""
    repeats = int(lease.options.get("repeats", 0))
    return valuing.perform(runtime, lease, lease.row_id, TorchTools(runtime.settings), repeats=repeats)
