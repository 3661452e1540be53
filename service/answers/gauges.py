"""What monitoring asks of the whole installation; each figure goes along an index, however much there is."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Select, func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, exists, select

from service.answers.quarantines import is_feedback_held
from service.queue import QUEUE_OF, QUEUES
from service.tables import (
    AnnotationTask,
    ConnectorKind,
    Evaluation,
    EvaluationState,
    Feedback,
    Job,
    JobKind,
    JobState,
    ModelState,
    ModelVersion,
    Notice,
    NoticeState,
    Project,
    Response,
    ScheduleTurn,
    TaskState,
    ToolProject,
)

LEDGER_TURN = "check_ledger"  # the schedule's turn that walks the ledger
WATCHED = (JobState.PENDING, JobState.LEASED, JobState.DEAD)  # done ones grow without bound
VERDICTS = (EvaluationState.PASSED, EvaluationState.REFUSED, EvaluationState.CANNOT_TELL)


@dataclass(frozen=True, slots=True)
class Reading:
    """One figure at one moment."""

    name: str
    value: float
    labels: dict[str, str] = field(default_factory=dict)


MEANING = {
    "jobs": "Jobs by state and queue, ended ones left out",
    "job_oldest_pending_seconds": "For how long the longest waiting job of a queue has been due",
    "lease_expired_total": "Leases that ran out because a worker stopped answering",
    "outbox_oldest_seconds": "Since when flags wait for triage, tasks to be sent, notices to be delivered",
    "ls_reconcile_lag_seconds": "For how long a tool in which tasks are open was not read, of the worst project",
    "training_step": "The step that a training is at",
    "training_loss": "Its loss there",
    "gate_result": "1 for the verdict of each project's newest evaluation",
    "champion_info": "1 for the version that is live",
    "audit_chain_ok": "1 if the ledger was whole when the schedule last walked it, 0 if not",
}


def read(session: Session, *, now: datetime) -> Iterator[Reading]:
    """Yield every figure that the database knows."""
    yield from _jobs(session, now)
    yield from _outbox(session, now)
    yield from _tools(session, now)
    yield from _models(session)
    walked = session.exec(select(ScheduleTurn).where(ScheduleTurn.name == LEDGER_TURN)).first()
    if walked:
        yield Reading("audit_chain_ok", float(walked.problem is None))


def _jobs(session: Session, now: datetime) -> Iterator[Reading]:
    counts = {(state, queue): 0 for state in WATCHED for queue in QUEUES}
    of_state = select_columns(col(Job.state), col(Job.kind), func.count()).where(col(Job.state).in_(WATCHED))
    for state, kind, count in session.execute(of_state.group_by(col(Job.state), col(Job.kind))):
        counts[JobState(state), QUEUE_OF[JobKind(kind)]] += count
    for (state, queue), count in counts.items():
        yield Reading("jobs", count, {"state": state.value, "queue": queue})
    waiting = dict.fromkeys(QUEUES, 0.0)
    due = (col(Job.state) == JobState.PENDING, col(Job.not_before) <= now)
    oldest = select_columns(col(Job.kind), func.min(Job.not_before)).where(*due).group_by(col(Job.kind))
    for kind, since in session.execute(oldest):
        queue = QUEUE_OF[JobKind(kind)]
        waiting[queue] = max(waiting[queue], (now - since).total_seconds())
    for queue, seconds in waiting.items():
        yield Reading("job_oldest_pending_seconds", seconds, {"queue": queue})
    lost = select(func.coalesce(func.sum(Job.leases_lost), 0)).where(Job.leases_lost > 0)
    yield Reading("lease_expired_total", session.exec(lost).one())
    at_work = (
        select(Project.slug, Job.progress)
        .join(Project, col(Project.id) == Job.project_id)
        .where(Job.state == JobState.LEASED, Job.kind == JobKind.TRAIN)
    )
    for slug, progress in session.exec(at_work):
        for key in ("step", "loss"):
            if progress.get(key) is not None:
                yield Reading(f"training_{key}", progress[key], {"project": slug})


def _outbox(session: Session, now: datetime) -> Iterator[Reading]:
    # Flags whose response is still to come, or that are held back, wait for somebody else.
    flags = (
        select_columns(col(Feedback.created_at))
        .join(Response, col(Response.id) == Feedback.response_id)
        .where(
            col(Feedback.project_id) == Project.id, col(Feedback.triaged_at).is_(None), ~is_feedback_held()
        )
        .order_by(col(Feedback.id))
    )
    tasks = (
        select_columns(col(AnnotationTask.created_at))
        .where(
            col(AnnotationTask.project_id) == Project.id,
            col(AnnotationTask.state) == TaskState.SELECTED,
            col(AnnotationTask.connector) != ConnectorKind.NONE,
        )
        .order_by(col(AnnotationTask.id))
    )
    waiting = select_columns(func.min(Notice.created_at)).where(col(Notice.state) == NoticeState.WAITING)
    oldest = {"flags": _first(session, flags), "tasks": _first(session, tasks)}
    oldest["notices"] = session.execute(waiting).scalar()
    for what, since in oldest.items():
        yield Reading("outbox_oldest_seconds", (now - since).total_seconds() if since else 0, {"of": what})


def _first(session: Session, oldest: "Select[datetime]") -> datetime | None:
    """Return the earliest of what is the first of its project."""
    first = oldest.limit(1).correlate(Project).scalar_subquery()
    return session.execute(select_columns(func.min(first)).select_from(Project)).scalar()


def _tools(session: Session, now: datetime) -> Iterator[Reading]:
    is_open = exists().where(
        col(AnnotationTask.project_id) == ToolProject.project_id,
        col(AnnotationTask.connector) == ToolProject.connector,
        col(AnnotationTask.state).in_((TaskState.SENT, TaskState.CONTESTED)),
    )
    read_at = func.min(func.coalesce(ToolProject.polled_at, ToolProject.created_at))
    oldest = (
        select_columns(col(ToolProject.connector), read_at).where(is_open).group_by(ToolProject.connector)
    )
    lags: dict[ConnectorKind, float] = {kind: 0.0 for kind in ConnectorKind if kind is not ConnectorKind.NONE}
    for connector, since in session.execute(oldest):
        lags[ConnectorKind(connector)] = (now - since).total_seconds()
    for kind, seconds in lags.items():
        yield Reading("ls_reconcile_lag_seconds", seconds, {"tool": kind.value})


def _models(session: Session) -> Iterator[Reading]:
    newest = (
        select_columns(col(Evaluation.id))
        .where(col(Evaluation.project_id) == Project.id, col(Evaluation.state).in_(VERDICTS))
        .order_by(col(Evaluation.id).desc())
        .limit(1)
        .correlate(Project)
        .scalar_subquery()
    )
    judged = select(Project.slug, Evaluation.state).where(
        Evaluation.project_id == Project.id, Evaluation.id == newest
    )
    for slug, verdict in session.exec(judged):
        for each in VERDICTS:
            labels = {"project": slug, "verdict": each.value}
            yield Reading("gate_result", float(each == verdict), labels)
    live = select(Project.slug, ModelVersion.number).where(
        ModelVersion.project_id == Project.id, ModelVersion.state == ModelState.CHAMPION
    )
    for slug, number in session.exec(live):
        yield Reading("champion_info", 1, {"project": slug, "version": str(number)})
