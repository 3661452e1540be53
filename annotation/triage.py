"""Choosing what deserves a person's time."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag that nobody has looked into; flags of equal `group` are about the same thing."""

    key: str
    group: str
    severity: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Case:
    """The flags of one group, oldest first, and how urgent they are together."""

    group: str
    keys: tuple[str, ...]
    priority: float
    since: datetime


def prioritise(flags: Iterable[Flag]) -> list[Case]:
    """Collapse flags into cases, most urgent first; of equally urgent ones the oldest comes first.

    A case's priority is its worst severity times the number of its flags.
    """
    groups: defaultdict[str, list[Flag]] = defaultdict(list)
    for flag in flags:
        groups[flag.group].append(flag)
    return sorted(
        (_case(group, members) for group, members in groups.items()),
        key=lambda case: (-case.priority, case.since, case.group),
    )


def random_share(keys: Iterable[str], share: float, seed: str) -> list[str]:
    """Return about `share` (0 to 1) of the keys, chosen as if at random.

    Each key is decided by its own hash, so that keys added later change no earlier choice, and a larger share
    contains a smaller one.
    """
    return [key for key in keys if _draw(key, seed) < share]


def _case(group: str, flags: list[Flag]) -> Case:
    flags = sorted(flags, key=lambda flag: (flag.at, flag.key))
    return Case(
        group=group,
        keys=tuple(flag.key for flag in flags),
        priority=max(flag.severity for flag in flags) * len(flags),
        since=flags[0].at,
    )


def _draw(key: str, seed: str) -> float:
    """Return a number in [0, 1) that depends on nothing but the key and the seed."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48
