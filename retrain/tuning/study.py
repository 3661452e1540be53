"""A search for better settings as an Optuna study, which outlives the processes that work at it side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from retrain.errors import TrainingBroke
from retrain.intervals import Interval
from retrain.tuning.plan import Found, GivenUp, Outcome, Plan, Pruner, Range, Run, Sampler, Tried, watt_hours

LOST = "ended before it was done"
RUNNING = "running"
POINTS = 10  # of a run, at which trials are compared
DRAWN_WITHIN = timedelta(seconds=1)
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class Study:
    """One search. Each trial is stored as it goes, so that whoever comes next goes on from there."""

    def __init__(self, storage: BaseStorage, name: str, plan: Plan) -> None:
        self.plan = plan
        self._has_two_aims = plan.sampler is Sampler.NSGA_II
        self._study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=["maximize"] * (2 if self._has_two_aims else 1),
            load_if_exists=True,
            pruner=_pruner(plan.pruner),
        )
        # Whoever goes on must not draw again what was drawn.
        self._study.sampler = _sampler(plan, seed=plan.seed + len(self._study.get_trials(deepcopy=False)))

    def go_on(self, run: Run, *, owner: str, told: Callable[[Sequence[Tried]], None]) -> Found:
        """Try settings until the budget is spent; `told` hears of all trials after each.

        What an earlier process of the same `owner` had begun is tried again.

        Raises:
            TrainingBroke: no trial could be finished.
        """
        self._begin()
        self._ask_again_for_lost(owner)
        while not self._is_spent():
            self._try(run, owner)
            self._give_up_ownerless()
            told(self.tried())
        tried = self.tried()
        goes_on = any(one.state == RUNNING for one in tried)
        if not goes_on and not any(one.score for one in tried):
            raise TrainingBroke(f"no trial could be finished: {tried[-1].failure}")
        return Found(tried, self._importance(), goes_on)

    def tried(self) -> list[Tried]:
        """Return all trials that were begun, in their order."""
        begun = self._study.get_trials(deepcopy=False)
        return [_told(one, self.plan) for one in begun if one.state is not TrialState.WAITING]

    def _begin(self) -> None:
        """Have the starting point and what was good earlier tried first."""
        if not self._study.get_trials(deepcopy=False):
            for settings in (self.plan.start, *self.plan.earlier):
                known = {name: settings[name] for name in self.plan.searched if name in settings}
                self._study.enqueue_trial(known, skip_if_exists=True)

    def _ask_again_for_lost(self, owner: str) -> None:
        for one in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if one.user_attrs.get("owner") == owner:
                self._study.tell(one.number, state=TrialState.FAIL)
                self._study.enqueue_trial(one.params)

    def _give_up_ownerless(self) -> None:
        """End what a process drew and died of before it could say whose it was; others are young."""
        latest = datetime.now() - DRAWN_WITHIN  # noqa: DTZ005  as Optuna writes its times
        for one in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "owner" not in one.user_attrs and one.datetime_start and one.datetime_start < latest:
                self._study.tell(one.number, state=TrialState.FAIL)

    def _is_spent(self) -> bool:
        tried, budget, most = self.tried(), self.plan.budget, self.plan.budget.most_seconds
        counted = self._study.get_trials(deepcopy=False, states=(*ENDED, TrialState.RUNNING))
        return (
            len(counted) >= budget.trials
            or (most is not None and sum(one.seconds for one in tried) >= most)
            or (
                budget.watt_hours is not None
                and watt_hours(sum(one.cpu_seconds for one in tried)) >= budget.watt_hours
            )
        )

    def _try(self, run: Run, owner: str) -> None:
        trial = self._study.ask({name: _distribution(one) for name, one in self.plan.space.items()})
        trial.set_user_attr("owner", owner)
        curve: list[tuple[float, float]] = []

        def watch(share: float, loss: float) -> None:
            curve.append((share, loss))
            trial.set_user_attr("curve", curve)
            # With two aims nothing tells which trials are worse before they end.
            for point, passed in _passed(curve) if not self._has_two_aims else ():
                trial.report(-passed, step=point)
                if share < 1 and trial.should_prune():
                    raise GivenUp(f"worse than the others after {share:.0%} of the run")

        most = self.plan.budget.most_seconds
        left = None if most is None else most - sum(one.seconds for one in self.tried())
        try:
            outcome = run(self.plan.start | trial.params, watch, left)  # type: ignore[operator]
        except (GivenUp, TrainingBroke) as error:
            trial.set_user_attr("failure", str(error))
            self._study.tell(trial, state=TrialState.PRUNED)
        except BaseException:
            self._study.tell(trial, state=TrialState.FAIL)
            raise
        else:
            self._tell(trial, outcome)

    def _tell(self, trial: optuna.Trial, outcome: Outcome) -> None:
        kept = outcome.kept.value if outcome.kept else 1.0
        score = outcome.score.value if outcome.is_higher_better else -outcome.score.value
        trial.set_user_attr("outcome", asdict(replace(outcome, known=())))
        if self.plan.sampler is not Sampler.CMA_ES:  # which knows no constraints
            trial.set_constraint("forgotten", 1 - kept - self.plan.most_forgotten)
        self._study.tell(trial, [score, kept] if self._has_two_aims else score)

    def _importance(self) -> dict[str, float]:
        """Return the share of the scores' spread that each setting explains (fANOVA), the greatest first.

        Fewer than four trials, or equal ones, say nothing.

        Source: Hutter et al. (2014), "An Efficient Approach for Assessing Hyperparameter Importance".
        """
        whole = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(whole) < 4 or len({one.values[0] for one in whole}) == 1:
            return {}
        evaluator = FanovaImportanceEvaluator(seed=self.plan.seed)
        return dict(get_param_importances(self._study, evaluator=evaluator, target=lambda one: one.values[0]))


@contextmanager
def opened(url: str, schema: str | None = None) -> Iterator[RDBStorage]:
    """Open the database that studies lie in, if need be in a schema of their own."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = {"connect_args": {"options": f"-csearch_path={schema}"}} if schema else {}
    storage = RDBStorage(url, engine_kwargs=options)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _passed(curve: Sequence[tuple[float, float]]) -> Iterator[tuple[int, float]]:
    """Yield the points that a run passed since the last look but one, and its loss there, as if it had gone straight.

    Short runs are looked at seldom, and only like shares of two runs say which of them is worse.
    """
    share, loss = curve[-1]
    before, known = curve[-2] if len(curve) > 1 else (0.0, loss)
    for point in range(int(before * POINTS) + 1, int(share * POINTS) + 1):
        yield point, known + (loss - known) * (point / POINTS - before) / (share - before)


def _sampler(plan: Plan, *, seed: int) -> BaseSampler:
    """Return a sampler that learns from few trials: the usual first ten at random would be most of a budget."""
    few = max(3, plan.budget.trials // 4)
    if plan.sampler is Sampler.CMA_ES:
        return CmaEsSampler(seed=seed, n_startup_trials=few, warn_independent_sampling=False)
    if plan.sampler is Sampler.NSGA_II:
        return NSGAIISampler(seed=seed, population_size=max(4, few))
    if plan.sampler is Sampler.RANDOM:
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, n_startup_trials=few)


def _pruner(pruner: Pruner) -> BasePruner:
    if pruner is Pruner.ASHA:
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return MedianPruner(n_startup_trials=3) if pruner is Pruner.MEDIAN else NopPruner()


def _distribution(one: Range) -> BaseDistribution:
    if isinstance(one.low, int) and isinstance(one.high, int):
        return IntDistribution(one.low, one.high, log=one.is_log)
    return FloatDistribution(one.low, one.high, log=one.is_log)


def _told(trial: FrozenTrial, plan: Plan) -> Tried:
    said: Mapping[str, Any] = trial.user_attrs
    outcome = said.get("outcome") or {"score": None, "kept": None}
    score, kept = (Interval(**outcome[name]) if outcome[name] else None for name in ("score", "kept"))
    lasted = trial.duration.total_seconds() if trial.duration else 0.0
    return Tried(
        number=trial.number,
        state=trial.state.name.lower(),
        settings={**plan.start, **trial.params},
        score=score,
        kept=kept,
        curve=tuple((share, loss) for share, loss in said.get("curve", ())),
        seconds=lasted,
        cpu_seconds=outcome.get("cpu_seconds", lasted),
        failure=said.get("failure") or (LOST if trial.state is TrialState.FAIL else ""),
    )
