"""Jobs with what a team already has: import it, audit it, and settle what a sample admitted."""

from typing import Any

from retrain.corpus_files import read
from retrain.embedding import encode
from service.answers.audits import context_of
from service.answers.corpora import examples_to_audit
from service.jobs.audit import audited
from service.queue import Lease
from service.runtime import Runtime
from service.stages import corpus
from service.tables import Project


def work(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Do what the options say with a source, or with a project; without options, settle what was admitted."""
    if "path" in lease.options:
        found = read(lease.options["path"], columns=lease.options["columns"])
        return corpus.take(lease, lease.row_id, found, actor=lease.options["actor"])
    if "audit" in lease.options:
        return _audit(runtime, lease)
    return corpus.settle_admitted(lease, lease.row_id)


def _audit(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    with runtime.db.reading() as session:
        project = session.get_one(Project, lease.row_id)
        examples = examples_to_audit(session, project)
        context = context_of(session, project, encode)
    return audited(
        examples, context, lambda check, done, of: lease.report(checking=check, step=done, steps=of)
    )
