"""Carries out accepted repairs on rows, and says which touched which row; the rows given stay as they are."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from retrain.audit.finding import Repair, RepairKind
from retrain.types import Settled


def apply(
    rows: Iterable[Settled], repairs: Mapping[str, Repair]
) -> tuple[list[Settled], dict[str, list[str]]]:
    """Return the rows as repaired, and the names of the repairs that changed or dropped a row, by its key.

    Repairs are carried out in the order in which they are given; one that changes nothing is not named.
    """
    of_row: defaultdict[str, list[str]] = defaultdict(list)
    for name, repair in repairs.items():
        for key in repair.keys:
            of_row[key].append(name)
    kept: list[Settled] = []
    touched: dict[str, list[str]] = {}
    for row in rows:
        repaired, names = _repaired(row, [(name, repairs[name]) for name in of_row.get(row.key, [])])
        if names:
            touched[row.key] = names
        if repaired is not None:
            kept.append(repaired)
    return kept, touched


def _repaired(row: Settled, repairs: Sequence[tuple[str, Repair]]) -> tuple[Settled | None, list[str]]:
    names: list[str] = []
    for name, repair in repairs:
        if repair.kind is RepairKind.DROP:
            return None, [*names, name]
        changed = _changed(row, repair)
        if changed != row:
            names.append(name)
        row = changed
    return row, names


def _changed(row: Settled, repair: Repair) -> Settled:
    if repair.kind is RepairKind.RELABEL:
        return replace(row, answer=repair.put, label=repair.put)
    if repair.kind is RepairKind.WEIGHT:
        return replace(row, weight=row.weight * repair.factor)
    if repair.kind is RepairKind.SWAP:
        return _swapped(row, repair.find.split(), repair.put.split())
    begin, end = (r"\b" if repair.find[place].isalnum() else "" for place in (0, -1))
    phrase = re.compile(rf"{begin}{re.escape(repair.find)}{end}", re.IGNORECASE)
    put = phrase.sub(lambda _: repair.put, row.answer)
    return row if put == row.answer else replace(row, answer=re.sub(r"[ \t]{2,}", " ", put).strip())


def swap_words(text: str, find: Sequence[str], put: Sequence[str]) -> str:
    """Exchange words, with their capitals and the articles before them."""
    other_of = dict(zip(find, put, strict=True)) | dict(zip(put, find, strict=True))
    known = re.compile(rf"\b(?:(a)n?(\s+))?({'|'.join(map(re.escape, other_of))})\b", re.IGNORECASE)

    def put_other(match: re.Match[str]) -> str:
        article, gap, word = match.groups()
        other = other_of[word.lower()]
        cased = other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other
        return f"{article}{'n' * (other[0] in 'aeiou')}{gap}{cased}" if article else cased

    return known.sub(put_other, text)


def _swapped(row: Settled, find: Sequence[str], put: Sequence[str]) -> Settled:
    """Exchange words of a row; what the system is told stays."""
    return replace(
        row,
        messages=tuple(
            turn if turn.role == "system" else replace(turn, content=swap_words(turn.content, find, put))
            for turn in row.messages
        ),
        answer=row.answer if row.label else swap_words(row.answer, find, put),
        rejected=row.rejected and swap_words(row.rejected, find, put),
    )
