"""The one thing to do now in a project: what broke, what a person is to decide, what the loop lacks to go on."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlmodel import Session, col, select

from retrain.amounts import how_many
from retrain.types import Mode
from service import projects
from service.answers import newest_set
from service.answers.audits import blocking
from service.answers.erasures import learned_from_erased
from service.answers.overview import undecided
from service.clock import utcnow
from service.settlements import MAY_SETTLE
from service.tables import (
    AnnotationTask,
    ApiKey,
    Approval,
    Decision,
    DocumentKind,
    Feedback,
    Job,
    JobKind,
    JobState,
    ModelState,
    ModelVersion,
    Project,
    Response,
    RunState,
    Settlement,
    TaskState,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
)
from service.tables.base import first_id

ASKED_FOR = (JobKind.CORPUS, JobKind.CURATE, JobKind.IMPORT, JobKind.REBUILD)
UNEXPECTED = "unexpected"


@dataclass(frozen=True, slots=True)
class NextStep:
    """The one thing to do now; `page` names where, `row_id` which."""

    sentence: str
    button: str
    page: str
    row_id: UUID | None = None


def next_step(session: Session, project: Project) -> NextStep:
    """Return what matters most now: what broke, then decisions, then what the loop lacks to go on."""
    steps = (_broken, _to_decide, _to_relearn, _to_prepare, _to_learn)
    return next(
        (step for find in steps if (step := find(session, project))),
        NextStep("Nothing waits for you.", "Ask the champion", "playground"),
    )


def relearning(session: Session, project: Project) -> tuple[ModelVersion, TrainingSet] | None:
    """Return the champion that learned from rows erased since, and the set to train on afresh without them.

    None if there is none, or if somebody has asked for such a training.
    """
    newest = newest_set(session, project.id)
    champion = session.exec(
        select(ModelVersion).where(
            ModelVersion.project_id == project.id, ModelVersion.state == ModelState.CHAMPION
        )
    ).first()
    if not newest or not champion or champion.id not in learned_from_erased(session, project.id):
        return None
    asked = (RunState.REQUESTED, RunState.RUNNING, RunState.FINISHED)
    runs = select(TrainingRun.spec, TrainingRun.created_at).where(
        TrainingRun.training_set_id == newest.id, col(TrainingRun.state).in_(asked)
    )
    lost = select(func.max(TrainingSetExample.erased_at)).join(TrainingSet)
    erased_at = session.exec(lost.where(TrainingSet.project_id == project.id)).one() or champion.created_at
    is_asked_for = any(
        at > erased_at and spec.get("mode") != Mode.CONTINUE for spec, at in session.exec(runs).all()
    )
    return None if is_asked_for else (champion, newest)


def _broken(session: Session, project: Project) -> NextStep | None:
    # Whoever asked for these was told at once why they cannot be done.
    refused = col(Job.kind).in_(ASKED_FOR) & (func.coalesce(Job.failure_code, UNEXPECTED) != UNEXPECTED)
    dead = select(Job).where(Job.project_id == project.id, Job.state == JobState.DEAD, ~refused)
    job = session.exec(dead.order_by(col(Job.finished_at).desc()).limit(1)).first()
    asked_since = (
        job
        and session.exec(
            select(Job.id)
            .where(Job.project_id == project.id, Job.kind == job.kind)
            .where(Job.row_id == job.row_id, col(Job.id) > job.id)
            .limit(1)
        ).first()
    )
    if job is None or asked_since:
        return None
    return NextStep(
        f"A job for {job.kind} gave up: {job.failure or 'no reason'}", "Look at it", "job", job.id
    )


def _to_decide(session: Session, project: Project) -> NextStep | None:
    passed = session.execute(undecided(project).limit(1)).scalars().first()
    if passed:
        number = session.get_one(ModelVersion, passed.model_version_id).number
        return NextStep(
            f"Version {number} passed the gate. Is it to go live?", "Decide", "evaluation", passed.id
        )
    approved = session.exec(
        select(ModelVersion)
        .join(Approval, col(Approval.model_version_id) == ModelVersion.id)
        .where(Approval.project_id == project.id, Approval.decision == Decision.APPROVED)
        .where(ModelVersion.state == ModelState.CHALLENGER)
        .limit(1)
    ).first()
    if approved:
        return NextStep(f"Version {approved.number} is approved and not live yet.", "Promote", "models")
    return None


def _to_relearn(session: Session, project: Project) -> NextStep | None:
    """Models do not unlearn: what an erased person's rows taught goes by a training without them."""
    found = relearning(session, project)
    if found is None:
        return None
    champion, newest = found
    return NextStep(
        f"Version {champion.number} is live and learned from rows that were erased since.",
        "Train without them",
        "training_set",
        newest.id,
    )


def _to_prepare(session: Session, project: Project) -> NextStep | None:
    """What a young project lacks, in the order in which it is needed."""
    if not _is_any(session, select(ApiKey.id).where(ApiKey.project_id == project.id)):
        return NextStep("Your application needs a key to log what the model answers.", "Make a key", "keys")
    if projects.document(session, project.id, DocumentKind.CRITERIA) is None:
        return NextStep("Say what success is, before anything trains.", "Set criteria", "criteria")
    if not _is_any(session, select(Response.id).where(Response.project_id == project.id)):
        return NextStep("No answer of the model is known yet.", "Ask the champion", "playground")
    if not _is_any(session, select(Feedback.id).where(Feedback.project_id == project.id)):
        return NextStep("Nobody has said anything about an answer yet.", "Flag an answer", "playground")
    return None


def _to_learn(session: Session, project: Project) -> NextStep | None:
    contested = select(func.count()).where(
        AnnotationTask.project_id == project.id, AnnotationTask.state == TaskState.CONTESTED
    )
    asked = select(func.count()).where(
        AnnotationTask.project_id == project.id, AnnotationTask.state == TaskState.SENT, MAY_SETTLE
    )
    newest = newest_set(session, project.id)
    settled = select(func.count()).where(
        Settlement.project_id == project.id, col(Settlement.withdrawn_at).is_(None)
    )
    if newest:
        settled = settled.where(col(Settlement.id) >= first_id(newest.created_at))
    run = select(TrainingRun.id).where(TrainingRun.training_set_id == newest.id) if newest else None
    blocked = blocking(session, newest, utcnow().date()) if newest else []
    if newest and blocked:
        return NextStep(
            f"The audit blocks set v{newest.version}: {blocked[0].evidence}.",
            "Look at it",
            "training_set",
            newest.id,
        )
    if run is not None and newest and not _is_any(session, run) and not blocked:
        return NextStep(f"Set v{newest.version} has not been trained on.", "Train", "training_set", newest.id)
    if (count := session.exec(settled).one()) and not session.exec(asked).one():
        return NextStep(
            f"{how_many(count, 'settled answer', 'are')} in no set yet.", "Build a set", "training_sets"
        )
    if count := session.exec(contested).one():
        return NextStep(f"Experts disagree on {how_many(count, 'task')}.", "See them", "tasks")
    if count := session.exec(asked).one():
        return NextStep(f"{how_many(count, 'task', 'wait')} for experts.", "See them", "tasks")
    return None


def _is_any(session: Session, ids: Any) -> bool:
    return session.exec(ids.limit(1)).first() is not None
