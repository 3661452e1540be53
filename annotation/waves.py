"""Tells a wave, many voices that say nearly the same at nearly the same time, from people who agree."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Said:
    """What one voice said; texts of equal `group` are nearly equal."""

    key: str
    voice: str
    at: datetime
    group: int


def waves(said: Iterable[Said], *, voices: int, within: timedelta) -> list[list[str]]:
    """Return the keys of each wave, the oldest first: a group in which so many voices spoke within some such time.

    What no such time holds together with enough others belongs to none.
    """
    groups: defaultdict[int, list[Said]] = defaultdict(list)
    for each in sorted(said, key=lambda each: (each.at, each.key)):
        groups[each.group].append(each)
    found = (_crowded(group, voices, within) for group in groups.values())
    return [keys for keys in found if keys]


def _crowded(group: list[Said], voices: int, within: timedelta) -> list[str]:
    heard: Counter[str] = Counter()
    first = taken = 0
    keys: list[str] = []
    for place, newest in enumerate(group):
        heard[newest.voice] += 1
        while newest.at - group[first].at > within:
            gone = group[first].voice
            heard[gone] -= 1
            if not heard[gone]:
                del heard[gone]
            first += 1
        if len(heard) >= voices:
            keys += [each.key for each in group[max(first, taken) : place + 1]]
            taken = place + 1
    return keys
