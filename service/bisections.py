"""Bisections: asking for one, with its cost told beforehand, and what came of it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from retrain.bisect.rules import Rules, expect
from retrain.errors import UnknownMetric
from service import answers
from service.answers.histories import Past, between
from service.errors import DifferentProjects
from service.runtime import Runtime
from service.tables import (
    AnnotationTask,
    Bisection,
    Job,
    JobKind,
    ModelState,
    ModelVersion,
    Project,
    Response,
    RunState,
    Settlement,
    Source,
    TrainingRun,
    User,
)

# Metrics load heavy libraries, so the names of those that call each case right or wrong stand here once more.
SHARES = (
    *("abstention", "accuracy", "contains_key", "direction", "exact_match", "generic_answers", "invariance"),
    *("kept_words", "memorisation", "misdirection", "nonsense", "over_refusal", "pii_leakage", "refusal"),
    *("role_conflation", "toxicity"),
)
NOTHING_FOUND = (None, "none", "cannot_tell")
GOES_ON = (RunState.REQUESTED, RunState.RUNNING)


def find_versions(session: Session, project: Project, *names: str) -> list[ModelVersion]:
    """Return model versions by number, `PROJECT/vN` or id.

    Raises:
        NotFound: there is no such version.
        DifferentProjects: one is another project's.
    """
    found = [
        answers.find_model(session, project, int(name))
        if name.isdecimal() and len(name) <= answers.MAX_DIGITS
        else answers.find_version(session, name)
        for name in names
    ]
    if strangers := [name for name, one in zip(names, found, strict=True) if one.project_id != project.id]:
        raise DifferentProjects(f"model version {strangers[0]} is none of project {project.slug}")
    return found


def plan(
    runtime: Runtime,
    session: Session,
    good: ModelVersion,
    bad: ModelVersion,
    *,
    metric: str,
    budget: int | None,
) -> dict[str, Any]:
    """Say what would be searched, and what that is likely to cost and would cost at most.

    Raises:
        UnknownMetric: there is none of this name, or it scores no single case as right or wrong.
        BudgetTooSmall: so few configurations cannot tell anything.
        ServiceError, RetrainError: as `between`.
    """
    if metric not in SHARES:
        raise UnknownMetric(
            f"metric {metric!r} calls no single case right or wrong; those that do are {', '.join(SHARES)}"
        )
    rules = Rules(max_configurations=budget)
    past = between(session, runtime.artifacts, good, bad, metric=metric)
    run = session.get_one(TrainingRun, bad.training_run_id)
    likely, most = expect(past.history, rules, seconds_each=run.report.get("seconds", 0.0))
    return {
        "good": good.number,
        "bad": bad.number,
        "metric": metric,
        "cases": len(past.cases),
        "expected": asdict(likely),
        "at_most": asdict(most),
        "untried": past.untried,
        "changes": told(past),
    }


def told(past: Past) -> list[dict[str, Any]]:
    """Tell all changes of a history."""
    return [
        {"id": one.id, "kind": one.kind.value, "title": one.title}
        | {"added": len(one.added), "removed": len(one.removed)}
        for one in past.history.changes
    ]


def request(
    runtime: Runtime,
    session: Session,
    good: ModelVersion,
    bad: ModelVersion,
    *,
    metric: str,
    budget: int | None = None,
    actor: str,
    user: User | None = None,
) -> Bisection:
    """Ask for a bisection; one that goes on is not asked for twice, and what an earlier one trained is used again.

    Raises: as `plan`.
    """
    planned = plan(runtime, session, good, bad, metric=metric, budget=budget)
    same = (Bisection.good_id == good.id, Bisection.bad_id == bad.id, Bisection.metric == metric)
    before = session.exec(select(Bisection).where(*same).order_by(col(Bisection.id).desc())).first()
    if before and before.state in GOES_ON:
        return before
    found = Bisection(
        project_id=good.project_id,
        requested_by=user.id if user else None,
        good_id=good.id,
        bad_id=bad.id,
        metric=metric,
        budget=budget,
        progress={name: planned[name] for name in ("expected", "at_most", "untried")},
        trainings=before.trainings if before else {},
    )
    session.add(found)
    session.flush()
    runtime.queue.ask(session, JobKind.BISECT, found.id, project_id=found.project_id, actor=actor)
    return found


def describe(session: Session, found: Bisection) -> dict[str, Any]:
    """Return a bisection as the API, the console and the command line show it."""
    good, bad = (session.get_one(ModelVersion, one) for one in (found.good_id, found.bad_id))
    jobs = select(Job.id).where(Job.project_id == found.project_id, Job.kind == JobKind.BISECT)
    job = session.exec(jobs.where(Job.row_id == found.id).order_by(col(Job.id).desc())).first()
    nothing: dict[str, Any] = {"verdict": None, "sentence": "", "changes": [], "rows": [], "confidence": 0.0}
    of_rows = [UUID(row["row"]) for row in found.result.get("rows", [])]
    return {
        "id": str(found.id),
        "good": good.number,
        "bad": bad.number,
        "metric": found.metric,
        "budget": found.budget,
        "state": found.state.value,
        **nothing,
        "trainings": len(found.trainings),
        **found.result,
        "proposals": [*_roll_back(found, bad), *_proposals(session, of_rows)],
        "progress": found.progress,
        "job": str(job) if job else None,
        "failure": found.failure,
    }


def _roll_back(found: Bisection, bad: ModelVersion) -> list[Mapping[str, str | int]]:
    """Propose to take a version off that is live and was found to be worse."""
    is_worse = found.result.get("verdict") not in NOTHING_FOUND
    return (
        [{"action": "roll_back", "version": bad.number}]
        if is_worse and bad.state is ModelState.CHAMPION
        else []
    )


def _proposals(session: Session, rows: list[UUID]) -> list[Mapping[str, str | int]]:
    """Return what a person may do about rows that are to blame."""
    sources = (
        select(Source.name)
        .join(Response, col(Response.source_id) == Source.id)
        .join(AnnotationTask, col(AnnotationTask.response_id) == Response.id)
        .join(Settlement, col(Settlement.task_id) == AnnotationTask.id)
        .where(col(Settlement.id).in_(rows))
    )
    named = sorted(session.exec(sources.distinct())) if rows else []
    again: list[Mapping[str, str | int]] = [{"action": "ask_again", "rows": len(rows)}] if rows else []
    return [*again, *({"action": "quarantine", "source": name} for name in named)]
