"""What a row does to a loss, estimated from gradients and compared with what learning it really does."""

import numpy as np
import pytest

from retrain.bisect.influence import harms
from retrain.bisect.trials import Scores
from retrain.bisect.value import TooFewGroups, check, estimate

RNG = np.random.default_rng(4)


def test_a_row_that_pulls_against_the_cases_harms_and_one_that_pulls_along_helps():
    case = np.array([1.0, 0.0])
    against, along, aside = harms(np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), case)
    assert against > 0 > along and aside == 0


def test_the_estimate_is_that_of_the_paper_written_out():
    rows, case, damping = RNG.normal(size=(7, 3)), RNG.normal(size=3), 0.1
    damped = damping * (rows**2).sum() / rows.size
    inverse = np.mean(
        [(np.eye(3) - np.outer(row, row) / (damped + row @ row)) / damped for row in rows], axis=0
    )
    assert harms(rows, case) == pytest.approx(-(rows @ inverse @ case))


def test_with_much_damping_it_is_similarity_of_gradients():
    rows, case = RNG.normal(size=(20, 4)), RNG.normal(size=4)
    assert list(np.argsort(harms(rows, case, damping=1e9))) == list(np.argsort(-(rows @ case)))


def test_it_ranks_rows_as_leaving_them_out_of_a_regression_does():
    x, y = RNG.normal(size=(60, 3)), RNG.normal(size=60)
    cases, wanted = RNG.normal(size=(40, 3)), RNG.normal(size=40)

    def loss(kept):
        fitted = np.linalg.lstsq(x[kept], y[kept], rcond=None)[0]
        return float(((cases @ fitted - wanted) ** 2).mean())

    everything = np.arange(60)
    fitted = np.linalg.lstsq(x, y, rcond=None)[0]
    estimated = harms(
        x * (x @ fitted - y)[:, None], (cases * (cases @ fitted - wanted)[:, None]).mean(axis=0)
    )
    left_out = [loss(everything) - loss(np.delete(everything, row)) for row in everything]
    assert np.corrcoef(estimated, left_out)[0, 1] > 0.8
    assert abs(np.corrcoef(RNG.permutation(estimated), left_out)[0, 1]) < 0.5


def test_no_rows_and_rows_without_gradients_harm_nobody():
    assert harms(np.zeros((0, 3)), np.ones(3)).shape == (0,)
    assert list(harms(np.zeros((2, 3)), np.ones(3))) == [0, 0]


def test_a_group_is_worth_what_its_rows_are_for_each_hour():
    groups = {"ann": ["a", "b"], "bob": ["c", "unknown"]}
    harm = {"a": -1.0, "b": -2.0, "c": -4.0}
    assert [(one.group, one.estimate) for one in estimate(groups, harm)] == [("bob", 4.0), ("ann", 3.0)]
    by_hour = estimate(groups, harm, hours={"ann": 1.0, "bob": 2.0})
    assert [(one.group, one.estimate) for one in by_hour] == [("ann", 3.0), ("bob", 2.0)]


def test_an_order_of_two_groups_is_not_checked():
    with pytest.raises(TooFewGroups):
        check(estimate({"a": [], "b": []}, {}), lambda *_: Scores((1.0, 0.0), 1.0))


def test_the_best_the_worst_and_some_between_are_left_out_in_turn():
    worth = {f"g{place}": place for place in range(6)}
    asked = []

    def train(left_out, seed):
        asked.append((left_out, seed))
        return Scores(tuple(float(case >= worth.get(left_out, 0)) for case in range(20)), 1.0)

    values = estimate({group: [group] for group in worth}, {group: -float(n) for group, n in worth.items()})
    measured, agreement = check(values, train, sample=4, repeats=2)
    assert agreement == pytest.approx(1) and len(measured) == 4
    assert {group for group, _ in asked} >= {None, "g5", "g0"} and len(asked) == 10
