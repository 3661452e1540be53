"""Choosing what deserves a person's time."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag that nobody has looked into; flags of equal `group` are about the same thing.

    `confidence` is how sure the model was of its answer, from 0 to 1 as far as it is known, and `value` how much more
    often than every second time such flags taught something, from 0 to 2.
    """

    key: str
    group: str
    severity: float
    at: datetime
    confidence: float | None = None
    value: float = 1.0


@dataclass(frozen=True, slots=True)
class Urgency:
    """The parts of a priority, which is their product; 1 is what nothing is known about."""

    severity: float
    flags: int
    uncertainty: float
    value: float

    @property
    def priority(self) -> float:
        """The product."""
        return self.severity * self.flags * self.uncertainty * self.value


@dataclass(frozen=True, slots=True)
class Case:
    """The flags of one group, oldest first, and how urgent they are together."""

    group: str
    keys: tuple[str, ...]
    urgency: Urgency
    since: datetime


def prioritise(flags: Iterable[Flag]) -> list[Case]:
    """Collapse flags into cases, most urgent first; of equally urgent ones the oldest comes first.

    A case's priority is its worst severity, times the number of its flags, times how unsure the model was, times the
    value that is expected of the most promising flag.
    """
    groups: defaultdict[str, list[Flag]] = defaultdict(list)
    for flag in flags:
        groups[flag.group].append(flag)
    return sorted(
        (_case(group, members) for group, members in groups.items()),
        key=lambda case: (-case.urgency.priority, case.since, case.group),
    )


def expected_values(settled: Iterable[tuple[Collection[str], bool]]) -> dict[str, float]:
    """Return by reason how much more often than every second time a flag taught something, from 0 to 2.

    `settled` are the reasons of flags that experts decided, and whether their answer is taught. It is twice the mean
    of a Beta(1, 1) posterior, so that a reason of which little is known stays near 1.
    """
    taught: Counter[str] = Counter()
    decided: Counter[str] = Counter()
    for reasons, teaches in settled:
        decided.update(reasons)
        taught.update(reasons if teaches else ())
    return {reason: 2 * (taught[reason] + 1) / (count + 2) for reason, count in decided.items()}


def with_estimates(values: Mapping[str, float], worth: Mapping[str, float]) -> dict[str, float]:
    """Return expected values by reason, a half of it where rows are worth least, one and a half where most.

    `worth` is what a model was estimated to gain by each row of a reason. It tells an order and has no unit, so that
    only the rank counts.
    """
    ranked = sorted(worth, key=lambda reason: (worth[reason], reason))
    most = max(len(ranked) - 1, 1)
    factors = {reason: 0.5 + place / most for place, reason in enumerate(ranked)} if len(ranked) > 1 else {}
    return {reason: values.get(reason, 1.0) * factors.get(reason, 1.0) for reason in {**values, **factors}}


def random_share(keys: Iterable[str], share: float, seed: str) -> list[str]:
    """Return about `share` (0 to 1) of the keys, chosen as if at random.

    Each key is decided by its own hash, so that keys added later change no earlier choice, and a larger share
    contains a smaller one.
    """
    return [key for key in keys if _draw(key, seed) < share]


def _case(group: str, flags: list[Flag]) -> Case:
    flags = sorted(flags, key=lambda flag: (flag.at, flag.key))
    known = [flag.confidence for flag in flags if flag.confidence is not None]
    urgency = Urgency(
        severity=max(flag.severity for flag in flags),
        flags=len(flags),
        # From 1.5 for an answer that was a guess down to 0.5: one that was sure may be wrong all the same.
        uncertainty=1.5 - min(known) if known else 1.0,
        value=max(flag.value for flag in flags),
    )
    return Case(group, tuple(flag.key for flag in flags), urgency, since=flags[0].at)


def _draw(key: str, seed: str) -> float:
    """Return a number in [0, 1) that depends on nothing but the key and the seed."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48
