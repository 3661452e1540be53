"""How far annotators concur beyond chance, each figure with a bootstrap interval over tasks.

Tasks that were answered alike count as one pattern, of which a draw takes so many: a hundred thousand tasks cost what
their few different patterns cost. Only jobs import this module: it loads numpy.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation.errors import NotEnoughAnnotations

DRAWS = 200
CONFIDENCE = 95

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Turns how often each pattern counts, shaped (n_draws, n_patterns), into one figure a draw."""


class Scale(StrEnum):
    """How far apart two values are: different or not, by their ranks, or by their difference."""

    NOMINAL = "nominal"
    ORDINAL = "ordinal"
    INTERVAL = "interval"


@dataclass(frozen=True, slots=True)
class Agreement:
    """A coefficient, between what limits it lies in 95 of 100 draws, and on how many tasks it rests."""

    value: float
    low: float
    high: float
    n: int


def krippendorff_alpha(
    values_by_task: Iterable[Sequence[Any]], *, scale: Scale = Scale.NOMINAL, seed: int = 0
) -> Agreement:
    """Return Krippendorff's alpha: 1 is full agreement, 0 what chance would give.

    Each element holds the values that one task was given, in any order; a task with a single value has
    nothing to compare and is left out. Values of an ordinal or interval scale are numbers, from a small set.

    Raises:
        NotEnoughAnnotations: no task has two values, or only one value was ever given.

    Source: K. Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", sections C and D.
    """
    patterns = _patterns(values_by_task)
    found = {value for pattern in patterns for value in pattern}
    values = sorted(found, key=str if scale is Scale.NOMINAL else None)
    if len(values) < 2:
        raise NotEnoughAnnotations("agreement needs two values on one task and two different values overall")
    counts = _counts(patterns, values)
    if scale is Scale.NOMINAL:
        return _bootstrapped(patterns, _nominal_alpha(counts), seed)
    places = np.array(values, dtype=float) if scale is Scale.INTERVAL else None
    return _bootstrapped(patterns, _numeric_alpha(counts, places), seed)


def fleiss_kappa(values_by_task: Iterable[Sequence[Hashable]], *, seed: int = 0) -> Agreement:
    """Return Fleiss' kappa; tasks need not have equally many values, but two at least to count.

    Raises:
        NotEnoughAnnotations: no task has two values, or only one value was ever given.

    Source: J. L. Fleiss (1971), "Measuring nominal scale agreement among many raters".
    """
    patterns = _patterns(values_by_task)
    values = sorted({value for pattern in patterns for value in pattern}, key=str)
    if len(values) < 2:
        raise NotEnoughAnnotations("kappa needs two values on one task and two different values overall")
    counts = _counts(patterns, values)
    sizes = counts.sum(axis=1)
    alike = ((counts**2).sum(axis=1) - sizes) / (sizes * (sizes - 1))

    def kappa(weights: Floats) -> Floats:
        totals = weights @ counts
        by_chance = ((totals / totals.sum(axis=1, keepdims=True)) ** 2).sum(axis=1)
        return _beyond_chance(weights @ alike / weights.sum(axis=1), by_chance)

    return _bootstrapped(patterns, kappa, seed)


def cohen_kappa(pairs: Iterable[tuple[Hashable, Hashable]], *, seed: int = 0) -> Agreement:
    """Return Cohen's kappa of two annotators, from what each said about the same tasks.

    Raises:
        NotEnoughAnnotations: they share no task, or gave one value only.

    Source: J. Cohen (1960), "A coefficient of agreement for nominal scales".
    """
    patterns = Counter(pairs)
    values = sorted({value for pair in patterns for value in pair}, key=str)
    if len(values) < 2:
        raise NotEnoughAnnotations("kappa needs tasks that both answered and two different values")
    first, second = (_counts([(pair[place],) for pair in patterns], values) for place in (0, 1))
    alike = (first * second).sum(axis=1)

    def kappa(weights: Floats) -> Floats:
        n = weights.sum(axis=1)
        by_chance = ((weights @ first) * (weights @ second)).sum(axis=1) / n**2
        return _beyond_chance(weights @ alike / n, by_chance)

    return _bootstrapped(patterns, kappa, seed)


def span_f1(spans_by_task: Iterable[Sequence[Iterable[Hashable]]], *, seed: int = 0) -> Agreement:
    """Return how far annotators mark the same spans: the mean over tasks of the F1 of each two of them.

    A task's element holds, by annotator, the spans marked, such as (start, end, label); only equal ones count as
    the same, and two who mark nothing agree.

    Raises:
        NotEnoughAnnotations: no task was answered by two.

    Source: G. Hripcsak, A. S. Rothschild (2005), "Agreement, the F-Measure, and Reliability in Information Retrieval".
    """
    return _mean_f1(([Counter(set(spans)) for spans in answers] for answers in spans_by_task), seed)


def text_similarity(texts_by_task: Iterable[Sequence[str]], *, seed: int = 0) -> Agreement:
    """Return how far annotators wrote the same words: the mean over tasks of the F1 of each two texts' words.

    Raises:
        NotEnoughAnnotations: no task was given two texts.
    """
    return _mean_f1(([Counter(text.casefold().split()) for text in texts] for texts in texts_by_task), seed)


def _mean_f1(parts_by_task: Iterable[Sequence[Counter[Any]]], seed: int) -> Agreement:
    found = Counter(
        sum(_f1(one, other) for one, other in pairs) / len(pairs)
        for parts in parts_by_task
        if (pairs := list(combinations(parts, 2)))
    )
    if not found:
        raise NotEnoughAnnotations("similarity needs a task that two annotators answered")
    scores = np.array(list(found))
    return _bootstrapped(found, lambda weights: weights @ scores / weights.sum(axis=1), seed)


def _f1(one: Counter[Any], other: Counter[Any]) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0


def _patterns(values_by_task: Iterable[Sequence[Any]]) -> Counter[tuple[Any, ...]]:
    """Count the tasks that were given the same values."""
    return Counter(tuple(sorted(values, key=str)) for values in values_by_task if len(values) > 1)


def _counts(patterns: Iterable[Sequence[Any]], values: Sequence[Any]) -> Floats:
    """Return how often each pattern has each value, shaped (n_patterns, n_values)."""
    place_of = {value: place for place, value in enumerate(values)}
    rows = list(patterns)
    counts = np.zeros((len(rows), len(values)))
    for row, pattern in enumerate(rows):
        for value in pattern:
            counts[row, place_of[value]] += 1
    return counts


def _nominal_alpha(counts: Floats) -> Statistic:
    sizes = counts.sum(axis=1)
    apart = (sizes**2 - (counts**2).sum(axis=1)) / (sizes - 1)

    def alpha(weights: Floats) -> Floats:
        totals = weights @ counts
        n = totals.sum(axis=1)
        return _less_than(weights @ apart * (n - 1), n**2 - (totals**2).sum(axis=1))

    return alpha


def _numeric_alpha(counts: Floats, places: Floats | None) -> Statistic:
    """Return alpha of values at `places` on a line; of ranked values, the middle of each one's ranks is its place.

    The squared distances of all pairs of n places add up to 2 (n sum of squares - square of sum).
    """
    sizes = counts.sum(axis=1)

    def alpha(weights: Floats) -> Floats:
        totals = weights @ counts
        n = totals.sum(axis=1)
        at = np.cumsum(totals, axis=1) - totals / 2 if places is None else np.tile(places, (len(weights), 1))
        apart = (sizes[:, None] * (counts @ (at**2).T) - (counts @ at.T) ** 2) / (sizes - 1)[:, None]
        overall = n * (totals * at**2).sum(axis=1) - (totals * at).sum(axis=1) ** 2
        return _less_than((weights * apart.T).sum(axis=1) * (n - 1), overall)

    return alpha


def _less_than(observed: Floats, expected: Floats) -> Floats:
    """Return how much less disagreement is observed than expected; not a number where none is expected."""
    is_told = expected > 0
    return 1 - np.divide(observed, expected, out=np.full_like(expected, np.nan), where=is_told)


def _beyond_chance(alike: Floats, by_chance: Floats) -> Floats:
    return _less_than(1 - alike, 1 - by_chance)


def _bootstrapped(patterns: Mapping[Any, int], statistic: Statistic, seed: int) -> Agreement:
    """Return a figure with its percentile interval over draws of as many tasks with replacement."""
    often = np.array(list(patterns.values()), dtype=float)
    n = int(often.sum())
    drawn = np.random.default_rng(seed).multinomial(n, often / n, size=DRAWS).astype(float)
    value = float(statistic(often[None, :])[0])
    figures = statistic(drawn)
    # A draw of tasks that all have one value says nothing about agreement.
    told = figures[~np.isnan(figures)]
    beyond = (100 - CONFIDENCE) / 2
    low, high = np.percentile(told, [beyond, 100 - beyond]) if len(told) else (value, value)
    return Agreement(value, float(low), float(high), n)
