"""Keeps one source, and one person, from supplying more of a set's training rows than its recipe allows."""

from collections import Counter
from collections.abc import Sequence

from retrain.recipe import BrokenRecipe, Recipe


def beyond_caps(
    taught: Sequence[int], *, sources: Sequence[str], persons: Sequence[str], recipe: Recipe
) -> dict[int, str]:
    """Return which training rows must go, and why; rows are places in both lists, and of each giver the first stay.

    Rows of nobody known have no cap of their own. What leaves under one cap makes the other's shares larger, so that
    both are looked at until neither takes anything; persons first, for one seldom speaks through several sources.

    Raises:
        BrokenRecipe: so few sources or persons cannot all stay under their cap.
    """
    left, gone = list(taught), dict[int, str]()
    while True:
        # A source is named; a person is not, for reasons outlive an erasure.
        surplus = dict.fromkeys(_surplus(left, "subject", persons, recipe.subject_cap), "subject cap")
        left = [at for at in left if at not in surplus]
        of_sources = _surplus(left, "source", sources, recipe.source_cap)
        surplus |= {at: f"source cap: {sources[at]}" for at in of_sources}
        if not surplus:
            return gone
        left = [at for at in left if at not in surplus]
        gone |= surplus


def _surplus(rows: Sequence[int], what: str, givers: Sequence[str], cap: float) -> list[int]:
    """Return the rows above their giver's share."""
    counts = Counter() if cap == 1 else Counter(givers[at] for at in rows)
    if len(counts) < 2:
        return []
    room = _room(counts, what, cap)
    surplus = []
    for at in rows:
        room[givers[at]] -= 1
        if room[givers[at]] < 0:
            surplus.append(at)
    return surplus


def _room(counts: Counter[str], what: str, cap: float) -> dict[str, int]:
    """Return how many rows each giver may keep, so that none has more than its share of all that are kept."""
    total = counts.total()
    while True:
        most = int(cap * total + 1e-9)
        room = {name: min(count, most) if name else count for name, count in counts.items()}
        if sum(room.values()) == total:
            break
        total = sum(room.values())
    if not total:
        raise BrokenRecipe(f"{what}_cap: {len(counts)} {what}s cannot all stay under {cap:g} of the rows")
    return room
