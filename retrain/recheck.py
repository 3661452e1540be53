"""Whether what was flagged is mended: a flagged question, asked again of a model that learned the correction."""

import re

from retrain.metrics import is_right
from retrain.metrics.judged import Judged
from retrain.near_duplicates import similarity
from retrain.types import Case, Mending

ALIKE = 0.5
NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")


def mending(case: Case, answer: str, flagged: str, *, is_wanted: bool = True) -> Mending:
    """Compare an answer with what experts expect; where they only refused one, anything not like that is mended.

    A text need not be theirs word for word: at least half alike, with the same numbers, and more like theirs than like
    what was flagged. That is strict on purpose, for what is wrongly told to be mended is not looked at again.
    """
    if not is_wanted:
        is_mended = similarity(answer, flagged) < ALIKE and bool(answer.strip())
    elif case.is_labelled:
        is_mended = is_right(Judged(case, answer))
    else:
        is_mended = is_right(Judged(case, answer)) or _says(answer, case.expected, flagged)
    if is_mended:
        return Mending.CORRECTED
    return Mending.AS_BEFORE if similarity(answer, flagged) >= ALIKE else Mending.OTHERWISE


def _says(answer: str, expected: str, flagged: str) -> bool:
    likeness = similarity(answer, expected)
    has_numbers = sorted(NUMBER.findall(answer)) == sorted(NUMBER.findall(expected))
    return likeness >= ALIKE and has_numbers and likeness > similarity(answer, flagged)
