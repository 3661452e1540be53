"""What is prefilled for annotators, for whom it is not, and how far it sways them."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import hypot, sqrt
from statistics import NormalDist
from typing import Any

from annotation.answers import check
from annotation.errors import InvalidAnswer
from annotation.questions import labels_in
from annotation.settlement import normalised
from annotation.types import Answer, Cause, LabelSchema, TaskKind, Verdict

_Z = NormalDist().inv_cdf(0.975)


class SuggestionSource(StrEnum):
    """Whose words are prefilled: nobody's, the model's own answer, or what an end user would have had it say."""

    NONE = "none"
    RESPONSE = "response"
    CORRECTION = "correction"


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many answers are what was suggested, or would have been."""

    agreeing: int
    answers: int


@dataclass(frozen=True, slots=True)
class Anchoring:
    """How much more often annotators agree with a suggestion that they are shown, with its 95 % interval."""

    prefilled: Share
    blind: Share
    difference: float
    low: float
    high: float


def suggested(text: str, schema: LabelSchema) -> dict[str, Any]:
    """Return what to prefill, by question; nothing where the text is no answer. It may name several labels."""
    if schema.kind is TaskKind.PAIRWISE:
        return {}
    if schema.is_multi_label:
        values: dict[str, Any] = {"labels": [*labels_in(text)]}
    else:
        values = {"label" if schema.labels else "correction": text}
    try:
        check(Answer(Verdict.INCORRECT, cause=Cause.MODEL, **values), schema)
    except InvalidAnswer:
        return {}
    return values


def is_blind(task_key: str, share: float) -> bool:
    """Say whether a task is shown without its suggestion; the same task falls the same way at the same share."""
    digest = hashlib.sha256(f"blind:{task_key}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def agrees(answer: Answer, suggestion: Mapping[str, Any], response: str) -> bool | None:
    """Say whether an answer comes to what was suggested; None where it comes to nothing.

    To find a response right is to give it as the answer.
    """
    if answer.verdict is Verdict.CORRECT:
        given = {
            normalised(line) for line in ([response] if "labels" not in suggestion else labels_in(response))
        }
    elif answer.verdict is Verdict.INCORRECT:
        given = {normalised(text) for text in (*answer.labels, answer.label, answer.correction) if text}
    else:
        return None
    texts = [text for value in suggestion.values() for text in ([value] if isinstance(value, str) else value)]
    return given == {normalised(text) for text in texts}


def anchoring(answers: Iterable[tuple[bool, bool]]) -> Anchoring | None:
    """Compare agreement with the suggestion between tasks that showed it and tasks that were blind.

    Args:
        answers: of independent tasks, whether it was blind and whether its answer agrees.

    Returns:
        None while one of the two kinds has no answer.

    Source: Newcombe (1998), "Interval estimation for the difference between independent proportions", method 10.
    """
    told = list(answers)
    prefilled, blind = (
        _share(agreed for was_blind, agreed in told if was_blind is kind) for kind in (False, True)
    )
    if not prefilled.answers or not blind.answers:
        return None
    p, p_low, p_high = _wilson(prefilled)
    b, b_low, b_high = _wilson(blind)
    difference = p - b
    low, high = difference - hypot(p - p_low, b_high - b), difference + hypot(p_high - p, b - b_low)
    return Anchoring(prefilled, blind, difference, low, high)


def _share(agreed: Iterable[bool]) -> Share:
    told = list(agreed)
    return Share(sum(told), len(told))


def _wilson(share: Share) -> tuple[float, float, float]:
    n, p = share.answers, share.agreeing / share.answers
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n))
    return p, centre - half, centre + half
