"""Beside the loop: find which change of data, code or configuration made a model version worse than another."""

import shutil
import time
from collections import UserDict
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog

from retrain.bisect.changes import Configuration
from retrain.bisect.finding import Cause, Finding, Verdict
from retrain.bisect.rules import Rules
from retrain.bisect.search import find
from retrain.bisect.trials import Scores, Step
from retrain.errors import TrainingBroke
from retrain.examination import Model
from retrain.types import TrainingSpec
from service import bisections, projects
from service.answers.histories import CODE, EARLIER, Past, between
from service.clock import utcnow
from service.learning import learn
from service.queue import Lease
from service.runtime import Runtime
from service.scoring import Bench, examined
from service.tables import Bisection, ModelVersion, RunState

ROWS_NAMED = 200
TITLES_SHOWN = 3

log = structlog.get_logger()


def perform(
    runtime: Runtime,
    lease: Lease,
    bisection_id: UUID,
    bench: Bench,
) -> dict[str, Any]:
    """Search, and keep each training at once: a search that was ended goes on with what is missing.

    No transaction is open while a model trains.

    Raises:
        RetrainError: a training failed, or nothing can be told apart here; the bisection says why.
    """
    with lease.transaction() as session:
        found = session.get_one(Bisection, bisection_id)
        if found.state not in bisections.GOES_ON:
            return bisections.describe(session, found)
        found.state = RunState.RUNNING
    with runtime.db.reading() as session:
        good, bad = (session.get_one(ModelVersion, one) for one in (found.good_id, found.bad_id))
        past = between(session, runtime.artifacts, good, bad, metric=found.metric)
        labels = projects.labels_to_choose(session, found.project_id)
        kept = {name: Scores(tuple(each["cases"]), each["seconds"]) for name, each in found.trainings.items()}
    trial = _Trial(runtime, lease, bench, past, adapter=str(good.adapter_sha256), labels=labels)
    trial.prepare(found.metric)

    remembered = _Remembered(lease, bisection_id, kept)
    try:
        finding = trial.search(remembered, found.budget)
    except TrainingBroke as broke:
        if not trial.trainers:
            raise
        trial.give_up_code(f"the archived code broke here ({broke})")
        finding = trial.search(remembered, found.budget)
    shutil.rmtree(trial.work, ignore_errors=True)
    with lease.transaction() as session:
        row = session.get_one(Bisection, bisection_id)
        row.result, row.state, row.finished_at = _document(trial.past, finding), RunState.FINISHED, utcnow()
        answer = bisections.describe(session, row)
    log.info("bisection_finished", verdict=answer["verdict"], trainings=answer["trainings"])
    return answer


class _Remembered(UserDict[str, Scores]):
    """Trainings by name, each written down as soon as it is made."""

    def __init__(self, lease: Lease, bisection_id: UUID, kept: dict[str, Scores]) -> None:
        self.data, self._lease, self._id = kept, lease, bisection_id

    def __setitem__(self, name: str, scores: Scores) -> None:
        with self._lease.transaction() as session:
            row = session.get_one(Bisection, self._id)
            row.trainings = row.trainings | {name: asdict(scores)}
        self.data[name] = scores


class _Trial:
    """Trains configurations and judges what came of them, always by the same cases and the same code."""

    def __init__(
        self,
        runtime: Runtime,
        lease: Lease,
        bench: Bench,
        past: Past,
        *,
        adapter: str,
        labels: Sequence[str],
    ) -> None:
        self.runtime, self.lease, self.bench, self.past = runtime, lease, bench, past
        self.adapter, self.labels = adapter, labels
        self.work = runtime.settings.work / str(lease.row_id)
        codes = [runtime.artifacts.get_bytes(name) for name in past.archives or ()]
        self.trainers = [bench.archived(code) for code in codes]
        self.tried: dict[str, dict[str, Any]] = {}
        self.models: dict[str, Model] = {}

    def prepare(self, metric: str) -> None:
        """Find out, before anything trains, which cases the metric judges and whether archived code runs here.

        Raises:
            EmptySplit: the metric judges too few cases.
            BrokenHistory: code alone changed, and it does not run here.
        """
        self.examined = examined(metric, self.past.cases, self.labels)
        if not all(trainer.can_run() for trainer in self.trainers):
            self.give_up_code("the archived code does not run here")

    def give_up_code(self, why: str) -> None:
        """Train everything by the code that runs here.

        Raises:
            BrokenHistory: code alone changed.
        """
        self.trainers = []
        self.past = self.past.without_code(why)

    def search(self, remembered: MutableMapping[str, Scores], budget: int | None) -> Finding:
        """Find what is to blame; what is remembered is not trained again."""
        return find(
            self.past.history,
            self.train,
            harm=self.harm if self.past.rows else None,
            remembered=remembered,
            rules=Rules(max_configurations=budget),
            progress=self.tell,
        )

    def harm(self, names: Sequence[str], weights: Sequence[float]) -> Mapping[str, float]:
        """Estimate what rows do to the cases that were lost, by the good model's gradients."""
        adapter = self.work / "good"
        shutil.rmtree(adapter, ignore_errors=True)  # of an attempt that was ended
        self.runtime.artifacts.fetch_directory(self.adapter, adapter)
        rows = [self.past.rows[name] for name in names]
        found = self.bench.harms(
            self.past.specs[0],
            adapter,
            rows,
            self.examined.rows,
            weights,
            labels=self.labels,
            is_cancelled=self.lease.is_lost,
        )
        shutil.rmtree(adapter)
        return dict(zip(names, found, strict=True))

    def train(self, made: Configuration, seed: int) -> Scores:
        """Train a configuration as the training stage would, and score it case by case."""
        began, spec = time.monotonic(), self.past.spec(made, seed)
        work = self.work / self.past.history.key_of(made, seed)[-16:]
        learned = learn(
            self.runtime,
            self.trainers[CODE in made.changes] if self.trainers else self.bench,
            spec,
            rows=self.past.examples(made),
            earlier=self.past.earlier[EARLIER in made.changes],
            work=work,
            report=lambda _: None,
            is_cancelled=self.lease.is_lost,
        )
        scores = self._score(spec, Path(learned.directory))
        shutil.rmtree(work, ignore_errors=True)
        return Scores(scores, time.monotonic() - began)

    def _score(self, spec: TrainingSpec, adapter: Path) -> tuple[float, ...]:
        if spec.system_prompt not in self.models:
            self.models[spec.system_prompt] = self.bench.open(spec.base_model, spec.system_prompt)
        return self.examined.score(self.models[spec.system_prompt], adapter)

    def tell(self, step: Step) -> None:
        """Show how far the search is: what was tried, and what it still had of what was lost."""
        changes, made = self.past.history.changes, self.past.history.named(step.configuration.changes)
        named = "; ".join(change.title for change in made[:TITLES_SHOWN])
        self.tried[self.past.history.key_of(step.configuration, 0)] = {
            "changes": named if len(made) <= TITLES_SHOWN else f"{len(made)} of {len(changes)} changes",
            "rows_left_out": len(step.configuration.untouched),
            "score": asdict(step.score),
            "kept": asdict(step.kept) if step.kept else None,
        }
        facts = asdict(step.cost) | {"suspects": step.n_suspects}
        with self.lease.transaction() as session:
            row = session.get_one(Bisection, self.lease.row_id)
            row.progress = row.progress | facts | {"tried": list(self.tried.values())}
        self.lease.report(**facts)


def _document(past: Past, finding: Finding) -> dict[str, Any]:
    """Tell a finding without anybody's words; what could not be tried is never excluded."""
    verdict, sentence, untried = finding.verdict, finding.sentence, past.untried
    if untried and verdict is Verdict.NONE:
        verdict = Verdict.CANNOT_TELL
        sentence = f"cannot tell: trained here both models are alike, but {untried}, which was not tried"
    elif untried:
        sentence += f"; {untried}, which was not tried"
    blamed = {change.id for cause in finding.causes for change in cause.changes}
    rows = [row for cause in finding.causes for row in _rows(cause)]
    return {
        "verdict": verdict.value,
        "sentence": sentence,
        "changes": [one for one in bisections.told(past) if one["id"] in blamed],
        "causes": [[change.id for change in cause.changes] for cause in finding.causes],
        "rows": rows[:ROWS_NAMED],
        "rows_in_all": len(rows),
        "confidence": finding.confidence if verdict is finding.verdict else 0.0,
        "trainings": finding.cost.trainings,
        "cost": asdict(finding.cost),
        "drop": asdict(finding.drop),
        "suspects": [change.title for change in finding.suspects],
        "needs": finding.needs,
    }


def _rows(cause: Cause) -> list[dict[str, Any]]:
    """Tell a cause's rows by their settlements, the most harmful first where that is known."""
    blamed = {row.key: row for row in cause.rows}
    names = list(blamed) or [row for change in cause.changes for row in (*change.added, *change.removed)]
    missed = {row for change in cause.changes for row in change.removed}
    return [
        {
            "row": name.partition("@")[0],
            "set": int(name.partition("@")[2]),
            "is_missed": name in missed,
            "harm": blamed[name].harm if name in blamed else None,
            "reproducing": blamed[name].reproducing if name in blamed else None,
        }
        for name in names
    ]
