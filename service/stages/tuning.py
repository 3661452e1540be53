"""Beside the loop: search for better training settings on a set, judged by its validation split alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlmodel import Session

from retrain.errors import Cancelled, TrainingBroke
from retrain.examination import known_of
from retrain.methods import usual_method
from retrain.metrics import metric_named
from retrain.suites import GENERAL, general_cases
from retrain.tuning.plan import Found, Number, Outcome, Plan, Run, Tried, Watch, best_of, read_plan
from retrain.tuning.task import SEEN, Task
from retrain.types import Example, Split, TrainingSpec
from service import projects, tunings
from service.answers.erasures import set_before
from service.answers.examples import contents
from service.clock import utcnow
from service.learning import Located, read_set
from service.queue import Lease
from service.runtime import Runtime
from service.tables import DocumentKind, Project, RunState, TrainingSet, Tuning

NO_CHECKPOINTS = 10_000

log = structlog.get_logger()


class Tuner(Protocol):
    """What a job hands over, so that this module loads without torch and Optuna."""

    def locate(self, reference: str) -> Located: ...
    def read_splits(self, path: Path, splits: Sequence[Split]) -> list[Example]: ...
    def run(
        self, spec: TrainingSpec, task: Task, *, folder: Path, watch: Watch, seconds: float | None,
        is_cancelled: Callable[[], bool],
    ) -> Outcome: ...  # fmt: skip
    def search(
        self, name: str, plan: Plan, run: Run, *, owner: str, told: Callable[[Sequence[Tried]], None]
    ) -> Found: ...


def perform(runtime: Runtime, lease: Lease, tuning_id: UUID, tuner: Tuner) -> dict[str, Any]:
    """Try settings until the budget is spent, perhaps beside other workers; the last one says what came of it.

    No transaction is open while a trial goes on. Trials that ended are kept whatever becomes of this process.

    Raises:
        TrainingBroke: no trial could be finished.
        Cancelled: the job was.
    """
    with lease.transaction() as session:
        asked = session.get_one(Tuning, tuning_id)
        if asked.state not in tunings.GOES_ON:
            return tunings.describe(session, asked)
        asked.state = RunState.RUNNING
    try:
        found = _Search(runtime, lease, tuner, asked).go_on()
    except Cancelled:
        if lease.is_lost():
            raise
        # The search was, by the job of another worker at it.
        with runtime.db.reading() as session:
            return tunings.describe(session, session.get_one(Tuning, tuning_id))
    with lease.transaction() as session:
        row = session.get_one(Tuning, tuning_id)
        row.trials = [asdict(one) for one in found.tried]
        if not found.goes_on:
            row.result, row.state, row.finished_at = _result(found, row), RunState.FINISHED, utcnow()
        answer = tunings.describe(session, row)
    log.info("tuning_finished", trials=len(found.tried), best=answer["best"])
    return answer


class _Search:
    """One worker's part in a search."""

    def __init__(self, runtime: Runtime, lease: Lease, tuner: Tuner, asked: Tuning) -> None:
        self.runtime, self.lease, self.tuner, self.id = runtime, lease, tuner, asked.id
        self.plan = read_plan(asked.plan)
        with runtime.db.reading() as session:
            project = session.get_one(Project, asked.project_id)
            training_set = session.get_one(TrainingSet, asked.training_set_id)
            rows = read_set(runtime, training_set, lambda path: tuner.read_splits(path, SEEN))
            self.task = _task(session, project, training_set, asked.metric, rows)
        self.spec = TrainingSpec(
            base_model=project.base_model,
            base_sha256=tuner.locate(project.base_model).sha256,
            training_set=training_set.fingerprint,
            system_prompt=project.system_prompt,
            method=usual_method(self.task.rows),
            checkpoint_every=NO_CHECKPOINTS,
        )

    def go_on(self) -> Found:
        """Try settings until the budget is spent."""
        name, owner = str(self.id), str(self.lease.job_id)
        return self.tuner.search(name, self.plan, self._run, owner=owner, told=self._tell)

    def _run(self, settings: Mapping[str, Number], watch: Watch, seconds: float | None) -> Outcome:
        outcome = self.tuner.run(
            TrainingSpec.from_json(self.spec.to_json() | dict(settings)),
            self.task,
            folder=self.runtime.settings.work / str(self.lease.job_id),
            watch=watch,
            seconds=seconds,
            is_cancelled=self._is_cancelled,
        )
        self.task = self.task.knowing(outcome.known)
        return outcome

    def _is_cancelled(self) -> bool:
        with self.runtime.db.reading() as session:
            is_over = session.get_one(Tuning, self.id).state is not RunState.RUNNING
        return is_over or self.lease.is_lost()

    def _tell(self, tried: Sequence[Tried]) -> None:
        with self.lease.transaction() as session:
            session.get_one(Tuning, self.id).trials = [asdict(one) for one in tried]
        self.lease.report(trials=len(tried), of=self.plan.budget.trials)


def _task(
    session: Session, project: Project, training_set: TrainingSet, metric: str, rows: Sequence[Example]
) -> Task:
    suite = projects.current(session, project.id, DocumentKind.SUITE).content
    learned = [row for row in rows if row.split is Split.TRAIN]
    return Task(
        rows=rows,
        earlier=frozenset(contents(session, set_before(session, training_set), Split.TRAIN)),
        general=general_cases(suite[GENERAL]),
        metric=metric,
        labels=projects.labels_to_choose(session, project.id),
        known=known_of(suite.get("known", {}), learned),
    )


def _result(found: Found, asked: Tuning) -> dict[str, Any]:
    """Say which trial is the best, how much better than the first, and that the best of many is flattered."""
    plan, is_higher_better = read_plan(asked.plan), metric_named(asked.metric).is_higher_better
    best = best_of(found.tried, is_higher_better=is_higher_better, most_forgotten=plan.most_forgotten)
    if best is None or best.score is None:
        raise TrainingBroke("no trial could be scored")
    first, score = found.tried[0].score, best.score
    gain = (score.value - first.value) * (1 if is_higher_better else -1) if first else None
    better = gain / first.value if first and first.value and gain is not None else None
    start = f"the start {first.value:.2f}" if first else "the start did not get to its end"
    kept = f"; it keeps {best.kept.value:.0%} of what the base model knows" if best.kept else ""
    too_much = " (more is forgotten than the gate allows)" if best.forgotten > plan.most_forgotten else ""
    return {
        "best": best.number,
        "settings": dict(best.settings),
        "better": better,
        "importance": dict(found.importance),
        "sentence": (
            f"trial {best.number} has {asked.metric.replace('_', ' ')} {score.value:.2f} ({score.low:.2f} to "
            f"{score.high:.2f}) on {score.n} validation rows, {start}{kept}{too_much}"
        ),
    }
