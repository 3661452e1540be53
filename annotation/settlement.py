"""What a task's annotations come to."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median_low

from annotation.types import Answer, Verdict


@dataclass(frozen=True, slots=True)
class Settled:
    """Enough annotators agree: on this answer, with the median of their ratings."""

    answer: Answer
    annotators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contested:
    """The annotators disagree, and those still to come cannot settle it: somebody has to adjudicate."""

    answers: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """So many annotators are still to answer."""

    missing: int


def settle(
    answers: Sequence[tuple[str, Answer]], *, needed: int, overlap: int
) -> Settled | Contested | Waiting:
    """Settle a task as soon as `needed` of the `overlap` annotators agree.

    To agree is to give the same verdict, and for an incorrect response the same cause and the same labels or
    corrected response, whatever was marked in it; corrections are compared after Unicode and white space are
    normalised, in any case.

    Args:
        answers: annotator and answer, oldest first; of an annotator's several answers only the newest counts, and
            one who abstains counts for nobody.
        needed: how many must agree.
        overlap: how many are asked; more answers than that (an adjudicator's) count as well.
    """
    voices = {name: answer for name, answer in dict(answers).items() if isinstance(answer.verdict, Verdict)}
    camps: defaultdict[tuple[str | None, ...], list[str]] = defaultdict(list)
    for annotator, answer in voices.items():
        camps[_position(answer)].append(annotator)
    sizes = sorted((len(camp) for camp in camps.values()), reverse=True)
    best, second = [*sizes, 0, 0][:2]
    missing = max(0, overlap - len(voices))
    if best >= needed and best > second:
        annotators = sorted(camps[max(camps, key=lambda position: len(camps[position]))])
        return Settled(_answer_of([voices[name] for name in annotators]), tuple(annotators))
    if best + missing < max(needed, second + 1):
        return Contested(answers=len(voices))
    return Waiting(missing=missing)


def normalised(text: str) -> str:
    """Return what two texts must share to count as the same correction."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _position(answer: Answer) -> tuple[str | None, ...]:
    if answer.verdict is not Verdict.INCORRECT:
        return (answer.verdict,)
    correction = None if answer.correction is None else normalised(answer.correction)
    return (answer.verdict, answer.cause, answer.label, correction, *sorted(answer.labels))


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
