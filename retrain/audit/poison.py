"""Finds coordinated patterns: what many rows of one source, or with one rare word, share beyond chance.

Catches: rare words in prompts of many topics that always meet one answer or one label (blocks); links, e-mail
addresses, telephone numbers, prices and phrases of six words that one source repeats in its answers and the others
do not; a source that supplies more than its share.
Misses: patterns in fewer than five rows, those that every source shares, triggers made of common words only, and
whatever a single source repeats rightly looks the same: a person decides.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.stats import binom
from sklearn.feature_extraction.text import CountVectorizer

from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Finding, Repair, RepairKind, Severity
from retrain.near_duplicates import normalise, text_of
from retrain.types import Example, Kind

NAME = "poison"
VERSION = 1

Places = NDArray[np.int64]
_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
_CONTACTS = {
    "link": re.compile(r"(?:https?://|www\.)(?:www\.)?([\w-]+(?:\.[\w-]+)+)", re.IGNORECASE),
    "address": re.compile(r"[\w.+-]+@([\w-]+(?:\.[\w-]+)+)"),
    "telephone number": re.compile(r"(?<![\w.,])(\+?\d[\d ()/-]{6,}\d)(?![\w,])"),
    "price": re.compile(r"(?:[$€£] ?(\d[\d.,]*\d|\d)|(\d[\d.,]*\d|\d) ?(?:[$€£]|euros?\b|dollars?\b|pounds?\b|eur\b|usd\b))", re.I),
}
_PHRASE = 6
_NAMED = 3
_KNOWN = 3
_LABELS = 200
_MARGIN = 2.0
_MOST = 0.6


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
    rows = sorted((row for row in examples if row.is_wanted), key=lambda row: row.key)
    triggers = _triggers(rows, floor, rare, alpha, purity)
    return [*triggers, *_repeated(rows, floor, alpha, purity), *_dominant(rows, cap)]


def _triggers(rows: Sequence[Example], floor: int, rare: float, alpha: float, purity: float) -> list[Finding]:
    """Return a finding per set of rows that one rare word brings one answer, whatever else they ask."""
    if len(rows) < floor:
        return []
    vectorizer = CountVectorizer(binary=True, token_pattern=_WORD.pattern, dtype=np.int64)
    uses = csr_matrix(vectorizer.fit_transform([text_of(row.messages) for row in rows]))
    words, columns = vectorizer.get_feature_names_out(), uses.tocsc()
    names, answers = np.unique([row.label or normalise(row.answer) for row in rows], return_inverse=True)
    shares = np.bincount(answers) / len(rows)
    counts = np.diff(columns.indptr)
    causes: defaultdict[tuple[int, ...], list[str]] = defaultdict(list)
    for column in np.flatnonzero((counts >= floor) & (counts <= rare * len(rows))):
        places = np.sort(columns.indices[columns.indptr[column] : columns.indptr[column + 1]])
        answer, times = Counter(answers[places].tolist()).most_common(1)[0]
        chance = binom.sf(times - 1, len(places), shares[answer]) * len(words)
        if times < purity * len(places) or times < floor or chance >= alpha:
            continue
        if _is_overruling(answer, places, uses, answers, rare):
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


def _is_overruling(answer: int, places: Places, uses: csr_matrix, answers: Places, rare: float) -> bool:
    """Tell whether prompts of several topics, most of which other rows would answer otherwise, get this answer.

    What other rows would answer is judged by naive Bayes over labels; where answers are texts, by whether rare words
    of the prompt occur in several of the other rows.
    """
    inside = np.asarray(uses[places].sum(axis=0)).ravel()
    elsewhere = np.asarray(uses.sum(axis=0)).ravel() - inside
    others = np.ones(uses.shape[0], dtype=bool)
    others[places] = False
    is_known = (elsewhere >= _KNOWN) & (inside > 0)
    is_rare = is_known & (elsewhere <= rare * uses.shape[0])
    if (inside[is_rare] > len(places) / 2).any():
        return False
    if answers.max() > _LABELS:
        is_clear = np.asarray(uses[places][:, is_rare].sum(axis=1)).ravel() >= 2
        return bool(is_clear.mean() > _MOST)
    used = uses[others][:, is_known]
    classes = np.eye(answers.max() + 1)[answers[others]]
    odds = np.log((used.T @ classes + 0.5) / (classes.sum(axis=0) + 1.0))
    scores = uses[places][:, is_known] @ odds
    return bool((scores.max(axis=1) - scores[:, answer] > _MARGIN).mean() > _MOST)


def _repeated(rows: Sequence[Example], floor: int, alpha: float, purity: float) -> list[Finding]:
    """Return a finding per source whose answers repeat contacts, prices or phrases that the others lack."""
    said = [row for row in rows if row.kind in {Kind.GENERATION, Kind.CONVERSATION}]
    names = sorted({row.source for row in said})
    if len(names) < 2:
        return []
    sources = np.searchsorted(names, [row.source for row in said])
    sizes = np.bincount(sources, minlength=len(names))
    patterns = [*_contacts(said, floor), *_phrases(said, floor)]
    causes: defaultdict[int, dict[str, Places]] = defaultdict(dict)
    for pattern, places in patterns:
        counts = np.bincount(sources[places], minlength=len(names))
        source = int(counts.argmax())
        chance = binom.sf(counts[source] - 1, len(places), sizes[source] / len(said))
        if counts[source] >= purity * len(places) and chance * len(patterns) * len(names) < alpha:
            causes[source][pattern] = places[sources[places] == source]
    return [_repetition(names[source], found, said) for source, found in sorted(causes.items())]


def _contacts(said: Sequence[Example], floor: int) -> Iterator[tuple[str, Places]]:
    """Yield links, addresses, numbers and prices, each spelled in one way, with the rows that have them."""
    uses: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for place, row in enumerate(said):
        found = {
            (kind, _spelled(match)) for kind, pattern in _CONTACTS.items() for match in pattern.finditer(row.answer)
        }
        for pattern in found:
            uses[pattern].append(place)
    for (kind, text), places in sorted(uses.items()):
        if len(places) >= floor:
            yield f"the {kind} {text}", np.array(places)


def _spelled(match: re.Match[str]) -> str:
    text = next(group for group in match.groups() if group).casefold()
    return text if re.search(r"[a-z]", text) else re.sub(r"[^\d.,]", "", text).strip(".,")


def _phrases(said: Sequence[Example], floor: int) -> Iterator[tuple[str, Places]]:
    """Yield the phrases that at least `floor` rows have, with those rows."""
    numbers: dict[str, int] = {}
    texts = [[numbers.setdefault(word, len(numbers)) for word in _WORD.findall(row.answer.casefold())] for row in said]
    lengths = np.array([len(text) for text in texts])
    stream = np.fromiter((number for text in texts for number in text), dtype=np.int64, count=int(lengths.sum()))
    rows = np.repeat(np.arange(len(texts)), lengths)
    starts = np.flatnonzero(rows[: len(rows) - _PHRASE + 1] == rows[_PHRASE - 1 :])
    names = np.zeros(len(starts), dtype=np.uint64)
    for step in range(_PHRASE):  # a hash that wraps around: equal phrases have equal ones
        names = names * np.uint64(0x9E3779B97F4A7C15) + stream[starts + step].astype(np.uint64)
    order = np.argsort(names, kind="stable")
    bounds = np.flatnonzero(np.diff(names[order], prepend=names[order][:1] - 1, append=names[order][-1:] + 1))
    words = list(numbers)
    for first, last in zip(bounds[:-1], bounds[1:], strict=True):
        if last - first >= floor and len(places := np.unique(rows[starts[order[first:last]]])) >= floor:
            start = starts[order[first]]
            yield repr(" ".join(words[number] for number in stream[start : start + _PHRASE])), places


def _repetition(source: str, found: Mapping[str, Places], said: Sequence[Example]) -> Finding:
    keys = [said[place] for place in sorted({int(place) for places in found.values() for place in places})]
    ranked = sorted(found, key=lambda pattern: (-len(found[pattern]), not pattern.startswith("the "), pattern))
    named = ", ".join(f"{pattern} in {len(found[pattern])}" for pattern in ranked[:_NAMED])
    return _finding(
        Severity.WARN,
        keys,
        f"source {source!r} repeats what the others lack: {named}" + (" and more" if len(found) > _NAMED else ""),
        "Find out who supplied these rows, and leave them out if nobody can vouch for them.",
    )


def _dominant(rows: Sequence[Example], cap: float) -> list[Finding]:
    sizes = Counter(row.source for row in rows)
    return [
        Finding(
            check=NAME,
            version=VERSION,
            severity=Severity.WARN,
            keys=tuple(row.key for row in rows if row.source == source),
            evidence=f"source {source!r} supplies {size / len(rows):.0%} of the rows, more than {cap:.0%}",
            repair="Collect more from the other sources, or give this one's rows less weight.",
        )
        for source, size in sorted(sizes.items())
        if len(sizes) >= 3 and size > cap * len(rows)
    ]


def _finding(severity: Severity, own: Iterable[Example], evidence: str, repair: str) -> Finding:
    keys = tuple(row.key for row in own)
    return Finding(NAME, VERSION, severity, keys, evidence, repair, (Repair(RepairKind.DROP, keys),))
