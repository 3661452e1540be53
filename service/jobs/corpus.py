"""Jobs with what a team already has: import it, audit it, and settle what a sample admitted."""

from importlib import import_module
from typing import Any

from service.answers.corpora import examples_to_audit
from service.errors import Invalid
from service.jobs import places
from service.queue import Lease
from service.runtime import Runtime
from service.stages import corpus
from service.tables import Project


def work(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Do what the options say with a source, or with a project; without options, settle what was admitted."""
    if "path" in lease.options:
        found = places.read(runtime.settings, lease.options["path"], lease.options["columns"])
        return corpus.take(lease, lease.row_id, found, actor=lease.options["actor"])
    if "audit" in lease.options:
        return _audit(runtime, lease)
    return corpus.settle_admitted(lease, lease.row_id)


def _audit(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    with runtime.db.reading() as session:
        examples = examples_to_audit(session, session.get_one(Project, lease.row_id))
    if not examples:
        raise Invalid("there is nothing to audit: no corpus was imported and no answer is settled")
    report: dict[str, Any] = import_module("service.jobs.audit").of_project(runtime, lease, examples)
    return report
