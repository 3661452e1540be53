"""Alarms about a live model: its answers are flagged more than was usual, or it is asked what it never learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from scipy.stats import mannwhitneyu

from retrain.intervals import wilson

RARELY = 100_000.0  # answers between false alarms, at least
FEWEST_ANSWERS, FEWEST_PROMPTS = 100, 50
WORSE, WORSE_BY = 1.5, 0.02
FARTHER, ALPHA = 0.65, 1e-4


@dataclass(frozen=True, slots=True)
class Rise:
    """The flag rate that was usual at most, the one that is looked for, and after how many answers it showed."""

    usual: float
    worse: float
    answers: int


@dataclass(frozen=True, slots=True)
class Drift:
    """How often a live prompt is farther from the training set than one of its own is; 0.5 is no drift."""

    farther: float
    p_value: float
    n: int

    @property
    def is_alarming(self) -> bool:
        """Whether that is both sure and much."""
        return self.farther >= FARTHER and self.p_value <= ALPHA


def rise(usual: Sequence[bool], flagged: Sequence[bool], *, rarely: float = RARELY) -> Rise | None:
    """Return the first sure rise of a version's flags, in the order of its answers, over those that were usual.

    A cumulative sum of likelihood ratios (CUSUM) between the usual rate, at the upper limit of its interval, and one
    half as much again and two points more. While the rate stays usual, it alarms once in `rarely` answers at most.

    Source: Page (1954), "Continuous Inspection Schemes", Biometrika 41; the bound by Lorden (1971), Annals of
    Mathematical Statistics 42.
    """
    if len(usual) < FEWEST_ANSWERS:
        return None
    least = wilson(sum(usual), len(usual)).high
    worse = min(0.99, WORSE * least + WORSE_BY)
    if worse <= least:
        return None
    if_flagged, if_not = log(worse / least), log((1 - worse) / (1 - least))
    total = 0.0
    for answers, is_flagged in enumerate(flagged, start=1):
        total = max(0.0, total + (if_flagged if is_flagged else if_not))
        if total >= log(rarely):
            return Rise(least, worse, answers)
    return None


def drift(learned: Sequence[float], live: Sequence[float]) -> Drift | None:
    """Compare how like the training set its own prompts are, each to the others, with how like live ones are.

    Source: Mann & Whitney (1947), "On a Test of Whether one of Two Random Variables is Stochastically Larger than the
    Other", Annals of Mathematical Statistics 18.
    """
    if min(len(learned), len(live)) < FEWEST_PROMPTS:
        return None
    found = mannwhitneyu(learned, live, alternative="greater")
    return Drift(float(found.statistic) / (len(learned) * len(live)), float(found.pvalue), len(live))
