"""Builds a training set from settled answers: no duplicates, and splits that never leak between versions."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from retrain.errors import RetrainError
from retrain.near_duplicates import clusters, join, normalise, root, similarity, text_of
from retrain.types import Example, Kind, Message, Split, content_hash, sha256_of

_STRICTNESS = (Split.TRAIN, Split.VALIDATION, Split.TEST)


class BrokenRecipe(RetrainError):
    """A recipe's JSON has unknown fields or impossible values; correct what the message names."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything besides the rows that decides what a training set holds.

    With `test_from_random`, groups of randomly drawn responses become the test split, so that it looks like
    what users really ask. All other groups are drawn by hash into test and validation with the given shares.
    """

    near_threshold: float = 0.8
    validation_share: float = 0.1
    test_share: float = 0.0
    test_from_random: bool = True
    seed: int = 0
    version: int = 1

    def __post_init__(self) -> None:
        """Refuse shares and thresholds that mean nothing."""
        if not 0 < self.near_threshold <= 1:
            raise BrokenRecipe(f"near_threshold must be above 0 and at most 1, not {self.near_threshold}")
        shares = (self.validation_share, self.test_share)
        if not (min(shares) >= 0 and sum(shares) < 1):
            raise BrokenRecipe(f"validation_share and test_share must leave some for training, not {shares}")

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Recipe":
        """Read a recipe.

        Raises:
            BrokenRecipe: a field is unknown, of another type or impossible.
        """
        defaults = asdict(cls())
        for name, value in document.items():
            if name not in defaults:
                raise BrokenRecipe(f"a recipe has no field {name!r}")
            wanted = type(defaults[name])
            if type(value) is not wanted and (wanted, type(value)) != (float, int):
                raise BrokenRecipe(f"{name} must be a {wanted.__name__}, not {value!r}")
        return cls(**{name: type(defaults[name])(value) for name, value in document.items()})


@dataclass(frozen=True, slots=True)
class Settled:
    """One settled answer, before it has a group and a split.

    `is_random` says that its response was drawn at random and nobody had flagged it.
    """

    key: str
    messages: tuple[Message, ...]
    answer: str
    kind: Kind
    label: str | None = None
    weight: float = 1.0
    attributes: Mapping[str, str] = field(default_factory=dict)
    conversation: str | None = None
    is_random: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """A settled answer of an earlier version and the group it was put into there."""

    settled: Settled
    group: str


@dataclass(frozen=True, slots=True)
class Merge:
    """Groups in different splits that turned out to be one. `contaminated` are those that join test by it.

    Models that trained on a contaminated group have seen test rows: their scores on these flatter them.
    """

    group: str
    absorbed: tuple[str, ...]
    contaminated: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Built:
    """A built set's rows, ordered by content, and why the other answers are not among them (by key).

    `assignments` holds the groups whose split is new or has changed; they are recorded together with the set.
    """

    examples: tuple[Example, ...]
    assignments: Mapping[str, Split]
    dropped: tuple[tuple[str, str], ...]
    merges: tuple[Merge, ...]


@dataclass(frozen=True, slots=True)
class Diff:
    """How set b differs from set a: rows of b, rows of a, and pairs of (row of a, row of b).

    A changed pair has the same prompt and another answer or weight; a moved one has only another split.
    """

    added: tuple[Example, ...]
    removed: tuple[Example, ...]
    changed: tuple[tuple[Example, Example], ...]
    moved: tuple[tuple[Example, Example], ...]


def build(
    settled: Sequence[Settled], *, earlier: Sequence[Placed], assigned: Mapping[str, Split], recipe: Recipe
) -> Built:
    """Turn settled answers into the rows of one set.

    `earlier` are all rows that any version ever placed (they may stand in `settled` as well), `assigned` the
    splits of their groups. A group is a near-duplicate cluster united with whole conversations. It keeps its
    name and split for ever, except that groups which meet join the strictest of their splits.
    Of near-equal rows with equal answers one survives: one that an earlier version held, else the one whose
    content hash is smallest.
    """
    rows = [*(place.settled for place in earlier), *settled]
    old = [*(place.group for place in earlier), *(None for _ in settled)]
    groups = _groups(rows, old=old, assigned=assigned, recipe=recipe)
    examples = [_example(row, group) for row, group in zip(rows, groups, strict=True)]
    known = {content_hash(example) for example in examples[: len(earlier)]}
    kept, dropped = _without_duplicates(examples[len(earlier) :], known=known, recipe=recipe)
    splits = {name: group.split for group in groups for name in group.names}
    return Built(
        examples=tuple(kept),
        assignments={name: splits[name] for name in sorted(splits) if assigned.get(name) is not splits[name]},
        dropped=tuple(dropped),
        merges=_merges(groups, assigned),
    )


def fingerprint(examples: Iterable[Example], recipe: Recipe) -> str:
    """Return a set's name: the hash of its rows' content in hash order, and of the recipe.

    Keys, groups, people and times do not enter it.
    """
    return sha256_of({"examples": sorted(map(content_hash, examples)), "recipe": recipe.to_json()})


def diff(a: Sequence[Example], b: Sequence[Example]) -> Diff:
    """Compare two sets by content: first what is equal, then what moved, then what has another answer."""
    _, a, b = _matched(a, b, content_hash)
    moved, a, b = _matched(a, b, lambda row: sha256_of({**row.content, "split": None}))
    changed, a, b = _matched(a, b, lambda row: sha256_of([row.kind, row.content["messages"]]))
    return Diff(added=tuple(b), removed=tuple(a), changed=tuple(changed), moved=tuple(moved))


@dataclass(frozen=True, slots=True)
class _Group:
    """A group under its smallest name, and all names it ever had."""

    name: str
    names: frozenset[str]
    split: Split


def _groups(
    rows: Sequence[Settled], *, old: Sequence[str | None], assigned: Mapping[str, Split], recipe: Recipe
) -> list[_Group]:
    """Return each row's group."""
    alike = clusters([text_of(row.messages) for row in rows], threshold=recipe.near_threshold)
    parts = _united(alike, [row.conversation for row in rows], old)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index, part in enumerate(parts):
        members[part].append(index)
    groups = {}
    for part, indexes in members.items():
        names = {name for index in indexes if (name := old[index]) is not None}
        groups[part] = _group([rows[index] for index in indexes], names, assigned, recipe)
    return [groups[part] for part in parts]


def _united(*labellings: Sequence[Hashable | None]) -> list[int]:
    """Partition rows so that two which share a label in any labelling are together; None is no label."""
    parents = list(range(len(labellings[0])))
    for labels in labellings:
        firsts: dict[Hashable, int] = {}
        for index, label in enumerate(labels):
            if label is not None:
                join(parents, index, firsts.setdefault(label, index))
    return [root(parents, index) for index in range(len(parents))]


def _group(
    rows: Sequence[Settled], old: Iterable[str], assigned: Mapping[str, Split], recipe: Recipe
) -> _Group:
    """Name a group and find its split; an unknown group is named after the smallest hash of its prompts."""
    names = frozenset(old) or {min(sha256_of(normalise(text_of(row.messages))) for row in rows)}
    name = min(names)
    splits = [assigned[name] for name in names if name in assigned]
    if splits:
        split = max(splits, key=_STRICTNESS.index)
    elif recipe.test_from_random and any(row.is_random for row in rows):
        split = Split.TEST
    else:
        split = _drawn(name, recipe)
    return _Group(name, frozenset(names), split)


def _drawn(name: str, recipe: Recipe) -> Split:
    """Draw a split by hash, so that no order, time or neighbour has a say."""
    digest = hashlib.sha256(f"{recipe.seed}:{name}".encode()).digest()
    draw = int.from_bytes(digest[:8]) / 2**64
    if draw < recipe.test_share:
        return Split.TEST
    return Split.VALIDATION if draw < recipe.test_share + recipe.validation_share else Split.TRAIN


def _merges(groups: Iterable[_Group], assigned: Mapping[str, Split]) -> tuple[Merge, ...]:
    merges = {}
    for group in groups:
        movers = {name for name in group.names if assigned.get(name, group.split) is not group.split}
        if movers:
            contaminated = sorted(movers) if group.split is Split.TEST else []
            absorbed = sorted(group.names - {group.name})
            merges[group.name] = Merge(group.name, tuple(absorbed), tuple(contaminated))
    return tuple(merges[name] for name in sorted(merges))


def _example(row: Settled, group: _Group) -> Example:
    return Example(
        key=row.key,
        group=group.name,
        messages=row.messages,
        answer=row.answer,
        kind=row.kind,
        label=row.label,
        split=group.split,
        weight=float(row.weight),
        attributes=row.attributes,
    )


def _without_duplicates(
    examples: Sequence[Example], *, known: set[str], recipe: Recipe
) -> tuple[list[Example], list[tuple[str, str]]]:
    """Keep one of each set of near-equal rows; nearly equal prompts with different answers all stay."""
    hashed = sorted(
        ((content_hash(example), example) for example in examples), key=lambda it: (it[0], it[1].key)
    )
    survivors: defaultdict[tuple[str, Hashable], list[Example]] = defaultdict(list)
    kept, dropped = [], []
    for name, example in sorted(hashed, key=lambda it: it[0] not in known):
        rivals = survivors[example.group, (example.kind, example.label, normalise(example.answer))]
        twin = next((rival for rival in rivals if _is_near(rival, example, recipe)), None)
        if twin is None:
            rivals.append(example)
            kept.append((name, example))
        else:
            dropped.append((example.key, f"duplicate of {twin.key}"))
    return [example for _, example in sorted(kept, key=lambda it: it[0])], dropped


def _is_near(one: Example, other: Example, recipe: Recipe) -> bool:
    return similarity(text_of(one.messages), text_of(other.messages)) >= recipe.near_threshold


def _matched(
    a: Sequence[Example], b: Sequence[Example], identity: Callable[[Example], str]
) -> tuple[list[tuple[Example, Example]], list[Example], list[Example]]:
    """Pair rows of equal identity, in content order; return the pairs and what is left of a and of b."""
    waiting: defaultdict[str, list[Example]] = defaultdict(list)
    for row in sorted(b, key=content_hash, reverse=True):
        waiting[identity(row)].append(row)
    pairs, rest = [], []
    for row in sorted(a, key=content_hash):
        twins = waiting[identity(row)]
        if twins:
            pairs.append((row, twins.pop()))
        else:
            rest.append(row)
    return pairs, rest, sorted((row for rows in waiting.values() for row in rows), key=content_hash)
