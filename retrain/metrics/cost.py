"""What an answer takes: tokens and seconds, from 0 without limit; fewer are better."""

from retrain.metrics.judged import Judged, Known
from retrain.metrics.metric import NOT_APPLICABLE, Metric, alone


def tokens(one: Judged, known: Known) -> float:
    """Score how many tokens the answer has, where they were counted."""
    return NOT_APPLICABLE if one.tokens is None else float(one.tokens)


def seconds(one: Judged, known: Known) -> float:
    """Score how many seconds the answer took, where they were measured. Compare only what one machine measured."""
    return NOT_APPLICABLE if one.seconds is None else one.seconds


METRICS = (
    Metric("tokens", 1, alone(tokens), is_higher_better=False, high=float("inf")),
    Metric("latency_seconds", 1, alone(seconds), is_higher_better=False, high=float("inf")),
)
