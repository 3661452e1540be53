"""Searches for better training settings: asking for one, what it tries and within what budget, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from retrain.criteria import read_criteria, read_rules
from retrain.errors import EmptySplit
from retrain.recipe import Recipe
from retrain.suites import GENERAL
from retrain.tuning.plan import SPACE, WATTS_PER_CORE, read_plan, watt_hours
from retrain.types import Split, TrainingSpec
from retrain.worth import HOUR
from service import goalposts, projects
from service.answers.audits import refuse_blocked
from service.answers.histories import FEWEST_CASES
from service.clock import utcnow
from service.errors import Invalid
from service.rates import rates_of
from service.runtime import Runtime
from service.tables import DocumentKind, Job, JobKind, Project, RunState, TrainingSet, Tuning, User

TEST = "test"
GOES_ON = (RunState.REQUESTED, RunState.RUNNING)
MOST_WORKERS = 16
EARLIER = 2


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person may say of a search; `search` names settings, by default all that can be searched."""

    sampler: str = "tpe"
    pruner: str = "median"
    trials: int = 12
    seconds: float | None = None
    watt_hours: float | None = None
    cost: float | None = None
    search: Sequence[str] = ()
    workers: int = 1
    seed: int = 0


def plan(session: Session, training_set: TrainingSet, start: Mapping[str, Any], wish: Wish) -> dict[str, Any]:
    """Say what would be searched: from `start`, which a training's options are, and from what was good earlier.

    Raises:
        Invalid: the start or the number of workers cannot be.
        WrongPlan: anything else cannot be.
        EmptySplit: there are too few validation rows to judge by.
        AuditBlocked: the set's audit forbids training on it.
        CriteriaMissing: the project has not said what success is.
    """
    project = session.get_one(Project, training_set.project_id)
    if "mode" in start:
        raise Invalid("mode: every trial of a search starts at the base model")
    if not 1 <= wish.workers <= MOST_WORKERS:
        raise Invalid(f"workers: from 1 to {MOST_WORKERS} can work side by side, not {wish.workers}")
    refuse_blocked(session, training_set, utcnow().date())
    if training_set.counts.get(Split.VALIDATION, 0) < FEWEST_CASES:
        raise EmptySplit(
            f"set v{training_set.version} has too few validation rows to judge trials by; "
            "its recipe's validation_share places some"
        )
    rules = read_rules(projects.current(session, project.id, DocumentKind.GATE_RULES).content)
    rates = rates_of(session, project)
    usual = {each.name: each.default for each in fields(TrainingSpec) if each.name in SPACE}
    recipe = Recipe.from_json(training_set.recipe)
    replay = {"replay_earlier": recipe.replay_earlier, "replay_general": recipe.replay_general}
    document = {
        "start": usual | replay | dict(start),
        "searched": list(wish.search),
        "earlier": _earlier(session, project.id),
        "sampler": wish.sampler,
        "pruner": wish.pruner,
        "budget": {
            **{name: getattr(wish, name) for name in ("trials", "seconds", "watt_hours", "cost")},
            **({"compute_hour": rates.compute_hour, "currency": rates.currency} if rates else {}),
        },
        "most_forgotten": rules.max_loss.get(GENERAL, rules.default_loss),
        "seed": wish.seed,
    }
    return {"metric": metric_of(session, project), **asdict(read_plan(document))}


def request(
    runtime: Runtime,
    session: Session,
    training_set: TrainingSet,
    start: Mapping[str, Any],
    wish: Wish,
    *,
    actor: str,
    user: User | None = None,
) -> Tuning:
    """Ask for a search, by as many workers as are wished for; raises as `plan`."""
    planned = plan(session, training_set, start, wish)
    found = Tuning(
        project_id=training_set.project_id,
        requested_by=user.id if user else None,
        training_set_id=training_set.id,
        metric=planned.pop("metric"),
        plan=planned,
    )
    session.add(found)
    session.flush()
    for _ in range(wish.workers):
        runtime.queue.ask(session, JobKind.TUNE, found.id, project_id=found.project_id, actor=actor)
    return found


def metric_of(session: Session, project: Project) -> str:
    """Return what the gate judges by first on the test split."""
    criteria = goalposts.criteria_of(session, project)
    named = [each.metric for each in read_criteria(criteria.content["criteria"]) if each.suite == TEST]
    return named[0] if named else "accuracy" if project.kind == "classification" else "exact_match"


def describe(session: Session, found: Tuning) -> dict[str, Any]:
    """Return a search as the API, the console and the command line show it."""
    training_set = session.get_one(TrainingSet, found.training_set_id)
    project = session.get_one(Project, found.project_id)
    jobs = select(Job.id).where(Job.project_id == found.project_id, Job.kind == JobKind.TUNE)
    job = session.exec(jobs.where(Job.row_id == found.id).order_by(col(Job.id))).first()
    best = found.result.get("settings")
    name = f"{project.slug}/v{training_set.version}"
    return {
        "id": str(found.id),
        "training_set": name,
        "metric": found.metric,
        "state": found.state.value,
        "sentence": found.result.get("sentence", ""),
        "plan": found.plan,
        "trials": found.trials,
        **_spent(found.trials, found.plan["budget"].get("compute_hour", 0)),
        "best": found.result.get("best"),
        "settings": best,
        "better": found.result.get("better"),
        "importance": found.result.get("importance", {}),
        "train": _command(project.slug, name, best) if best else None,
        "job": str(job) if job else None,
        "failure": found.failure,
    }


def _spent(trials: Sequence[Mapping[str, Any]], compute_hour: float) -> dict[str, float]:
    used, lasted = (sum(one[name] for one in trials) for name in ("cpu_seconds", "seconds"))
    return {
        "seconds": round(lasted, 1),
        "cpu_seconds": round(used, 1),
        "watt_hours": round(watt_hours(used), 3),
        "cost": round(lasted * compute_hour / HOUR, 4),
        "at_watts_per_core": WATTS_PER_CORE,
    }


def _command(project: str, training_set: str, settings: Mapping[str, Any]) -> str:
    options = " ".join(f"--option {name}={value}" for name, value in settings.items())
    return f"errata train --project {project} --set {training_set} {options}"


def _earlier(session: Session, project_id: UUID) -> list[dict[str, Any]]:
    """Return the best settings of the newest searches."""
    ended = (Tuning.project_id == project_id, Tuning.state == RunState.FINISHED)
    newest = session.exec(select(Tuning).where(*ended).order_by(col(Tuning.id).desc()).limit(EARLIER))
    found = [one.result["settings"] for one in newest if one.result.get("settings")]
    return [{name: each[name] for name in SPACE if name in each} for each in found]
