"""What an improvement is worth is told between limits, or not at all."""

import pytest

from retrain.errors import InvalidRates
from retrain.intervals import Interval
from retrain.worth import payback, read_rates, together, valued

RATES = {"currency": "EUR", "expert_hour": 60, "compute_hour": 0.5, "outcomes": {"rerouted": -3.5}}


def test_time_costs_its_rate():
    rates = read_rates(RATES)
    assert rates.cost(expert_seconds=5400, compute_seconds=7200) == pytest.approx(91.0)


def test_fewer_of_what_costs_is_a_gain_with_its_limits_turned_around():
    gain = valued(Interval(-0.2, -0.3, -0.1, 50), -3.5)
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.7, 0.35, 1.05))


def test_gains_pay_back_between_limits():
    gain = together([Interval(0.5, 0.2, 0.8, 40), Interval(0.1, 0.0, 0.2, 60)])
    assert (gain.low, gain.high, gain.n) == pytest.approx((0.2, 1.0, 40))
    assert payback(1_000, gain, 100) == pytest.approx((10.0, 50.0))


@pytest.mark.parametrize(
    ("gain", "answers"), [(Interval(0.5, -0.01, 1.0, 9), 100), (Interval(0.5, 0.1, 1.0, 9), 0), (None, 100)]
)
def test_what_may_bring_nothing_has_no_payback(gain, answers):
    assert payback(1_000, gain, answers) is None


@pytest.mark.parametrize(
    "change",
    [
        {"currency": "<b>"},
        {"expert_hour": -1},
        {"compute_hour": "much"},
        {"expert_hour": float("nan")},
        {"outcomes": [1]},
        {"outcomes": {"rerouted": True}},
        {"euros": 1},
    ],
)
def test_rates_that_say_something_else_are_refused(change):
    with pytest.raises(InvalidRates):
        read_rates(RATES | change)
