"""Stage 3: read experts' answers back, follow what becomes of them, and settle what they come to."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlmodel import Session, col, select

from annotation.errors import InvalidAnswer
from annotation.exchange import UNKNOWN_ACCOUNT
from annotation.label_schema import check
from annotation.settlement import Contested, Settled, settle
from annotation.types import (
    Answer,
    Cause,
    Connector,
    HeldTask,
    LabelSchema,
    PulledAnnotation,
    Verdict,
)
from retrain.types import sha256_of
from service import held_tasks, ledger, projects, reading, tool_state
from service.clock import utcnow
from service.errors import Invalid, NotFound
from service.held_tasks import batches
from service.queue import Lease
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    ConnectorKind,
    Document,
    Job,
    Project,
    Response,
    Settlement,
    SettlementAnnotation,
    TaskState,
)
from service.tool_state import Hook

READ_BATCH = 100
CONTENT = {"problem", "verdict", "label", "correction", "cause", "ratings"}
OUTCOME = ("annotations", "withdrawn", "settled", "contested", "asked_again")
CHANGED_BY_ANOTHER = "changed by another account"
NOT_OURS = "by an account that is none of our experts'"
QUARANTINED = {CHANGED_BY_ANOTHER, NOT_OURS, UNKNOWN_ACCOUNT}

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
) -> dict[str, Any]:
    """Read what changed in the tool since the last time, follow it, and settle what can be settled.

    Now and then everything is looked at, for what leaves no trace: tasks that were deleted, and webhooks that were
    switched off. Between polls, what webhooks name is read alone. Answers of other `accounts` than these, if given,
    do not count.
    """
    plan = reading.begin(lease, project_id, tool)
    if plan is None:
        return dict.fromkeys(OUTCOME, 0)
    began = time.monotonic()
    project = tool_state.set_up(lease, project_id, tool, connector, hook) if plan.is_full else plan.project
    if plan.is_full:
        held: Iterable[HeldTask] = connector.pull(project, None)
    elif plan.hinted:
        held = connector.fetch(project, plan.hinted)
    else:
        held = connector.pull(project, plan.cursor)
    seen = reading.Seen(newest=plan.cursor)
    for part in batches(held, READ_BATCH):
        with lease.transaction() as session:
            _follow(session, seen, project_id, tool, [_named(one, accounts) for one in part])
    with lease.transaction() as session:
        reading.end(session, plan, seen, project_id, tool, seconds=time.monotonic() - began)
    reading.forget(lease, project_id, tool, connector, project)
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
            and _store(session, task, one, ConnectorKind.NONE)
        ]
        states = [_settle(session, project, task) for task in {task.id: task for task in touched}.values()]
    outcome = {
        "annotations": len(touched),
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
    return receive(lease, project_id, newest.values())


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
        answer = Answer(
            verdict=Verdict(line["verdict"]),
            label=line.get("label"),
            correction=line.get("correction"),
            cause=Cause(line["cause"]) if line.get("cause") else None,
            ratings=dict(line.get("ratings") or {}),
        )
        response_id = UUID(str(line["response_id"]))
        seconds = float(line.get("seconds_spent", 0))
    except (KeyError, ValueError, TypeError) as error:
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


def _follow(
    session: Session, seen: reading.Seen, project_id: UUID, tool: ConnectorKind, held: Sequence[HeldTask]
) -> None:
    """Let our annotations of some tasks be those that the tool holds, and settle what that changes."""
    project = session.get_one(Project, project_id)
    tasks = held_tasks.ours(session, project, tool, held)
    revisions = _revisions(session, [task.id for task in tasks.values()])
    for one in held:
        seen.tasks.add(one.external_id)
        seen.newest = max(filter(None, (seen.newest, one.changed_at)), default=None)
        task = tasks.get(one.external_id)
        if task is None:
            seen.outcome["foreign"] += 1
        elif added := _catch_up(session, task, one, revisions[task.id], tool):
            seen.outcome["annotations"] += added.new
            seen.outcome["withdrawn"] += added.withdrawn
            seen.outcome[_settle(session, project, task).value] += 1


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
    added = sum(_store(session, task, one, tool, tool_task=held.external_id) for one in fresh)
    session.flush()
    return Caught(added, len(gone)) if added or gone or again else None


def _named(held: HeldTask, accounts: frozenset[str] | None) -> HeldTask:
    """Let only answers of ours count: a tool may let in whom it likes."""
    if accounts is None:
        return held
    checked = (
        one if one.annotator in accounts else replace(one, answer=None, problem=NOT_OURS)
        for one in held.annotations
    )
    return replace(held, annotations=tuple(checked))


def _task_of(session: Session, project_id: UUID, key: str) -> AnnotationTask | None:
    task = session.get(AnnotationTask, UUID(key))
    return task if task and task.project_id == project_id else None


def _store(
    session: Session,
    task: AnnotationTask,
    pulled: PulledAnnotation,
    connector: ConnectorKind,
    *,
    tool_task: str | None = None,
) -> bool:
    """Add one revision, unless it is known already or what it is about was erased; say whether it was added."""
    if _is_erased(session, task):
        return False
    annotator = _annotator(session, connector, pulled.annotator)
    revision = _revision(pulled, task, annotator, _schema_of(session, task))
    revision.tool_task = tool_task
    # A tool says when an answer was revised, a file does not: the same file again must add nothing.
    if connector is ConnectorKind.NONE and _is_newest(session, revision):
        return False
    session.add(revision)
    session.flush()
    if revision.problem in QUARANTINED:
        tool_state.of(session, task.project_id, connector).quarantined_at = utcnow()
        ledger.append(
            session,
            actor=connector.value,
            action="annotation_quarantined",
            subject=str(task.id),
            project_id=task.project_id,
            facts={"annotation": str(revision.id), "reason": revision.problem},
        )
    return True


def _is_erased(session: Session, task: AnnotationTask) -> bool:
    # Locked, so that on PostgreSQL an erasure waits for what we add and finds it.
    return session.get_one(Response, task.response_id, with_for_update=True).erased_at is not None


def _schema_of(session: Session, task: AnnotationTask) -> LabelSchema:
    """Return the questions as they were when the task was made."""
    return projects.read_schema(
        session.get_one(Document, task.schema_id), session.get_one(Document, task.guidelines_id)
    )


def _revision(
    pulled: PulledAnnotation, task: AnnotationTask, annotator: Annotator, schema: LabelSchema
) -> Annotation:
    answer, problem = _checked(pulled, schema)
    return Annotation(
        task_id=task.id,
        annotator_id=annotator.id,
        external_id=pulled.external_id,
        revised_at=pulled.updated_at,
        is_skipped=answer is None and problem is None,
        problem=problem,
        verdict=answer.verdict if answer else None,
        label=answer.label if answer else None,
        correction=answer.correction if answer else None,
        cause=answer.cause if answer else None,
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


def _checked(pulled: PulledAnnotation, schema: LabelSchema) -> tuple[Answer | None, str | None]:
    """Return the answer as far as it counts, or why it cannot: neither tool checks what arrives by its API."""
    if pulled.annotator != pulled.changed_by:
        return None, CHANGED_BY_ANOTHER
    if pulled.answer is None:
        return None, pulled.problem
    try:
        return check(pulled.answer, schema), None
    except InvalidAnswer as error:
        return None, str(error)


def _annotator(session: Session, connector: ConnectorKind, account: str) -> Annotator:
    known = select(Annotator).where(Annotator.connector == connector, Annotator.account == account)
    found = session.exec(known).first()
    if found is None:
        found = Annotator(connector=connector, account=account)
        session.add(found)
        session.flush()
    return found


def _settle(session: Session, project: Project, task: AnnotationTask) -> TaskState:
    """Settle or contest a task by the newest answer of each annotator.

    A settled one stays as it is, unless an answer that counted was changed or taken back.
    """
    newest = _newest(session, task)
    if task.state is TaskState.SETTLED:
        _reopen(session, task, newest)
    if task.state not in (TaskState.SENT, TaskState.CONTESTED, TaskState.SELECTED):
        return task.state
    counted = [annotation for annotation in newest.values() if annotation.verdict]
    answers = [(str(annotation.annotator_id), _answer(annotation)) for annotation in counted]
    overlap = task.overlap or project.overlap
    outcome = settle(answers, needed=min(project.needed, overlap), overlap=overlap)
    if isinstance(outcome, Contested):
        task.state = TaskState.CONTESTED
    elif isinstance(outcome, Settled):
        task.state = TaskState.SETTLED
        _add_settlement(session, task, outcome, counted)
    elif task.state is TaskState.CONTESTED:
        task.state = TaskState.SENT
    return task.state


def _newest(session: Session, task: AnnotationTask) -> dict[UUID, Annotation]:
    """Return each annotator's newest answer to a task that was not taken back."""
    revisions = select(Annotation).where(
        Annotation.task_id == task.id, col(Annotation.withdrawn_at).is_(None)
    )
    ordered = revisions.order_by(col(Annotation.revised_at), col(Annotation.id))
    return {annotation.annotator_id: annotation for annotation in session.exec(ordered)}


def _reopen(session: Session, task: AnnotationTask, newest: Mapping[UUID, Annotation]) -> None:
    """Withdraw a task's settlement if an answer that it counted no longer stands; frozen sets keep it."""
    in_force = (Settlement.task_id == task.id, col(Settlement.withdrawn_at).is_(None))
    settlement = session.exec(select(Settlement).where(*in_force)).first()
    if settlement is None:
        return
    counted = (
        select(Annotation)
        .join(SettlementAnnotation, col(SettlementAnnotation.annotation_id) == Annotation.id)
        .where(SettlementAnnotation.settlement_id == settlement.id)
    )
    standing = {annotation.id for annotation in newest.values()}
    lost = next((one for one in session.exec(counted) if one.id not in standing), None)
    if lost is None:
        return
    settlement.withdrawn_at, settlement.withdrawn_by_id = utcnow(), lost.id
    task.state = TaskState.SENT if task.external_id else TaskState.SELECTED
    session.flush()
    ledger.append(
        session,
        actor=task.connector.value,
        action="settlement_withdrawn",
        subject=str(settlement.id),
        project_id=task.project_id,
        facts={"annotation": str(lost.id)},
    )


def _answer(annotation: Annotation) -> Answer:
    return Answer(
        verdict=annotation.verdict or Verdict.UNSURE,
        label=annotation.label,
        correction=annotation.correction,
        cause=annotation.cause,
        ratings=annotation.ratings,
    )


def _add_settlement(
    session: Session, task: AnnotationTask, settled: Settled, counted: Sequence[Annotation]
) -> None:
    settlement = Settlement(
        project_id=task.project_id,
        task_id=task.id,
        verdict=settled.answer.verdict,
        label=settled.answer.label,
        correction=settled.answer.correction,
        cause=settled.answer.cause,
        agreeing=len(settled.annotators),
        asked=len(counted),
        explanation=f"{len(settled.annotators)} of {len(counted)} annotators agree",
    )
    session.add(settlement)
    session.flush()
    session.add_all([SettlementAnnotation(settlement_id=settlement.id, annotation_id=a.id) for a in counted])
