"""What a task's annotations come to."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from statistics import median_low

from annotation.types import Answer, Verdict

BAR = 0.85
# How often an expert is taken to have been right before they answered anything.
ASSUMED_RIGHT, ASSUMED = 9, 10
BY_CHANCE, BEST = 0.5, 0.98  # nobody counts against what they say, and nobody's word alone is final

Position = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """What enough trusted annotators agree on, with the median of their ratings, and why it counts.

    `posterior` is the probability that the answer is right, by what is known of all who answered.
    """

    answer: Answer
    annotators: tuple[str, ...]
    posterior: float
    explanation: str


@dataclass(frozen=True, slots=True)
class Contested:
    """Those who answered disagree or are not trusted, and those still to come cannot settle it: a third decides."""

    answers: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """So many annotators are still to answer."""

    missing: int


def settle(
    answers: Sequence[tuple[str, Answer]],
    *,
    needed: int,
    overlap: int,
    bar: float = BAR,
    accuracies: Mapping[str, float] | None = None,
) -> Settled | Contested | Waiting:
    """Settle a task as soon as no answer still to come could change what it comes to, so that order does not matter.

    Two things must hold of one camp: `needed` of its annotators are better than chance, and two unless one alone is
    asked; and its posterior reaches `bar`. To be in one camp is to give the same verdict, and for an incorrect
    response the same cause and the same labels or corrected response, whatever was marked in it; corrections are
    compared after Unicode and white space are normalised, in any case.

    Args:
        answers: annotator and answer, oldest first; of an annotator's several answers only the newest counts, and
            one who abstains counts for nobody.
        needed: how many must agree.
        overlap: how many are asked; more answers than that count as well.
        bar: between 0.5 and `BEST`.
        accuracies: how often each annotator is right, as `accuracy` tells; who is not named is a newcomer.
    """
    voices = {name: answer for name, answer in dict(answers).items() if isinstance(answer.verdict, Verdict)}
    camps, trust = _camps(voices), _trust(voices, accuracies)
    strengths = _strengths(camps, trust)
    floor, missing = max(needed, min(2, overlap)), max(0, overlap - len(voices))
    all_to_come = _odds(BEST) ** missing
    may_yet = missing >= floor and _posterior(all_to_come, [*strengths.values()]) >= bar
    for position, camp in camps.items():
        trusted = sum(trust[name] > BY_CHANCE for name in camp)
        others = [strength for other, strength in strengths.items() if other != position]
        if trusted >= floor and _posterior(strengths[position], _at_worst(others, missing)) >= bar:
            return _settled(voices, camp, _posterior(strengths[position], others))
        may_yet |= trusted + missing >= floor and _posterior(strengths[position] * all_to_come, others) >= bar
    return Waiting(missing=missing) if may_yet else Contested(answers=len(voices))


def adjudicate(
    answers: Sequence[tuple[str, Answer]], *, by: str, accuracies: Mapping[str, float] | None = None
) -> Settled:
    """Settle a contested task as one of those who answered, the adjudicator, decided."""
    voices = dict(answers)
    camps = _camps(voices)
    strengths = _strengths(camps, _trust(voices, accuracies))
    chosen = _position(voices[by])
    posterior = _posterior(strengths.pop(chosen), [*strengths.values()])
    settled = _settled(voices, camps[chosen], posterior)
    return replace(settled, answer=voices[by], explanation=f"adjudicated: {settled.explanation}")


def accuracy(right: float, answered: float) -> float:
    """Return how often an annotator is believed to be right, after so many answers of which so many were."""
    return (ASSUMED_RIGHT + right) / (ASSUMED + answered)


def normalised(text: str) -> str:
    """Return what two texts must share to count as the same correction."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def said(answer: Answer) -> str:
    """Tell an answer in a few words, without a text that somebody wrote."""
    given = [
        answer.label,
        *answer.labels,
        answer.cause and f"cause {answer.cause}",
        answer.correction and "another text",
    ]
    more = ", ".join(part for part in given if part)
    return (
        f"{answer.verdict} ({more})" if answer.verdict is Verdict.INCORRECT and more else str(answer.verdict)
    )


def _camps(voices: Mapping[str, Answer]) -> dict[Position, list[str]]:
    camps: defaultdict[Position, list[str]] = defaultdict(list)
    for annotator, answer in sorted(voices.items(), key=lambda voice: voice[0]):
        camps[_position(answer)].append(annotator)
    return dict(camps)


def _position(answer: Answer) -> Position:
    if answer.verdict is not Verdict.INCORRECT:
        return (answer.verdict,)
    correction = None if answer.correction is None else normalised(answer.correction)
    return (answer.verdict, answer.cause, answer.label, correction, *sorted(answer.labels))


def _trust(voices: Collection[str], accuracies: Mapping[str, float] | None) -> dict[str, float]:
    return {name: (accuracies or {}).get(name, accuracy(0, 0)) for name in voices}


def _odds(rightness: float) -> float:
    kept = min(max(rightness, BY_CHANCE), BEST)
    return kept / (1 - kept)


def _strengths(camps: Mapping[Position, Sequence[str]], trust: Mapping[str, float]) -> dict[Position, float]:
    return {position: prod(_odds(trust[name]) for name in camp) for position, camp in camps.items()}


def _at_worst(others: Sequence[float], missing: int) -> list[float]:
    """Return the other camps' strengths once the best of annotators have all joined the strongest, or a fresh one."""
    if not missing:
        return [*others]
    added = _odds(BEST) ** missing
    return [*others, max([added, *(strength * (added - 1) for strength in others)])]


def _posterior(strength: float, others: Sequence[float]) -> float:
    """Return how probable a camp's answer is, as if all who err could have come to the same one.

    Each answer's odds multiply, what nobody said has odds of 1: naive Bayes with one accuracy for each annotator.
    """
    return strength / (1 + strength + sum(others))


def _settled(voices: Mapping[str, Answer], camp: Sequence[str], posterior: float) -> Settled:
    overruled = Counter(said(answer) for name, answer in voices.items() if name not in camp)
    told = f"{len(camp)} of {len(voices)} annotators agree, posterior {min(posterior, 0.99):.2f}"
    if overruled:
        told += "; overruled: " + ", ".join(f"{n} for {what}" for what, n in sorted(overruled.items()))
    return Settled(_answer_of([voices[name] for name in camp]), tuple(camp), posterior, told)


def _answer_of(camp: list[Answer]) -> Answer:
    """Return one answer for annotators who agree: their most frequent wording and their median ratings."""
    ratings: defaultdict[str, list[int]] = defaultdict(list)
    for answer in camp:
        for name, rating in answer.ratings.items():
            ratings[name].append(rating)
    first = camp[0]
    if first.verdict is not Verdict.INCORRECT:
        first = Answer(verdict=first.verdict)
    return replace(
        first,
        spans=(),
        correction=_wording([a.correction for a in camp if a.correction is not None])
        if first.correction
        else None,
        ratings={name: median_low(values) for name, values in sorted(ratings.items())},
    )


def _wording(corrections: list[str]) -> str:
    """Return the most frequent wording; of equally frequent ones the first by alphabet, in any order."""
    counts = Counter(corrections)
    return min(counts, key=lambda wording: (-counts[wording], wording))
