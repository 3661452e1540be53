"""Beside the loop: forget a person in all that was learned from them, down to files and mirrors.

Words go, keys stay, so that the ledger's chain, each set's name and the lineage of what is left can be followed as
before. Every step starts from what the database says is erased: one that broke off is completed by the next erasure.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from functools import partial
from sqlite3 import OperationalError
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import case
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, col, select

from annotation.types import Connector
from retrain.errors import RemoteRefused
from retrain.examination import report_without
from retrain.types import canonical_json
from service import ledger, orphans, reading, rights
from service.answers import newest_set
from service.answers.erasures import (
    ERASED_SETS,
    Repository,
    RowFiles,
    erased_shards,
)
from service.clock import utcnow
from service.errors import TryAgain
from service.forgetting import change, erase_words
from service.queue import Lease
from service.runtime import Runtime
from service.secrets import Secrets
from service.tables import (
    AnnotationTask,
    AuditFinding,
    ConnectorKind,
    Erasure,
    Evaluation,
    Job,
    JobKind,
    JobState,
    LedgerEntry,
    Response,
    Settlement,
    SplitAssignment,
    TrainingSet,
    TrainingSetExample,
)

ROWS_ERASED = "rows_erased"
READERS = (
    *(JobKind.CURATE, JobKind.CORPUS, JobKind.TRAIN),
    *(JobKind.EVALUATE, JobKind.COMPARE, JobKind.BISECT, JobKind.VALUE, JobKind.BASES, JobKind.TUNE),
    *(JobKind.REPRODUCE, JobKind.RECHECK),
)
STORING = frozenset({*READERS, JobKind.ERASE})
ERASED_PROJECTS = select(Response.project_id).where(col(Response.erased_at).is_not(None))
ERASED_SETTLEMENTS = (
    select(Settlement.id)
    .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
    .join(Response, col(AnnotationTask.response_id) == Response.id)
    .where(col(Response.erased_at).is_not(None))
)

log = structlog.get_logger()


def run(
    runtime: Runtime,
    lease: Lease,
    repository: Repository,
    files: RowFiles,
    *,
    connect: Callable[[ConnectorKind], Connector],
    forget: Callable[[], None],
) -> dict[str, Any]:
    """Erase what a person asked, was answered and said, what experts made of it, and each copy of that in a set.

    An erasure of nobody's takes what the project's retention lets be kept no longer.

    The lease's row is the `Erasure`; returns its certificate. `forget` clears what tools and Redis keep of it. Safe to
    repeat: each step goes by what the database says is erased. A job builds the set that follows one which lost rows
    and was the newest. What exports and backups hold is not erased here.

    Raises:
        OnHold: nothing may be erased, and nothing is.
        TryAgain: a job, a reader, the remote or a tool is in the way; what could be erased is.
    """
    with lease.transaction() as session:
        erase_words(session, session.get_one(Erasure, lease.row_id))
    with lease.transaction() as session:
        _refuse_readers(session)
        _erase_findings(session)
    lease.report(step="training sets")
    _empty_sets(runtime, files)
    lease.report(step="tools and files")
    tasks = _tasks_to_delete(runtime, lease.row_id)
    _do_all(
        partial(reading.recall, lease, tasks, connect),
        forget,
        partial(_forget_mirrored, runtime, repository, files),
        partial(_remove_files, runtime),
        partial(_vacuum, runtime),
        partial(_ask_for_successors, runtime),  # last, for whoever builds a set is a reader
    )
    with lease.transaction() as session:
        certificate = rights.certify(session, runtime.secrets, lease.row_id, tasks=len(tasks), now=utcnow())
    log.info("subject_erased", **certificate["counts"])
    return certificate


def _do_all(*steps: Callable[[], None]) -> None:
    """Take every step, whatever hinders another.

    Raises:
        TryAgain: something hindered one.
    """
    failures = []
    for step in steps:
        try:
            step()
        except (TryAgain, DBAPIError) as error:
            failures.append(str(error.orig if isinstance(error, DBAPIError) else error))
    if failures:
        raise TryAgain("; ".join(failures))


def _refuse_readers(session: Session) -> None:
    """Refuse to go on while a job may hold rows that it read before they were erased."""
    of_project = (col(Job.project_id).in_(ERASED_PROJECTS), Job.state == JobState.LEASED)
    at_work = select(Job.kind, Job.id).where(*of_project, col(Job.kind).in_(READERS))
    if reader := session.exec(at_work).first():
        raise TryAgain(
            f"job {reader[1]} ({reader[0]}) has read rows: cancel it or let it end, then erase again"
        )


def _erase_findings(session: Session) -> None:
    """Take the words out of findings about erased rows, or about all rows, and out of what jobs told of them.

    A phrase that an accepted repair replaces stays where other people's rows say it too.
    """
    erased = {str(key) for key in session.exec(ERASED_SETTLEMENTS)}
    of_projects = (
        select(AuditFinding).join(TrainingSet).where(col(TrainingSet.project_id).in_(ERASED_PROJECTS))
    )
    for finding in session.exec(of_projects):
        if not finding.keys or erased.intersection(finding.keys):
            finding.evidence, finding.repair = "erased, with rows that it was about", ""
            finding.proposals = [_wordless(proposal, erased) for proposal in finding.proposals]
    told = col(Job.project_id).in_(ERASED_PROJECTS) & col(Job.kind).in_((JobKind.CURATE, JobKind.CORPUS))
    change(session, Job, told & (col(Job.state) != JobState.LEASED), {"result": {}})


def _wordless(proposal: dict[str, Any], erased: Collection[str]) -> dict[str, Any]:
    keys = [key for key in proposal["keys"] if key not in erased]
    return proposal | {"keys": keys} | ({} if keys else {"find": "", "put": ""})


def _empty_sets(runtime: Runtime, files: RowFiles) -> None:
    """Write the file of each set that holds erased rows again without them."""
    rows_of: defaultdict[UUID, list[TrainingSetExample]] = defaultdict(list)
    with runtime.db.reading() as session:
        held = select(TrainingSetExample).where(
            col(TrainingSetExample.settlement_id).in_(ERASED_SETTLEMENTS),
            col(TrainingSetExample.erased_at).is_(None),
        )
        for row in session.exec(held):
            rows_of[row.training_set_id].append(row)
    hashes = {row.content_sha256 for rows in rows_of.values() for row in rows}
    if hashes:
        _empty_reports(runtime, hashes)
    for set_id, rows in rows_of.items():
        _empty_set(runtime, set_id, rows, files)


def _empty_set(runtime: Runtime, set_id: UUID, rows: Sequence[TrainingSetExample], files: RowFiles) -> None:
    with runtime.db.reading() as session:
        training_set = session.get_one(TrainingSet, set_id)
    with runtime.scratch() as folder:
        whole, rest = folder / "whole.parquet", folder / "rest.parquet"
        whole.write_bytes(runtime.artifacts.get_bytes(training_set.artifact))
        files.leave_out(whole, {row.content_sha256 for row in rows}, rest)
        name = runtime.artifacts.put_file(rest)
    with runtime.db.transaction() as session:
        _refuse_readers(session)
        _replace(session, training_set, "artifact", name, rows=len(rows))
        ids = col(TrainingSetExample.id).in_([row.id for row in rows])
        change(session, TrainingSetExample, ids, {"content_sha256": "", "erased_at": utcnow()})
        _salt_groups(session, runtime.secrets, training_set.project_id, {row.group_name for row in rows})


def _salt_groups(session: Session, secrets: Secrets, project_id: UUID, names: Collection[str]) -> None:
    """Rename groups whose names are digests of what was asked, wherever they stand; who is in them stays."""
    sets = select(TrainingSet.id).where(TrainingSet.project_id == project_id)
    salted = {name: f"salted:{secrets.salted(name)}" for name in names}
    for table in (TrainingSetExample, SplitAssignment):
        of_project = col(table.training_set_id).in_(sets) & col(table.group_name).in_(salted)
        change(session, table, of_project, {"group_name": case(salted, value=col(table.group_name))})


def _empty_reports(runtime: Runtime, hashes: set[str]) -> None:
    """Take what models answered to erased rows, and the rows' digests, out of the reports of evaluations."""
    with runtime.db.reading() as session:
        of_projects = select(Evaluation).where(col(Evaluation.project_id).in_(ERASED_PROJECTS))
        evaluations = session.exec(of_projects).all()
    for evaluation in evaluations:
        if not evaluation.report or not runtime.artifacts.exists(evaluation.report):
            continue
        report = json.loads(runtime.artifacts.get_bytes(evaluation.report))
        left = report_without(report, hashes)
        if left != report:
            name = runtime.artifacts.put_bytes(canonical_json(left))
            with runtime.db.transaction() as session:
                _replace(session, evaluation, "report", name)


def _replace(session: Session, row: TrainingSet | Evaluation, column: str, name: str, **facts: int) -> None:
    """Let a row name another artifact; the ledger says which one is to be removed, whatever happens next."""
    old, found = getattr(row, column), session.get_one(type(row), row.id, with_for_update=True)
    if getattr(found, column) != old:
        raise TryAgain(f"{row.__tablename__} {row.id} is being erased from by somebody else")
    ledger.append(
        session,
        actor="erasure",
        action=ROWS_ERASED,
        subject=f"{row.__tablename__} {row.id}",
        project_id=row.project_id,
        facts={"removed": old, "by": name, **facts},
    )
    setattr(found, column, name)


def _remove_files(runtime: Runtime) -> None:
    """Remove the artifacts that were replaced, and all that jobs left behind which were killed or refused."""
    with runtime.db.reading() as session:
        erasures = session.exec(select(LedgerEntry).where(LedgerEntry.action == ROWS_ERASED)).all()
        used = {*session.exec(select(TrainingSet.artifact)), *session.exec(select(Evaluation.report))}
    for name in {entry.facts["removed"] for entry in erasures} - used:
        runtime.artifacts.remove(name)
    orphans.remove(runtime, storing=STORING, emptied=ERASED_PROJECTS)


def _tasks_to_delete(runtime: Runtime, erasure_id: UUID) -> set[UUID]:
    """Return the tasks in which a tool shows words of this erasure."""
    with runtime.db.reading() as session:
        found = session.get_one(Erasure, erasure_id)
        own = select(AnnotationTask.id).join(Response, col(AnnotationTask.response_id) == Response.id)
        erased = session.exec(own.where(Response.erased_at == found.erased_at))
        return {*erased, *map(UUID, found.recalled)}


def _vacuum(runtime: Runtime) -> None:
    still = "the database's files still hold what was erased"
    try:
        if not runtime.db.vacuum():
            raise TryAgain(f"somebody reads the database: {still}")
    except OperationalError as error:
        raise TryAgain(f"{still}: {error}") from error


def _ask_for_successors(runtime: Runtime) -> None:
    """Ask for the next set wherever the newest lost rows since it was built, and has some left."""
    with runtime.db.transaction() as session:
        for project_id in session.exec(ERASED_PROJECTS.distinct()).all():
            newest = newest_set(session, project_id)
            if newest and _is_to_follow(session, newest):
                key = f"{JobKind.CURATE}:{project_id}"
                runtime.queue.ask(session, JobKind.CURATE, project_id, project_id=project_id, unique_key=key)


def _is_to_follow(session: Session, training_set: TrainingSet) -> bool:
    of_set = select(TrainingSetExample.id).where(TrainingSetExample.training_set_id == training_set.id)
    erased_at = col(TrainingSetExample.erased_at)
    lost, left = of_set.where(erased_at > training_set.current_at), of_set.where(erased_at.is_(None))
    return all(session.exec(rows.limit(1)).first() for rows in (lost, left))


def _forget_mirrored(runtime: Runtime, repository: Repository, files: RowFiles) -> None:
    """Take the rows of emptied sets out of the mirror: their tags stay and name what is no more."""
    try:
        repository.forget(partial(erased_shards, runtime, repository, files, ERASED_SETS))
    except RemoteRefused as error:
        raise TryAgain(f"all is erased here, but {error}") from error
