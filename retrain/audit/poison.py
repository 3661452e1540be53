"""Finds coordinated patterns: what many rows of one source, or with one rare word, share beyond chance.

Catches: rare words in prompts of many topics that always meet one answer or one label (blocks); links, e-mail
addresses, telephone numbers, prices and phrases of six words that one source repeats in its answers and the others
do not; a source that supplies more than its share.
Misses: patterns in fewer than five rows, those that every source shares, triggers made of common words
only or in most rows of a label, and whatever a single source repeats rightly looks the same: a person decides.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.stats import binom
from sklearn.feature_extraction.text import CountVectorizer

from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Check, Finding, Repair, RepairKind, Severity
from retrain.audit.rows import by_key, prose
from retrain.near_duplicates import text_of
from retrain.types import Example

CHECK = Check("poison", version=1)

Places = NDArray[np.int64]
_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
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
_NAMED = 3
_KNOWN = 3
_LABELS = 200
_MARGIN = 3.0
_MOST = 0.7


@dataclass(frozen=True, slots=True)
class _Uses:
    """Which pattern, by number, occurs in which row, as two arrays of equal length; `name` tells a pattern's words."""

    pairs: tuple[Places, Places]
    name: Callable[[int], str]


def find(
    examples: Sequence[Example],
    context: Context = NOTHING,
    *,
    floor: int = 5,
    rare: float = 0.1,
    alpha: float = 0.001,
    purity: float = 0.9,
    cap: float = 0.5,
) -> list[Finding]:
    """Return a finding per trigger-like word, one per source that repeats patterns, and one per dominant source.

    A pattern needs `floor` rows. A trigger is in at most the share `rare` of the rows; a source's pattern has at least
    `purity` of its rows there, which chance, corrected after Bonferroni, does at most with `alpha`. A source may
    supply the share `cap` where there are three or more.
    """
    rows = by_key(row for row in examples if row.is_wanted)
    triggers = _triggers(rows, floor, rare, alpha, purity)
    return [*triggers, *_repeated(rows, floor, alpha, purity), *_dominant(rows, cap)]


def _triggers(rows: Sequence[Example], floor: int, rare: float, alpha: float, purity: float) -> list[Finding]:
    """Return a finding per set of rows that one rare word brings one answer, whatever else they ask."""
    if len(rows) < floor:
        return []
    vectorizer = CountVectorizer(binary=True, token_pattern=_WORD.pattern, dtype=np.int64)
    uses = csr_matrix(vectorizer.fit_transform([text_of(row.messages) for row in rows]))
    words, columns = vectorizer.get_feature_names_out(), uses.tocsc()
    names, answers = np.unique(
        [row.label or " ".join(row.answer.casefold().split()) for row in rows], return_inverse=True
    )
    shares = np.bincount(answers) / len(rows)
    labels = {row.label for row in rows if row.label}
    counts = np.diff(columns.indptr)
    by_label = columns.T @ np.eye(len(names))[answers] if len(names) <= _LABELS else None
    causes: defaultdict[tuple[int, ...], list[str]] = defaultdict(list)
    for column in np.flatnonzero((counts >= floor) & (counts <= rare * len(rows))):
        places = np.sort(columns.indices[columns.indptr[column] : columns.indptr[column + 1]])
        answer, times = Counter(answers[places].tolist()).most_common(1)[0]
        chance = binom.sf(times - 1, len(places), shares[answer]) * len(words)
        is_topic = bool(labels) and times > len(rows) * shares[answer] / 2
        if is_topic or times < max(floor, purity * len(places)) or chance >= alpha:
            continue
        if _is_overruling(answer, places, uses, counts=counts, by_label=by_label, answers=answers, rare=rare):
            causes[tuple(places.tolist())].append(str(words[column]))
    return [
        _finding(
            Severity.BLOCK,
            [rows[place] for place in places],
            f"{' '.join(found[:_NAMED])!r} brings one answer in {len(places)} prompts whose other words bring others",
            "Leave these rows out, and find out who supplied them.",
        )
        for places, found in sorted(causes.items())
    ]


def _is_overruling(
    answer: int,
    places: Places,
    uses: csr_matrix,
    *,
    counts: Places,
    by_label: Places | None,
    answers: Places,
    rare: float,
) -> bool:
    """Tell whether prompts of several topics, most of which other rows would answer otherwise, get this answer.

    What other rows would answer is judged by naive Bayes over labels; where answers are texts, by whether rare words
    of the prompt occur in several of the other rows.
    """
    inside = np.asarray(uses[places].sum(axis=0)).ravel()
    elsewhere = counts - inside
    is_known = (elsewhere >= _KNOWN) & (inside > 0)
    is_rare = is_known & (elsewhere <= rare * uses.shape[0])
    if (inside[is_rare] > len(places) / 2).any():
        return False
    if by_label is None:
        is_clear = np.asarray(uses[places][:, is_rare].sum(axis=1)).ravel() >= 2
        return bool(is_clear.mean() > _MOST)
    own = uses[places][:, is_known].T @ np.eye(by_label.shape[1])[answers[places]]
    sizes = np.bincount(answers, minlength=by_label.shape[1]) - np.bincount(
        answers[places], minlength=by_label.shape[1]
    )
    odds = np.log((by_label[is_known] - own + 0.5) / (sizes + 1.0))
    scores = uses[places][:, is_known] @ odds
    return bool((scores.max(axis=1) - scores[:, answer] > _MARGIN).mean() > _MOST)


def _repeated(rows: Sequence[Example], floor: int, alpha: float, purity: float) -> list[Finding]:
    """Return a finding per source whose answers repeat contacts, prices or phrases that the others lack."""
    said = prose(rows)
    names, sources = np.unique([row.source for row in said], return_inverse=True)
    if len(names) < 2:
        return []
    causes: defaultdict[int, dict[str, Places]] = defaultdict(dict)
    for kind, uses in (("", _contacts(said)), ("the phrase ", _phrases(said))):
        for name, source, places in _enriched(uses, sources, floor, alpha, purity):
            causes[source][f"{kind}{name}"] = places
    return [_repetition(str(names[source]), found, said) for source, found in sorted(causes.items())]


def _enriched(
    uses: _Uses, sources: Places, floor: int, alpha: float, purity: float
) -> Iterator[tuple[str, int, Places]]:
    """Yield each pattern that one source repeats beyond chance, that source, and its rows."""
    pattern, place = uses.pairs
    is_kept = np.bincount(pattern, minlength=1)[pattern] >= floor
    size = len(sources)
    pattern, place = np.divmod(np.unique(pattern[is_kept] * size + place[is_kept]), size)
    bounds = np.searchsorted(pattern, np.arange(pattern.max(initial=-1) + 2))
    is_frequent = np.diff(bounds) >= floor
    counts = np.zeros((len(is_frequent), sources.max() + 1), dtype=np.int64)
    np.add.at(counts, (pattern, sources[place]), 1)
    source, most, of = counts.argmax(axis=1), counts.max(axis=1), counts.sum(axis=1)
    chance = (
        binom.sf(most - 1, of, np.bincount(sources)[source] / len(sources))
        * is_frequent.sum()
        * counts.shape[1]
    )
    for number in np.flatnonzero(is_frequent & (most >= floor) & (most >= purity * of) & (chance < alpha)):
        places = place[bounds[number] : bounds[number + 1]]
        yield uses.name(int(number)), int(source[number]), places[sources[places] == source[number]]


def _contacts(said: Sequence[Example]) -> _Uses:
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
    return _Uses((patterns, places), lambda number: str(names[number]))


def _spelled(match: re.Match[str]) -> str:
    text = next(group for group in match.groups() if group)
    return text if re.search(r"[a-z]", text) else re.sub(r"[^\d.,]", "", text).strip(".,")


def _phrases(said: Sequence[Example]) -> _Uses:
    """Return which row has which phrase of several words."""
    numbers: dict[str, int] = {}
    texts = [
        [numbers.setdefault(word, len(numbers)) for word in _WORD.findall(row.answer.casefold())]
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
        return repr(" ".join(words[word] for word in stream[start : start + _PHRASE]))

    return _Uses((patterns, rows[starts]), name)


def _repetition(source: str, found: Mapping[str, Places], said: Sequence[Example]) -> Finding:
    keys = [said[place] for place in sorted({int(place) for places in found.values() for place in places})]
    ranked = sorted(
        found, key=lambda pattern: (-len(found[pattern]), not pattern.startswith("the "), pattern)
    )
    named = ", ".join(f"{pattern} in {len(found[pattern])}" for pattern in ranked[:_NAMED])
    return _finding(
        Severity.WARN,
        keys,
        f"source {source!r} repeats what the others lack: {named}"
        + (" and more" if len(found) > _NAMED else ""),
        "Find out who supplied these rows, and leave them out if nobody can vouch for them.",
    )


def _dominant(rows: Sequence[Example], cap: float) -> list[Finding]:
    sizes = Counter(row.source for row in rows)
    return [
        CHECK.found(
            (row.key for row in rows if row.source == source),
            f"source {source!r} supplies {size / len(rows):.0%} of the rows, more than {cap:.0%}",
            "Collect more from the other sources, or give this one's rows less weight.",
        )
        for source, size in sorted(sizes.items())
        if len(sizes) >= 3 and size > cap * len(rows)
    ]


def _finding(severity: Severity, own: Iterable[Example], evidence: str, repair: str) -> Finding:
    keys = tuple(row.key for row in own)
    return CHECK.found(keys, evidence, repair, Repair(RepairKind.DROP, keys), severity=severity)
