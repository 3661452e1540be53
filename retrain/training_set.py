"""Builds a training set from settled answers: no duplicates, and splits that never leak between versions."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from retrain.choosing import choose, contents_of
from retrain.collector import paused_collector
from retrain.placing import Merge, facts_of, place
from retrain.recipe import Recipe
from retrain.types import Example, Placed, Settled, Split, canonical_json, content_hash


@dataclass(frozen=True, slots=True)
class Built:
    """A built set's rows, ordered by content, and why the other answers are not among them (by key).

    `assignments` holds the groups whose split is new or has changed; they are recorded together with the set.
    """

    examples: tuple[Example, ...]
    assignments: Mapping[str, Split]
    dropped: tuple[tuple[str, str], ...]
    merges: tuple[Merge, ...]


@paused_collector()
def build(
    settled: Sequence[Settled], *, earlier: Sequence[Placed], assigned: Mapping[str, Split], recipe: Recipe
) -> Built:
    """Turn settled answers into the rows of one set.

    `earlier` are all rows that any version ever placed (they may stand in `settled` as well), `assigned` the
    splits of their groups. A group is a near-duplicate cluster united with whole conversations. It keeps its
    name and split for ever, except that groups which meet join the strictest of their splits.
    Of near-equal rows with equal answers one survives: one that an earlier version held, else the one whose
    content hash is smallest. Empty answers and those with a placeholder such as [EMAIL] are left out: nobody should
    learn to say them.
    """
    rows: list[Settled | Placed] = [*earlier, *settled]
    plain = [*(each.settled for each in earlier), *settled]
    facts = facts_of(rows)
    placement = place(facts, assigned=assigned, recipe=recipe)
    chosen = choose(facts, placement, contents_of(plain, placement), recipe)
    return Built(
        examples=tuple(
            to_example(plain[at], placement.groups[at], placement.splits[at]) for at in chosen.kept
        ),
        assignments=placement.assignments,
        dropped=chosen.dropped,
        merges=placement.merges,
    )


def to_example(row: Settled, group: str, split: Split) -> Example:
    """Return a settled answer as a row of a set."""
    return Example(
        key=row.key,
        group=group,
        messages=row.messages,
        answer=row.answer,
        kind=row.kind,
        label=row.label,
        split=split,
        weight=float(row.weight),
        rejected=row.rejected,
        is_wanted=row.is_wanted,
        attributes=row.attributes,
        source=row.source,
        person=row.person,
        language=row.language,
        written=row.written,
        was_wrong=row.was_wrong,
        reasons=row.reasons,
    )


def fingerprint(examples: Iterable[Example], recipe: Mapping[str, Any]) -> str:
    """Return a set's name: the hash of its rows' content in hash order, and of the recipe as it was written down.

    Keys, groups, people and times do not enter it.
    """
    return name_of(map(content_hash, examples), recipe)


def name_of(hashes: Iterable[str], recipe: Mapping[str, Any]) -> str:
    """Return the `fingerprint` of a set whose rows have these content hashes: `sha256_of`, by a faster encoder."""
    named = b'{"examples":%b,"recipe":%b}' % (orjson.dumps(sorted(hashes)), canonical_json(dict(recipe)))
    return f"sha256:{hashlib.sha256(named).hexdigest()}"
