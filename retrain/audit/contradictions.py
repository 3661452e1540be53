"""Finds prompts that people answered in different ways, which teaches the model to guess.

Catches: the same prompt with different labels in training (blocks); elsewhere, or for nearly equal prompts,
different labels (warn); of other kinds, answers to the same or nearly equal prompts that differ in their numbers,
in a negation or in most of their words (warn).
Misses: contradictions between prompts in other words, answers that are wrong alike, opposites without a negation
("before", "after"), numbers in words, and all but the first rows of a prompt that is asked very often.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import combinations

from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Check, Finding, Severity
from retrain.audit.rows import by_key, grouped
from retrain.near_duplicates import clusters, join, normalise, root, similarity, text_of
from retrain.types import Example, Kind, Split

CHECK = Check("contradictions", version=2)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_NEGATION = re.compile(
    r"\b(?:not?|never|cannot|none|neither|nor|nobody|nothing|nicht|kein\w*|nie|niemals)\b|n['\u2019]t\b",
    re.IGNORECASE,
)
_POLITE = frozenset(
    ("please", "hello", "hi", "dear", "thanks", "thank", "you", "help", "bitte", "hallo", "danke")
)
_MOST_COMPARED = 40


def find(examples: Sequence[Example], context: Context = NOTHING, *, threshold: float = 0.8) -> list[Finding]:
    """Return one finding per prompt or near-duplicate cluster whose answers contradict each other.

    Rows that only say what was wrong take no part: what they forbid is no second answer.
    """
    wanted = [example for example in examples if example.is_wanted]
    labelled = [example for example in wanted if example.kind is Kind.CLASSIFICATION]
    return _of_labels(labelled, threshold) + _of_answers(wanted, threshold)


def conflicts(
    examples: Sequence[Example], *, threshold: float = 0.8
) -> Iterator[tuple[Example, Example, str]]:
    """Yield pairs with nearly equal prompts whose answers cannot both hold, and what they differ in.

    Labels are not compared. Of a cluster, the first rows by key are.
    """
    rows = [row for row in examples if row.kind is not Kind.CLASSIFICATION and row.is_wanted]
    for cluster in grouped(clusters(_texts(rows), threshold=threshold), rows).values():
        for one, other in combinations(by_key(cluster)[:_MOST_COMPARED], 2):
            if one.kind is other.kind and (difference := _difference(one, other)):
                yield one, other, difference


def claims(answer: str) -> tuple[frozenset[str], int]:
    """Return what makes two nearly equal answers say different things: the numbers and the count of negations."""
    return frozenset(_NUMBER.findall(answer)), len(_NEGATION.findall(answer))


def _difference(one: Example, other: Example) -> str:
    if one.kind is Kind.EXTRACTION:
        return "entities" if one.answer != other.answer else ""
    if one.answer == other.answer:
        return ""
    left, right = (set(normalise(text_of(row.messages)).split()) - _POLITE for row in (one, other))
    if _is_explained(one, other, left - right) or _is_explained(other, one, right - left):
        return ""
    alike = similarity(one.answer, other.answer)
    if alike < 0.3:
        return "most words" if left <= right or right <= left else ""
    (numbers, negations), (other_numbers, other_negations) = claims(one.answer), claims(other.answer)
    if numbers - other_numbers and other_numbers - numbers:
        return "numbers"
    return "a negation" if alike >= 0.5 and negations != other_negations else ""


def _is_explained(one: Example, other: Example, own: set[str]) -> bool:
    """Tell whether a word that only this prompt has recurs in its answer alone: it asks for something else."""
    return bool(own and (own & set(normalise(one.answer).split())) - set(normalise(other.answer).split()))


def _of_answers(examples: Sequence[Example], threshold: float) -> list[Finding]:
    places = {example.key: place for place, example in enumerate(by_key(examples))}
    parents = list(range(len(places)))
    found = list(conflicts(examples, threshold=threshold))
    for one, other, _ in found:
        join(parents, places[one.key], places[other.key])
    groups: defaultdict[int, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for one, other, difference in found:
        keys, differences = groups[root(parents, places[one.key])]
        keys.update((one.key, other.key))
        differences.add(difference)
    return [
        _finding(keys, f"{len(keys)} answers to one prompt differ in {' and '.join(sorted(differences))}")
        for _, (keys, differences) in sorted(groups.items())
    ]


def _of_labels(labelled: Sequence[Example], threshold: float) -> list[Finding]:
    texts = [normalise(text) for text in _texts(labelled)]
    near = _contradicting(clusters(texts, threshold=threshold), labelled)
    return [
        *(_labels(rows, "the same prompt", _severity(rows)) for rows in _contradicting(texts, labelled)),
        *(
            _labels(rows, "nearly equal prompts")
            for rows in near
            if len(set(map(normalise, _texts(rows)))) > 1
        ),
    ]


def _contradicting(names: Iterable[Hashable], examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Yield the examples of each name that has more than one label."""
    return (rows for rows in grouped(names, examples).values() if len({row.label for row in rows}) > 1)


def _severity(members: Sequence[Example]) -> Severity:
    labels = {example.label for example in members if example.split is Split.TRAIN}
    return Severity.BLOCK if len(labels) > 1 else Severity.WARN


def _texts(examples: Sequence[Example]) -> list[str]:
    return [text_of(example.messages) for example in examples]


def _labels(members: Sequence[Example], shared: str, severity: Severity = Severity.WARN) -> Finding:
    evidence = f"{len({row.label for row in members})} different answers to {shared}"
    return _finding((row.key for row in members), evidence, severity)


def _finding(keys: Iterable[str], evidence: str, severity: Severity = Severity.WARN) -> Finding:
    repair = "Let one more expert adjudicate these answers, or say in the guidelines which one holds."
    return CHECK.found(keys, evidence, repair, severity=severity)
