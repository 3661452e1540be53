"""Measures how a figure differs between groups of rows beyond chance, over all or in a source that adds most to it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from fairlearn.metrics import MetricFrame
from numpy.typing import NDArray
from scipy.stats import ttest_ind_from_stats

Floats = NDArray[np.float64]
Names = NDArray[np.str_]
Places = NDArray[np.intp]
Interval = tuple[float, float]
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric by group, one entry a row, with how likely chance alone lets the group that differs most do so.

    With a `source` its rows alone were compared.
    """

    p: float
    attribute: str
    metric: str
    source: str | None
    groups: Names
    values: Floats


@dataclass(frozen=True, slots=True)
class Gap:
    """How far a metric's mean lies between one group's rows and the others', and the source that adds most to it.

    `places` are the group's rows in that source.
    """

    of: Comparison
    group: str
    source: str
    size: float
    text: str
    places: Places


def gaps(
    groupings: Mapping[str, Names],
    metrics: Mapping[str, Floats],
    sources: Names,
    *,
    alpha: float,
    least: float,
    floor: int,
    seed: int,
) -> list[Gap]:
    """Return the gaps of at least `least`, the widest first; chance, corrected after Holm, stays below `alpha`.

    Groups are compared over all rows and in each source, where what it alone does is not thinned by the others. These
    gaps tell only of what all rows together do not show, lest a gap in all sources be told once for each.
    All arrays are shaped (n_rows,). An empty group is none, and so is a value that is NaN; a group needs `floor` rows.
    """
    compared = [
        Comparison(p, attribute, metric, source, groups, values)
        for (attribute, groups), (metric, values) in product(groupings.items(), metrics.items())
        for source, places in _parts(sources, 2 * floor)
        if (p := _chance(groups[places], values[places], floor)) is not None
    ]
    found = [_gap(comparison, sources, seed) for comparison in _holm(compared, alpha)]
    found = [gap for gap in found if gap.size >= least]
    told = {(gap.of.attribute, gap.of.metric) for gap in found if gap.of.source is None}
    new = (gap for gap in found if gap.of.source is None or (gap.of.attribute, gap.of.metric) not in told)
    return sorted(new, key=lambda gap: (-gap.size, gap.of.metric))


def _parts(sources: Names, least: int) -> list[tuple[str | None, Places]]:
    """Return the places of all rows, and those of each of several sources that has `least` rows."""
    names, of_row, counts = np.unique(sources, return_inverse=True, return_counts=True)
    own = np.split(np.argsort(of_row, kind="stable"), np.cumsum(counts)[:-1])
    named = zip(names.tolist(), own, strict=True) if len(names) > 1 else ()
    return [(None, np.arange(len(sources))), *((name, part) for name, part in named if len(part) >= least)]


def _chance(groups: Names, values: Floats, floor: int) -> float | None:
    """Return how likely chance alone lets a mean differ from the others'; None without two groups that do."""
    is_in = (groups != "") & ~np.isnan(values)
    groups, values = groups[is_in], values[is_in]
    found = [
        _unlikeliness(values[groups == group], values[groups != group])
        for group, size in Counter(groups.tolist()).items()
        if floor <= size <= len(values) - floor and np.ptp(values) > 0
    ]
    return (
        min(found) * (len(found) if len(found) > 2 else 1) if found else None
    )  # two groups are one comparison


def _unlikeliness(one: Floats, other: Floats) -> float:
    """Return the probability, by Welch's test, that two means differ so by chance; 0 where each side says one thing."""
    if max(np.ptp(one), np.ptp(other)) == 0:
        return 0.0
    own, others = ((part.mean(), part.std(ddof=1), len(part)) for part in (one, other))
    return float(ttest_ind_from_stats(*own, *others, equal_var=False).pvalue)


def _holm(compared: Sequence[Comparison], alpha: float) -> Iterator[Comparison]:
    """Yield what stays significant. Source: Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure"."""
    ranked = sorted(compared, key=lambda one: (one.p, one.attribute, one.metric, one.source or ""))
    for rank, comparison in enumerate(ranked):
        if comparison.p * (len(compared) - rank) >= alpha:
            return
        yield comparison


def _gap(of: Comparison, sources: Names, seed: int) -> Gap:
    """Measure a gap in the group, and unless it is given the source, that stand out most."""
    is_in = (of.groups != "") & ~np.isnan(of.values)
    groups, values, sources = of.groups[is_in], of.values[is_in], sources[is_in]
    source = of.source
    if source is None:
        source = min(
            np.unique(sources), key=lambda name: _range(values[sources != name], groups[sources != name])
        )
    group = max(np.unique(groups), key=lambda name: _shift(values, groups == name, sources == source))
    is_seen = sources == source if of.source is not None else np.full(len(values), fill_value=True)
    frame = MetricFrame(
        metrics=lambda _, value: float(np.mean(value)),
        y_true=values[is_seen],
        y_pred=values[is_seen],
        sensitive_features=groups[is_seen],
    )
    own, others = values[is_seen & (groups == group)], values[is_seen & (groups != group)]
    difference, ratio = _intervals(own, others, seed)
    larger = max(own.mean(), others.mean()) if of.metric.startswith("length") else 1.0
    there = "" if of.source is None else " there"
    text = (
        f"{of.metric} {own.mean():.2f} against {others.mean():.2f} of the others{there},"
        f" difference {own.mean() - others.mean():+.2f} [{difference[0]:+.2f}, {difference[1]:+.2f}],"
        f" ratio {_ratio(own.mean(), others.mean()):.2f} [{ratio[0]:.2f}, {ratio[1]:.2f}];"
        f" over all groups difference {frame.difference():.2f}, ratio {frame.ratio():.2f}"
    )
    places = np.flatnonzero(is_in)[(groups == group) & (sources == source)]
    return Gap(of, str(group), str(source), float(abs(own.mean() - others.mean()) / larger), text, places)


def _range(values: Floats, groups: Names) -> float:
    """Return the widest distance between two groups' means."""
    means = [values[groups == name].mean() for name in np.unique(groups)]
    return float(max(means) - min(means)) if len(means) > 1 else 0.0


def _shift(values: Floats, is_group: NDArray[np.bool_], is_source: NDArray[np.bool_]) -> float:
    """Return how far the group's mean in the source lies from its mean elsewhere; with one source, from the others'."""
    inside, outside = values[is_group & is_source], values[is_group & ~is_source]
    if len(inside) == 0:
        return 0.0
    return float(abs(inside.mean() - (outside if len(outside) else values[~is_group]).mean()))


def _intervals(own: Floats, others: Floats, seed: int) -> tuple[Interval, Interval]:
    """Return the 95 % bootstrap intervals of two means' difference and ratio, drawn as counts of equal values.

    A ratio to a mean of 0 is infinite, and so is its interval's end where that many draws are.
    """
    rng = np.random.default_rng(seed)
    means = []
    for values in (own, others):
        distinct, counts = np.unique(values, return_counts=True)
        means.append(rng.multinomial(len(values), counts / len(values), _RESAMPLES) @ distinct / len(values))
    return _middle(means[0] - means[1]), _middle(_ratio(means[0], means[1]))


def _ratio(own: Floats, others: Floats) -> Floats:
    """Return what own is of others: 1 where both are 0."""
    return np.where(others > 0, own / np.where(others > 0, others, 1), np.where(own > 0, np.inf, 1.0))


def _middle(draws: Floats) -> Interval:
    low, high = np.quantile(draws, [0.025, 0.975], method="nearest")
    return float(low), float(high)
