"""How good answers are, and how sure that is: pure, versioned metrics, one module a family, with intervals.

Each metric's function says in its docstring its formula, range, direction and source.
"""

from math import isnan

from retrain.errors import EmptySplit, UnknownMetric
from retrain.metrics import (
    behaviour,
    classification,
    conversation,
    cost,
    extraction,
    generation,
    safety,
    style,
)
from retrain.metrics.judged import NOTHING, Judged, Known
from retrain.metrics.metric import Metric

_FAMILIES = (classification, generation, conversation, style, extraction, safety, behaviour, cost)
METRICS: dict[str, Metric] = {metric.name: metric for family in _FAMILIES for metric in family.METRICS}
# How a case says that it is to be judged, and the metric that does it: 1 is right, or 0 where lower is better.
CHECKS = {
    "label": "accuracy",
    "exact": "exact_match",
    "contains": "contains_key",
    "words": "kept_words",
    "refuses": "refusal",
    "complies": "over_refusal",
    "same_label": "invariance",
    "same_text": "invariance",
    "other_text": "direction",
}


def metric_named(name: str) -> Metric:
    """Return a metric by its name.

    Raises:
        UnknownMetric: there is none.
    """
    if name not in METRICS:
        raise UnknownMetric(f"no metric is called {name!r}; there are {', '.join(sorted(METRICS))}")
    return METRICS[name]


def is_right(one: Judged, known: Known = NOTHING) -> bool:
    """Tell whether an answer is right in the way its case's `check` means it.

    Raises:
        EmptySplit: the check compares with another case's answer, and there is none.
    """
    metric = METRICS[CHECKS[one.case.check]]
    score = metric.look([one], known)(one)
    if not isinstance(score, float) or isnan(score):
        raise EmptySplit(f"case {one.case.key!r}: {metric.name} has nothing to judge by")
    return score == metric.is_higher_better
