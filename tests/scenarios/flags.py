"""Ten flags that teach what the champion does not know, hidden among 200 that teach nothing or something wrong."""

from dataclasses import dataclass

from retrain.bisect.changes import Change, ChangeKind, History
from retrain.bisect.trials import Scores
from retrain.bisect.value import Value, estimate
from tests.scenarios.histories import CASES, PRODUCTS, Fault, Past, Writer

JUNK = 200
VALUABLE = 10
SOURCES = 5


@dataclass(frozen=True)
class Flagged:
    """Flags of a champion that has seen no row of one product; each is one row, named like it."""

    past: Past
    valuable: frozenset[str]
    flags: tuple[str, ...]

    def values(self, groups: dict[str, list[str]] | None = None) -> list[Value]:
        """Return what flags, or groups of them, are worth."""
        groups = groups or {flag: [flag] for flag in self.flags}
        return estimate(groups, self.past.harm(self.flags, [1.0] * CASES))

    def sources(self) -> dict[str, list[str]]:
        """Return flags by source: the first source's are all valuable, the last one's are wrong."""
        junk = [flag for flag in self.flags if flag not in self.valuable]
        known, wrong = junk[: JUNK // 2], junk[JUNK // 2 :]
        parts = {f"source-{place}": known[place :: SOURCES - 2] for place in range(1, SOURCES - 1)}
        return {"source-0": sorted(self.valuable), **parts, f"source-{SOURCES - 1}": wrong}

    def train_without(self, group: str | None, seed: int) -> Scores:
        """Train on all flags but a source's."""
        kept = set(self.flags) - set(self.sources().get(group or "", []))
        return self.past.train(self.past.history.making(self.past.history.changes, only=kept), seed)


def flagged(seed: int) -> Flagged:
    """Write a champion's rows and the flags that it got."""
    writer = Writer(Fault.NONE, seed)
    others = [product for product in range(PRODUCTS) if product != writer.product]
    first = [key for place, key in enumerate(writer.first[:360]) if place % PRODUCTS != writer.product]
    known = [writer.row(writer.rng.choice(others)) for _ in range(JUNK // 2)]
    wrong = [writer.row(writer.rng.choice(others), 1) for _ in range(JUNK // 2)]
    valuable = [writer.row(writer.product) for _ in range(VALUABLE)]
    rows = dict(writer.rows)
    flags = (*known, *wrong, *valuable)
    cases = [writer.rows[writer.row(place % PRODUCTS)] for place in range(CASES)]
    change = Change("flags", ChangeKind.BATCH, "flags", added=flags)
    past = Past(Fault.NONE, seed, rows, first, cases, History(f"flags {seed}", (change,)), setups={})
    return Flagged(past, frozenset(valuable), flags)


def hidden_found(seed: int) -> int:
    """Return how many of the ten valuable flags stand among the 30 that are said to be worth most."""
    found = flagged(seed)
    return sum(value.group in found.valuable for value in found.values()[:30])
