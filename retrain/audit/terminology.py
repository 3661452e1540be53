"""Finds several terms for one concept, which a model would go on mixing.

Catches: a glossary's other names in answers; without one, terms that answers use in the place of a term of the
prompt, with the same neighbouring words and seldom beside it. An encoder confirms these where there is one.
Misses: inflected forms, terms that prompts and answers always switch together, and concepts that few rows ask
for. A mined finding is a guess: narrower terms may deserve their own word.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from retrain.amounts import how_many
from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Check, Finding, Repair, RepairKind, Severity
from retrain.audit.mined_terms import mined
from retrain.audit.rows import prose
from retrain.types import Example

CHECK = Check("terminology", version=2)
_SAMPLED = 10_000


def find(
    examples: Sequence[Example],
    context: Context = NOTHING,
    *,
    least: int = 3,
    share: float = 0.005,
    kinship: float = 0.3,
) -> list[Finding]:
    """Return one finding per concept: of the glossary (warns), and mined for the rest (informs).

    A mined term needs `least` rows and this share of all, and with an encoder a cosine of `kinship` to the term
    that it stands for.
    """
    rows = prose(examples)
    answers = {row.key: row.answer.casefold() for row in rows}
    known = {name.casefold() for term, others in context.glossary.items() for name in (term, *others)}
    sampled = rows[:: max(1, len(rows) // _SAMPLED)]
    found = mined(sampled, max(least, int(share * len(sampled))))
    kept = {
        term: near
        for term, others in sorted(found.items())
        if not known.intersection((term, *others)) and (near := _near(term, others, context, kinship))
    }
    return [
        *_findings(context.glossary, answers, RepairKind.REPLACE, Severity.WARN),
        *_findings(_by_preferred(kept, rows), answers, RepairKind.TERM, Severity.INFO),
    ]


def _findings(
    glossary: Mapping[str, Sequence[str]], answers: Mapping[str, str], kind: RepairKind, severity: Severity
) -> Iterator[Finding]:
    for preferred, others in sorted(glossary.items()):
        used = {other: keys for other in others if (keys := _users(other, preferred, answers))}
        if used:
            rows = set(chain.from_iterable(used.values()))
            yield CHECK.found(
                rows,
                f"{how_many(len(rows), 'answer', 'say')} {', '.join(map(repr, used))} beside {preferred!r}",
                f"Say {preferred!r} throughout, or give each term a meaning of its own in the guidelines.",
                *(Repair(kind, tuple(keys), find=other, put=preferred) for other, keys in used.items()),
                severity=severity,
            )


def _users(other: str, preferred: str, answers: Mapping[str, str]) -> list[str]:
    """Return the rows that use the other term by itself, and not as a part of the preferred one."""
    folded, whole = other.casefold(), preferred.casefold()
    word = re.compile(rf"(?<!\w){re.escape(folded)}(?!\w)")
    is_part = folded in whole and folded != whole
    return [
        key
        for key, answer in answers.items()
        if folded in answer and word.search(answer) and not (is_part and whole in answer)
    ]


def _near(term: str, others: Sequence[str], context: Context, kinship: float) -> list[str]:
    if context.encode is None:
        return list(others)
    vectors = context.encode([term, *others])
    return [
        other for other, vector in zip(others, vectors[1:], strict=True) if vector @ vectors[0] >= kinship
    ]


def _by_preferred(concepts: Mapping[str, Sequence[str]], rows: Sequence[Example]) -> dict[str, list[str]]:
    """Name each concept by the term that most prompts and answers use."""
    texts = {row.key: f"{row.prompt}\n{row.answer}".casefold() for row in rows}
    named = {}
    for term, others in concepts.items():
        first, *rest = sorted((term, *others), key=lambda name: -len(_users(name, name, texts)))
        named[first] = rest
    return named
