"""Bisections: asking for one, with its cost told beforehand, and what came of it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from difflib import unified_diff
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlmodel import Session, col, select

from retrain.archive import LOCK
from retrain.artifacts import ArtifactStore
from retrain.bisect.rules import Rules, expect
from retrain.errors import BrokenArtifact, MissingArtifact, UnknownMetric
from retrain.types import Method, Mode, Split
from service import answers
from service.answers.histories import Past, between, files_of
from service.errors import DifferentProjects, WrongState
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
    TrainingSetExample,
    User,
)

# Metrics load heavy libraries, so the names of those that call each case right or wrong stand here once more.
SHARES = (
    *("abstention", "accuracy", "contains_key", "direction", "exact_match", "generic_answers", "invariance"),
    *("kept_words", "memorisation", "misdirection", "nonsense", "over_refusal", "pii_leakage", "refusal"),
    *("role_conflation", "toxicity"),
)
SHOWN_LINES = 200
NOTHING_FOUND = (None, "none", "cannot_tell")
TAKES_ROWS = ("ask_again", "quarantine", "undo_repair", "lift")  # of which the next set takes notice
# Follows from project, set and what is live when a run is asked for, or changes no weight.
NOT_CHOSEN = {
    "base_model",
    "base_sha256",
    "training_set",
    "system_prompt",
    "parent_adapter",
    "checkpoint_every",
}
Proposal = Mapping[str, Any]
GOES_ON = (RunState.REQUESTED, RunState.RUNNING)


def find_versions(session: Session, project: Project, *names: str) -> list[ModelVersion]:
    """Return model versions by number, with a `v` before it or without, `PROJECT/vN` or id.

    Raises:
        NotFound: there is no such version.
        DifferentProjects: one is another project's.
    """
    found = [
        answers.find_model(session, project, int(name.removeprefix("v")))
        if name.removeprefix("v").isdecimal() and len(name) <= answers.MAX_DIGITS
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
        "learned_cases": past.known,
        "changes": told(past),
    }


def told(past: Past) -> list[dict[str, Any]]:
    """Tell all changes of a history."""
    return [
        {"id": one.id, "kind": one.kind.value, "title": one.title, "about": one.about}
        | {"added": len(one.added), "removed": len(one.removed)}
        for one in past.history.changes
    ]


def request(
    runtime: Runtime,
    good: ModelVersion,
    bad: ModelVersion,
    *,
    metric: str,
    budget: int | None = None,
    actor: str,
    user: User | None = None,
) -> Bisection:
    """Ask for a bisection; one that goes on is not asked for twice, and what an earlier one trained is used again.

    What it takes is found out, and refused, before a transaction that others would wait for.

    Raises:
        WrongState: it is searched already, within another budget than this.
        Others: as `plan`.
    """
    with runtime.db.reading() as session:
        planned = plan(runtime, session, good, bad, metric=metric, budget=budget)
    with runtime.db.transaction() as session:
        session.get_one(Project, good.project_id, with_for_update=True)  # two who ask at once ask in turn
        same = (Bisection.good_id == good.id, Bisection.bad_id == bad.id, Bisection.metric == metric)
        before = session.exec(select(Bisection).where(*same).order_by(col(Bisection.id).desc())).first()
        if before and before.state in GOES_ON:
            _refuse_other_budget(before, budget)
            return before
        found = Bisection(
            project_id=good.project_id,
            requested_by=user.id if user else None,
            good_id=good.id,
            bad_id=bad.id,
            metric=metric,
            budget=budget,
            progress={name: planned[name] for name in ("expected", "at_most", "untried", "learned_cases")},
            trainings=before.trainings if before else {},
        )
        session.add(found)
        session.flush()
        runtime.queue.ask(session, JobKind.BISECT, found.id, project_id=found.project_id, actor=actor)
        return found


def _refuse_other_budget(goes_on: Bisection, budget: int | None) -> None:
    if budget not in (None, goes_on.budget):
        within = f"at most {goes_on.budget}" if goes_on.budget else "as many as it takes by default"
        raise WrongState(
            f"this is being searched already, with {within}, not {budget} configurations; "
            "cancel that search first: what it trained is used again"
        )


def describe(session: Session, found: Bisection) -> dict[str, Any]:
    """Return a bisection as the API, the console and the command line show it."""
    good, bad = (session.get_one(ModelVersion, one) for one in (found.good_id, found.bad_id))
    jobs = select(Job.id).where(Job.project_id == found.project_id, Job.kind == JobKind.BISECT)
    job = session.exec(jobs.where(Job.row_id == found.id).order_by(col(Job.id).desc())).first()
    nothing: dict[str, Any] = {"verdict": None, "sentence": "", "changes": [], "rows": [], "confidence": 0.0}
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
        "proposals": _proposals(session, found, bad),
        "progress": found.progress,
        "job": str(job) if job else None,
        "failure": found.failure,
    }


def _proposals(session: Session, found: Bisection, bad: ModelVersion) -> list[Proposal]:
    """Return what a person may do about what is to blame, as their console's buttons do it."""
    if found.result.get("verdict") in NOTHING_FOUND:
        return []
    rows, changes = found.result.get("rows", []), found.result.get("changes", [])
    proposals: list[Proposal] = []
    if bad.state is ModelState.CHAMPION:
        proposals.append({"action": "roll_back", "version": bad.number})
    if rows:
        proposals.append({"action": "ask_again", "rows": len(rows)})
    added = Counter[str]()
    for change in changes:
        added[change.get("about", "")] += change["added"]  # earlier results lack it
    proposals += [one for about, n in added.items() for one in _undoing(session, bad, about, n)]
    run = run_of(session, bad.id)
    better = _better_settings(session, found, changes)
    # What a run went on from was the champion of its time, and another one would be gone on from now.
    if better and run.spec.get("mode") != Mode.CONTINUE:
        said = {"method": Method.SFT.value} | run.spec  # where it is the usual one, a spec does not say it
        kept = {name: value for name, value in said.items() if name not in NOT_CHOSEN}
        again = {"set": str(run.training_set_id), "better": better, "options": kept | better}
        proposals.append({"action": "train_again", **again})
    if any(one["action"] in TAKES_ROWS for one in proposals):
        proposals.append({"action": "build"})
    return proposals


def _undoing(session: Session, bad: ModelVersion, about: str, added: int) -> Iterator[Proposal]:
    """Yield how what changes are about is undone; a source most of whose rows are sound is not given up."""
    kind, _, name = about.partition(" ")
    if kind == "repair":
        yield {"action": "undo_repair", "repair": name}
    elif kind == "quarantine":
        yield {"action": "lift", "quarantine": name}
    elif kind == "source" and added and 2 * added >= _rows_of(session, bad, name):
        yield {"action": "quarantine", "source": name}


def _rows_of(session: Session, model: ModelVersion, source: str) -> int:
    """Return how many rows of a source a model learned."""
    rows = (
        select(func.count())
        .select_from(TrainingSetExample)
        .join(Settlement, col(Settlement.id) == TrainingSetExample.settlement_id)
        .join(AnnotationTask, col(AnnotationTask.id) == Settlement.task_id)
        .join(Response, col(Response.id) == AnnotationTask.response_id)
        .join(Source, col(Source.id) == Response.source_id)
        .where(
            TrainingSetExample.training_set_id == run_of(session, model.id).training_set_id,
            TrainingSetExample.split == Split.TRAIN,
            Source.name == source,
        )
    )
    return session.exec(rows).one()


def _better_settings(
    session: Session, found: Bisection, changes: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the good model's values of the settings that are to blame."""
    spec = run_of(session, found.good_id).spec
    named = [one["id"].removeprefix("configuration ") for one in changes if one["kind"] == "configuration"]
    return {name: spec[name] for name in named if isinstance(spec.get(name), int | float)}


def code_diff(artifacts: ArtifactStore, good: TrainingRun, bad: TrainingRun) -> list[str]:
    """Return how the code that trained two models differs, as a unified diff's lines, at most `SHOWN_LINES`.

    There are none if the code of one of them is gone or damaged.
    """
    try:
        before, after = (files_of(artifacts.get_bytes(str(run.code_archive))) for run in (good, bad))
    except (MissingArtifact, BrokenArtifact):
        return []

    def lines_of(files: Mapping[str, bytes], name: str) -> list[str]:
        return files.get(name, b"").decode(errors="replace").splitlines()

    lines = (
        line
        for name in sorted((before.keys() | after.keys()) - {LOCK})
        for line in unified_diff(
            lines_of(before, name), lines_of(after, name), f"better/{name}", f"worse/{name}", lineterm=""
        )
    )
    return list(islice(lines, SHOWN_LINES))


def run_of(session: Session, version_id: UUID) -> TrainingRun:
    """Return the run that made a model version."""
    return session.get_one(TrainingRun, session.get_one(ModelVersion, version_id).training_run_id)
