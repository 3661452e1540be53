"""Finds what stands in two splits at once, which makes a score on the test split look better than it is.

Catches: a group spread over splits; a prompt that is equal or nearly equal to one in another split.
Misses: the same question in other words, and leaks through the base model's own training data.
"""

from collections.abc import Hashable, Iterable, Sequence

from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Check, Finding, Severity
from retrain.audit.rows import grouped
from retrain.near_duplicates import clusters, text_of
from retrain.types import Example, Split

CHECK = Check("leakage", version=3)
ALIKE = 0.8  # a recipe may call fewer rows near-duplicates, but no copies of test rows are for training


def find(examples: Sequence[Example], context: Context = NOTHING) -> list[Finding]:
    """Return one finding per group or near-duplicate cluster that touches several splits.

    It blocks where rows that models are judged by are touched, those of earlier versions too, and warns where only
    training and validation share something.
    """
    rows = [*examples, *context.earlier]
    groups = _shared((example.group for example in rows), rows)
    alike = _shared(
        clusters(
            [text_of(example.messages) for example in rows], threshold=min(ALIKE, context.near_threshold)
        ),
        rows,
    )
    return [_finding("group", members) for members in groups] + [
        _finding("nearly equal prompt", members)
        for members in alike
        if len({example.group for example in members}) > 1
    ]


def _shared(names: Iterable[Hashable], examples: Sequence[Example]) -> list[list[Example]]:
    """Return the examples of each name that occurs in more than one split."""
    return [rows for rows in grouped(names, examples).values() if len({row.split for row in rows}) > 1]


def _finding(shared: str, members: Sequence[Example]) -> Finding:
    splits = {example.split for example in members}
    return CHECK.found(
        (example.key for example in members),
        f"{len(members)} examples of one {shared} stand in {' and '.join(sorted(splits))}",
        "Put them into one group and build the set again: all of them join the strictest split.",
        severity=Severity.BLOCK if splits & {Split.TEST, Split.REGRESSION} else Severity.WARN,
    )
