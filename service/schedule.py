"""What runs by itself, and when: RQ's cron keeps the time, each tick asks the database what is due."""

from collections.abc import Callable
from uuid import UUID

import structlog
from redis import Redis
from rq.cron import CronJob, CronScheduler
from rq.job import Job as RqJob
from sqlmodel import col, exists, or_, select

from service import logs, tool_state, tools
from service.answers.quarantines import is_feedback_held, is_held
from service.runtime import Runtime, from_environment
from service.tables import (
    Annotation,
    AnnotationTask,
    Feedback,
    JobKind,
    Project,
    QualityReport,
    Response,
)

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

    def sweep() -> None:
        runtime.queue.sweep()

    def triage() -> None:
        ask_for_triage(runtime)

    def sync() -> None:
        ask_for_sync(runtime)

    def quality() -> None:
        ask_for_quality(runtime)

    chosen = runtime.settings
    return [
        (sweep, chosen.sweep_seconds),
        (triage, chosen.triage_seconds),
        (sync, chosen.sync_seconds),
        (quality, chosen.quality_seconds),
    ]


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


def _ask(runtime: Runtime, kind: JobKind, project_id: UUID) -> None:
    with runtime.db.transaction() as session:
        project = session.get_one(Project, project_id)
        runtime.queue.ask(session, kind, project.id, project_id=project.id, unique_key=f"{kind}:{project.id}")
