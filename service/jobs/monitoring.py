"""The job that watches what is live; what it compares with is loaded here alone."""

from typing import Any

from service.queue import Lease
from service.runtime import Runtime
from service.stages import monitoring


def monitor(_runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Raise an alarm where a project's champion is flagged more often, or asked other things, than before."""
    return monitoring.perform(lease, lease.row_id)
