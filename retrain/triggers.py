"""Rules that say when the next training starts by itself: the first all of whose conditions hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from retrain.errors import InvalidTriggers

MAX = 1e6
REST_HOURS = 6.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What is new since the newest set: see `CONDITIONS`."""

    count: float
    severity: float
    age_days: float
    every_days: float
    drift: float


# What a condition's number is compared with, each of which must be at least as much.
CONDITIONS = {
    "count": "settled answers in no set yet",
    "severity": "severity of the flags behind them, summed",
    "age_days": "days that the oldest of them waits",
    "every_days": "days since the newest set",
    "drift": "sure rise of the share of flagged answers, this week over the four before",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one condition of a rule is."""

    condition: str
    has: float
    wants: float

    @property
    def is_met(self) -> bool:
        """Whether it holds."""
        return self.has >= self.wants


@dataclass(frozen=True, slots=True)
class Triggers:
    """A project's rules, each a number by condition; what is built trains with `options`, unless it is not to train.

    After a start there is none for `rest_hours`, so that what comes in meanwhile is learned together.
    """

    rules: Sequence[Mapping[str, float]]
    rest_hours: float = REST_HOURS
    trains: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


def progress(rule: Mapping[str, float], facts: Facts) -> list[Progress]:
    """Return how far each condition of a rule is, in the order of `CONDITIONS`."""
    return [Progress(name, getattr(facts, name), rule[name]) for name in CONDITIONS if name in rule]


def fired(triggers: Triggers, facts: Facts) -> Mapping[str, float] | None:
    """Return the first rule that holds; none does where nothing new is settled."""
    if not facts.count:
        return None
    return next((rule for rule in triggers.rules if all(one.is_met for one in progress(rule, facts))), None)


def read_triggers(document: Any) -> Triggers:
    """Read `{"rules": [{"count": 50}, {"count": 5, "age_days": 14}], "rest_hours": 6, "trains": true, "options": {}}`.

    Raises:
        InvalidTriggers: it says something else; the message names the field.
    """
    known = {"rules", "rest_hours", "trains", "options"}
    if not isinstance(document, dict) or not set(document) <= known or "rules" not in document:
        raise InvalidTriggers(
            f"triggers: an object with rules and, if need be, {', '.join(sorted(known - {'rules'}))}"
        )
    rules, options = document["rules"], document.get("options", {})
    if not isinstance(rules, list):
        raise InvalidTriggers("rules: a list is needed; an empty one starts nothing")
    if type(trains := document.get("trains", True)) is not bool:
        raise InvalidTriggers("trains: true or false")
    if not isinstance(options, dict):
        raise InvalidTriggers("options: an object of what a training is started with")
    return Triggers(
        rules=[_rule(f"rule {number}", each) for number, each in enumerate(rules, start=1)],
        rest_hours=_number("rest_hours", document.get("rest_hours", REST_HOURS), least=0.0),
        trains=trains,
        options=options,
    )


def _rule(name: str, given: Any) -> Mapping[str, float]:
    if not isinstance(given, dict) or not given or not set(given) <= set(CONDITIONS):
        raise InvalidTriggers(f"{name}: an object with some of {', '.join(CONDITIONS)}")
    return {
        condition: _number(f"{name}: {condition}", number, least=1 / MAX)
        for condition, number in given.items()
    }


def _number(name: str, given: Any, *, least: float) -> float:
    if type(given) not in (int, float) or not least <= given <= MAX:
        raise InvalidTriggers(f"{name}: a number {'from 0' if not least else 'above 0'} to {MAX:,.0f}")
    return float(given)
