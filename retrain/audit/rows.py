"""Which rows a check looks at, in an order that does not hang on how they came."""

from collections.abc import Hashable, Iterable
from typing import TypeVar

from retrain.types import Example, Kind, Split

Name = TypeVar("Name", bound=Hashable)


def by_key(examples: Iterable[Example]) -> list[Example]:
    """Return the rows in the order of their keys."""
    return sorted(examples, key=lambda row: row.key)


def is_prose(row: Example) -> bool:
    """Tell whether a row answers with text for people, and not with a label or entities."""
    return row.kind in {Kind.GENERATION, Kind.CONVERSATION}


def prose(examples: Iterable[Example]) -> list[Example]:
    """Return the rows that answer with text for people."""
    return by_key(filter(is_prose, examples))


def is_trained(row: Example) -> bool:
    """Tell whether a model will be taught to answer so."""
    return row.split is Split.TRAIN and row.is_wanted


def trained(examples: Iterable[Example]) -> list[Example]:
    """Return the rows that a model will be taught to answer so."""
    return by_key(filter(is_trained, examples))


def grouped(names: Iterable[Name], rows: Iterable[Example]) -> dict[Name, list[Example]]:
    """Return the rows of each name, in the order in which the names first occur."""
    members: dict[Name, list[Example]] = {}
    for name, row in zip(names, rows, strict=True):
        members.setdefault(name, []).append(row)
    return members
