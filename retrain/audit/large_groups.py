"""Finds groups of related rows that are so large that one question outweighs the rest, and one split with it.

Catches: a near-duplicate cluster or conversation (or one person's rows, if the recipe groups by person) that holds more
than a share of all rows.
Misses: many small groups about one thing in other words.
"""

from collections.abc import Sequence

from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Check, Finding
from retrain.audit.rows import grouped
from retrain.types import Example

CHECK = Check("large_groups", version=2)


def find(
    examples: Sequence[Example], context: Context = NOTHING, *, share: float = 0.05, least: int = 4
) -> list[Finding]:
    """Return one finding per group of at least `least` rows that holds more than `share` of all."""
    members = grouped((example.group for example in examples), examples)
    return [
        CHECK.found(
            (row.key for row in rows),
            f"one group holds {len(rows)} of {len(examples)} rows, {len(rows) / len(examples):.0%},"
            f" all in {rows[0].split}",
            "See whether a template joins what is not related; else leave some of it out.",
        )
        for _, rows in sorted(members.items())
        if len(rows) >= least and len(rows) > share * len(examples)
    ]
