"""The job that asks a new champion what users flagged."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlmodel import Session

from service.jobs.torch_tools import TorchTools
from service.queue import Lease
from service.runtime import Runtime
from service.stages import asking, rechecking
from service.tables import JobKind, Project


def recheck(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Ask a version again what it was taught."""

    def ask_again(session: Session, project: Project, settlements: Sequence[UUID]) -> int:
        return asking.ask_about(session, project, settlements, actor=JobKind.RECHECK)

    return rechecking.perform(runtime, lease, lease.row_id, TorchTools(runtime.settings), ask_again)
