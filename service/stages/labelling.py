"""Stage 3: read experts' answers back, follow what becomes of them, and settle what they come to."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlmodel import Session, col, select

from annotation.answers import answer_of
from annotation.errors import InvalidAnswer, InvalidSchema, ToolRefused
from annotation.types import Connector, HeldTask, PulledAnnotation
from retrain.types import sha256_of
from service import held_tasks, reading, revisions, tool_state
from service.clock import utcnow
from service.errors import Invalid, NotFound
from service.held_tasks import batches
from service.queue import Lease
from service.settlements import MAY_SETTLE, NOT_AS_SENT, NOT_OURS, settle_task
from service.tables import Annotation, AnnotationTask, ConnectorKind, Job, Project, TaskState
from service.tool_state import Hook

READ_BATCH = 100
MAX_NAMED = 10  # broken lines in one message
OUTCOME = ("annotations", "withdrawn", "settled", "contested", "asked_again")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Caught:
    """How many revisions of a task were added, and how many taken back."""

    new: int
    withdrawn: int


def sync(
    lease: Lease,
    project_id: UUID,
    tool: ConnectorKind,
    connector: Connector,
    hook: Hook,
    *,
    accounts: frozenset[str] | None = None,
    known_as: Callable[[str], str] = str,
) -> dict[str, Any]:
    """Read what changed in the tool since the last time, follow it, and settle what can be settled.

    Now and then everything is looked at, for what leaves no trace: deleted tasks, and webhooks that were switched off.
    Between polls, what webhooks name is read alone. Answers of other `accounts` than these, if given, do not count.
    """
    plan = reading.begin(lease, project_id, tool)
    if plan is None:
        return dict.fromkeys(OUTCOME, 0)
    began, project, refused = time.monotonic(), plan.project, None
    if plan.is_full:
        try:
            project = tool_state.set_up(lease, project_id, tool, connector, hook)
        except (ToolRefused, InvalidSchema) as error:
            refused = error  # what was answered is read all the same
        held: Iterable[HeldTask] = connector.pull(project, None)
    elif plan.hinted:
        held = connector.fetch(project, plan.hinted)
    else:
        held = connector.pull(project, plan.cursor)
    seen = reading.Seen(newest=plan.cursor)
    for part in batches(held, READ_BATCH):
        with lease.transaction() as session:
            _follow(session, seen, project_id, tool, [_named(one, accounts, known_as) for one in part])
    with lease.transaction() as session:
        reading.end(session, plan, seen, project_id, tool, seconds=time.monotonic() - began)
    reading.forget(lease, project_id, tool, connector, project)
    reading.close(lease, project_id, tool, connector, project)
    if refused:
        raise refused
    log.info("tool_read", tool=tool.value, **seen.outcome)
    return {name: seen.outcome[name] for name in OUTCOME}


def receive(lease: Lease, project_id: UUID, pulled: Iterable[PulledAnnotation]) -> dict[str, Any]:
    """Store revisions that are new, given without a tool, and settle the tasks they belong to."""
    with lease.transaction() as session:
        project = session.get_one(Project, project_id)
        touched = [
            task
            for one in pulled
            if (task := _task_of(session, project_id, one.task_key))
            and revisions.store(session, task, one, ConnectorKind.NONE)
        ]
        states = [
            settle_task(session, project, task) for task in {task.id: task for task in touched}.values()
        ]
    outcome = {
        "annotations": len(touched),
        "settled": states.count(TaskState.SETTLED),
        "contested": states.count(TaskState.CONTESTED),
    }
    log.info("annotations_received", **outcome)
    return outcome


def import_answers(
    lease: Lease,
    project_id: UUID,
    lines: Sequence[Mapping[str, Any]],
    *,
    known_as: Callable[[str], str] = str,
) -> dict[str, Any]:
    """Take answers given without a tool, all or none; the last of an annotator's answers to a task counts.

    Raises:
        Invalid: lines do not say what is needed, or nobody was asked; each is named by its number.
    """
    with lease.transaction() as session:
        project = session.get_one(Project, project_id)
        # The job's own time names the revision, so that a second attempt adds nothing.
        at = session.get_one(Job, lease.job_id).created_at
        read, broken = [], []
        for number, line in enumerate(lines, start=1):
            try:
                read.append(_imported(session, project, line, at))
            except KeyError as missing:
                broken.append(f"line {number}: {missing.args[0]} is missing")
            except (ValueError, TypeError, InvalidAnswer, Invalid, NotFound) as error:
                broken.append(f"line {number}: {error}")
    if broken:
        more = f"; and {len(broken) - MAX_NAMED} more" if len(broken) > MAX_NAMED else ""
        raise Invalid(f"nothing was taken: {'; '.join(broken[:MAX_NAMED])}{more}")
    named = [
        replace(one, annotator=known_as(one.annotator), changed_by=known_as(one.changed_by)) for one in read
    ]
    newest = {(one.annotator, one.task_key): one for one in named}
    return receive(lease, project_id, newest.values())


def task_key_of_response(session: Session, project: Project, response_id: UUID) -> str:
    """Return the newest task that judges a response, for answers given without a tool.

    Raises:
        NotFound: no task asks about this response.
    """
    found = session.exec(
        select(AnnotationTask)
        .where(AnnotationTask.project_id == project.id, AnnotationTask.response_id == response_id)
        .where(MAY_SETTLE)
        .order_by(col(AnnotationTask.id).desc())
    ).first()
    if found is None:
        raise NotFound(f"response_id: no task asks about response {response_id}")
    return str(found.id)


def _imported(session: Session, project: Project, line: Mapping[str, Any], at: datetime) -> PulledAnnotation:
    annotator = str(line["annotator"])
    said = {name: line.get(name) for name in ("label", "labels", "correction", "spans")}
    ratings = dict(line.get("ratings") or {})
    answer = answer_of(ratings | said | {"verdict": line["verdict"], "cause": line.get("cause") or None})
    seconds = float(line.get("seconds_spent", 0))
    try:
        response_id = UUID(str(line["response_id"]))
    except ValueError:
        raise Invalid("response_id: not the id of a response") from None
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


def _follow(
    session: Session, seen: reading.Seen, project_id: UUID, tool: ConnectorKind, held: Sequence[HeldTask]
) -> None:
    """Let our annotations of some tasks be those that the tool holds, and settle what that changes."""
    project = session.get_one(Project, project_id)
    tasks = held_tasks.ours(session, project, tool, held)
    known = _revisions(session, [task.id for task in tasks.values()])
    for one in held:
        seen.tasks.add(one.external_id)
        seen.newest = max(filter(None, (seen.newest, one.changed_at)), default=None)
        task = tasks.get(one.external_id)
        if task is None:
            seen.outcome["foreign"] += 1
        elif added := _catch_up(session, task, one, known[task.id], tool):
            seen.outcome["annotations"] += added.new
            seen.outcome["withdrawn"] += added.withdrawn
            state = settle_task(session, project, task)
            seen.outcome[state.value] += state in (TaskState.SETTLED, TaskState.CONTESTED)


def _revisions(session: Session, tasks: Sequence[UUID]) -> defaultdict[UUID, list[Annotation]]:
    found: defaultdict[UUID, list[Annotation]] = defaultdict(list)
    for revision in session.exec(select(Annotation).where(col(Annotation.task_id).in_(tasks))):
        found[revision.task_id].append(revision)
    return found


def _catch_up(
    session: Session, task: AnnotationTask, held: HeldTask, known: Sequence[Annotation], tool: ConnectorKind
) -> Caught | None:
    """Add revisions that are new, take back annotations that are gone, and bring back those that are there again."""
    there = {one.external_id for one in held.annotations}
    at = {(one.external_id, one.revised_at) for one in known}
    fresh = [one for one in held.annotations if (one.external_id, one.updated_at) not in at]
    if fresh and not held_tasks.is_as_sent(session, task, held, tool):
        fresh = [replace(one, answer=None, problem=NOT_AS_SENT) for one in fresh]
    again = [one for one in known if one.external_id in there and one.withdrawn_at]
    gone = [
        one
        for one in known
        if one.tool_task == held.external_id and one.external_id not in there and not one.withdrawn_at
    ]
    for one in again:
        one.withdrawn_at = None
    for one in gone:
        one.withdrawn_at = utcnow()
    added = sum(revisions.store(session, task, one, tool, tool_task=held.external_id) for one in fresh)
    session.flush()
    return Caught(added, len(gone)) if added or gone or again else None


def _named(held: HeldTask, accounts: frozenset[str] | None, known_as: Callable[[str], str]) -> HeldTask:
    """Let only answers of ours count: a tool may let in whom it likes."""
    checked = (
        one if accounts is None or one.annotator in accounts else replace(one, answer=None, problem=NOT_OURS)
        for one in held.annotations
    )
    named = (
        replace(one, annotator=known_as(one.annotator), changed_by=known_as(one.changed_by))
        for one in checked
    )
    return replace(held, annotations=tuple(named))


def _task_of(session: Session, project_id: UUID, key: str) -> AnnotationTask | None:
    task = session.get(AnnotationTask, UUID(key))
    return task if task and task.project_id == project_id else None
