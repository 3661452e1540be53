"""What runs by itself, and when: RQ's cron keeps the time, each tick asks the database what is due.

There may be several schedulers and none leads: what is due is done by the one that is first to say so in the database.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from uuid import UUID

import structlog
from redis import Redis
from rq.cron import CronJob, CronScheduler
from rq.job import Job as RqJob
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, exists, or_, select

from service import comparisons, ledger, logs, reading, retention, serving, tool_state, tools, triggers
from service.answers.gauges import LEDGER_TURN
from service.answers.quarantines import is_feedback_held, is_held
from service.clock import utcnow
from service.db import Database
from service.digests import tell_experts
from service.runtime import Runtime, from_environment
from service.tables import (
    Annotation,
    AnnotationTask,
    Document,
    DocumentKind,
    Evaluation,
    EvaluationState,
    Feedback,
    JobKind,
    ModelState,
    ModelVersion,
    Notice,
    NoticeState,
    Project,
    QualityReport,
    Response,
    ScheduleTurn,
)
from service.tables.base import first_id

LOOKED_FOR_DIGESTS = 600  # seconds: what is due once a day waits no longer for a restart
LEDGER_SECONDS = 3600
EARLY = 0.9  # of an interval: two schedulers' clocks do not beat alike, and no turn is to be passed over

log = structlog.get_logger()


class Tick(CronJob):
    """A cron job that runs here instead of sending a message: what it asks for is a row in the database."""

    def enqueue(self, connection: Redis) -> RqJob:
        job = RqJob.create(self.func_name, connection=connection)
        if self.func:
            self.func()
        return job


def main() -> None:
    """Keep the schedule until told to stop."""
    logs.configure()
    runtime = from_environment()
    scheduler = CronScheduler(connection=runtime.queue.redis, logging_level="WARNING")
    for tick, seconds in ticks(runtime):
        scheduler._cron_jobs.append(Tick(queue_name="none", func=tick, interval=seconds))  # noqa: SLF001
    scheduler.start()  # type: ignore[no-untyped-call]  # RQ ships it without types


def ticks(runtime: Runtime) -> list[tuple[Callable[[], None], int]]:
    """Return what runs, and every how many seconds."""
    chosen = runtime.settings
    every: list[tuple[Callable[[Runtime], object], int]] = [
        (sweep, chosen.sweep_seconds),
        (ask_for_triage, chosen.triage_seconds),
        (ask_for_sync, chosen.sync_seconds),
        (ask_for_comparisons, chosen.sync_seconds),
        (ask_for_quality, chosen.quality_seconds),
        (start_trainings, chosen.trigger_seconds),
        (ask_for_monitoring, chosen.monitor_seconds),
        (ask_for_notices, chosen.notice_seconds),
        (ask_for_serving, chosen.serving_seconds),
        (tell_waiting_experts, min(chosen.digest_seconds, LOOKED_FOR_DIGESTS)),
        (prune, chosen.sync_seconds),
        (end_retention, LOOKED_FOR_DIGESTS),
        (check_ledger, LEDGER_SECONDS),
    ]
    return [(_tick(do, runtime, seconds), seconds) for do, seconds in every]


def _tick(do: Callable[[Runtime], object], runtime: Runtime, seconds: float) -> Callable[[], None]:
    """Return what RQ can call and name."""

    @wraps(do)
    def tick() -> None:
        if has_turn(runtime.db, do.__name__, seconds=seconds):
            do(runtime)

    return tick


def has_turn(db: Database, name: str, *, seconds: float) -> bool:
    """Say whether this is due, and take the turn: whoever asks next is told no until the interval is over."""
    with db.transaction() as session:
        now = db.now(session)
        until = now + timedelta(seconds=seconds * EARLY)
        mine = update(ScheduleTurn).where(col(ScheduleTurn.name) == name, col(ScheduleTurn.due_at) <= now)
        if session.exec(mine.values(due_at=until)).rowcount:
            return True
        if session.exec(select(ScheduleTurn.id).where(ScheduleTurn.name == name)).first():
            return False
    try:
        with db.transaction() as session:
            session.add(ScheduleTurn(name=name, due_at=until))
    except IntegrityError:
        return False
    return True


def check_ledger(runtime: Runtime) -> None:
    """Walk the ledger, and say for monitoring whether it is whole."""
    with runtime.db.reading() as session:
        problem = next(ledger.broken(session), None)
    if problem:
        log.error("ledger_broken", problem=problem)
    with runtime.db.transaction() as session:
        session.exec(
            update(ScheduleTurn).where(col(ScheduleTurn.name) == LEDGER_TURN).values(problem=problem)
        )


def sweep(runtime: Runtime) -> None:
    """Take back what dead workers held, and ring for what is due."""
    runtime.queue.sweep()


def tell_waiting_experts(runtime: Runtime) -> None:
    """Tell whoever wants the digest what waits for experts."""
    tell_experts(runtime.db, every=timedelta(seconds=runtime.settings.digest_seconds), now=utcnow())


def prune(runtime: Runtime) -> None:
    """Drop the webhooks that were read long ago."""
    reading.prune(runtime.db, before=utcnow() - timedelta(days=runtime.settings.inbox_days))


def end_retention(runtime: Runtime) -> None:
    """Ask for what is to be kept no longer to be erased."""
    retention.ask_due(runtime.db, runtime.queue, now=utcnow())


def ask_for_triage(runtime: Runtime) -> None:
    """Ask for one triage of each project that has feedback nobody looked at."""
    # Feedback that waits for its response, or is in quarantine, cannot be triaged yet, and would ask for ever.
    flagged = exists().where(
        col(Feedback.project_id) == Project.id,
        col(Feedback.triaged_at).is_(None),
        col(Feedback.response_id) == Response.id,
        ~is_feedback_held(),
    )
    fresh = exists().where(
        col(Response.project_id) == Project.id, col(Response.triaged_at).is_(None), ~is_held()
    )
    with runtime.db.reading() as session:
        waiting = session.exec(select(Project.id).where(or_(flagged, fresh)).order_by(col(Project.id))).all()
    for project_id in waiting:
        _ask(runtime, JobKind.TRIAGE, project_id)


def ask_for_sync(runtime: Runtime) -> None:
    """Ask for tasks to be sent and answers to be read wherever experts have something to do."""
    with runtime.db.reading() as session:
        due = tool_state.due(session)
    # A bundled tool that is still being set up has not failed, and nothing need rest because of it.
    up = {tool for tool in {each[0] for each in due} if tools.running(runtime.settings, tool)}
    for tool, project_id, kind in due:
        if tool in up:
            with runtime.db.transaction() as session:
                tool_state.ask(runtime.queue, session, kind, project_id, tool)


def ask_for_comparisons(runtime: Runtime) -> None:
    """Ask for a count wherever people are comparing two models."""
    awaiting = select(Evaluation.id, Evaluation.project_id).where(
        Evaluation.state == EvaluationState.AWAITING_PEOPLE
    )
    with runtime.db.reading() as session:
        due = session.exec(awaiting.order_by(col(Evaluation.id))).all()
    for evaluation_id, project_id in due:
        with runtime.db.transaction() as session:
            comparisons.ask_for_count(session, runtime.queue, evaluation_id, project_id)


def ask_for_quality(runtime: Runtime) -> None:
    """Ask for a fresh report on annotators wherever somebody has answered since the last one."""
    answered = (
        select(AnnotationTask.project_id)
        .join(Annotation, col(Annotation.task_id) == AnnotationTask.id)
        .join(QualityReport, col(QualityReport.project_id) == AnnotationTask.project_id, isouter=True)
        .where(
            col(QualityReport.id).is_(None)
            | (col(Annotation.created_at) > col(QualityReport.computed_at))
            | (col(Annotation.withdrawn_at) > col(QualityReport.computed_at))
        )
        .distinct()
    )
    with runtime.db.reading() as session:
        due = sorted(session.exec(answered))
    for project_id in due:
        _ask(runtime, JobKind.QUALITY, project_id)


def ask_for_monitoring(runtime: Runtime) -> None:
    """Ask for a look at each champion that answered anybody since the last one."""
    since = first_id(utcnow() - timedelta(seconds=2 * runtime.settings.monitor_seconds))
    answered = exists().where(col(Response.model_version_id) == ModelVersion.id, col(Response.id) >= since)
    champions = select(ModelVersion.project_id).where(ModelVersion.state == ModelState.CHAMPION, answered)
    with runtime.db.reading() as session:
        due = sorted(session.exec(champions))
    for project_id in due:
        _ask(runtime, JobKind.MONITOR, project_id)


def start_trainings(runtime: Runtime) -> None:
    """Ask for the next set, and a training on it, wherever a project's triggers say so."""
    has_triggers = exists().where(
        col(Document.project_id) == Project.id, col(Document.kind) == DocumentKind.TRIGGERS
    )
    with runtime.db.reading() as session:
        found = session.exec(select(Project.id).where(has_triggers).order_by(col(Project.id))).all()
    for project_id in found:
        with runtime.db.transaction() as session:
            triggers.start(session, runtime.queue, session.get_one(Project, project_id), now=utcnow())


def ask_for_serving(runtime: Runtime) -> None:
    """Ask for what is live to be served wherever a target is behind, or is to be looked at again."""
    with runtime.db.reading() as session:
        behind = serving.due(session, now=utcnow())
    for project_id in behind:
        _ask(runtime, JobKind.SERVE, project_id)


def ask_for_notices(runtime: Runtime) -> None:
    """Ask for what is due to be sent, wherever somebody is to hear of something."""
    due = select(Notice.project_id).where(
        Notice.state == NoticeState.WAITING, col(Notice.not_before) <= utcnow()
    )
    with runtime.db.reading() as session:
        waiting = sorted(session.exec(due.distinct()))
    for project_id in waiting:
        _ask(runtime, JobKind.NOTIFY, project_id)


def _ask(runtime: Runtime, kind: JobKind, project_id: UUID) -> None:
    with runtime.db.transaction() as session:
        project = session.get_one(Project, project_id)
        runtime.queue.ask(session, kind, project.id, project_id=project.id, unique_key=f"{kind}:{project.id}")
