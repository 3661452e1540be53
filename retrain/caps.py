"""Keeps one source, and one person, from supplying more of a set's training rows than its recipe allows."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from retrain.recipe import BrokenRecipe, Recipe
from retrain.types import Example, Split

Dropped = list[tuple[str, str]]
Giver = Callable[[Example], str | None]


def within_caps(examples: Iterable[Example], recipe: Recipe) -> tuple[list[Example], Dropped]:
    """Return the rows that stay, and why the others do not; of each giver the first ones stay.

    Rows of nobody known have no cap of their own. What leaves under one cap makes the other's shares larger, so that
    both are looked at until neither takes anything; persons first, for one seldom speaks through several sources.

    Raises:
        BrokenRecipe: so few sources or persons cannot all stay under their cap.
    """
    kept, dropped = list(examples), Dropped()
    while True:
        kept, of_persons = _capped(kept, "subject", recipe.subject_cap, lambda row: row.person or None)
        kept, of_sources = _capped(kept, "source", recipe.source_cap, lambda row: row.source)
        if not (of_sources or of_persons):
            return kept, dropped
        # A source is named; a person is not, for reasons outlive an erasure.
        dropped += [(row.key, f"source cap: {row.source}") for row in of_sources]
        dropped += [(row.key, "subject cap") for row in of_persons]


def _capped(
    examples: Sequence[Example], what: str, cap: float, giver: Giver
) -> tuple[list[Example], list[Example]]:
    """Divide rows into those that stay and those above their giver's share."""
    trained = [row for row in examples if row.split is Split.TRAIN]
    counts = Counter(map(giver, trained))
    if cap == 1 or len(counts) < 2:
        return list(examples), []
    room = _room(counts, what, cap)
    kept, surplus = list[Example](), list[Example]()
    for row in examples:
        if row.split is Split.TRAIN:
            room[giver(row)] -= 1
        (surplus if row.split is Split.TRAIN and room[giver(row)] < 0 else kept).append(row)
    return kept, surplus


def _room(counts: Counter[str | None], what: str, cap: float) -> dict[str | None, int]:
    """Return how many rows each giver may keep, so that none has more than its share of all that are kept."""
    total = counts.total()
    while True:
        most = int(cap * total + 1e-9)
        room = {name: count if name is None else min(count, most) for name, count in counts.items()}
        if sum(room.values()) == total:
            break
        total = sum(room.values())
    if not total:
        raise BrokenRecipe(f"{what}_cap: {len(counts)} {what}s cannot all stay under {cap:g} of the rows")
    return room
