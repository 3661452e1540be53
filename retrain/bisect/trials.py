"""Trains configurations as often as a question needs, remembers every training, and says which model each is like."""

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from retrain.bisect.changes import BrokenHistory, Change, Configuration, History
from retrain.bisect.finding import Cost
from retrain.bisect.rules import Rules
from retrain.errors import RetrainError
from retrain.intervals import Interval

Floats = NDArray[np.float64]
HALF = 0.5
_TRACE = 1e-6
_STEP_ERROR = (
    0.05  # of a step's direction: a wrong one costs trainings, for what is found is confirmed at the end
)


class OutOfBudget(RetrainError):
    """All configurations that the rules allow were trained; `find` answers "cannot tell"."""


@dataclass(frozen=True, slots=True)
class Scores:
    """One training's score on each case of the suite, from 0 to 1, and the seconds that it took."""

    cases: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Step:
    """One configuration tried: its score, and the share of what the bad model lost that it still has, 1 for the good.

    `kept` is None while good and bad are trained, which gives the scale. `n_suspects` changes may be to blame.
    """

    configuration: Configuration
    score: Interval
    kept: Interval | None
    n_suspects: int
    cost: Cost


@dataclass(frozen=True, slots=True)
class Drop:
    """By how much the bad model is worse, and how likely chance alone is to say so.

    `by_chance` is the chance of such a drop if there is none, `missed` of so small a one if it is the smallest that
    matters. `needs` says what would halve the interval.
    """

    interval: Interval
    by_chance: float
    missed: float
    needs: str


class Trials:
    """The trainings of one search; a configuration that was trained before costs nothing and counts as before.

    So a search that was ended goes the same way when it is started again, and stops at the same place.
    """

    def __init__(
        self,
        history: History,
        train: Callable[[Configuration, int], Scores],
        *,
        remembered: MutableMapping[str, Scores],
        rules: Rules,
        progress: Callable[[Step], None],
    ) -> None:
        self.history, self.rules = history, rules
        self.n_suspects = len(history.changes)
        self.allowed = rules.allowed(len(history.changes))
        self._train, self._remembered, self._progress = train, remembered, progress
        self._tried: dict[Configuration, list[Scores]] = {}
        self._shares: dict[Configuration, list[float]] = {}
        self._good, self._bad = history.making([]), history.making(history.changes)

    @property
    def cost(self) -> Cost:
        """What the answer rests on so far."""
        all_scores = [scores for tried in self._tried.values() for scores in tried]
        return Cost(len(self._tried), len(all_scores), sum(scores.seconds for scores in all_scores))

    def drop(self) -> Drop:
        """Train good and bad as often as allowed and compare them case by case; all else is asked after this.

        Both sources of chance count: which cases were asked, and which seeds were drawn.
        """
        for repeat in range(self.rules.repeats):
            for configuration in (self._good, self._bad):
                self._scores(configuration, repeat + 1)
                self._tell(configuration, None)
        good, bad = (
            np.array([scores.cases for scores in self._tried[each]]) for each in (self._good, self._bad)
        )
        self.lost, (of_good, of_bad) = _lost(good, bad), _ends(good, bad)
        self._shares = {self._good: of_good.tolist(), self._bad: of_bad.tolist()}
        lost = good.mean(axis=0) - bad.mean(axis=0)
        n, repeats = len(lost), self.rules.repeats
        of_cases = float(lost.var(ddof=1)) / n
        of_seeds = sum(float(each.mean(axis=1).var(ddof=1)) for each in (good, bad)) / repeats
        # What a seed does to single cases is in both, and counts once.
        of_both = sum(float(each.var(axis=0, ddof=1).mean()) for each in (good, bad)) / repeats - of_seeds
        spread = sqrt(max(of_cases, of_seeds, of_cases + of_seeds - of_both / n)) or 1 / n
        # Satterthwaite (1946): the degrees of freedom of a sum of two estimated variances.
        free = spread**4 / (of_cases**2 / (n - 1) + of_seeds**2 / (2 * repeats - 2) or spread**4 / n)
        value, half = float(lost.mean()), spread * float(stdtrit(free, 0.975))
        is_few = of_cases >= of_seeds
        needs = (
            f"a suite of about {4 * n} cases" if is_few else f"about {4 * repeats} repeats of each training"
        )
        return Drop(
            interval=Interval(value, value - half, value + half, n),
            by_chance=float(stdtr(free, -value / spread)),
            missed=float(stdtr(free, (value - self.rules.smallest_drop) / spread)),
            needs=needs,
        )

    def is_bad(self, configuration: Configuration, middle: float) -> bool:
        """Say on which side of the middle a configuration is, by as few repeats as tell it."""
        for repeats in range(1, self.rules.repeats + 1):
            self._scores(configuration, repeats)
            kept, doubt = self._kept(configuration, middle)
            self._tell(configuration, kept)
            if min(doubt, 1 - doubt) <= _STEP_ERROR:
                break
        return kept.value < middle

    def kept(self, configuration: Configuration) -> Interval:
        """Return the share of what was lost that a configuration still has, by all repeats."""
        self._scores(configuration, self.rules.repeats)
        kept, _ = self._kept(configuration, HALF)
        self._tell(configuration, kept)
        return kept

    def doubt(self, configuration: Configuration, middle: float) -> float:
        """Return the chance that a configuration is above the middle after all, by all repeats."""
        self.kept(configuration)
        return 1 - self._kept(configuration, middle)[1]

    def seen_to_keep(self, change: Change, others: frozenset[str]) -> float:
        """Return the most that was kept with this change and without all others: alone it keeps no less."""
        tried = [one for one in self._tried if change.id in one.changes and not others <= one.changes]
        return max((self._kept(one, HALF)[0].value for one in tried if not one.untouched), default=0.0)

    def _kept(self, configuration: Configuration, middle: float) -> tuple[Interval, float]:
        """Return the share of what was lost that a configuration has, and the chance that it is below the middle.

        Only cases that the bad model lost count, so that what other changes gain or cost elsewhere is no noise here.
        """
        shares = {each: np.array(self._shares[each]) for each in self._tried}
        good, bad = shares[self._good], shares[self._bad]
        repeated = [each for each in shares.values() if len(each) > 1]
        free = sum(len(each) - 1 for each in repeated)
        pooled = sum(float(each.var()) * len(each) for each in repeated) / free
        own = shares[configuration]
        # Half-way between two states seeds differ more than at either end, which the pooled spread would hide; two or
        # three seeds alone tell little of their spread (Smyth 2004, "Linear Models and Empirical Bayes Methods").
        more = len(own) - 1
        moderated = (free * pooled + (float(own.var(ddof=1)) * more if more else 0)) / (free + more)
        spread = max(moderated, pooled, float(self.lost.sum()) ** -2)
        # The middle is itself known by the repeats of good and bad only.
        error = sqrt(spread * (1 / len(own) + 1 / (2 * self.rules.repeats)))
        scale = max(float(good.mean() - bad.mean()), 1 / len(self.lost))
        value, half = float(own.mean() - bad.mean()) / scale, error / scale * float(stdtrit(free, 0.975))
        is_below = float(stdtr(free, (middle - value) * scale / error))
        return Interval(value, value - half, value + half, len(own)), is_below

    def _scores(self, configuration: Configuration, repeats: int) -> None:
        if configuration not in self._tried and len(self._tried) >= self.allowed:
            raise OutOfBudget(f"{self.allowed} configurations were trained")
        tried = self._tried.setdefault(configuration, [])
        for seed in range(self.rules.seed + len(tried), self.rules.seed + repeats):
            key = self.history.key_of(configuration, seed)
            if key not in self._remembered:
                self._remembered[key] = self._train(configuration, seed)
            tried.append(self._remembered[key])
            n, wanted = (len(each[-1].cases) for each in (tried, next(iter(self._tried.values()))))
            if n != wanted or n < 2:
                raise BrokenHistory(f"scores are of {n} cases, the first of {wanted}; two are the least")
            if self._shares and configuration not in (self._good, self._bad):
                share = float(np.dot(tried[-1].cases, self.lost) / self.lost.sum())
                self._shares.setdefault(configuration, []).append(share)

    def _tell(self, configuration: Configuration, kept: Interval | None) -> None:
        cases = np.array([scores.cases for scores in self._tried[configuration]]).mean(axis=0)
        value, half = float(cases.mean()), 1.96 * float(cases.std()) / sqrt(len(cases))
        score = Interval(value, max(0.0, value - half), min(1.0, value + half), len(cases))
        self._progress(Step(configuration, score, kept, self.n_suspects, self.cost))


def _lost(good: Floats, bad: Floats) -> Floats:
    """Return what of each case's score is lost, shrunk towards the mean of all by the share that is chance.

    Both are shaped (n_repeats, n_cases); where a case gained, nothing is lost.

    Source: Efron & Morris (1973), "Stein's Estimation Rule and Its Competitors", with one shrinkage for all cases.
    """
    lost = good.mean(axis=0) - bad.mean(axis=0)
    repeats, spread = len(good), float(lost.var())
    # A single repeat shows no chance: then all of the spread is taken for real.
    chance = sum(float(each.var(axis=0).mean()) for each in (good, bad)) / max(1, repeats - 1)
    real = max(0.0, 1 - chance / spread) if spread else 0.0
    # A trace for every case: weights have a sum even where a part of the trainings lost nothing.
    shrunk: Floats = np.maximum(real * lost + (1 - real) * lost.mean(), _TRACE)
    return shrunk


def _ends(good: Floats, bad: Floats) -> tuple[Floats, Floats]:
    """Return good's and bad's scores on lost cases, each training judged by what the other trainings lost.

    Judged by its own losses a bad training would look worse than the next one of the same kind.
    """
    ends = []
    for repeat in range(len(good)):
        weights = _lost(np.delete(good, repeat, axis=0), np.delete(bad, repeat, axis=0))
        ends.append(np.stack([good[repeat], bad[repeat]]) @ weights / weights.sum())
    return np.array(ends)[:, 0], np.array(ends)[:, 1]
