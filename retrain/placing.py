"""Puts rows into groups and groups into splits: for ever, without leaks, and whatever the order of the rows."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain, compress

import orjson

from retrain.near_duplicates import clusters_of_normalised, join, normalise, root, text_of
from retrain.recipe import Recipe
from retrain.types import Placed, Settled, Split

_STRICTNESS = (Split.TRAIN, Split.VALIDATION, Split.REGRESSION, Split.TEST)
_WHOLE = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides where rows go: one entry a row in each list.

    `prompts` are normalised; `groups` are those of rows that an earlier version placed, None elsewhere.
    """

    keys: list[str]
    prompts: list[str]
    groups: list[str | None]
    conversations: list[str | None]
    subjects: list[str | None]
    labels: list[str]
    is_random: list[bool]
    is_flag: list[bool]
    is_case: list[bool]


@dataclass(frozen=True, slots=True)
class Merge:
    """Groups in different splits that turned out to be one. `contaminated` are those that join test by it.

    Models that trained on a contaminated group have seen test rows: their scores on these flatter them.
    """

    group: str
    absorbed: tuple[str, ...]
    contaminated: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """Each row's group and split, and what is new about the groups.

    `clusters` are the near-duplicate clusters of the rows that are not alone in their group, by index.
    """

    groups: list[str]
    splits: list[Split]
    clusters: Mapping[int, int]
    assignments: Mapping[str, Split]
    merges: tuple[Merge, ...]


def facts_of(rows: Sequence[Settled | Placed]) -> Facts:
    """Return what decides where a partition's rows go."""
    settled = [row.settled if isinstance(row, Placed) else row for row in rows]
    return Facts(
        keys=[row.key for row in settled],
        prompts=[normalise(text_of(row.messages)) for row in settled],
        groups=[row.group if isinstance(row, Placed) else None for row in rows],
        conversations=[row.conversation for row in settled],
        subjects=[row.subject for row in settled],
        labels=[row.label or "" for row in settled],
        is_random=[row.is_random for row in settled],
        is_flag=[row.is_flag for row in settled],
        is_case=[row.is_case for row in settled],
    )


def merged(parts: Sequence[Facts]) -> Facts:
    """Return the facts of several partitions as if they were one; how rows are parted has no say."""
    return Facts(
        **{each.name: list(chain(*(getattr(part, each.name) for part in parts))) for each in fields(Facts)}
    )


def place(facts: Facts, *, assigned: Mapping[str, Split], recipe: Recipe) -> Placement:
    """Find each row's group and split.

    A group is a near-duplicate cluster united with whole conversations. It keeps its name and split for
    ever, except that groups which meet join the strictest of their splits.
    """
    clusters = clusters_of_normalised(facts.prompts, threshold=recipe.near_threshold)
    parts = _united(
        clusters,
        # A repair may have changed the prompt of a row that an earlier version placed.
        facts.keys,
        facts.conversations,
        facts.subjects if recipe.group_by_subject else (),
        facts.groups,
    )
    members = _members(parts)
    names = {
        part: _names(members[part], facts) if part in members else _name(part, facts)
        for index, part in enumerate(parts)
        if part == index
    }
    splits = _splits(members, names, facts, parts, assigned=assigned, recipe=recipe)
    return Placement(
        groups=[names[part][0] for part in parts],
        splits=[splits[part] for part in parts],
        clusters={at: clusters[at] for indexes in members.values() for at in indexes},
        assignments={
            name: splits[part]
            for part, known in names.items()
            for name in known
            if assigned.get(name) is not splits[part]
        },
        merges=_merges(names, splits, assigned),
    )


def _united(*labellings: Sequence[Hashable | None]) -> list[int]:
    """Partition rows so that two which share a label in any labelling are together; None is no label."""
    parents = list(range(len(labellings[0])))
    for labels in labellings:
        if len(set(labels) - {None}) == len(labels) - labels.count(None):
            continue  # nothing is shared, as is usual for keys and without conversations
        firsts: dict[Hashable, int] = {}
        for index, label in enumerate(labels):
            if label is not None and (first := firsts.setdefault(label, index)) != index:
                join(parents, index, first)
    return [root(parents, index) for index in range(len(parents))]


def _members(parts: Sequence[int]) -> dict[int, list[int]]:
    """Return the rows of each group that has several, by the first of them."""
    shared: dict[int, list[int]] = {}
    for index, part in enumerate(parts):
        if part != index:
            shared.setdefault(part, [part]).append(index)
    return shared


def _name(index: int, facts: Facts) -> tuple[str]:
    """Return the name of a group of one row, as `_names` does."""
    return (facts.groups[index] or _hashed(facts.prompts[index]),)


def _names(indexes: Sequence[int], facts: Facts) -> tuple[str, ...]:
    """Return a group's names so far, in order; an unknown group is named after the smallest hash of its prompts."""
    known = {name for index in indexes if (name := facts.groups[index]) is not None}
    return tuple(sorted(known)) or (min(_hashed(facts.prompts[index]) for index in indexes),)


def _hashed(prompt: str) -> str:
    """Return `sha256_of` a text, by a faster encoder of equal bytes."""
    return f"sha256:{hashlib.sha256(orjson.dumps(prompt)).hexdigest()}"


def _splits(
    members: Mapping[int, Sequence[int]],
    names: Mapping[int, Sequence[str]],
    facts: Facts,
    parts: Sequence[int],
    *,
    assigned: Mapping[str, Split],
    recipe: Recipe,
) -> dict[int, Split]:
    """Find each group's split: the strictest it ever had, else test for random ones, else what is drawn.

    A suite's case is not drawn: its group becomes regression cases.
    """
    random = set(compress(parts, facts.is_random)) if recipe.test_from_random else set()
    fixed = dict.fromkeys(compress(parts, facts.is_case), Split.REGRESSION)
    fixed |= dict.fromkeys(random, Split.TEST)
    before = _before(names, assigned)
    have: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(_STRICTNESS))
    for part in before.keys() - fixed.keys():
        indexes = members.get(part, (part,))
        have[_stratum(indexes, facts)][_STRICTNESS.index(before[part])] += _size(indexes, facts)
    splits = fixed | before
    draws = {part: _draw(known[0], recipe) for part, known in names.items() if part not in splits}
    shares = [_shares(recipe, is_flag=is_flag) for is_flag in (False, True)]
    for part in sorted(draws, key=draws.__getitem__):
        if part in members:
            indexes = members[part]
            label, size = _stratum(indexes, facts), _size(indexes, facts)
            is_flag = all(facts.is_flag[index] for index in indexes)
        else:
            label, size, is_flag = facts.labels[part], 1, facts.is_flag[part]
        neediest = _neediest(have[label], size, shares[is_flag])
        have[label][neediest] += size
        splits[part] = _STRICTNESS[neediest]
    return splits


def _before(names: Mapping[int, Sequence[str]], assigned: Mapping[str, Split]) -> dict[int, Split]:
    """Return the strictest split that each group ever had, of those that had one."""
    had = (
        (part, [assigned[name] for name in known if name in assigned])
        for part, known in names.items()
        if assigned
    )
    return {part: max(splits, key=_STRICTNESS.index) for part, splits in had if splits}


def _shares(recipe: Recipe, *, is_flag: bool) -> list[int]:
    """Return each split's share of a label's rows, in billionths; only what was flagged becomes a regression case."""
    regression = recipe.regression_share if is_flag else 0.0
    others = [round(share * _WHOLE) for share in (recipe.validation_share, regression, recipe.test_share)]
    return [_WHOLE - sum(others), *others]


def _neediest(have: Sequence[int], size: int, shares: Sequence[int]) -> int:
    """Return which split lacks most of its share, so that each label's shares are met to within one group."""
    train, validation, regression, test = have  # written out, for every row asks this
    total = train + validation + regression + test + size
    lacks = (
        shares[0] * total - train * _WHOLE,
        shares[1] * total - validation * _WHOLE,
        shares[2] * total - regression * _WHOLE,
        shares[3] * total - test * _WHOLE,
    )
    return lacks.index(max(lacks))


def _size(indexes: Sequence[int], facts: Facts) -> int:
    """Count a group's rows; one that an earlier version placed stands among them twice."""
    return 1 if len(indexes) == 1 else len({facts.keys[index] for index in indexes})


def _stratum(indexes: Sequence[int], facts: Facts) -> str:
    """Return the label that most of a group's rows have; of equal ones, the first in the alphabet."""
    if len(indexes) == 1:
        return facts.labels[indexes[0]]
    counts = Counter(facts.labels[index] for index in indexes)
    return min(counts, key=lambda label: (-counts[label], label))


def _draw(name: str, recipe: Recipe) -> bytes:
    """Draw a place by hash, so that no order or time has a say."""
    return hashlib.sha256(f"{recipe.seed}:{name}".encode()).digest()


def _merges(
    names: Mapping[int, Sequence[str]], splits: Mapping[int, Split], assigned: Mapping[str, Split]
) -> tuple[Merge, ...]:
    merges = []
    for part, known in names.items() if assigned else ():
        movers = [name for name in known if assigned.get(name, splits[part]) is not splits[part]]
        if movers:
            contaminated = movers if splits[part] is Split.TEST else []
            merges.append(Merge(known[0], tuple(known[1:]), tuple(contaminated)))
    return tuple(sorted(merges, key=lambda merge: merge.group))
