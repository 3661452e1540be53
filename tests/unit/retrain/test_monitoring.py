"""A rise of flags and a drift of prompts alarm soon, and what stays as it was does so rarely."""

from random import Random
from statistics import fmean

import pytest

from retrain.intervals import Interval, difference, more_needed, wilson
from retrain.monitoring import drift, rise

USUAL, STREAMS = 0.05, 100


def flags(draw: Random, rate: float, count: int) -> list[bool]:
    return [draw.random() < rate for _ in range(count)]


def alarms_after(rate: float, *, rarely: float, answers: int, before: int = 20_000) -> list[int]:
    """After how many answers each of many streams alarms; those that do not count as all of theirs."""
    draw = Random(7)
    told = [
        rise(flags(draw, USUAL, before), flags(draw, rate, answers), rarely=rarely) for _ in range(STREAMS)
    ]
    return [one.answers if one else answers for one in told]


def test_while_the_rate_stays_usual_there_is_an_alarm_once_in_so_many_answers_at_most():
    assert fmean(alarms_after(USUAL, rarely=100, answers=2_000)) >= 100


def test_a_doubled_rate_alarms_within_a_few_hundred_answers():
    told = alarms_after(2 * USUAL, rarely=100_000, answers=3_000)
    assert fmean(told) <= 900
    assert max(told) < 3_000


def test_a_constant_rate_that_was_known_from_few_answers_seldom_alarms():
    told = alarms_after(USUAL, rarely=100_000, answers=2_000, before=200)
    assert sum(each < 2_000 for each in told) <= 2


def test_too_few_answers_are_no_usual_rate():
    assert rise([False] * 99, [True] * 1_000) is None
    assert rise([False] * 100, [True] * 1_000).answers <= 20


def test_prompts_that_the_set_does_not_know_alarm_and_those_that_it_knows_do_not():
    draw = Random(1)
    known = [draw.gauss(0.4, 0.1) for _ in range(200)]
    like, unlike = ([draw.gauss(mean, 0.1) for _ in range(200)] for mean in (0.4, 0.3))
    assert not drift(known, like).is_alarming
    assert drift(known, unlike).is_alarming
    assert drift(known, unlike).farther == pytest.approx(0.76, abs=0.06)
    assert drift(known, unlike[:49]) is None


def test_a_difference_of_two_shares_is_that_of_newcombe():
    # Newcombe (1998), table II, method 10: 56/70 and 48/80.
    found = difference(wilson(48, 80), wilson(56, 70))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-4)


def test_more_cases_tell_shares_apart_unless_they_are_equal():
    before, after = wilson(50, 1_000), wilson(2, 60)
    more = more_needed(before, after)
    total = after.n + more
    assert difference(before, wilson(after.value * total, total)).high < 0
    assert difference(before, after).high > 0
    assert more_needed(before, Interval(0.05, 0.0, 0.2, 10)) is None
