"""What both models' answers to a suite show: scores, how sure they are, and how many more cases would tell."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from retrain.criteria import Rules
from retrain.intervals import Interval, difference, wilson
from retrain.metrics import is_right, metric_named
from retrain.metrics.judged import Judged, Known, check_paired
from retrain.metrics.statistics import both_applicable, measure, once, paired_bootstrap, paired_rates
from retrain.types import Case

_NO = {"", "no", "false", "0"}


class Role(StrEnum):
    """Whether a suite holds what training is for, what it must not cost, or one kind of behaviour."""

    TARGET = "target"
    PROTECTED = "protected"
    BEHAVIOUR = "behaviour"


@dataclass(frozen=True, slots=True)
class SuiteAnswers:
    """Both models' answers to a suite's cases, in one order; `title` is what people call the suite."""

    suite: str
    role: Role
    champion: Sequence[Judged]
    challenger: Sequence[Judged]
    title: str = ""

    def __post_init__(self) -> None:
        """Refuse answers that do not pair off."""
        check_paired(self.champion, self.challenger)

    @property
    def cases(self) -> list[Case]:
        """The cases, in that order."""
        return [one.case for one in self.champion]

    @property
    def name(self) -> str:
        """What the sentence calls this suite."""
        return self.title or self.suite


@dataclass(frozen=True, slots=True)
class Evidence:
    """Both scores on n cases, the limits of what is judged, and these in words.

    `sign` is -1 where less is better. `low_at(k)` is the low limit, times the sign, that k times as many cases of the
    same kind would give.
    """

    champion: float
    challenger: float
    low: float
    high: float
    n: int
    words: str
    low_at: Callable[[float], float]
    sign: int = 1

    @property
    def gain(self) -> float:
        """How much better the challenger is."""
        return self.sign * (self.challenger - self.champion)


NO_EVIDENCE = Evidence(0.0, 0.0, -1.0, 1.0, 0, "", lambda _: -1.0)


def is_in_slice(case: Case, name: str) -> bool:
    """Tell whether a case is in the slice `name=value`, or in `name` by any value that does not say no."""
    key, equals, value = name.partition("=")
    found = case.slices.get(key, "")
    return found == value if equals else found.casefold() not in _NO


def chosen(suite: SuiteAnswers, name: str | None) -> SuiteAnswers:
    """Keep the cases of one slice, or all of them without a name."""
    if name is None:
        return suite
    champion, challenger = (
        [one for one in answers if is_in_slice(one.case, name)]
        for answers in (suite.champion, suite.challenger)
    )
    return replace(suite, champion=champion, challenger=challenger)


def counted(suite: SuiteAnswers, rules: Rules) -> Evidence:
    """Compare shares of right answers, each case judged by its own check."""
    before, now = ([is_right(one) for one in answers] for answers in (suite.champion, suite.challenger))
    return _rates(before, now, rules)


def compared(metric: str, suite: SuiteAnswers, rules: Rules, seed: int, known: Known) -> Evidence:
    """Compare scores of any metric; raises as `measure`."""
    chosen = metric_named(metric)
    sign = 1 if chosen.is_higher_better else -1
    cells = both_applicable(chosen, suite.champion, suite.challenger, known)
    if chosen.is_share:
        before, now = ((each[:, 0] > 0).tolist() for each in cells)
        return _rates(before, now, rules, sign=sign)
    difference = paired_bootstrap(
        suite.champion,
        suite.challenger,
        metric,
        seed=seed,
        known=known,
        resamples=rules.resamples,
        confidence=rules.confidence,
    )
    before, now = (once(chosen, each) for each in cells)
    words = f"{before:.2f} before, {now:.2f} now"
    found = Evidence(before, now, -1.0, 1.0, difference.n, words, low_at=lambda _: -1.0, sign=sign)
    interval = (difference.difference, difference.low, difference.high)
    return _resampled(found, interval, rules, limits=(-chosen.high, chosen.high))


def measured(metric: str, suite: SuiteAnswers, rules: Rules, seed: int, known: Known) -> Evidence:
    """Bound the challenger's own score; raises as `measure`."""
    found, chosen = compared(metric, suite, rules, seed, known), metric_named(metric)
    level = measure(
        suite.challenger,
        metric,
        seed=seed,
        known=known,
        resamples=rules.resamples,
        confidence=rules.confidence,
    )
    if not chosen.is_share:
        return _resampled(found, (level.value, level.low, level.high), rules, limits=(0.0, chosen.high))

    def low_at(k: float) -> float:
        at = wilson(level.value * level.n * k, level.n * k, confidence=rules.confidence)
        return at.low if found.sign > 0 else -at.high

    return replace(found, challenger=level.value, low=level.low, high=level.high, low_at=low_at)


def came_of(before: Interval, now: Interval, *, sign: int, is_alone: bool = False) -> Evidence:
    """Compare means of independent samples, or bound the challenger's alone; `sign` is -1 where less is better."""
    bound = now if is_alone else difference(before, now)
    worse = bound.value - bound.low if sign > 0 else bound.high - bound.value
    return Evidence(
        champion=before.value,
        challenger=now.value,
        low=bound.low,
        high=bound.high,
        n=now.n,
        words=f"{before.value:.2f} before, {now.value:.2f} now",
        low_at=lambda k: sign * bound.value - worse / math.sqrt(k),
        sign=sign,
    )


def _rates(before: Sequence[bool], now: Sequence[bool], rules: Rules, *, sign: int = 1) -> Evidence:
    n, gained = len(before), sum(b < a for b, a in zip(before, now, strict=True))
    lost = gained - sum(now) + sum(before)
    found = paired_rates(gained, lost, n, confidence=rules.confidence)
    better, worse = (gained, lost) if sign > 0 else (lost, gained)
    return Evidence(
        champion=sum(before) / n,
        challenger=sum(now) / n,
        low=found.low,
        high=found.high,
        n=n,
        words=f"{sum(before)} of {n} before, {sum(now)} of {n} now",
        low_at=lambda k: paired_rates(better * k, worse * k, n * k, confidence=rules.confidence).low,
        sign=sign,
    )


def _resampled(
    found: Evidence, interval: tuple[float, float, float], rules: Rules, *, limits: tuple[float, float]
) -> Evidence:
    """Set a bootstrap's (value, low, high); with fewer than `min_cases` it says nothing but the limits."""
    value, low, high = interval
    (worst, bound) = (limits[0], low) if found.sign > 0 else (limits[1], high)

    def low_at(k: float) -> float:
        at = value + (bound - value) / math.sqrt(k) if found.n * k >= rules.min_cases else worst
        return found.sign * at

    if found.n < rules.min_cases:
        low, high = limits
    return replace(found, low=low, high=high, low_at=low_at)


def more_cases(found: Evidence, wanted: float) -> str:
    """Say how many more cases of the same kind would lift the low limit above what is wanted."""
    for step in range(1, 60):
        scale = 1.1**step
        if found.low_at(scale) > wanted:
            return f"about {math.ceil(found.n * scale) - found.n} more cases are needed"
    return "far more cases are needed"
