"""A share and its limits, with nothing but arithmetic, so that pages can tell them too."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

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


def z_of(confidence: float) -> float:
    """Return how many standard deviations a two-sided interval of this confidence spans on each side."""
    return NormalDist().inv_cdf((1 + confidence) / 2)
