"""What a project's triggers start: the next set is built, and trained on, without anybody asking."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from annotation.types import Cause, Verdict
from retrain.errors import EmptySplit, InvalidTriggers
from retrain.intervals import wilson
from retrain.triggers import Facts, Progress, Triggers, fired, progress, read_triggers
from retrain.types import Split
from service import goalposts, ledger, projects
from service.answers import newest_set
from service.errors import AuditBlocked, CriteriaMissing, Invalid, NotFound
from service.queue import JobQueue, Lease
from service.rates import rates_of
from service.runtime import Runtime
from service.settlements import IN_FORCE
from service.stages import training
from service.tables import (
    AnnotationTask,
    Document,
    DocumentKind,
    Evaluation,
    Feedback,
    Job,
    JobKind,
    JobState,
    LedgerEntry,
    Project,
    Rating,
    Response,
    RunState,
    Settlement,
    Source,
    TrainingRun,
    TrainingSet,
)

TRIGGER, STARTED = "trigger", "started_by_trigger"
LEARNING = (JobKind.CURATE, JobKind.TRAIN, JobKind.EVALUATE)
WEEK = timedelta(days=7)
BEFORE = timedelta(days=28)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Outlook:
    """What will start a project's next training: how far each rule is, and what it has to wait for besides.

    What it will cost and bring, the last one tells: how long training takes, in seconds, and what the gate said.
    `cost` is in `currency`, of this machine's time alone; None where the project's rates do not price it.
    """

    rules: list[list[Progress]]
    facts: Facts
    waits_for: str
    seconds: float | None
    cost: float | None
    currency: str
    last_verdict: str


def set_triggers(session: Session, project: Project, content: Any, *, actor: str) -> Document:
    """Say what starts the next training.

    Raises:
        Invalid: the rules, or the options to train with, cannot be read.
    """
    try:
        training.check_options(read_triggers(content).options)
    except InvalidTriggers as error:
        raise Invalid(str(error)) from error
    return projects.add_document(session, project, DocumentKind.TRIGGERS, content, actor=actor)


def triggers_of(session: Session, project: Project) -> Triggers:
    """Return what the newest version of a project's triggers says; without any nothing starts by itself."""
    found = projects.document(session, project.id, DocumentKind.TRIGGERS)
    return read_triggers(found.content if found else {"rules": []})


def outlook(session: Session, project: Project, *, now: datetime) -> Outlook | None:
    """Return what will start the next training, and how far that is; None where nothing starts by itself."""
    triggers = triggers_of(session, project)
    if not triggers.rules:
        return None
    facts = facts_of(session, project, now=now)
    judged = select(Evaluation.sentence).where(
        Evaluation.project_id == project.id, col(Evaluation.finished_at).is_not(None)
    )
    seconds, rates = _seconds(session, project, rows=int(facts.count)), rates_of(session, project)
    return Outlook(
        rules=[progress(rule, facts) for rule in triggers.rules],
        facts=facts,
        waits_for=_waits_for(session, project, triggers, now=now),
        seconds=seconds,
        cost=rates.cost(0, seconds) if rates and rates.compute_hour and seconds is not None else None,
        currency=rates.currency if rates else "",
        last_verdict=session.exec(judged.order_by(col(Evaluation.id).desc()).limit(1)).first() or "",
    )


def start(session: Session, queue: JobQueue, project: Project, *, now: datetime) -> bool:
    """Ask for the next set where a trigger says so, and say whether one did."""
    triggers, facts = triggers_of(session, project), facts_of(session, project, now=now)
    rule = fired(triggers, facts)
    if rule is None or _waits_for(session, project, triggers, now=now):
        return False
    options = {"train": dict(triggers.options)} if triggers.trains else {}
    job_id = queue.ask(session, JobKind.CURATE, project.id, project_id=project.id, options=options)
    told = {"rule": dict(rule), "facts": asdict(facts), "job": str(job_id)}
    ledger.append(
        session, actor=TRIGGER, action=STARTED, subject=project.slug, project_id=project.id, facts=told
    )
    return True


def go_on(runtime: Runtime, lease: Lease, options: dict[str, Any]) -> dict[str, str]:
    """Train on the newest set, once, after it was built for that; what forbids it is the answer."""
    with lease.transaction() as session:
        newest = newest_set(session, lease.row_id)
        if newest is None:  # what was built is there
            raise NotFound("there is no set to train on")
        runs = select(TrainingRun.id).where(TrainingRun.training_set_id == newest.id)
        if known := session.exec(runs.limit(1)).first():
            return {"training_run": str(known)}
        try:
            run = training.request(runtime, session, newest, options, actor=TRIGGER)
        except (AuditBlocked, CriteriaMissing) as error:
            log.warning("training_not_started", code=error.code)
            return {"not_trained": str(error)}
        return {"training_run": str(run.id)}


def facts_of(session: Session, project: Project, *, now: datetime) -> Facts:
    """Return what is new in a project since its newest set."""
    newest = newest_set(session, project.id)
    since = newest.current_at if newest else project.created_at
    learnable = (col(Settlement.verdict) == Verdict.CORRECT) | (
        (col(Settlement.verdict) == Verdict.INCORRECT) & (col(Settlement.cause) == Cause.MODEL)
    )
    new = (
        select_columns(col(Settlement.created_at), col(AnnotationTask.urgency))
        .join(AnnotationTask, col(AnnotationTask.id) == Settlement.task_id)
        .where(col(Settlement.project_id) == project.id, IN_FORCE, learnable)
        .where(col(Settlement.created_at) > since)
    )
    rows = session.execute(new).all()
    return Facts(
        count=len(rows),
        severity=sum(float(urgency.get("severity", 0)) for _, urgency in rows),
        age_days=_days(now - min((at for at, _ in rows), default=now)),
        every_days=_days(now - since),
        drift=_drift(session, project.id, now=now),
    )


def _waits_for(session: Session, project: Project, triggers: Triggers, *, now: datetime) -> str:
    """Say in a few words what keeps the next training from starting now, or nothing."""
    under_way = select(Job.kind).where(
        Job.project_id == project.id,
        col(Job.kind).in_(LEARNING),
        col(Job.state).in_((JobState.PENDING, JobState.LEASED)),
    )
    if kind := session.exec(under_way.limit(1)).first():
        return f"the job {kind} under way"
    if challenger := goalposts.waiting_challenger(session, project):
        return f"a decision about version {challenger.number}"
    started = select(func.max(LedgerEntry.created_at)).where(
        LedgerEntry.project_id == project.id, LedgerEntry.action == STARTED
    )
    last = session.exec(started).one()
    until = last + timedelta(hours=triggers.rest_hours) if last else now
    return f"the rest until {until:%Y-%m-%d %H:%M} UTC" if until > now else ""


def _seconds(session: Session, project: Project, *, rows: int) -> float | None:
    """Return how long the last set and so many rows more would train, at the last run's pace."""
    finished = (
        select(TrainingRun, TrainingSet)
        .join(TrainingSet, col(TrainingRun.training_set_id) == TrainingSet.id)
        .where(TrainingRun.project_id == project.id, TrainingRun.state == RunState.FINISHED)
    )
    last = session.exec(finished.order_by(col(TrainingRun.id).desc()).limit(1)).first()
    if last is None or not last[1].counts.get(Split.TRAIN):
        return None
    learned, newest = last[1].counts[Split.TRAIN], newest_set(session, project.id)
    now = (newest.counts.get(Split.TRAIN, 0) if newest else 0) + rows
    return float(last[0].report.get("seconds", 0)) / learned * now


def _drift(session: Session, project_id: UUID, *, now: datetime) -> float:
    """Return how much larger the share of flagged responses surely is this week than it was in the four before."""
    try:
        week = wilson(*_flagged(session, project_id, now - WEEK, now))
        before = wilson(*_flagged(session, project_id, now - WEEK - BEFORE, now - WEEK))
    except EmptySplit:
        return 0.0
    return max(0.0, week.low - before.high)


def _flagged(session: Session, project_id: UUID, since: datetime, until: datetime) -> tuple[int, int]:
    """Count a span's responses, those first that a user flagged."""
    flag = (
        select(Feedback.id)
        .where(Feedback.response_id == Response.id, Feedback.rating == Rating.DOWN)
        .where(col(Feedback.withdrawn_at).is_(None), col(Feedback.is_trusted))
        .where(col(Feedback.held_for).is_(None))
        .exists()
    )
    shown = (
        select_columns(func.count())
        .select_from(Response)
        .join(Source, col(Response.source_id) == Source.id)
        .where(col(Response.project_id) == project_id, col(Response.created_at).between(since, until))
        .where(col(Response.copy_of_id).is_(None), col(Source.is_corpus).is_(False))
    )
    flagged, every = session.execute(
        select_columns(shown.where(flag).scalar_subquery(), shown.scalar_subquery())
    ).one()
    return flagged, every


def _days(span: timedelta) -> float:
    return span / timedelta(days=1)
