"""Finds a source whose answers are written in another register than the rest: slang, shouting, praise, emoji, chat.

Catches: marks of a register that one source's answers carry far more often than all others'; it names the rows with
such marks.
Misses: a register that every source shares, sources below the floor, rows of a named source without a mark, and slang
in other languages than English, where only capitals, exclamation marks, emoji and small first letters count.
"""

import re
from collections.abc import Sequence

from scipy.stats import fisher_exact

from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Check, Finding
from retrain.audit.rows import grouped, prose
from retrain.audit.words import REGISTERS, words
from retrain.types import Example

CHECK = Check("tone", version=1)

SIGNS = {
    "shouting": re.compile(r"!|\b[A-Z\u00c0-\u00de]{2,} [A-Z\u00c0-\u00de]{2,} [A-Z\u00c0-\u00de]{2,}\b"),
    "emoji": re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]"),
    "small first letter": re.compile(r"\A\W*[a-z]"),
}


def find(
    examples: Sequence[Example],
    context: Context = NOTHING,
    *,
    alpha: float = 0.001,
    least: float = 0.15,
    ratio: float = 3.0,
    floor: int = 8,
) -> list[Finding]:
    """Return one finding per source of another register.

    A register counts when at least `least` of a source's answers have its marks, `ratio` times as many as of the
    others', and Fisher's exact test, corrected for all that is compared, stays below `alpha`. A source needs `floor`
    answers.
    """
    rows = prose(row for row in examples if row.is_wanted)
    marks = _marks(rows)
    sources = grouped((row.source for row in rows), rows)
    compared = len(sources) * len(marks)
    findings = []
    for source, own in sorted(sources.items()):
        keys, others = {row.key for row in own}, len(rows) - len(own)
        found = {
            name: marked & keys
            for name, marked in marks.items()
            if floor <= len(own) < len(rows)
            and len(marked & keys) / len(own) >= max(least, ratio * len(marked - keys) / others)
            and _p(len(marked & keys), len(own), len(marked - keys), others) * compared < alpha
        }
        if found:
            names = ", ".join(f"{name} in {len(marked)}" for name, marked in found.items())
            findings.append(
                CHECK.found(
                    set().union(*found.values()),
                    f"the {len(own)} answers from {source!r} are in another register than the rest: {names}",
                    "Have an editor put these answers into the house style, or leave the source out.",
                )
            )
    return findings


def _marks(rows: Sequence[Example]) -> dict[str, set[str]]:
    """Return, for each register, the keys of the rows that have its marks."""
    marks: dict[str, set[str]] = {name: set() for name in (*REGISTERS, *SIGNS)}
    for row in rows:
        said = words(row.answer)
        carried = [name for name, register in REGISTERS.items() if not register.isdisjoint(said)]
        carried += [name for name, sign in SIGNS.items() if sign.search(row.answer)]
        for name in carried:
            marks[name].add(row.key)
    return marks


def _p(marked: int, own: int, elsewhere: int, others: int) -> float:
    table = [[marked, own - marked], [elsewhere, others - elsewhere]]
    return float(fisher_exact(table, alternative="greater").pvalue)
