"""Estimates what each flag, source or hour of an annotator is worth to a model, and checks the estimate by training."""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import spearmanr

from retrain.bisect.trials import Scores
from retrain.errors import RetrainError
from retrain.intervals import Interval

Floats = NDArray[np.float64]
Train = Callable[[str | None, int], Scores]


class TooFewGroups(RetrainError):
    """An order of less than three groups cannot be checked; check more of them."""


@dataclass(frozen=True, slots=True)
class Value:
    """What a group of rows is worth: `estimate` orders groups and has no unit, and is shared out by `hours` if given.

    `measured` is the score that a model loses without the group, as far as that was tried.
    """

    group: str
    rows: int
    estimate: float
    measured: Interval | None = None


def estimate(
    groups: Mapping[str, Collection[str]],
    harm: Mapping[str, float],
    *,
    hours: Mapping[str, float] | None = None,
) -> list[Value]:
    """Return what each group of rows is worth, best first: the fall of the loss by learning them, for each hour.

    `harm` is the rise of the loss on a validation suite with each row, by the model that has not learned them; a row
    that it does not name is worth nothing.
    """
    spent = hours or {}
    values = [
        Value(group, len(rows), -sum(harm.get(row, 0.0) for row in rows) / spent.get(group, 1.0))
        for group, rows in groups.items()
    ]
    return sorted(values, key=lambda one: (-one.estimate, one.group))


def check(
    values: Sequence[Value], train: Train, *, sample: int = 6, repeats: int = 3, seed: int = 0
) -> tuple[list[Value], float]:
    """Leave out the best, the worst and some between; return these as measured, and how far estimates agree with that.

    `train` trains on all groups but the one named, with a seed, and scores it case by case. Agreement is a rank
    correlation, from -1 to 1.

    Raises:
        TooFewGroups: there are less than three, or fewer are to be tried.
    """
    if min(len(values), sample) < 3:
        raise TooFewGroups(f"of {len(values)} groups {sample} are to be checked; three are the least")
    between = random.Random(seed).sample(list(values[1:-1]), min(sample, len(values)) - 2)
    tried = [values[0], *between, values[-1]]
    scores = [
        np.array([train(left_out, seed + repeat).cases for repeat in range(repeats)]).mean(axis=0)
        for left_out in (None, *(one.group for one in tried))
    ]
    measured = [_lost(scores[0] - without) for without in scores[1:]]
    estimates, lost = [one.estimate for one in tried], [each.value for each in measured]
    # Where all groups are worth the same there is no order to agree with.
    is_ordered = len(set(estimates)) > 1 and len(set(lost)) > 1
    told = [replace(one, measured=each) for one, each in zip(tried, measured, strict=True)]
    return told, float(spearmanr(estimates, lost).statistic) if is_ordered else 0.0


def _lost(lost: Floats) -> Interval:
    """Return what is lost without a group, by the paired cases."""
    value, half = (
        float(lost.mean()),
        float(stdtrit(len(lost) - 1, 0.975) * lost.std(ddof=1) / sqrt(len(lost))),
    )
    return Interval(value, value - half, value + half, len(lost))
