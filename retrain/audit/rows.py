"""Which rows a check looks at, in an order that does not hang on how they came."""

from collections.abc import Hashable, Iterable
from typing import TypeVar

from retrain.types import Example, Kind, Split

Name = TypeVar("Name", bound=Hashable)


def by_key(examples: Iterable[Example]) -> list[Example]:
    """Return the rows in the order of their keys."""
    return sorted(examples, key=lambda row: row.key)


def prose(examples: Iterable[Example]) -> list[Example]:
    """Return the rows that answer with text for people, and not with a label or entities."""
    return by_key(row for row in examples if row.kind in {Kind.GENERATION, Kind.CONVERSATION})


def trained(examples: Iterable[Example]) -> list[Example]:
    """Return the rows whose answers a model will be taught."""
    return by_key(row for row in examples if row.split is Split.TRAIN and row.is_wanted)


def grouped(names: Iterable[Name], rows: Iterable[Example]) -> dict[Name, list[Example]]:
    """Return the rows of each name, in the order in which the names first occur."""
    members: dict[Name, list[Example]] = {}
    for name, row in zip(names, rows, strict=True):
        members.setdefault(name, []).append(row)
    return members
