"""What success means and what it may cost, said before training and read from JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from retrain.errors import RetrainError, UnknownMetric

# The names in `retrain.metrics`, which is too heavy for those who only read criteria.
METRIC_NAMES = frozenset({"accuracy", "contains_key", "exact_match", "macro_f1", "rouge_l"})


class WrongCriteria(RetrainError):
    """Success criteria or gate rules cannot be read, or say nothing; correct what the message names."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """What a challenger must achieve on a suite, or on a slice of it (`name`, or `name=value`).

    Without `target` it must beat the champion by more than `margin`; with it, it must reach the target.
    Either counts only if it holds at the interval's low end.
    """

    metric: str
    suite: str
    slice: str | None = None
    target: float | None = None
    margin: float = 0.0


@dataclass(frozen=True, slots=True)
class Rules:
    """What a challenger may lose, as shares of right answers.

    `max_loss` is by suite, `default_loss` for all others; the interval must exclude a greater loss.
    `max_slice_loss` is by slice and counts instead of estimating: one more missed red flag is too many,
    however few there are. `confidence` is two-sided. Scores that are not shares need `min_cases`, since a
    bootstrap of fewer is not to be trusted.
    """

    max_loss: Mapping[str, float] = field(default_factory=dict)
    default_loss: float = 0.05
    max_slice_loss: Mapping[str, float] = field(default_factory=lambda: {"red_flag": 0.0})
    confidence: float = 0.9
    resamples: int = 2000
    min_cases: int = 20


def read_criteria(document: Any) -> list[Criterion]:
    """Read a JSON list of objects with the fields of `Criterion`.

    Raises:
        WrongCriteria: with the field and value that cannot be.
        UnknownMetric: with the metric that does not exist.
    """
    if not isinstance(document, list) or not document:
        raise WrongCriteria("success criteria are a list of at least one criterion")
    return [_criterion(entry) for entry in document]


def read_rules(document: Any) -> Rules:
    """Read a JSON object with the fields of `Rules`; raises as `read_criteria`."""
    _check_fields(document, "gate rules", (each.name for each in fields(Rules)))
    for name in {"max_loss", "max_slice_loss"} & document.keys():
        if not isinstance(document[name], dict):
            raise WrongCriteria(f"{name} must be an object of margins, not {document[name]!r}")
        for key, value in document[name].items():
            _check_number(f"{name} of {key!r}", value, low=0, high=1)
    _check_number("default_loss", document.get("default_loss", 0), low=0, high=1)
    _check_number("confidence", document.get("confidence", 0.9), low=0.5, high=0.999)
    for name, low in (("resamples", 100), ("min_cases", 1)):
        value = document.get(name, low)
        if type(value) is not int or not low <= value <= 1_000_000:
            raise WrongCriteria(f"{name} must be a whole number from {low} to 1000000, not {value!r}")
    return Rules(**document)


def _criterion(document: Any) -> Criterion:
    _check_fields(document, "a criterion", (each.name for each in fields(Criterion)))
    for name in ("metric", "suite"):
        _check_text(name, document.get(name))
    if document.get("slice") is not None:
        _check_text("slice", document["slice"])
    if document.get("target") is not None:
        _check_number("target", document["target"], low=0, high=1)
    _check_number("margin", document.get("margin", 0), low=0, high=1)
    if document["metric"] not in METRIC_NAMES:
        raise UnknownMetric(f"no metric is called {document['metric']!r}; there are {sorted(METRIC_NAMES)}")
    return Criterion(**document)


def _check_fields(document: Any, what: str, names: Iterable[str]) -> None:
    if not isinstance(document, dict):
        raise WrongCriteria(f"{what} must be an object, not {document!r}")
    for name in document.keys() - set(names):
        raise WrongCriteria(f"{what} has no field {name!r}")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise WrongCriteria(f"{name} must be a text, not {value!r}")


def _check_number(name: str, value: object, *, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise WrongCriteria(f"{name} must be a number from {low} to {high}, not {value!r}")
