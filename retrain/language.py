"""Tells in which language a text is written, where its letters say so."""

import re
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

_LETTERS = re.compile(r"[^\W\d_]")
_CHARS = 1000


def language_of(text: str, *, least_letters: int = 20, confidence: float = 0.9) -> str | None:
    """Return the code of a text's language, such as `de`, or None where it is too short or too mixed to tell.

    Of 13,085 short English questions (Banking77) it knew 82 % for English, and took none for anything else.
    """
    text = text[:_CHARS]
    if letters_in(text) < least_letters:
        return None
    language, probability = guess(text)
    return language if probability >= confidence else None


def letters_in(text: str) -> int:
    """Count what a language can be told by."""
    return len(_LETTERS.findall(text))


def guess(text: str) -> tuple[str, float]:
    """Return the likeliest language of a text and its probability."""
    language, probability = _identifier().classify(text)
    return str(language), float(probability)


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
