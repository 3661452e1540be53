"""The shape that all metrics share: some numbers for each case, and how their sums make one score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrain.errors import EmptySplit, MetricFailed
from retrain.metrics.judged import NOTHING, Judged, Known

Floats = NDArray[np.float64]
Row = float | Sequence[float]
NOT_APPLICABLE = float("nan")


def mean(sums: Floats, counts: Floats) -> Floats:
    """Return the mean of what the cases score."""
    means: Floats = sums[:, 0] / counts
    return means


def ratio(sums: Floats, counts: Floats) -> Floats:
    """Return the first column's sum over the second's, 0 where that is 0."""
    shares: Floats = sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], 1)
    return shares


@dataclass(frozen=True, slots=True)
class Metric:
    """One score between 0 and `high`; its version changes when its values could.

    `look(judged, known)` sees all cases and returns what scores one of them, in one column or several; a score that is
    not a number says that the metric does not apply to the case. `combine(sums, counts)` makes n_draws scores of the
    columns' sums, shaped (n_draws, n_columns), over draws of so many cases. `is_share` says that each case scores 0 or
    1.
    """

    name: str
    version: int
    look: Callable[[Sequence[Judged], Known], Callable[[Judged], Row]]
    combine: Callable[[Floats, Floats], Floats] = mean
    is_share: bool = False
    is_higher_better: bool = True
    high: float = 1.0

    def cells(self, judged: Sequence[Judged], known: Known = NOTHING) -> Floats:
        """Return each case's columns, shaped (n_cases, n_columns); not a number where the metric does not apply.

        Raises:
            MetricFailed: it breaks on a case, or scores it infinite or outside its range; the case is named.
        """
        score = self.look(judged, known)
        rows: list[Row] = []
        for one in judged:
            try:
                rows.append(score(one))
            except Exception as broken:
                raise MetricFailed(self.name, one.case.key, repr(broken)) from broken
        cells = np.array(rows, dtype=np.float64).reshape(len(rows), -1 if rows else 1)
        is_wrong = np.isinf(cells).any(axis=1)
        if self.combine is mean:
            is_wrong |= (cells[:, 0] < 0) | (cells[:, 0] > self.high + 1e-9)
        for at in np.flatnonzero(is_wrong)[:1]:
            raise MetricFailed(self.name, judged[at].case.key, f"scored {rows[at]}")
        return cells

    def score(self, judged: Sequence[Judged], known: Known = NOTHING) -> float:
        """Return the score over all cases that the metric applies to; raises as `cells` and `applicable`."""
        cells = applicable(self, self.cells(judged, known))
        return float(self.combine(cells.sum(axis=0)[None], np.array([len(cells)]))[0])


def applicable(metric: Metric, cells: Floats) -> Floats:
    """Keep the cases that a metric applies to.

    Raises:
        EmptySplit: there is none.
    """
    kept = cells[~np.isnan(cells).any(axis=1)]
    if not len(kept):
        raise EmptySplit(f"there are no cases to judge by {metric.name}")
    return kept


def alone(
    score: Callable[[Judged, Known], Row],
) -> Callable[[Sequence[Judged], Known], Callable[[Judged], Row]]:
    """Make what `Metric.look` is of a score for which one case says all."""
    return lambda judged, known: lambda one: score(one, known)
