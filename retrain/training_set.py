"""Builds a training set from settled answers: no duplicates, and splits that never leak between versions."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypeVar

from retrain.caps import within_caps
from retrain.near_duplicates import clusters_of_normalised, join, normalise, root, similarity, text_of
from retrain.recipe import Recipe
from retrain.types import Example, Kind, Message, Split, content_hash, sha256_of

Row = TypeVar("Row")
_STRICTNESS = (Split.TRAIN, Split.VALIDATION, Split.REGRESSION, Split.TEST)
_PLACEHOLDER = re.compile(
    r"[\[<{]{1,2}(?:E-?MAIL|PHONE|TELEPHONE|MOBILE|NAME|FIRST_?NAME|LAST_?NAME|PERSON|IBAN|SSN|CARD|CREDIT_?CARD|"
    r"ADDRESS|IP|LOCATION|DATE_OF_BIRTH|ACCOUNT|PASSWORD|SECRET|REDACTED|PII)"
    r"(?:[_ -]?(?:ADDRESS|NUMBER|NO|ID|KEY|\d+))*[\]>}]{1,2}"
)


@dataclass(frozen=True, slots=True)
class Settled:
    """One settled answer, before it has a group and a split.

    `is_random` says that its response was drawn at random and nobody had flagged it, `is_flag` that somebody had;
    `was_wrong` what experts found of it, if it is the model's own, and `reasons` what those said who flagged it.
    `subject` is who asked, `person` who caused the settlement: the first to flag, else who asked.
    """

    key: str
    messages: tuple[Message, ...]
    answer: str
    kind: Kind
    label: str | None = None
    weight: float = 1.0
    rejected: str | None = None
    is_wanted: bool = True
    attributes: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    language: str | None = None
    written: date | None = None
    conversation: str | None = None
    subject: str | None = None
    person: str = ""
    is_random: bool = False
    is_flag: bool = False
    was_wrong: bool | None = None
    reasons: tuple[str, ...] = ()


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

    A changed pair has the same prompt and another answer or weight, or the same key and another prompt; a moved one has
    only another split.
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
    content hash is smallest. Answers with a placeholder such as [EMAIL] are left out: nobody should learn to say it.
    """
    rows = [*(place.settled for place in earlier), *settled]
    old = [*(place.group for place in earlier), *(None for _ in settled)]
    groups = _groups(rows, old=old, assigned=assigned, recipe=recipe)
    examples = [to_example(row, group.name, group.split) for row, group in zip(rows, groups, strict=True)]
    known = {content_hash(example) for example in examples[: len(earlier)]}
    sayable, unsayable = _without_placeholders(examples[len(earlier) :])
    kept, duplicates = _without_duplicates(sayable, known=known, recipe=recipe)
    kept, surplus = within_caps(kept, recipe)
    splits = {name: group.split for group in groups for name in group.names}
    return Built(
        examples=tuple(kept),
        assignments={name: splits[name] for name in sorted(splits) if assigned.get(name) is not splits[name]},
        dropped=(*unsayable, *duplicates, *surplus),
        merges=_merges(groups, assigned),
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


def has_placeholder(text: str) -> bool:
    """Tell whether a text holds what stands for something personal, such as [EMAIL] or <PERSON>."""
    return any(opening in text for opening in "[<{") and _PLACEHOLDER.search(text) is not None


def fingerprint(examples: Iterable[Example], recipe: Mapping[str, Any]) -> str:
    """Return a set's name: the hash of its rows' content in hash order, and of the recipe as it was written down.

    Keys, groups, people and times do not enter it.
    """
    return sha256_of({"examples": sorted(map(content_hash, examples)), "recipe": dict(recipe)})


def diff(a: Sequence[Example], b: Sequence[Example]) -> Diff:
    """Compare two sets by content: first what is equal, then what moved, then what has another answer or prompt."""
    a, b = apart(a, b, content_hash)
    moved, a, b = _matched(a, b, lambda row: sha256_of({**row.content, "split": None}))
    changed, a, b = _matched(a, b, lambda row: sha256_of([row.kind, row.content["messages"]]))
    reworded, a, b = _matched(a, b, lambda row: row.key)
    return Diff(added=tuple(b), removed=tuple(a), changed=(*changed, *reworded), moved=tuple(moved))


def apart(a: Sequence[Row], b: Sequence[Row], name: Callable[[Row], str]) -> tuple[list[Row], list[Row]]:
    """Return what a has and b lacks by name, and the other way round; equal rows count as often as they stand there."""
    names = [[name(row) for row in rows] for rows in (a, b)]
    shared = Counter(names[0]) & Counter(names[1])
    return _beyond(a, names[0], shared.copy()), _beyond(b, names[1], shared)


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
    prompts = [normalise(text_of(row.messages)) for row in rows]
    alike = clusters_of_normalised(prompts, threshold=recipe.near_threshold)
    # A repair may have changed the prompt of a row that an earlier version placed.
    keys = [row.key for row in rows]
    subjects = [row.subject if recipe.group_by_subject else None for row in rows]
    parts = _united(alike, keys, [row.conversation for row in rows], subjects, old)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index, part in enumerate(parts):
        members[part].append(index)
    inside = {part: [rows[index] for index in indexes] for part, indexes in members.items()}
    names = {part: _names(indexes, old, prompts) for part, indexes in members.items()}
    splits = _splits(inside, names, assigned, recipe)
    groups = {part: _Group(min(names[part]), names[part], splits[part]) for part in members}
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


def _names(indexes: Sequence[int], old: Sequence[str | None], prompts: Sequence[str]) -> frozenset[str]:
    """Return a group's names so far; an unknown group is named after the smallest hash of its prompts."""
    known = frozenset(name for index in indexes if (name := old[index]) is not None)
    return known or frozenset({min(sha256_of(prompts[index]) for index in indexes)})


def _splits(
    inside: Mapping[int, Sequence[Settled]],
    names: Mapping[int, frozenset[str]],
    assigned: Mapping[str, Split],
    recipe: Recipe,
) -> dict[int, Split]:
    """Find each group's split: the strictest it ever had, else test for random ones, else what is drawn."""
    splits: dict[int, Split] = {}
    undrawn = []
    have: defaultdict[str, Counter[Split]] = defaultdict(Counter)
    for part, rows in inside.items():
        before = [assigned[name] for name in names[part] if name in assigned]
        is_random = recipe.test_from_random and any(row.is_random for row in rows)
        if before or is_random:
            splits[part] = max(before, key=_STRICTNESS.index) if before else Split.TEST
        else:
            undrawn.append(part)
        if before and not is_random:
            have[_stratum(rows)][splits[part]] += _size(rows)
    shares = {is_flag: _shares(recipe, is_flag=is_flag) for is_flag in (False, True)}
    for part in sorted(undrawn, key=lambda part: _draw(min(names[part]), recipe)):
        rows = inside[part]
        drawn, size = have[_stratum(rows)], _size(rows)
        splits[part] = _neediest(drawn, size, shares[all(row.is_flag for row in rows)])
        drawn[splits[part]] += size
    return splits


def _shares(recipe: Recipe, *, is_flag: bool) -> list[tuple[Split, float]]:
    """Return each split's share of a label's rows; only what was flagged becomes a regression case."""
    shares = {
        Split.VALIDATION: recipe.validation_share,
        Split.REGRESSION: recipe.regression_share if is_flag else 0.0,
        Split.TEST: recipe.test_share,
    }
    return [(Split.TRAIN, 1 - sum(shares.values())), *shares.items()]


def _neediest(have: Counter[Split], size: int, shares: Sequence[tuple[Split, float]]) -> Split:
    """Return the split that lacks most of its share, so that each label's shares are met to within one group."""
    total = sum(have.values()) + size
    lacks = [round(share * total - have[split], 9) for split, share in shares]
    return shares[lacks.index(max(lacks))][0]


def _size(rows: Sequence[Settled]) -> int:
    """Count a group's rows; one that an earlier version placed stands among them twice."""
    return 1 if len(rows) == 1 else len({row.key for row in rows})


def _stratum(rows: Sequence[Settled]) -> str:
    """Return the label that most of a group's rows have; of equal ones, the first in the alphabet."""
    if len(rows) == 1:
        return rows[0].label or ""
    counts = Counter(row.label or "" for row in rows)
    return min(counts, key=lambda label: (-counts[label], label))


def _draw(name: str, recipe: Recipe) -> str:
    """Draw a place by hash, so that no order or time has a say."""
    return hashlib.sha256(f"{recipe.seed}:{name}".encode()).hexdigest()


def _merges(groups: Iterable[_Group], assigned: Mapping[str, Split]) -> tuple[Merge, ...]:
    merges = {}
    for group in groups:
        movers = {name for name in group.names if assigned.get(name, group.split) is not group.split}
        if movers:
            contaminated = sorted(movers) if group.split is Split.TEST else []
            absorbed = sorted(group.names - {group.name})
            merges[group.name] = Merge(group.name, tuple(absorbed), tuple(contaminated))
    return tuple(merges[name] for name in sorted(merges))


def _without_placeholders(examples: Iterable[Example]) -> tuple[list[Example], list[tuple[str, str]]]:
    said: list[Example] = []
    dropped: list[tuple[str, str]] = []
    for example in examples:
        if example.is_wanted and example.label is None and has_placeholder(example.answer):
            dropped.append((example.key, "placeholder in the answer"))
        else:
            said.append(example)
    return said, sorted(dropped)


def _without_duplicates(
    examples: Sequence[Example], *, known: set[str], recipe: Recipe
) -> tuple[list[Example], list[tuple[str, str]]]:
    """Keep one of each set of near-equal rows; nearly equal prompts with different answers all stay."""
    survivors: defaultdict[tuple[str, Hashable], list[Example]] = defaultdict(list)
    kept, dropped = [], []
    hashes = [content_hash(example) for example in examples]
    order = sorted(
        range(len(examples)), key=lambda at: (hashes[at] not in known, hashes[at], examples[at].key)
    )
    for at in order:
        example = examples[at]
        rivals = survivors[example.group, (example.is_wanted, example.label, normalise(example.answer))]
        twin = next((rival for rival in rivals if _is_near(rival, example, recipe)), None)
        if twin is None:
            rivals.append(example)
            kept.append(at)
        else:
            dropped.append((example.key, f"duplicate of {twin.key}"))
    return [examples[at] for at in sorted(kept, key=hashes.__getitem__)], dropped


def _is_near(one: Example, other: Example, recipe: Recipe) -> bool:
    return similarity(text_of(one.messages), text_of(other.messages)) >= recipe.near_threshold


def _beyond(rows: Sequence[Row], names: Sequence[str], shared: Counter[str]) -> list[Row]:
    left = []
    for row, name in zip(rows, names, strict=True):
        if shared.get(name):
            shared[name] -= 1
        else:
            left.append(row)
    return left


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
