"""Beside the loop: forget a person in all that was learned from them, down to files and mirrors.

Words go, keys stay, so that the ledger's chain, each set's name and the lineage of what is left can be followed as
before. Every step starts from what the database says is erased: one that broke off is completed by the next erasure.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from sqlite3 import OperationalError
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import case, func, null, tuple_, update
from sqlmodel import Session, SQLModel, col, select

from retrain.errors import RemoteRefused
from retrain.types import canonical_json
from service import ledger
from service.answers import newest_set
from service.answers.erasures import ERASED_SETS, Repository, RowFiles, erased_shards
from service.clock import utcnow
from service.errors import TryAgain
from service.runtime import Runtime
from service.secrets import Secrets
from service.tables import (
    Annotation,
    AnnotationTask,
    AuditFinding,
    Evaluation,
    Feedback,
    Job,
    JobKind,
    JobState,
    LedgerEntry,
    Quarantine,
    Response,
    RunState,
    Settlement,
    SplitAssignment,
    TaskFlag,
    TaskState,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
)

ROWS_ERASED = "rows_erased"
NO_WORDS = [{"role": "user", "content": ""}]
READERS = (JobKind.CURATE, JobKind.CORPUS, JobKind.TRAIN, JobKind.EVALUATE)
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
    runtime: Runtime, subject: str, repository: Repository, files: RowFiles, *, actor: str
) -> dict[str, int]:
    """Erase what a person asked, was answered and said, what experts made of it, and each copy of that in a set.

    A job builds the set that follows one
    which lost rows and was the newest. What annotation tools, exports and backups hold is not erased here.

    Raises:
        TryAgain: a job or a reader is in the way, or the remote refuses; what could be erased is. Erase again.
    """
    with runtime.db.transaction() as session:
        told = _erase_words(session, subject)
        digest = runtime.secrets.salted(subject)
        ledger.append(session, actor=actor, action="subject_erased", subject=digest, facts=dict(told))
    with runtime.db.transaction() as session:
        _refuse_readers(session)
        _erase_findings(session)
    told["sets"] = _empty_sets(runtime, files)
    _remove_files(runtime)
    try:
        _forget_mirrored(runtime, repository, files)
    finally:  # whatever the remote says
        _vacuum(runtime)
        _ask_for_successors(runtime)  # last, for whoever builds a set is a reader
    log.info("subject_erased", **told)
    return told


def _erase_words(session: Session, subject: str) -> dict[str, int]:
    """Empty the rows that hold the person's words, or what experts wrote instead of them; return how many."""
    at = utcnow()
    # First, for what follows changes who said what, and waits there for an import that holds such a row.
    responses = _change(session, Response, _is_of(subject), {"erased_at": at})
    own = select(Response.id).where(Response.erased_at == at)
    tasks = select(AnnotationTask.id).where(col(AnnotationTask.response_id).in_(own))
    _erase_imported_answers(session, set(session.exec(own)))
    # What comes from them later is a stranger's: the quarantine ends with what it knew them by.
    known = {"subject": None, "reason": "", "lifted_at": func.coalesce(Quarantine.lifted_at, at)}
    _change(session, Quarantine, col(Quarantine.subject) == subject, known)
    of_person = (col(Feedback.subject) == subject) | col(Feedback.response_id).in_(own)
    flagged = (
        select(TaskFlag.task_id).join(Feedback, col(Feedback.id) == TaskFlag.feedback_id).where(of_person)
    )
    prefilled = col(AnnotationTask.id).in_(tasks) | col(AnnotationTask.id).in_(flagged)
    _change(session, AnnotationTask, prefilled, {"suggestion": {}})
    feedback = _change(session, Feedback, of_person, _said_nothing(at))
    judged = dict.fromkeys(("correction", "problem", "reason"))
    _change(session, Annotation, col(Annotation.task_id).in_(tasks), judged)
    _change(session, Settlement, col(Settlement.task_id).in_(tasks), {"correction": None})
    unsettled = col(AnnotationTask.id).in_(tasks) & col(AnnotationTask.state).in_(UNSETTLED)
    _change(session, AnnotationTask, unsettled, {"state": TaskState.WITHDRAWN})
    _change(session, Response, col(Response.erased_at) == at, _answered_nothing(at))
    in_sets = col(TrainingSetExample.settlement_id).in_(ERASED_SETTLEMENTS)
    _change(session, TrainingSetExample, in_sets, {"consent": null()})
    return {"responses": responses, "feedback": feedback}


def _said_nothing(at: datetime) -> dict[str, Any]:
    """Return what stands in an erased feedback's columns instead of words."""
    return {
        **dict.fromkeys(("comment", "correction", "subject", "session", "trace_id", "span_id")),
        **dict.fromkeys(("response_ref", "body_sha256"), ""),
        "selection": null(),
        "withdrawn_at": func.coalesce(Feedback.withdrawn_at, at),
        "triaged_at": func.coalesce(Feedback.triaged_at, at),
    }


def _answered_nothing(at: datetime) -> dict[str, Any]:
    """Return what stands in an erased response's columns instead of words."""
    names = ("subject", "external_id", "conversation_id", "language", "legal_basis", "trace_id")
    return {
        **dict.fromkeys(names),
        **dict.fromkeys(("text", "body_sha256"), ""),
        "messages": NO_WORDS,
        "context": [],
        "attributes": {},
        "host_metadata": {},
        "may_train": False,
        "triaged_at": func.coalesce(Response.triaged_at, at),
    }


def _is_of(subject: str) -> Any:
    """Say which responses are a person's: those in their name, and in nobody's those on which they had a word.

    All turns of a conversation repeat what was said before: those in nobody's name go with the others.
    """
    nobody = col(Response.subject).is_(None)
    judged = select(Feedback.response_id).where(
        Feedback.subject == subject, col(Feedback.response_id).is_not(None)
    )
    named = (col(Response.subject) == subject) | nobody & col(Response.id).in_(judged)
    talks = select(Response.project_id, Response.conversation_id).where(
        named, col(Response.conversation_id).is_not(None)
    )
    return named | nobody & tuple_(col(Response.project_id), col(Response.conversation_id)).in_(talks)


def _erase_imported_answers(session: Session, responses: Collection[UUID]) -> None:
    """Take answers about these responses out of the files that jobs were asked to import."""
    for job in session.exec(select(Job).where(Job.kind == JobKind.IMPORT)):
        answers = job.options.get("answers", [])
        others = [one for one in answers if _response_of(one) not in responses]
        if len(others) < len(answers):
            job.options = job.options | {"answers": others}


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


def _empty_sets(runtime: Runtime, files: RowFiles) -> int:
    """Write the file of each set that holds erased rows again without them; return how many sets that were."""
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
    return len(rows_of)


def _empty_set(runtime: Runtime, set_id: UUID, rows: Sequence[TrainingSetExample], files: RowFiles) -> None:
    with runtime.db.reading() as session:
        training_set = session.get_one(TrainingSet, set_id)
    with TemporaryDirectory() as folder:
        whole, rest = Path(folder) / "whole.parquet", Path(folder) / "rest.parquet"
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


def _empty_reports(runtime: Runtime, hashes: Collection[str]) -> None:
    """Take what models answered to erased rows, and the rows' digests, out of the reports of evaluations."""
    with runtime.db.reading() as session:
        of_projects = select(Evaluation).where(col(Evaluation.project_id).in_(ERASED_PROJECTS))
        evaluations = session.exec(of_projects).all()
    for evaluation in evaluations:
        if not evaluation.report or not runtime.artifacts.exists(evaluation.report):
            continue
        report = json.loads(runtime.artifacts.get_bytes(evaluation.report))
        left = _without(report, hashes)
        if left != report:
            name = runtime.artifacts.put_bytes(canonical_json(left))
            with runtime.db.transaction() as session:
                _replace(session, evaluation, "report", name)


def _without(told: Any, hashes: Collection[str]) -> Any:
    """Return a document without the entries and list items that these hashes name."""
    if isinstance(told, dict):
        return {key: _without(value, hashes) for key, value in told.items() if key not in hashes}
    if isinstance(told, list):
        return [_without(one, hashes) for one in told if not (isinstance(one, str) and one in hashes)]
    return told


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
    """Remove the artifacts that were replaced, and what training runs on emptied sets left behind."""
    with runtime.db.reading() as session:
        erasures = session.exec(select(LedgerEntry).where(LedgerEntry.action == ROWS_ERASED)).all()
        used = {*session.exec(select(TrainingSet.artifact)), *session.exec(select(Evaluation.report))}
        ended = select(TrainingRun.id).where(TrainingRun.state != RunState.RUNNING)
        runs = session.exec(ended.where(col(TrainingRun.training_set_id).in_(ERASED_SETS))).all()
    for name in {entry.facts["removed"] for entry in erasures} - used:
        runtime.artifacts.remove(name)
    for run_id in runs:
        shutil.rmtree(runtime.settings.work / str(run_id), ignore_errors=True)


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
