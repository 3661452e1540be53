"""How metrics and suites read texts of any script: folded, in words, in sentences."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"[^\W_]+")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")


def folded(text: str) -> str:
    """Fold case and compatibility forms, and collapse spaces."""
    return " ".join(unicodedata.normalize("NFKC", text.replace("\u2019", "'")).casefold().split())


def words(text: str) -> list[str]:
    """Return a text's words in order, folded, without punctuation."""
    return _WORD.findall(folded(text))


def content_words(text: str) -> list[str]:
    """Return what carries meaning: numbers, and words of more than three letters."""
    return [word for word in words(text) if len(word) > 3 or word[0].isdigit()]


def sentences(text: str) -> list[str]:
    """Return a text's sentences."""
    return [each for each in _SENTENCE.split(text) if each.strip()]


def contains_any(text: str, phrases: Iterable[str]) -> bool:
    """Tell whether a text holds one phrase's words in order, whole and in any case: "4" is not in "44"."""
    padded = f" {' '.join(words(text))} "
    return any(f" {' '.join(words(phrase))} " in padded for phrase in phrases)


def grams(parts: Sequence[str], length: int) -> list[tuple[str, ...]]:
    """Return all runs of a length, in order."""
    return [tuple(parts[at : at + length]) for at in range(len(parts) - length + 1)]
