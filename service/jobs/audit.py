"""Audits what a project has, or rows before there is one; loading the checks takes seconds, so only who audits does."""

from collections.abc import Sequence
from typing import Any

from retrain.audit import Context
from retrain.audit.checks import run_all
from retrain.audit.report import report
from retrain.embedding import encode
from retrain.types import Example
from service.answers.audits import context_of
from service.clock import utcnow
from service.queue import Lease
from service.runtime import Runtime
from service.tables import Project


def of_rows(examples: Sequence[Example]) -> dict[str, Any]:
    """Run every check over rows of which nothing else is known, and report."""
    return report(examples, run_all(examples, Context(today=utcnow().date(), encode=encode)))


def of_project(runtime: Runtime, lease: Lease, examples: Sequence[Example]) -> dict[str, Any]:
    """Run every check over a project's rows, and report."""
    with runtime.db.reading() as session:
        context = context_of(session, session.get_one(Project, lease.row_id), encode)

    def tell(check: str, done: int, of: int) -> None:
        lease.report(checking=check, step=done, steps=of)

    return report(examples, run_all(examples, context, report=tell))
