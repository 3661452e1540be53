"""The run, bisection, tuning or evaluation that a job is for, and what becomes of it when the job ends."""

from datetime import datetime

from sqlalchemy import update
from sqlmodel import Session, col

from service.tables import (
    Bisection,
    Evaluation,
    EvaluationState,
    Job,
    JobKind,
    JobState,
    RunState,
    TrainingRun,
    Tuning,
)


def end(session: Session, job: Job, failure: str, *, at: datetime) -> None:
    """End what a job was for, since the job was cancelled or given up; what has ended already stays as it is."""
    cancelled = job.state is JobState.CANCELLED
    if run := _run(session, job):
        if run.state in (RunState.REQUESTED, RunState.RUNNING):
            run.state = RunState.CANCELLED if cancelled else RunState.FAILED
            run.failure, run.finished_at = failure, at
    elif job.kind is JobKind.EVALUATE:
        opened = (
            col(Evaluation.model_version_id) == job.row_id,
            col(Evaluation.state) == EvaluationState.RUNNING,
        )
        failed = {"state": EvaluationState.FAILED, "failure": failure, "finished_at": at}
        session.execute(update(Evaluation).where(*opened).values(**failed))


def reopen(session: Session, job: Job) -> None:
    """Ask once more for what a job was for, since the job is tried again."""
    run = _run(session, job)
    if run and run.state in (RunState.FAILED, RunState.CANCELLED):
        run.sqlmodel_update({"state": RunState.REQUESTED, "failure": None, "finished_at": None})


def _run(session: Session, job: Job) -> TrainingRun | Bisection | Tuning | None:
    if job.kind is JobKind.TRAIN:
        return session.get(TrainingRun, job.row_id)
    if job.kind is JobKind.BISECT:
        return session.get(Bisection, job.row_id)
    return session.get(Tuning, job.row_id) if job.kind is JobKind.TUNE else None
