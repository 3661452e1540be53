"""Finds what answers repeat: links, addresses, telephone numbers, prices and phrases, and where they pile up."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from retrain.types import Example

Places = NDArray[np.int64]
WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
_CURRENCY = r"(?:[$€£]|euros?\b|dollars?\b|pounds?\b|eur\b|usd\b)"
# What a text must hold for the pattern to be worth a look, and the pattern.
_CONTACTS = {
    "link": (("://", "www."), re.compile(r"(?:https?://|www\.)(?:www\.)?([\w-]+(?:\.[\w-]+)+)")),
    "address": (("@",), re.compile(r"[\w.+-]+@([\w-]+(?:\.[\w-]+)+)")),
    "telephone number": (("",), re.compile(r"([+\d][\d ()/-]{6,}\d)")),
    "price": (
        ("$", "€", "£", "euro", "dollar", "pound", " eur", " usd"),
        re.compile(rf"[$€£] ?(\d(?:[\d.,]*\d)?)|(\d(?:[\d.,]*\d)?) ?{_CURRENCY}"),
    ),
}
_PHRASE = 6


@dataclass(frozen=True, slots=True)
class Uses:
    """Which pattern, by number, occurs in which row, as two arrays of equal length; `name` tells a pattern's words."""

    pairs: tuple[Places, Places]
    name: Callable[[int], str]


def uses_of(said: Sequence[Example]) -> list[Uses]:
    """Return what the answers may repeat."""
    return [_contacts(said), _phrases(said)]


def enriched(
    uses: Uses, parts: Places, floor: int, alpha: float, purity: float
) -> Iterator[tuple[str, int, Places]]:
    """Yield each pattern that one part of the rows repeats beyond chance, that part, and its rows.

    A pattern needs `floor` rows, `purity` of them in that part, which chance, corrected after Bonferroni, does at most
    with `alpha`.
    """
    pattern, place = uses.pairs
    is_kept = np.bincount(pattern, minlength=1)[pattern] >= floor
    size = len(parts)
    pattern, place = np.divmod(np.unique(pattern[is_kept] * size + place[is_kept]), size)
    bounds = np.searchsorted(pattern, np.arange(pattern.max(initial=-1) + 2))
    is_frequent = np.diff(bounds) >= floor
    counts = np.zeros((len(is_frequent), parts.max() + 1), dtype=np.int64)
    np.add.at(counts, (pattern, parts[place]), 1)
    part, most, of = counts.argmax(axis=1), counts.max(axis=1), counts.sum(axis=1)
    chance = (
        binom.sf(most - 1, of, np.bincount(parts)[part] / len(parts)) * is_frequent.sum() * counts.shape[1]
    )
    for number in np.flatnonzero(is_frequent & (most >= floor) & (most >= purity * of) & (chance < alpha)):
        places = place[bounds[number] : bounds[number + 1]]
        yield uses.name(int(number)), int(part[number]), places[parts[places] == part[number]]


def _contacts(said: Sequence[Example]) -> Uses:
    """Return which row has which link, address, number or price, each spelled in one way."""
    found = [
        (f"the {kind} {_spelled(match)}", place)
        for place, text in enumerate(row.answer.casefold() for row in said)
        for kind, (signs, pattern) in _CONTACTS.items()
        if any(sign in text for sign in signs)
        for match in pattern.finditer(text)
    ]
    names, patterns = np.unique(np.array([name for name, _ in found], dtype=np.str_), return_inverse=True)
    places = np.array([place for _, place in found], dtype=np.int64)
    return Uses((patterns, places), lambda number: str(names[number]))


def _spelled(match: re.Match[str]) -> str:
    text = next(group for group in match.groups() if group)
    return text if re.search(r"[a-z]", text) else re.sub(r"[^\d.,]", "", text).strip(".,")


def _phrases(said: Sequence[Example]) -> Uses:
    """Return which row has which phrase of several words."""
    numbers: dict[str, int] = {}
    texts = [
        [numbers.setdefault(word, len(numbers)) for word in WORD.findall(row.answer.casefold())]
        for row in said
    ]
    lengths = np.array([len(text) for text in texts])
    stream = np.fromiter(
        (number for text in texts for number in text), dtype=np.int64, count=int(lengths.sum())
    )
    rows = np.repeat(np.arange(len(texts)), lengths)
    starts = np.flatnonzero(rows[: max(0, len(rows) - _PHRASE + 1)] == rows[_PHRASE - 1 :])
    hashes = np.zeros(len(starts), dtype=np.uint64)
    for step in range(_PHRASE):  # it wraps around; equal phrases have equal hashes
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes += stream[starts + step].astype(np.uint64)
    _, first, patterns = np.unique(hashes, return_index=True, return_inverse=True)
    words = list(numbers)

    def name(number: int) -> str:
        start = starts[first[number]]
        return f"the phrase {' '.join(words[word] for word in stream[start : start + _PHRASE])!r}"

    return Uses((patterns, rows[starts]), name)
