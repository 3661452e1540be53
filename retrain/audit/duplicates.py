"""Finds rows that teach the same thing twice, which gives it more weight than anybody decided.

Catches: rows whose prompt and answer are both equal or nearly equal, in one set or across versions.
Misses: the same question and answer in other words. Different answers to one prompt are contradictions.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from retrain.audit.context import NOTHING, Context
from retrain.audit.contradictions import claims
from retrain.audit.finding import Check, Finding, drop
from retrain.audit.rows import grouped
from retrain.near_duplicates import clusters, text_of
from retrain.types import Example, content_hash

CHECK = Check("duplicates", version=1)


def find(examples: Sequence[Example], context: Context = NOTHING, *, threshold: float = 0.7) -> list[Finding]:
    """Return one finding per cluster of rows that are alike in prompt and answer.

    The threshold lies below that for prompts alone, as prompt and answer must both reach it.
    """
    own = {example.key for example in examples}
    earlier = {row.key: row for row in context.earlier if row.key not in own}
    findings = [
        _finding([row for row in twins if row.key in own], len(twins))
        for twins in _twins([*examples, *earlier.values()], threshold)
        if any(row.key in own for row in twins)
    ]
    return sorted(findings, key=lambda finding: finding.keys)


def _twins(rows: Sequence[Example], threshold: float) -> Iterator[list[Example]]:
    """Yield the clusters; only rows whose prompt has a twin get their answers compared, as answers are long."""
    asked = clusters([text_of(row.messages) for row in rows], threshold=threshold)
    sizes = Counter(asked)
    crowded = [(name, row) for name, row in zip(asked, rows, strict=True) if sizes[name] > 1]
    said = clusters([row.answer for _, row in crowded], threshold=threshold)
    names = [
        (name, answer, row.kind, row.label, row.is_wanted, claims(row.answer))
        for (name, row), answer in zip(crowded, said, strict=True)
    ]
    return (twins for twins in grouped(names, (row for _, row in crowded)).values() if len(twins) > 1)


def _finding(rows: Sequence[Example], count: int) -> Finding:
    keys = [row.key for row in sorted(rows, key=lambda row: (content_hash(row), row.key))]
    return CHECK.found(
        keys,
        f"{count} rows nearly equal in prompt and answer, {count - len(keys)} of them in earlier versions",
        "Keep one of these rows; one that an earlier version holds is learned again through replay.",
        *([drop(keys[1:])] if keys[1:] else []),
    )
