"""The job that judges annotations; crowd-kit and what it brings are loaded here alone."""

from typing import Any

from annotation.quality_report import report
from service.queue import Lease
from service.runtime import Runtime
from service.stages import quality


def assess(_runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Compute how far a project's annotators agree and can be trusted."""
    return quality.run(lease, lease.row_id, report)
