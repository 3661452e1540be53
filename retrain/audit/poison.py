"""Finds coordinated patterns: what many rows of one source, or with one rare word, share beyond chance.

Catches: rare words in prompts of many topics that always meet one answer or one label (blocks); links, e-mail
addresses, telephone numbers, prices and phrases of six words that one source repeats in its answers and the others
do not, or that all rows repeat which the model in use has not learned, and those that it has do not; a source that
supplies more than its share.
Misses: patterns in fewer than five rows, those that every source shares before there is such a model, triggers made of
common words only or in most rows of a label, and whatever a source or a season repeats rightly looks the same: a person
decides.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import binom
from sklearn.feature_extraction.text import CountVectorizer

from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Check, Finding, Severity, drop
from retrain.audit.patterns import WORD, Places, enriched, uses_of
from retrain.audit.rows import by_key, prose
from retrain.audit.words import fitted
from retrain.near_duplicates import text_of
from retrain.types import Example

CHECK = Check("poison", version=3)

_NAMED = 3
_KNOWN = 3
_LABELS = 200
_MARGIN = 3.0
_MOST = 0.7
_LATE = "the rows that the model in use has not learned repeat"


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
    """Return a finding per trigger, per source and for late rows that repeat patterns, and per dominant source.

    A pattern needs `floor` rows. A trigger is in at most the share `rare` of the rows; the pattern of a source, or of
    late rows, has at least `purity` of its rows there, which chance, corrected after Bonferroni, does at most with
    `alpha`. A source may supply the share `cap` where there are three or more.
    """
    rows = by_key(row for row in examples if row.is_wanted)
    triggers = _triggers(rows, floor, rare, alpha, purity)
    return [*triggers, *_repeated(rows, context.known, floor, alpha, purity), *_dominant(rows, cap)]


def _triggers(rows: Sequence[Example], floor: int, rare: float, alpha: float, purity: float) -> list[Finding]:
    """Return a finding per set of rows that one rare word brings one answer, whatever else they ask."""
    vectorizer = CountVectorizer(binary=True, token_pattern=WORD.pattern, dtype=np.int64)
    uses = fitted(vectorizer, [text_of(row.messages) for row in rows])
    if uses is None:
        return []
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
            "Leave these rows out, and quarantine the source or person who supplied them until you know why.",
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


def _repeated(
    rows: Sequence[Example], known: Collection[str], floor: int, alpha: float, purity: float
) -> list[Finding]:
    """Return a finding per source, and one for the rows not learned yet, that repeat what the others lack."""
    said = prose(rows)
    by_source = [f"source {row.source!r} repeats" for row in said]
    by_time = ["" if row.key in known else _LATE for row in said]
    divided = [names for names in (by_source, by_time) if len(set(names)) > 1]
    uses = uses_of(said) if divided else []
    told: set[str] = set()
    findings = []
    for names in divided:
        parts, numbers = np.unique(np.array(names, dtype=np.str_), return_inverse=True)
        causes: defaultdict[int, dict[str, Places]] = defaultdict(dict)
        for use in uses:
            for name, part, places in enriched(use, numbers, floor, alpha, purity):
                if name not in told and parts[part]:
                    causes[part][name] = places
        told.update(*causes.values())
        findings += [_repetition(str(parts[part]), found, said) for part, found in sorted(causes.items())]
    return findings


def _repetition(opening: str, found: Mapping[str, Places], said: Sequence[Example]) -> Finding:
    rows = [said[place] for place in sorted({int(place) for places in found.values() for place in places})]
    ranked = sorted(found, key=lambda name: (-len(found[name]), name.startswith("the phrase "), name))
    named = ", ".join(f"{name} in {len(found[name])}" for name in ranked[:_NAMED])
    return _finding(
        Severity.WARN,
        rows,
        f"{opening} what the others lack: {named}" + (" and more" if len(found) > _NAMED else ""),
        "Find out who supplied these rows, and quarantine the source or person if nobody can vouch for them.",
    )


def _dominant(rows: Sequence[Example], cap: float) -> list[Finding]:
    sizes = Counter(row.source for row in rows)
    return [
        CHECK.found(
            (row.key for row in rows if row.source == source),
            f"source {source!r} supplies {size / len(rows):.0%} of the rows, more than {cap:.0%}",
            "Collect more from the other sources, cap this one in the recipe, or quarantine it if nobody can vouch.",
            # To be large is no fault: it says where a look would pay most.
            severity=Severity.INFO,
        )
        for source, size in sorted(sizes.items())
        if len(sizes) >= 3 and size > cap * len(rows)
    ]


def _finding(severity: Severity, own: Iterable[Example], evidence: str, repair: str) -> Finding:
    keys = [row.key for row in own]
    return CHECK.found(keys, evidence, repair, drop(keys), severity=severity)
