"""What a scenario finds: figures, each between the limits that count."""

from collections.abc import Sequence

from retrain.criteria import Criterion, Rules
from retrain.evidence import Role, SuiteAnswers
from retrain.gate import Verdict, judge
from retrain.intervals import Interval, wilson
from retrain.metrics.judged import NOTHING, Judged, Known
from retrain.metrics.statistics import measure, paired_bootstrap

Figures = dict[str, Interval]


def score(judged: Sequence[Judged], metric: str, seed: int, known: Known = NOTHING) -> Interval:
    """Return one model's score."""
    return measure(judged, metric, seed=seed, known=known)


def gain(
    before: Sequence[Judged], now: Sequence[Judged], metric: str, seed: int, known: Known = NOTHING
) -> Interval:
    """Return how much more one model scores than the other on the same cases."""
    found = paired_bootstrap(before, now, metric, seed=seed, known=known)
    return Interval(found.difference, found.low, found.high, found.n)


def fact(is_so: bool) -> Interval:  # noqa: FBT001  a fact is its only argument
    """Return 1 for what is so and 0 for what is not: nothing is estimated."""
    return Interval(float(is_so), float(is_so), float(is_so), 1)


def share(right: int, n: int) -> Interval:
    """Return a share between its 95 % limits."""
    return wilson(right, n)


def passes(
    before: Sequence[Judged],
    now: Sequence[Judged],
    metric: str,
    beside: Sequence[SuiteAnswers] = (),
) -> Interval:
    """Let the gate compare two models' answers; return 1 if it passes what is better by a metric and loses nothing."""
    suites = [SuiteAnswers("test", Role.TARGET, before, now), *beside]
    judged = judge([Criterion(metric, "test")], Rules(), suites, seed=0)
    return fact(judged.verdict is Verdict.PASSED)


def chosen(judged: Sequence[Judged], **slices: str) -> list[Judged]:
    """Keep the answers to cases of these slices."""
    return [one for one in judged if slices.items() <= one.case.slices.items()]
