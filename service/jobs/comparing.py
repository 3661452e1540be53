"""The job that counts what people prefer."""

from typing import Any

from service.queue import Lease
from service.runtime import Runtime
from service.stages import comparing


def compare(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Count an evaluation's comparisons."""
    return comparing.perform(runtime, lease, lease.row_id)
