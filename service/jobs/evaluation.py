"""The job that judges a challenger."""

from typing import Any

from service.jobs.torch_tools import TorchTools
from service.queue import Lease
from service.runtime import Runtime
from service.stages import evaluation


def evaluate(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Judge a model version."""
    return evaluation.perform(runtime, lease, lease.row_id, TorchTools(runtime.settings))
