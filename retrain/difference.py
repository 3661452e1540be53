"""How one training set differs from another, by content."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from retrain.types import Example, content_hash, sha256_of

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Diff:
    """How set b differs from set a: rows of b, rows of a, and pairs of (row of a, row of b).

    A changed pair has the same prompt and another answer or weight, or the same key and another prompt; a moved one has
    only another split.
    """

    added: tuple[Example, ...]
    removed: tuple[Example, ...]
    changed: tuple[tuple[Example, Example], ...]
    moved: tuple[tuple[Example, Example], ...]


def diff(a: Sequence[Example], b: Sequence[Example]) -> Diff:
    """Compare two sets by content: first what is equal, then what moved, then what has another answer or prompt."""
    a, b = apart(a, b, content_hash)
    moved, a, b = _matched(a, b, lambda row: sha256_of({**row.content, "split": None}))
    changed, a, b = _matched(a, b, lambda row: sha256_of([row.kind, row.content["messages"]]))
    reworded, a, b = _matched(a, b, lambda row: row.key)
    return Diff(added=tuple(b), removed=tuple(a), changed=(*changed, *reworded), moved=tuple(moved))


def apart(a: Sequence[Row], b: Sequence[Row], name: Callable[[Row], str]) -> tuple[list[Row], list[Row]]:
    """Return what a has and b lacks by name, and the other way round; equal rows count as often as they stand there."""
    names = [[name(row) for row in rows] for rows in (a, b)]
    shared = Counter(names[0]) & Counter(names[1])
    return _beyond(a, names[0], shared.copy()), _beyond(b, names[1], shared)


def _beyond(rows: Sequence[Row], names: Sequence[str], shared: Counter[str]) -> list[Row]:
    left = []
    for row, name in zip(rows, names, strict=True):
        if shared.get(name):
            shared[name] -= 1
        else:
            left.append(row)
    return left


def _matched(
    a: Sequence[Example], b: Sequence[Example], identity: Callable[[Example], str]
) -> tuple[list[tuple[Example, Example]], list[Example], list[Example]]:
    """Pair rows of equal identity, in content order; return the pairs and what is left of a and of b."""
    waiting: defaultdict[str, list[Example]] = defaultdict(list)
    for row in sorted(b, key=content_hash, reverse=True):
        waiting[identity(row)].append(row)
    pairs, rest = [], []
    for row in sorted(a, key=content_hash):
        twins = waiting[identity(row)]
        if twins:
            pairs.append((row, twins.pop()))
        else:
            rest.append(row)
    return pairs, rest, sorted((row for rows in waiting.values() for row in rows), key=content_hash)
