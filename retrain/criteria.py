"""What success means and what it may cost, said before training and read from JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from retrain.errors import RetrainError, UnknownMetric

# The metrics of `retrain.metrics` that an evaluation can measure; the module itself is too heavy for those who only
# read criteria.
_NAMES = (
    "abstention accuracy brier calibration_error chrf contains_key cost direction entity_f1 exact_match "
    "generic_answers groundedness invariance invented_entities kept_words length_ratio macro_f1 memorisation micro_f1 "
    "misdirection nonsense over_refusal pii_leakage refusal repetition role_conflation rouge_1 rouge_2 rouge_l "
    "sentiment_alignment span_f1 task_completion token_f1 tone_distance toxicity turn_taking"
)
METRIC_NAMES = frozenset(_NAMES.split())
HIGHEST = {"brier": 2.0, "cost": 1_000_000.0}  # of all others 1
OUTCOMES = "outcomes"  # the suite of criteria whose metric is an outcome that the host reports
TOOLS = ("", "argilla", "label-studio", "none")  # of `ask_people`; with none, answers are imported


class WrongCriteria(RetrainError):
    """Success criteria or gate rules cannot be read, or say nothing; correct what the message names."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """What a challenger must achieve on a suite, or on a slice of it (`name`, or `name=value`).

    Target and margin are in the metric's own unit.

    Without `target` it must beat the champion by more than `margin`; with it, it must reach the target. Of a metric
    of which less is better, it must lie as far, or at the target, below. Either counts only if it holds at the
    interval's worse end.

    Of the suite `OUTCOMES` the metric is an outcome's name, whose values may be anything; `less_is_better` is for it
    alone, since other metrics know.
    """

    metric: str
    suite: str
    slice: str | None = None
    target: float | None = None
    margin: float = 0.0
    less_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What a challenger may lose, as shares of right answers.

    `max_loss` is by suite, `behaviour_loss` for behavioural suites, whose few dozen cases exclude no smaller one, and
    `default_loss` for all others; the interval must exclude a greater loss.
    `max_slice_loss` is by slice and counts instead of estimating: one more missed red flag is too many,
    however few there are. `confidence` is two-sided. Scores that are not shares need `min_cases`, since a
    bootstrap of fewer is not to be trusted. Where `ask_people` names a tool, people compare both models' answers
    there, `max_comparisons` at most, and a rate of preference counts from `matters` away from one half. Once people
    have spent `min_effort_hours`, `min_validation_share` of that must have gone into validation.
    """

    max_loss: Mapping[str, float] = field(default_factory=dict)
    default_loss: float = 0.05
    behaviour_loss: float = 0.25
    max_slice_loss: Mapping[str, float] = field(default_factory=lambda: {"red_flag": 0.0})
    confidence: float = 0.9
    resamples: int = 2000
    min_cases: int = 20
    ask_people: str = ""
    max_comparisons: int = 400
    matters: float = 0.1
    min_validation_share: float = 0.0
    min_effort_hours: float = 1.0


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
    _check_number("behaviour_loss", document.get("behaviour_loss", 0), low=0, high=1)
    _check_number("default_loss", document.get("default_loss", 0), low=0, high=1)
    _check_number("confidence", document.get("confidence", 0.9), low=0.5, high=0.999)
    _check_number("min_validation_share", document.get("min_validation_share", 0), low=0, high=1)
    _check_number("min_effort_hours", document.get("min_effort_hours", 1), low=0, high=10_000)
    _check_number("matters", document.get("matters", 0.1), low=0.01, high=0.4)
    if document.get("ask_people", "") not in TOOLS:
        raise WrongCriteria(f"ask_people must be one of {', '.join(TOOLS[1:])}, or empty")
    for name, low in (("resamples", 100), ("min_cases", 1), ("max_comparisons", 1)):
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
    is_outcome = document["suite"] == OUTCOMES
    if not is_outcome and document["metric"] not in METRIC_NAMES:
        raise UnknownMetric(f"no metric is called {document['metric']!r}; there are {sorted(METRIC_NAMES)}")
    highest = HIGHEST["cost"] if is_outcome else HIGHEST.get(document["metric"], 1)
    if document.get("target") is not None:
        _check_number("target", document["target"], low=-highest if is_outcome else 0, high=highest)
    _check_number("margin", document.get("margin", 0), low=0, high=highest)
    if not isinstance(document.get("less_is_better", False), bool):
        raise WrongCriteria(f"less_is_better must be true or false, not {document['less_is_better']!r}")
    for name, belongs in (("slice", not is_outcome), ("less_is_better", is_outcome)):
        if document.get(name) and not belongs:
            raise WrongCriteria(f"{name} is not for criteria of the suite {document['suite']!r}")
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
