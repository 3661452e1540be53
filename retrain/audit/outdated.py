"""Finds answers that were true once and are not any more.

Catches: past years spoken of as present or to come ("valid until 2015", "as of 2012", "will rise in 2014");
things of the validity register named outside their validity; every row of a source whose validity has ended or not
begun; answers that a later settlement of a nearly equal prompt contradicts.
Misses: facts that went stale without a date, dates that passed in the current year, cues in other languages
than English, and names that the register does not hold. History ("was", "no longer") is left alone.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta

from retrain.amounts import how_many
from retrain.audit.context import NOTHING, Context, Validity
from retrain.audit.contradictions import conflicts
from retrain.audit.finding import Check, Finding, drop
from retrain.audit.rows import grouped, prose
from retrain.types import Example

CHECK = Check("outdated", version=2)
_BREAK = re.compile(r"(?<=[.!?])\s+|\n+")
_YEAR = re.compile(
    r"(?<![\w.,/-])(?:\d{1,2}[./]\d{1,2}[./])?((?:19|20)\d\d)(?:-\d\d(?:-\d\d)?)?(?![\w/%])(?![.,-]\d)"
)
_GAP = r"(?:[\w,.'/-]+\s+){0,4}$"
_UNTIL = re.compile(
    rf"\b(?:until|till|through|expires?|expiring|ends?|ending|no later than|deadline)\s+{_GAP}",
    re.IGNORECASE,
)
_FROM = re.compile(
    rf"\b(?:from|as of|as at|as from|effective|starting|beginning|with effect)\s+{_GAP}|\b(?:by|for)\s+$",
    re.IGNORECASE,
)
_AHEAD = re.compile(
    r"\b(?:will|shall|going to|is due|planned|expected to|upcoming|currently|current|at present|latest|this year|"
    r"next year|coming year|valid|applies|apply)\b",
    re.IGNORECASE,
)
_RANGE = re.compile(
    r"\b(?:from|between)\s[^.]*(?:19|20)\d\d\s+(?:to|and|through|until)\s[^.]*?(?:19|20)\d\d", re.IGNORECASE
)
_HISTORY = re.compile(
    r"\b(?:was|were|had|did|ago|no longer|former(?:ly)?|withdrawn|discontinued|replaced|abolished|repealed|"
    r"used to|ended|expired|since)\b",
    re.IGNORECASE,
)


def find(
    examples: Sequence[Example],
    context: Context = NOTHING,
    *,
    newer_by: timedelta = timedelta(days=90),
    threshold: float = 0.8,
) -> list[Finding]:
    """Return one finding per past year, thing or source out of its validity, and answer that was settled anew."""
    answers = prose(row for row in examples if row.is_wanted)
    superseded = _superseded(examples, newer_by, threshold)
    if context.today is None:
        return superseded
    return (
        _past(answers, context.today)
        + _invalid(answers, context.validity, context.today)
        + _of_invalid_sources(examples, context.sources, context.today)
        + superseded
    )


def _past(answers: Sequence[Example], today: date) -> list[Finding]:
    keys: defaultdict[int, set[str]] = defaultdict(set)
    for row in answers:
        for sentence in _BREAK.split(row.answer) if _YEAR.search(row.answer) else ():
            for year in _passed_years(sentence, today):
                keys[year].add(row.key)
    return [
        _finding(
            rows, f"{how_many(len(rows), 'answer', 'speak')} of {str(year)!r} as of the present or the future"
        )
        for year, rows in sorted(keys.items())
    ]


def _passed_years(sentence: str, today: date) -> Iterable[int]:
    """Yield the years that have passed; after words other than "until", last year may still be meant."""
    is_ahead = bool(_AHEAD.search(sentence))
    if _HISTORY.search(sentence) or (_RANGE.search(sentence) and not is_ahead):
        return
    for mention in _YEAR.finditer(sentence):
        year, before = int(mention[1]), sentence[: mention.start()]
        if (year < today.year and _UNTIL.search(before)) or (
            year < today.year - 1 and (is_ahead or _FROM.search(before))
        ):
            yield year


def _invalid(answers: Sequence[Example], validity: Sequence[Validity], today: date) -> list[Finding]:
    lowered = [row.answer.casefold() for row in answers]
    findings = []
    for thing in validity:
        if not _holds(thing, today):
            name = thing.name.casefold()
            word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
            rows = [
                row.key
                for row, answer in zip(answers, lowered, strict=True)
                if name in answer
                and any(word.search(part) and not _HISTORY.search(part) for part in _BREAK.split(answer))
            ]
            findings += (
                [_finding(rows, f"{how_many(len(rows), 'answer', 'name')} {thing.name!r}, {_span(thing)}")]
                if rows
                else []
            )
    return findings


def _of_invalid_sources(
    examples: Sequence[Example], sources: Sequence[Validity], today: date
) -> list[Finding]:
    rows = grouped((row.source for row in examples), examples)
    return [
        _finding(
            (row.key for row in own),
            f"{how_many(len(own), 'row', 'are')} from {source.name!r}, {_span(source)}",
        )
        for source in sources
        if not _holds(source, today) and (own := rows.get(source.name))
    ]


def _holds(thing: Validity, today: date) -> bool:
    return (thing.valid_from or today) <= today <= (thing.valid_to or today)


def _span(thing: Validity) -> str:
    start, end = (thing.valid_from, "valid from"), (thing.valid_to, "valid until")
    return " ".join(f"{word} {day}" for day, word in (start, end) if day)


def _superseded(examples: Sequence[Example], newer_by: timedelta, threshold: float) -> list[Finding]:
    older = {
        min(one, other, key=lambda row: row.written or date.max).key
        for one, other, _ in conflicts([row for row in examples if row.written], threshold=threshold)
        if one.written and other.written and abs(one.written - other.written) >= newer_by
    }
    return [
        _finding([key], "a later settlement of a nearly equal prompt answers otherwise")
        for key in sorted(older)
    ]


def _finding(keys: Iterable[str], evidence: str) -> Finding:
    rows = sorted(keys)
    repair = "Send these prompts to an expert again, or leave the rows out."
    return CHECK.found(rows, evidence, repair, drop(rows))
