"""Finds prompts that people answered in different ways, which teaches the model to guess.

Catches: the same prompt with different labels in training (blocks); the same prompt with different answers
elsewhere or of another kind, and nearly equal prompts with different labels (warn).
Misses: contradictions between prompts in other words, and answers that are wrong alike.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence

from retrain.audit.finding import Finding, Severity
from retrain.near_duplicates import clusters, normalise, text_of
from retrain.types import Example, Kind, Split

NAME = "contradictions"
VERSION = 1


def find(examples: Sequence[Example], *, threshold: float = 0.8) -> list[Finding]:
    """Return one finding per prompt or near-duplicate cluster whose answers differ.

    Answers are compared by label for classification, and else by `normalise`; nearly equal prompts of other
    kinds may well deserve different answers and are not compared.
    """
    texts = [normalise(text_of(example.messages)) for example in examples]
    same = [
        _finding("the same prompt", members, _severity(members))
        for members in _contradicting(texts, examples)
    ]
    labelled = [example for example in examples if example.kind is Kind.CLASSIFICATION]
    alike = clusters([text_of(example.messages) for example in labelled], threshold=threshold)
    return same + [
        _finding("nearly equal prompts", members, Severity.WARN)
        for members in _contradicting(alike, labelled)
        if not _is_one_prompt(members)
    ]


def _contradicting(names: Iterable[Hashable], examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Yield the examples of each name that has more than one answer."""
    members: defaultdict[Hashable, list[Example]] = defaultdict(list)
    for name, example in zip(names, examples, strict=True):
        members[name].append(example)
    return (rows for rows in members.values() if len({_answer(row) for row in rows}) > 1)


def _answer(example: Example) -> str:
    return normalise(example.answer) if example.label is None else example.label


def _is_one_prompt(members: Sequence[Example]) -> bool:
    return len({normalise(text_of(example.messages)) for example in members}) == 1


def _severity(members: Sequence[Example]) -> Severity:
    labels = {
        example.label
        for example in members
        if example.split is Split.TRAIN and example.kind is Kind.CLASSIFICATION
    }
    return Severity.BLOCK if len(labels) > 1 else Severity.WARN


def _finding(shared: str, members: Sequence[Example], severity: Severity) -> Finding:
    return Finding(
        check=NAME,
        version=VERSION,
        severity=severity,
        keys=tuple(sorted(example.key for example in members)),
        evidence=f"{len({_answer(example) for example in members})} different answers to {shared}",
        repair="Let one more expert adjudicate these answers, or say in the guidelines which one holds.",
    )
