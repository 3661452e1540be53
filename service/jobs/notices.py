"""The job that sends notices; nothing here is heavy."""

from functools import partial
from typing import Any

from service import outgoing
from service.queue import Lease
from service.runtime import Runtime
from service.stages import notifying


def notify(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Send what a project's targets are to hear of."""
    post = partial(outgoing.post, may_loop_back=runtime.settings.notice_to_loopback)
    return notifying.deliver(runtime, lease, lease.row_id, post)
