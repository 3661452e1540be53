"""A search tries settings within its budget, ends bad trials early, forgets none, and names the best."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from math import log10
from pathlib import Path

import pytest
from optuna.storages import BaseStorage, InMemoryStorage

from retrain.errors import Cancelled, TrainingBroke
from retrain.intervals import wilson
from retrain.metrics.judged import NOTHING
from retrain.tuning.plan import (
    Budget,
    Outcome,
    Plan,
    Pruner,
    Sampler,
    Tried,
    WrongPlan,
    best_of,
    read_plan,
)
from retrain.tuning.study import Study, _distribution, opened
from retrain.tuning.task import Task, UnseenRows
from retrain.types import Example, Kind, Message, Split

START = {"learning_rate": 5e-3, "batch_size": 8}
PLAN = Plan(start=START, searched=tuple(START), pruner=Pruner.NONE)
ASKED = {
    "start": START,
    "searched": [],
    "sampler": "tpe",
    "pruner": "median",
    "budget": {"trials": 12},
}


def outcome(right: float, *, kept: float = 1.0, cpu_seconds: float = 1.0) -> Outcome:
    return Outcome(
        score=wilson(right * 100, 100),
        is_higher_better=True,
        kept=wilson(kept * 40, 40),
        seconds=cpu_seconds,
        cpu_seconds=cpu_seconds,
    )


def well(settings, watch, seconds) -> Outcome:
    """Learns best at a rate of 5e-4, a tenth of where the search starts, and forgets at higher ones."""
    off = abs(log10(settings["learning_rate"]) - log10(5e-4))
    for share in (0.25, 0.5, 1.0):
        watch(share, off)
    return outcome(max(0.0, 0.9 - 0.4 * off), kept=0.5 if settings["learning_rate"] > 2e-3 else 1.0)


class Trials:
    """Searches in one database, as processes that come one after another do."""

    def __init__(self, storage: BaseStorage) -> None:
        self.storage = storage
        self.heard: list[Tried] = []

    def search(self, plan: Plan = PLAN, run=well, *, name: str = "one", owner: str = "job"):
        return Study(self.storage, name, plan).go_on(run, owner=owner, told=self._hear)

    def _hear(self, tried) -> None:
        self.heard = list(tried)


@pytest.fixture
def trials() -> Trials:
    return Trials(InMemoryStorage())


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Trials]:
    with opened(f"sqlite:///{tmp_path / 'tuning.db'}") as storage:
        yield Trials(storage)


def best(found) -> Tried:
    chosen = best_of(found.tried, is_higher_better=True, most_forgotten=PLAN.most_forgotten)
    assert chosen is not None and chosen.score is not None
    return chosen


@pytest.mark.parametrize("sampler", Sampler)
def test_every_sampler_leaves_a_start_that_is_ten_times_too_high(trials, sampler):
    found = trials.search(replace(PLAN, sampler=sampler))
    first = found.tried[0]
    assert (len(found.tried), first.settings["learning_rate"]) == (12, 5e-3)
    assert best(found).score.value >= 1.15 * first.score.value


def test_where_every_setting_is_as_good_as_the_start_nothing_better_is_found(trials):
    found = trials.search(run=lambda *_: outcome(0.5))
    assert best(found).score == found.tried[0].score
    assert found.importance == {}


def test_what_mattered_comes_first(trials):
    assert list(trials.search().importance) == ["learning_rate", "batch_size"]


def test_what_was_good_earlier_is_tried_next(trials):
    found = trials.search(replace(PLAN, earlier=[{"learning_rate": 4e-4, "batch_size": 3}]))
    assert found.tried[1].settings == {"learning_rate": 4e-4, "batch_size": 3}


@pytest.mark.parametrize("pruner", [Pruner.MEDIAN, Pruner.ASHA])
def test_a_trial_that_is_worse_than_the_others_is_ended_early(trials, pruner):
    found = trials.search(replace(PLAN, pruner=pruner))
    ended = [one for one in found.tried if one.state == "pruned"]
    assert ended and all("worse than the others" in one.failure and len(one.curve) < 3 for one in ended)


@pytest.mark.parametrize("pruner", [Pruner.MEDIAN, Pruner.ASHA])
def test_a_trial_that_is_looked_at_more_often_is_compared_where_the_others_were(trials, pruner):
    seldom, often = (0.0, 0.4, 0.8), (0.0, 0.1, 0.2, 0.21, 0.3, 0.4, 0.8)
    runs = iter([(seldom, 1.0)] * 5 + [(often, 0.9)])  # the last is the best, and looked at when it is young

    def learning(settings, watch, seconds) -> Outcome:
        shares, beginning = next(runs)
        for share in shares:
            watch(share, beginning - 0.8 * share)
        return outcome(0.5)

    found = trials.search(replace(PLAN, pruner=pruner, budget=Budget(trials=6)), learning)
    assert found.tried[-1].state == "complete"


def test_without_a_pruner_every_trial_goes_to_its_end(trials):
    assert {one.state for one in trials.search().tried} == {"complete"}


def test_the_same_seed_tries_the_same_settings_and_another_does_not(trials):
    def settings(seed, name):
        return [one.settings for one in trials.search(replace(PLAN, seed=seed), name=name).tried]

    assert settings(1, "first") == settings(1, "again") != settings(2, "other")


@pytest.mark.parametrize(
    ("budget", "trials_made"),
    [
        (Budget(trials=3), 3),
        (Budget(trials=12, watt_hours=0.01), 4),  # 3.6 seconds at 10 watts
        (Budget(trials=12, seconds=1e-9), 1),
        (Budget(trials=12, cost=1e-9, compute_hour=1), 1),
        (Budget(trials=3, cost=1, compute_hour=1e-9), 3),
    ],
)
def test_no_trial_begins_once_a_budget_is_spent(trials, budget, trials_made):
    assert len(trials.search(replace(PLAN, budget=budget)).tried) == trials_made


def test_a_trial_that_breaks_is_told_and_the_search_goes_on(trials):
    def breaks_at_first(settings, watch, seconds):
        if settings == START:
            raise TrainingBroke("the loss is nan")
        return well(settings, watch, seconds)

    found = trials.search(run=breaks_at_first)
    assert (found.tried[0].state, found.tried[0].failure) == ("pruned", "the loss is nan")
    assert best(found).number > 0


def test_a_search_of_which_every_trial_breaks_says_why(trials):
    def breaks(settings, watch, seconds):
        raise TrainingBroke("the loss is nan")

    with pytest.raises(TrainingBroke, match="no trial could be finished: the loss is nan"):
        trials.search(replace(PLAN, budget=Budget(trials=2)), breaks)


def left_running(trials: Trials, plan: Plan, owner: str) -> dict:
    """Have a process be killed in the middle of a trial; return its settings."""
    study = Study(trials.storage, "one", plan)
    trial = study._study.ask({name: _distribution(one) for name, one in plan.space.items()})
    trial.set_user_attr("owner", owner)
    return trial.params


def test_a_killed_worker_takes_no_finished_trial_along_and_its_own_is_tried_again(stored):
    before = stored.search(replace(PLAN, budget=Budget(trials=2))).tried
    plan = replace(PLAN, budget=Budget(trials=5))
    lost = left_running(stored, plan, "job")
    found = stored.search(plan)
    assert found.tried[:2] == before
    assert (found.tried[2].state, found.tried[3].settings) == ("fail", lost)
    assert sum(one.state == "complete" for one in found.tried) == 5


def test_a_trial_at_which_another_worker_is_counts_and_stays_its_own(trials):
    plan = replace(PLAN, budget=Budget(trials=3))
    left_running(trials, plan, "another job")
    found = trials.search(plan)
    assert [one.state for one in found.tried] == ["running", "complete", "complete"]
    assert found.goes_on


def test_workers_search_side_by_side_within_one_budget(tmp_path):
    both, failures = threading.Barrier(2, timeout=20), []

    def run(settings, watch, seconds):
        both.wait()  # passes only while two trials go on at once
        return well(settings, watch, seconds)

    def work(owner):
        try:
            with opened(f"sqlite:///{tmp_path / 'tuning.db'}") as storage:
                Trials(storage).search(replace(PLAN, budget=Budget(trials=4)), run, owner=owner)
        except threading.BrokenBarrierError as error:
            failures.append(error)

    with opened(f"sqlite:///{tmp_path / 'tuning.db'}") as storage:
        Study(storage, "one", PLAN)
    workers = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with opened(f"sqlite:///{tmp_path / 'tuning.db'}") as storage:
        tried = Study(storage, "one", PLAN).tried()
    assert not failures and len(tried) in (4, 5)  # the last may begin while the other's begins


def test_a_cancelled_trial_is_no_result_and_ends_the_search(trials):
    def is_cancelled(settings, watch, seconds):
        raise Cancelled("the search was cancelled")

    with pytest.raises(Cancelled):
        trials.search(run=is_cancelled)
    assert [one.state for one in Study(trials.storage, "one", PLAN).tried()] == ["fail"]


def test_of_trials_that_forget_too_much_none_is_the_best_while_another_does_not():
    def tried(number, right, kept):
        return Tried(number, "complete", START, score=wilson(right, 100), kept=wilson(kept, 40))

    mild, greedy = tried(0, 70, 39), tried(1, 90, 20)
    chosen = {"is_higher_better": True, "most_forgotten": 0.05}
    assert best_of([mild, greedy], **chosen) is mild
    assert best_of([greedy], **chosen) is greedy
    assert best_of([mild, greedy], is_higher_better=True, most_forgotten=0.5) is greedy
    assert best_of([], **chosen) is None


def test_of_a_cost_the_lowest_is_the_best():
    few, many = (Tried(n, "complete", START, score=wilson(right, 100)) for n, right in enumerate((10, 60)))
    assert best_of([many, few], is_higher_better=False, most_forgotten=0.05) is few


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"sampler": "grid"}, "sampler: there is no 'grid'; there are tpe, cma-es, nsga-ii, random"),
        ({"pruner": "axe"}, "pruner: there is no 'axe'"),
        ({"budget": {"trials": 0}}, "trials: from 1 to 1000"),
        ({"budget": {"trials": 3, "seconds": 0}}, "seconds: a budget of 0"),
        ({"budget": {"trials": 3, "seconds": float("nan")}}, "seconds: a budget of nan"),
        ({"budget": {"trials": 3, "watt_hours": -1}}, "watt_hours: a budget of -1"),
        ({"budget": {"trials": 3, "cost": 0, "compute_hour": 1}}, "cost: a budget of 0"),
        ({"budget": {"trials": 3, "cost": 1}}, "cost: the project's rates do not say"),
        ({"searched": ["mode"]}, "search: 'mode' cannot be searched"),
    ],
)
def test_a_plan_that_cannot_be_says_which_field(wrong, named):
    with pytest.raises(WrongPlan, match=named):
        read_plan(ASKED | wrong)


def test_a_range_holds_where_the_search_starts():
    space = replace(PLAN, start=START | {"learning_rate": 0.1}).space
    assert (space["learning_rate"].high, space["batch_size"].high) == (0.1, 32)


def row(split: Split) -> Example:
    return Example("k", "g", (Message("user", "x"),), "a", Kind.CLASSIFICATION, label="a", split=split)


@pytest.mark.parametrize("split", [Split.TEST, Split.REGRESSION])
def test_a_trial_is_handed_no_row_that_only_an_evaluation_reads(split):
    facts = {"earlier": frozenset(), "general": [], "metric": "accuracy", "labels": ["a"], "known": NOTHING}
    with pytest.raises(UnseenRows, match=split):
        Task(rows=[row(Split.TRAIN), row(split)], **facts)
    assert Task(rows=[row(Split.TRAIN), row(Split.VALIDATION)], **facts).judging == [row(Split.VALIDATION)]
