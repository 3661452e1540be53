"""Beside the loop: forget a person in all that was learned from them, down to files and mirrors.

Words go, keys stay, so that the ledger's chain, each set's name and the lineage of what is left can be followed as
before. Every step starts from what the database says is erased: one that broke off is completed by the next erasure.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from sqlite3 import OperationalError
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import case, delete, func, null, update
from sqlalchemy import select as select_columns
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, SQLModel, col, select

from annotation.types import Connector
from retrain.errors import RemoteRefused
from retrain.examination import report_without, slice_named
from retrain.types import Split, canonical_json
from service import ledger, notices, orphans, reading, rights
from service.answers import newest_set
from service.answers.erasures import (
    ERASED_SETS,
    Repository,
    RowFiles,
    answered_nothing,
    erased_shards,
    is_of,
    of_subject,
    said_nothing,
)
from service.clock import utcnow
from service.errors import TryAgain
from service.queue import Lease
from service.runtime import Runtime
from service.secrets import Secrets
from service.tables import (
    Annotation,
    AnnotationTask,
    AuditFinding,
    ConnectorKind,
    Erasure,
    Evaluation,
    Feedback,
    GuidelineQuestion,
    Job,
    JobKind,
    JobState,
    LedgerEntry,
    LegalHold,
    Outcome,
    Quarantine,
    Response,
    Score,
    Settlement,
    SplitAssignment,
    TaskFlag,
    TaskState,
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
UNSETTLED = (TaskState.SELECTED, TaskState.SENT, TaskState.CONTESTED)
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

    The lease's row is the `Erasure`; returns its certificate. `forget` clears what tools and Redis keep of it. Safe to
    repeat: each step goes by what the database says is erased. A job builds the set that follows one which lost rows
    and was the newest. What exports and backups hold is not erased here.

    Raises:
        OnHold: nothing may be erased, and nothing is.
        TryAgain: a job, a reader, the remote or a tool is in the way; what could be erased is.
    """
    with lease.transaction() as session:
        _erase_words(session, session.get_one(Erasure, lease.row_id))
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


def _erase_words(session: Session, wish: Erasure) -> None:
    """Empty the rows that hold the person's words, or what experts wrote instead, once, and note how many."""
    if wish.subject is None:
        return
    at, subject, project_id = utcnow(), str(wish.subject), wish.project_id
    # First, for what follows changes who said what, and waits there for an import that holds such a row.
    responses = _change(session, Response, is_of(subject, project_id), {"erased_at": at})
    rights.refuse_hold(session, subject, project_id)
    own = select(Response.id).where(Response.erased_at == at)
    tasks = select(AnnotationTask.id).where(col(AnnotationTask.response_id).in_(own))
    _erase_imported_answers(session, set(session.exec(own)))
    session.exec(delete(Outcome).where(col(Outcome.response_id).in_(own)))
    # What comes from them later is a stranger's: the quarantine ends with what it knew them by.
    known = {"subject": None, "reason": "", "lifted_at": func.coalesce(Quarantine.lifted_at, at)}
    _change(session, Quarantine, of_subject(Quarantine, subject, project_id), known)
    _change(session, LegalHold, of_subject(LegalHold, subject, project_id), {"subject": None, "reason": ""})
    of_person = of_subject(Feedback, subject, project_id) | col(Feedback.response_id).in_(own)
    flagged = (
        select(TaskFlag.task_id).join(Feedback, col(Feedback.id) == TaskFlag.feedback_id).where(of_person)
    )
    about_others = col(AnnotationTask.id).in_(flagged) & col(AnnotationTask.id).not_in(tasks)
    wish.recalled = [str(key) for key in session.exec(select(AnnotationTask.id).where(about_others))]
    session.flush()
    prefilled = col(AnnotationTask.id).in_(tasks) | col(AnnotationTask.id).in_(flagged)
    for again in (AnnotationTask.rechecks_id, AnnotationTask.gold_of_id):  # suggests what the first one did
        prefilled |= col(again).in_(flagged)
    _change(session, AnnotationTask, prefilled, {"suggestion": {}})
    feedback = _change(session, Feedback, of_person, said_nothing(at))
    judged = dict.fromkeys(("correction", "problem", "reason"))
    _change(session, Annotation, col(Annotation.task_id).in_(tasks), judged)
    asked = col(GuidelineQuestion.task_id).in_(tasks) | col(GuidelineQuestion.task_id).in_(flagged)
    _change(session, GuidelineQuestion, asked, {"text": "", "answer": None})
    about_task = col(Settlement.task_id).in_(tasks)
    _change(session, Settlement, about_task, {"correction": None, "ticket_url": None})
    told = select(Feedback.id).where(of_person).union_all(tasks)
    notices.forget(session, told, "erased")
    unsettled = col(AnnotationTask.id).in_(tasks) & col(AnnotationTask.state).in_(UNSETTLED)
    _change(session, AnnotationTask, unsettled, {"state": TaskState.WITHDRAWN})
    _erase_figures(session, at)
    _change(session, Response, col(Response.erased_at) == at, answered_nothing(at))
    in_sets = col(TrainingSetExample.settlement_id).in_(ERASED_SETTLEMENTS)
    _change(session, TrainingSetExample, in_sets, {"consent": null()})
    done = {"subject": None, "erased_at": at, "counts": {"responses": responses, "feedback": feedback}}
    # Whoever asked twice is forgotten once, and no wish goes on naming them.
    _change(session, Erasure, of_subject(Erasure, subject, project_id), done)
    session.refresh(wish)
    rights.note(session, wish, "subject_erased", wish.counts)


def _erase_figures(session: Session, at: datetime) -> None:
    """Delete figures of slices that test rows erased at this moment made alone: their names tell attributes."""
    judged = (
        select_columns(col(Response.project_id), col(Response.attributes), col(Response.erased_at))
        .join(AnnotationTask, col(AnnotationTask.response_id) == Response.id)
        .join(Settlement, col(Settlement.task_id) == AnnotationTask.id)
        .join(TrainingSetExample, col(TrainingSetExample.settlement_id) == Settlement.id)
        .where(col(TrainingSetExample.split) == Split.TEST, col(Response.project_id).in_(ERASED_PROJECTS))
    )
    made: defaultdict[bool, set[tuple[UUID, str]]] = defaultdict(set)
    for project_id, attributes, erased_at in session.execute(judged):
        made[erased_at == at].update((project_id, slice_named(*each)) for each in attributes.items())
    for project_id, name in made[True] - made[False]:
        evaluations = select(Evaluation.id).where(Evaluation.project_id == project_id)
        session.exec(delete(Score).where(col(Score.slice) == name, col(Score.evaluation_id).in_(evaluations)))


def _erase_imported_answers(session: Session, responses: Collection[UUID]) -> None:
    """Take answers about these responses out of the files that jobs were asked to import."""
    for job in session.exec(select(Job).where(Job.kind == JobKind.IMPORT)):
        answers = job.options.get("answers", [])
        others = [one for one in answers if _response_of(one) not in responses]
        if len(others) < len(answers):
            job.options = job.options | {"answers": others}
            job.failure = job.failure and "erased, with answers that it was about"


def _response_of(answer: Mapping[str, Any]) -> UUID | None:
    """Read an answer's id as the import does, in all its spellings; one that cannot be read is no response's."""
    try:
        return UUID(str(answer.get("response_id")))
    except ValueError:
        return None


def _change(session: Session, table: type[SQLModel], condition: Any, values: Mapping[str, Any]) -> int:
    changed = update(table).where(condition).values(values)
    return int(session.exec(changed.execution_options(synchronize_session=False)).rowcount)


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
    _change(session, Job, told & (col(Job.state) != JobState.LEASED), {"result": {}})


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
        _change(session, TrainingSetExample, ids, {"content_sha256": "", "erased_at": utcnow()})
        _salt_groups(session, runtime.secrets, training_set.project_id, {row.group_name for row in rows})


def _salt_groups(session: Session, secrets: Secrets, project_id: UUID, names: Collection[str]) -> None:
    """Rename groups whose names are digests of what was asked, wherever they stand; who is in them stays."""
    sets = select(TrainingSet.id).where(TrainingSet.project_id == project_id)
    salted = {name: f"salted:{secrets.salted(name)}" for name in names}
    for table in (TrainingSetExample, SplitAssignment):
        of_project = col(table.training_set_id).in_(sets) & col(table.group_name).in_(salted)
        _change(session, table, of_project, {"group_name": case(salted, value=col(table.group_name))})


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
