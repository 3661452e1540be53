"""What an improvement costs and brings at a project's rates, told as intervals and never beyond them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from retrain.errors import InvalidRates
from retrain.intervals import Interval

HOUR = 3600
MAX = 1e9


@dataclass(frozen=True, slots=True)
class Rates:
    """What an expert's hour and a machine's cost, and what one unit of an outcome is worth, in one currency.

    An outcome whose rate is negative is a cost, such as minutes of handling.
    """

    currency: str
    expert_hour: float
    compute_hour: float
    outcomes: Mapping[str, float] = field(default_factory=dict)

    def cost(self, expert_seconds: float, compute_seconds: float) -> float:
        """Return what people's and machines' time cost."""
        return (self.expert_hour * expert_seconds + self.compute_hour * compute_seconds) / HOUR


def read_rates(document: Any) -> Rates:
    """Read `{"currency": "EUR", "expert_hour": 60, "compute_hour": 0.4, "outcomes": {"rerouted": -3.5}}`.

    Raises:
        InvalidRates: it says something else; the message names the field.
    """
    known = {"currency", "expert_hour", "compute_hour", "outcomes"}
    if not isinstance(document, dict) or not {"currency", "expert_hour"} <= set(document) <= known:
        raise InvalidRates(
            "rates: an object with currency and expert_hour and, if need be, compute_hour, outcomes"
        )
    currency, outcomes = document["currency"], document.get("outcomes", {})
    if not isinstance(currency, str) or not currency.isalpha() or len(currency) > len("EUROS"):
        raise InvalidRates("currency: letters such as EUR")
    if not isinstance(outcomes, dict):
        raise InvalidRates("outcomes: an object of what one unit of each is worth")
    return Rates(
        currency=currency,
        expert_hour=_number("expert_hour", document["expert_hour"], least=0),
        compute_hour=_number("compute_hour", document.get("compute_hour", 0), least=0),
        outcomes={
            str(name): _number(f"outcomes: {name}", each, least=-MAX) for name, each in outcomes.items()
        },
    )


def valued(change: Interval, rate: float) -> Interval:
    """Return what a change of an outcome's mean is worth per answer; a negative rate turns its limits around."""
    low, high = sorted((change.low * rate, change.high * rate))
    return Interval(change.value * rate, low, high, change.n)


def together(gains: Sequence[Interval]) -> Interval | None:
    """Add gains up, and their limits too: outcomes of the same answers are not independent, so that is wide enough."""
    if not gains:
        return None
    return Interval(
        sum(each.value for each in gains),
        sum(each.low for each in gains),
        sum(each.high for each in gains),
        min(each.n for each in gains),
    )


def payback(cost: float, gain: Interval | None, answers_a_day: float) -> tuple[float, float] | None:
    """Return in how many days, at least and at most, gains pay a cost back; None if they may be none."""
    if gain is None or gain.low <= 0 or answers_a_day <= 0:
        return None
    return cost / (gain.high * answers_a_day), cost / (gain.low * answers_a_day)


def _number(name: str, given: Any, *, least: float) -> float:
    if type(given) not in (int, float) or not isfinite(given) or not least <= given <= MAX:
        raise InvalidRates(f"{name}: a number{' from 0' if least == 0 else ''}")
    return float(given)
