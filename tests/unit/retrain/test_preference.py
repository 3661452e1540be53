"""Preference: few judgements, seldom wrong, whenever one looks; positions and slices in balance."""

from functools import cache
from random import Random
from statistics import median

import pytest

from retrain.preference import Preferred, is_challenger_first, order, preference
from tests.repetitions import CHOSEN

MOST = 400
seen = cache(preference)


def judged(rate, seed, *, look=1, decide=lambda found: found.preferred is not Preferred.OPEN):
    """Ask until it is decided or enough were asked; return what was decided and after how many."""
    rng, wins = Random(seed), 0
    for n in range(1, MOST + 1):
        wins += rng.random() < rate
        if n % look == 0 and decide(found := seen(wins, n - wins)):
            return found, n
    return preference(wins, MOST - wins), MOST


@pytest.mark.parametrize(
    ("points", "wanted"), [(15, Preferred.CHALLENGER), (30, Preferred.CHALLENGER), (-15, Preferred.CHAMPION)]
)
def test_a_difference_is_found_with_few_judgements(points, wanted):
    ended = [judged(0.5 + points / 100, seed) for seed in range(CHOSEN.simulated)]
    assert sum(found.preferred is wanted for found, _ in ended) >= 0.95 * len(ended)
    assert median(n for _, n in ended) <= 120


def test_equal_models_are_seldom_called_different_however_often_one_looks():
    ended = [judged(0.5, seed)[0].preferred for seed in range(CHOSEN.simulated)]
    assert ended.count(Preferred.CHALLENGER) <= 0.05 * len(ended)
    # The control: a fixed interval, looked at as often, finds a difference far too often.
    eager = [judged(0.5, seed, decide=looks_different)[0] for seed in range(CHOSEN.simulated)]
    assert sum(found.rate > 0.5 and looks_different(found) for found in eager) > 0.05 * len(eager)


def looks_different(found):
    """Decide as Wilson's interval for a size fixed before would."""
    from retrain.intervals import wilson

    limits = wilson(found.wins, found.n, confidence=0.9)
    return found.n >= 10 and (limits.low > 0.5 or limits.high < 0.5)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (0, 1), (3, 40), (200, 200)])
def test_limits_hold_what_was_seen_and_mirror_each_other(wins, losses):
    found, mirrored = preference(wins, losses), preference(losses, wins)
    assert 0 <= found.low <= found.rate <= found.high <= 1
    assert found.low == pytest.approx(1 - mirrored.high)


def test_equal_means_not_further_apart_than_matters():
    assert preference(200, 200).preferred is Preferred.EQUAL
    assert preference(200, 200, matters=0.01).preferred is Preferred.OPEN
    assert preference(0, 0).preferred is Preferred.OPEN
    assert preference(3, 1, 96).n == 100


def test_rare_slices_come_first_and_in_turn():
    cases = {f"c{i}": {"language": "en"} for i in range(8)} | {f"d{i}": {"language": "de"} for i in range(2)}
    asked = order(cases, seed=1)
    assert sorted(asked) == sorted(cases)
    assert [key[0] for key in asked[:4]] == ["d", "c", "d", "c"]
    assert asked == order(dict(reversed(cases.items())), seed=1) != order(cases, seed=2)


def test_each_model_stands_first_as_often_as_the_other_and_nobody_can_guess():
    first = [is_challenger_first(place, seed=3) for place in range(100)]
    assert sum(first) == 50
    assert len({tuple(first[i : i + 2]) for i in range(0, 100, 2)}) == 2
