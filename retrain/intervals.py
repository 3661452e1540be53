"""A share or a mean and its limits, with nothing but arithmetic, so that pages can tell them too."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, sqrt
from random import Random
from statistics import NormalDist, fmean

from retrain.errors import EmptySplit


@dataclass(frozen=True, slots=True)
class Interval:
    """A score, between what limits it lies, and on how many cases it rests."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: float, n: float, *, confidence: float = 0.95) -> Interval:
    """Return a share of successes with Wilson's score interval.

    Raises:
        EmptySplit: n is 0.

    Source: Wilson (1927), "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22.
    """
    if n <= 0:
        raise EmptySplit("there are no cases to judge by")
    z, share = z_of(confidence), successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), int(n))


def mean(values: Sequence[float], *, seed: int, resamples: int = 500, confidence: float = 0.95) -> Interval:
    """Return a mean: of zeros and ones a share, as `wilson`; of other values with its bootstrap's percentiles.

    Raises:
        EmptySplit: there are no values.

    Source: Efron & Tibshirani (1993), "An Introduction to the Bootstrap", chapter 13.
    """
    if {0.0, 1.0}.issuperset(values):
        return wilson(sum(values), len(values), confidence=confidence)
    draw = Random(seed)
    means = sorted(fmean(draw.choices(values, k=len(values))) for _ in range(resamples))
    cut = int((1 - confidence) / 2 * resamples)
    return Interval(fmean(values), means[cut], means[-1 - cut], len(values))


def difference(before: Interval, after: Interval) -> Interval:
    """Return how much more a share or mean is than an independent one was; `n` is that of the smaller sample.

    Source: Zou & Donner (2008), "Construction of confidence limits about effect measures", Statistics in Medicine 27;
    of two shares it is the tenth method of Newcombe (1998), Statistics in Medicine 17.
    """
    change = after.value - before.value
    down = hypot(after.value - after.low, before.high - before.value)
    up = hypot(after.high - after.value, before.value - before.low)
    return Interval(change, change - down, change + up, min(before.n, after.n))


def more_needed(before: Interval, after: Interval, *, most: int = 1_000_000) -> int | None:
    """Return how many more cases of `after` tell two shares apart if both stay as they are; None if `most` do not."""
    enough = after.n
    while enough <= most:
        change = difference(before, wilson(after.value * enough, enough))
        if change.low > 0 or change.high < 0:
            return enough - after.n
        enough = enough * 5 // 4 + 1
    return None


def z_of(confidence: float) -> float:
    """Return how many standard deviations a two-sided interval of this confidence spans on each side."""
    return NormalDist().inv_cdf((1 + confidence) / 2)
