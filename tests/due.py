"""The work that workers would do, done here and now."""

from sqlmodel import col, select

from service import jobs
from service.runtime import Runtime
from service.tables import Job, JobState


def do_all_due(runtime: Runtime) -> None:
    """Do all jobs that are due, those that they ask for included, each under its lease."""
    while job_id := _next_due(runtime):
        jobs.perform(runtime, runtime.queue.lease(job_id))


def _next_due(runtime: Runtime):
    with runtime.db.reading() as session:
        due = select(Job.id).where(
            Job.state == JobState.PENDING, col(Job.not_before) <= runtime.db.now(session)
        )
        return session.exec(due.order_by(col(Job.id)).limit(1)).first()
