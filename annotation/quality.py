"""How far each annotator can be trusted, by what they and others answered; what it says feeds settlement, not pay.

Only jobs import this module: crowd-kit brings pandas and scikit-learn.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

import pandas as pd
from crowdkit.aggregation import OneCoinDawidSkene
from scipy.stats import binomtest

from annotation.settlement import BY_CHANCE, accuracy
from annotation.votes import Vote

STEPS = 100
HALF_A_TASK = 0.5  # less than that was never right, as far as one can tell
GOLD = ""  # as an annotator, whose name is nobody's
ROLLING = 50  # how many gold answers tell how somebody does lately
LATELY = 4  # weeks
HASTE, HASTY_SHARE, MIN_TIMED = 0.25, 0.3, 10
NOBODY_READS = 2.0  # seconds: where others usually take less, programs answer
MIN_RUN, WRONG_SHARE = 15, 0.4


@dataclass(frozen=True, slots=True)
class Share:
    """A share of `n`, with Wilson's 95 % interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What answers come to by the one-coin model of Dawid and Skene.

    `posteriors` gives, by task and by what might be right, how probable that is; `confusions`, by annotator and by
    what was right, how often they said what.
    """

    posteriors: Mapping[str, Mapping[str, float]]
    confusions: Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class Trust:
    """How far one annotator can be trusted.

    `right` is the share of their answers that are right, each counted by its posterior; `gold` of the newest gold
    answers; `is_hasty` and `is_straight` say that they answer too fast to have read, or the same whatever is asked;
    `has_drifted` that they do worse lately. `weight` is the accuracy that settlement reckons with.
    """

    right: Share | None
    gold: Share | None
    is_hasty: bool
    is_straight: bool
    has_drifted: bool
    weight: float


def estimate(votes: Sequence[Vote], gold: Mapping[str, str] | None = None) -> Estimate:
    """Estimate what is right and how each annotator errs, from tasks with two answers or a gold answer.

    The model gives each annotator one accuracy, as settlement does: to fit a whole confusion matrix for each is more
    than a few hundred tasks tell, above all where one answer is nearly always right. Gold is one more annotator, whom
    the model learns to believe.

    Source: A. P. Dawid, A. M. Skene (1979), "Maximum Likelihood Estimation of Observer Error-Rates Using the EM
    Algorithm", as crowd-kit implements it.
    """
    gold = gold or {}
    voices = Counter(vote.task for vote in votes)
    told = [
        (vote.task, vote.annotator, vote.said) for vote in votes if voices[vote.task] > 1 or vote.task in gold
    ]
    told += [(task, GOLD, said) for task, said in gold.items() if task in voices]
    if len({said for _, _, said in told}) < 2:
        return Estimate({task: {said: 1.0} for task, _, said in told}, {})
    # By numbers, which pandas joins seven times as fast as words; and lists, since to ask an index costs as much again.
    (tasks, task_of), (workers, worker_of), (labels, word_of) = (
        (numbers, list(found))
        for numbers, found in (pd.Series(words).factorize() for words in zip(*told, strict=True))
    )
    table = pd.DataFrame({"task": tasks, "worker": workers, "label": labels})
    probable = OneCoinDawidSkene(n_iter=STEPS).fit_predict_proba(table)
    words = [word_of[label] for label in probable.columns]
    posteriors = {
        task_of[task]: dict(zip(words, shares, strict=True))
        for task, shares in zip(probable.index, probable.to_numpy().tolist(), strict=True)
    }
    often = table.join(probable, on="task").drop(columns="task").groupby(["worker", "label"]).sum()
    totals = often.groupby("worker").sum()
    confusions: defaultdict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for (worker, said), row in (often / totals.where(totals >= HALF_A_TASK)).iterrows():
        for right, share in row.dropna().items():
            confusions[worker_of[worker]].setdefault(word_of[right], {})[word_of[said]] = float(share)
    confusions.pop(GOLD, None)
    return Estimate(posteriors, dict(confusions))


def trust(votes: Sequence[Vote], found: Estimate, gold: Mapping[str, str] | None = None) -> dict[str, Trust]:
    """Return how far each annotator can be trusted."""
    by_annotator: defaultdict[str, list[Vote]] = defaultdict(list)
    for vote in sorted(votes, key=lambda vote: (vote.at, vote.task)):
        by_annotator[vote.annotator].append(vote)
    seconds = {
        annotator: median(timed)
        for annotator, own in by_annotator.items()
        if (timed := [vote.seconds for vote in own if vote.seconds > 0])
    }
    return {
        annotator: _trust(
            own,
            found,
            gold or {},
            usual=median([each for other, each in seconds.items() if other != annotator] or [0.0]),
        )
        for annotator, own in sorted(by_annotator.items())
    }


def share(successes: float, n: int) -> Share | None:
    """Return a share with its interval; None of nothing."""
    if not n:
        return None
    limits = binomtest(round(successes), n).proportion_ci(method="wilson")
    return Share(successes / n, float(limits.low), float(limits.high), n)


def _trust(
    own: Sequence[Vote],
    found: Estimate,
    gold: Mapping[str, str],
    *,
    usual: float,
) -> Trust:
    rightness = [
        (vote, found.posteriors[vote.task].get(vote.said, 0.0))
        for vote in own
        if vote.task in found.posteriors
    ]
    right = sum(posterior for _, posterior in rightness)
    known = [vote.said == gold[vote.task] for vote in own if vote.task in gold][-ROLLING:]
    is_hasty, is_straight = _is_hasty(own, usual), _is_straight(rightness)
    # Who did not read is not trusted for having been lucky.
    weight = BY_CHANCE if is_hasty or is_straight else accuracy(right, len(rightness))
    return Trust(
        right=share(right, len(rightness)),
        gold=share(sum(known), len(known)),
        is_hasty=is_hasty,
        is_straight=is_straight,
        has_drifted=_has_drifted(rightness),
        weight=weight,
    )


def _is_hasty(own: Sequence[Vote], usual: float) -> bool:
    """Say whether someone often takes a fraction of the seconds that others usually take."""
    timed = [vote.seconds for vote in own if vote.seconds > 0]
    if len(timed) < MIN_TIMED or usual < NOBODY_READS:
        return False
    return sum(seconds < HASTE * usual for seconds in timed) >= HASTY_SHARE * len(timed)


def _is_straight(rightness: Sequence[tuple[Vote, float]]) -> bool:
    """Say whether someone said the same many times in a row while something else was right in part of them."""
    runs = [
        [posterior for _, posterior in run] for _, run in groupby(rightness, key=lambda pair: pair[0].said)
    ]
    return any(
        len(run) >= MIN_RUN and sum(posterior < BY_CHANCE for posterior in run) >= WRONG_SHARE * len(run)
        for run in runs
    )


def _has_drifted(rightness: Sequence[tuple[Vote, float]]) -> bool:
    """Say whether an annotator does worse in the newest weeks than before, beyond both intervals."""
    newest = sorted({vote.week for vote, _ in rightness})[-LATELY:]
    lately = [posterior for vote, posterior in rightness if vote.week in newest]
    before = [posterior for vote, posterior in rightness if vote.week not in newest]
    now, then = share(sum(lately), len(lately)), share(sum(before), len(before))
    return now is not None and then is not None and now.high < then.low
