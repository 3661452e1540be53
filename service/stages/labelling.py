"""Stage 3: hand tasks to experts, read their answers back, and settle what they come to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import update
from sqlmodel import Session, col, select

from annotation.answers import answer_of, check, values_of
from annotation.errors import InvalidAnswer
from annotation.suggestions import SuggestionSource, is_blind, suggested
from annotation.types import (
    Abstention,
    Answer,
    Connector,
    LabelSchema,
    NewTask,
    PulledAnnotation,
    Verdict,
)
from retrain.types import sha256_of
from service import projects
from service.clock import utcnow
from service.errors import Invalid, NotFound
from service.queue import Lease
from service.settlements import schema_of, settle_task
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    ConnectorKind,
    Feedback,
    InboxEvent,
    Job,
    Project,
    Response,
    TaskFlag,
    TaskState,
)

PUSH_BATCH = 200
MAX_PROBLEM_CHARS = 500
CONTENT = {
    *("problem", "abstention", "verdict", "label", "labels", "correction", "cause", "spans", "ratings"),
}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Hook:
    """Where the tool's webhook reaches us."""

    url: str
    secret: str


def send(lease: Lease, project_id: UUID, connector: Connector, hook: Hook) -> dict[str, Any]:
    """Push every selected task, most urgent first; a task whose push succeeded twice exists once."""
    with lease.transaction() as session:
        project = session.get_one(Project, project_id)
        schema = projects.label_schema(session, project)
    tool = connector.set_up(slug=project.slug, schema=schema, hook_url=hook.url, hook_secret=hook.secret)
    with lease.transaction() as session:
        project = session.get_one(Project, project_id)
        project.tool_project, project.tool_url = tool.external_id, tool.url
        project.tool_hook_secret = tool.hook_secret or None
    sent = 0
    while batch := _selected(lease, project_id):
        keys = connector.push(
            tool.external_id, [_new_task(task, response, flags) for task, response, flags in batch]
        )
        with lease.transaction() as session:
            sent += sum(_mark_sent(session, task.id, keys[str(task.id)]) for task, _, _ in batch)
        lease.report(sent=sent)
    log.info("tasks_sent", count=sent)
    return {"sent": sent}


def sync(lease: Lease, project_id: UUID, connector: Connector) -> dict[str, Any]:
    """Read what changed in the tool since the last time, keep each revision, and settle what can be settled."""
    with lease.transaction() as session:
        project = session.get_one(Project, project_id)
        unhandled = select(InboxEvent.id).where(
            InboxEvent.project_id == project_id, col(InboxEvent.handled_at).is_(None)
        )
        hints = session.exec(unhandled).all()
    if project.tool_project is None:
        return {"annotations": 0, "settled": 0, "contested": 0}
    pulled = list(connector.pull(project.tool_project, project.tool_cursor))
    outcome = receive(lease, project_id, pulled, connector=project.connector)
    with lease.transaction() as session:
        project = session.get_one(Project, project_id)
        project.tool_cursor = max((a.updated_at for a in pulled), default=project.tool_cursor)
        for event_id in hints:
            session.get_one(InboxEvent, event_id).handled_at = utcnow()
    return outcome


def receive(
    lease: Lease, project_id: UUID, pulled: Iterable[PulledAnnotation], *, connector: ConnectorKind
) -> dict[str, Any]:
    """Store revisions that are new and settle the tasks they belong to."""
    with lease.transaction() as session:
        project = session.get_one(Project, project_id)
        touched = [_store(session, project_id, one, connector) for one in pulled]
        tasks = {task.id: task for task in touched if task is not None}
        states = [settle_task(session, project, task) for task in tasks.values()]
    outcome = {
        "annotations": sum(task is not None for task in touched),
        "settled": states.count(TaskState.SETTLED),
        "contested": states.count(TaskState.CONTESTED),
    }
    log.info("annotations_received", **outcome)
    return outcome


def import_answers(lease: Lease, project_id: UUID, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Take answers given without a tool, all or none; the last of an annotator's answers to a task counts.

    Raises:
        Invalid: a line does not say what is needed; it is named by its number.
        NotFound: no task asks about a response.
    """
    with lease.transaction() as session:
        project = session.get_one(Project, project_id)
        # The job's own time names the revision, so that a second attempt adds nothing.
        at = session.get_one(Job, lease.job_id).created_at
        read = [_imported(session, project, number, line, at) for number, line in enumerate(lines, start=1)]
    newest = {(one.annotator, one.task_key): one for one in read}
    return receive(lease, project_id, newest.values(), connector=ConnectorKind.NONE)


def task_key_of_response(session: Session, project: Project, response_id: UUID) -> str:
    """Return the newest task that judges a response, for answers given without a tool.

    Raises:
        NotFound: no task asks about this response.
    """
    found = session.exec(
        select(AnnotationTask)
        .where(AnnotationTask.project_id == project.id, AnnotationTask.response_id == response_id)
        .order_by(col(AnnotationTask.id).desc())
    ).first()
    if found is None:
        raise NotFound(f"response_id: no task asks about response {response_id}")
    return str(found.id)


def _imported(
    session: Session, project: Project, number: int, line: Mapping[str, Any], at: datetime
) -> PulledAnnotation:
    try:
        annotator = str(line["annotator"])
        said = {name: line.get(name) for name in ("label", "labels", "correction", "spans")}
        ratings = dict(line.get("ratings") or {})
        answer = answer_of(ratings | said | {"verdict": line["verdict"], "cause": line.get("cause") or None})
        response_id = UUID(str(line["response_id"]))
        seconds = float(line.get("seconds_spent", 0))
    except (KeyError, ValueError, TypeError, InvalidAnswer) as error:
        raise Invalid(f"line {number}: {type(error).__name__}: {error}") from error
    task_key = task_key_of_response(session, project, response_id)
    return PulledAnnotation(
        task_key=task_key,
        external_id=sha256_of([annotator, task_key])[-32:],
        annotator=annotator,
        changed_by=annotator,
        answer=answer,
        seconds_spent=seconds,
        updated_at=at,
    )


def _selected(lease: Lease, project_id: UUID) -> Sequence[tuple[AnnotationTask, Response, list[Feedback]]]:
    with lease.transaction() as session:
        rows = session.exec(
            select(AnnotationTask, Response)
            .join(Response, col(AnnotationTask.response_id) == Response.id)
            .where(AnnotationTask.project_id == project_id, AnnotationTask.state == TaskState.SELECTED)
            .order_by(col(AnnotationTask.priority).desc(), col(AnnotationTask.id))
            .limit(PUSH_BATCH)
        ).all()
        # A task that asks again is about the flags of the one before.
        first = {task.id: task.rechecks_id or task.id for task, _ in rows}
        flags: dict[UUID, list[Feedback]] = {task_id: [] for task_id in first.values()}
        about = (
            select(TaskFlag.task_id, Feedback)
            .join(Feedback, col(TaskFlag.feedback_id) == Feedback.id)
            .where(col(TaskFlag.task_id).in_(list(flags)), col(Feedback.withdrawn_at).is_(None))
        )
        for task_id, feedback in session.exec(about):
            flags[task_id].append(feedback)
        chosen = [(task, response, flags[first[task.id]]) for task, response in rows]
        _suggest(session, chosen)
    return chosen


def _suggest(session: Session, chosen: Sequence[tuple[AnnotationTask, Response, Sequence[Feedback]]]) -> None:
    """Decide what each task suggests, and whether it is shown, before the tool hears of it; once decided it stays."""
    for task, response, flags in chosen:
        project = session.get_one(Project, task.project_id)
        if task.is_blind is not None or project.suggestion is SuggestionSource.NONE:
            continue
        corrections = [flag.correction for flag in flags if flag.correction]
        own = project.suggestion is SuggestionSource.RESPONSE
        text = response.text if own else corrections[-1] if corrections else ""
        task.suggestion = suggested(text, schema_of(session, task))
        task.is_blind = is_blind(str(task.id), project.blind_share)


def _new_task(task: AnnotationTask, response: Response, flags: Sequence[Feedback]) -> NewTask:
    codes = {code for flag in flags for code in flag.reasons}
    comments = {flag.comment for flag in flags if flag.comment}
    return NewTask(
        key=str(task.id),
        prompt="\n\n".join(f"{m['role']}: {m['content']}" for m in response.messages)
        if len(response.messages) > 1
        else response.messages[0]["content"],
        response=response.text,
        context="\n\n".join(passage["text"] for passage in response.context),
        reasons=" · ".join([*sorted(codes), *sorted(comments)]),
        suggestion={} if task.is_blind else task.suggestion,
    )


def _mark_sent(session: Session, task_id: UUID, external_id: str) -> bool:
    """Say that a task is with the tool, unless it was withdrawn while it was being pushed."""
    selected = (col(AnnotationTask.id) == task_id, col(AnnotationTask.state) == TaskState.SELECTED)
    sent = {"state": TaskState.SENT, "external_id": external_id, "sent_at": utcnow()}
    return session.exec(update(AnnotationTask).where(*selected).values(**sent)).rowcount == 1


def _store(
    session: Session, project_id: UUID, pulled: PulledAnnotation, connector: ConnectorKind
) -> AnnotationTask | None:
    """Add one revision; None when it is known already, its task is not ours or what it is about was erased."""
    try:
        task = session.get(AnnotationTask, UUID(pulled.task_key))
    except ValueError:
        task = None
    if task is None or task.project_id != project_id or _is_erased(session, task):
        log.warning("foreign_annotation", external_id=pulled.external_id)
        return None
    known = select(Annotation.id).where(
        Annotation.task_id == task.id,
        Annotation.external_id == pulled.external_id,
        Annotation.revised_at == pulled.updated_at,
    )
    if session.exec(known).first():
        return None
    annotator = _annotator(session, connector, pulled.annotator)
    judged = session.get_one(Response, task.response_id).text
    revision = _revision(pulled, task, annotator, schema=schema_of(session, task), response=judged)
    # A tool says when an answer was revised, a file does not: the same file again must add nothing.
    if connector is ConnectorKind.NONE and _is_newest(session, revision):
        return None
    session.add(revision)
    session.flush()
    return task


def _is_erased(session: Session, task: AnnotationTask) -> bool:
    # Locked, so that on PostgreSQL an erasure waits for what we add and finds it.
    return session.get_one(Response, task.response_id, with_for_update=True).erased_at is not None


def _revision(
    pulled: PulledAnnotation,
    task: AnnotationTask,
    annotator: Annotator,
    *,
    schema: LabelSchema,
    response: str,
) -> Annotation:
    answer, problem = _checked(pulled, schema, response)
    abstention = answer.verdict if answer and isinstance(answer.verdict, Abstention) else None
    return Annotation(
        task_id=task.id,
        annotator_id=annotator.id,
        schema_id=task.schema_id,
        guidelines_id=task.guidelines_id,
        external_id=pulled.external_id,
        revised_at=pulled.updated_at,
        is_skipped=answer is None and problem is None,
        problem=problem,
        abstention=abstention,
        verdict=answer.verdict if answer and isinstance(answer.verdict, Verdict) else None,
        label=answer.label if answer else None,
        labels=list(answer.labels) if answer else [],
        correction=answer.correction if answer else None,
        cause=answer.cause if answer else None,
        spans=values_of(answer).get("spans", []) if answer else [],
        ratings=dict(answer.ratings) if answer else {},
        seconds_spent=pulled.seconds_spent,
    )


def _is_newest(session: Session, revision: Annotation) -> bool:
    """Say whether this annotator's newest answer to the task has the same content."""
    newest = session.exec(
        select(Annotation)
        .where(Annotation.task_id == revision.task_id, Annotation.annotator_id == revision.annotator_id)
        .order_by(col(Annotation.revised_at).desc(), col(Annotation.id).desc())
        .limit(1)
    ).first()
    return newest is not None and newest.model_dump(include=CONTENT) == revision.model_dump(include=CONTENT)


def _checked(
    pulled: PulledAnnotation, schema: LabelSchema, response: str
) -> tuple[Answer | None, str | None]:
    """Return the answer as far as it counts, or why it cannot: neither tool checks what arrives by its API."""
    if pulled.annotator != pulled.changed_by:
        return None, "changed by another account"
    if pulled.answer is None:
        return None, pulled.problem and pulled.problem[:MAX_PROBLEM_CHARS]
    try:
        return check(pulled.answer, schema, response), None
    except InvalidAnswer as error:
        return None, str(error)[:MAX_PROBLEM_CHARS]


def _annotator(session: Session, connector: ConnectorKind, account: str) -> Annotator:
    known = select(Annotator).where(Annotator.connector == connector, Annotator.account == account)
    found = session.exec(known).first()
    if found is None:
        found = Annotator(connector=connector, account=account)
        session.add(found)
        session.flush()
    return found
