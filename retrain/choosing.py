"""Chooses which placed rows stay in a set: nothing unsayable, one of near-equal rows, no source beyond its cap."""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from retrain.caps import beyond_caps
from retrain.near_duplicates import normalise, overlap
from retrain.placing import Facts, Placement
from retrain.recipe import Recipe
from retrain.types import Settled, Split, content_hash_in

_PERSONAL = (
    r"E-?MAIL|PHONE|TELEPHONE|MOBILE|FAX|NAME|FIRST_?NAME|LAST_?NAME|SURNAME|USER_?NAME|PERSON|IBAN|SSN|PASSPORT|"
    r"ADDRESS|DATE_OF_BIRTH|BIRTHDAY|DOB|PASSWORD|SECRET|REDACTED|MASKED|ANONYMI[SZ]ED|PII"
)
_OTHERS = (
    r"CARD|CREDIT_?CARD|IP|ACCOUNT|LOCATION|CITY|COUNTRY|ZIP|POST_?CODE|DATE|TIME|AGE|ORG|ORGANI[SZ]ATION|COMPANY|"
    r"URL|LINK|PATIENT|CUSTOMER|CLIENT|DOCTOR|AMOUNT|MONEY"
)
_KIND = (
    r"(?:[A-Z]+[{joints}]){{0,3}}(?:{kinds}|[A-Z]+_(?:ID|NUMBER))(?:[_ -]?(?:ADDRESS|NUMBER|NO|ID|KEY|\d+))*"
)
_ANY, _OWN = (
    _KIND.format(joints="_ .-", kinds=f"{_PERSONAL}|{_OTHERS}"),
    r"(?:(?:YOUR|MY|FULL|FIRST|LAST|CUSTOMER|CLIENT|PATIENT|COMPANY) )?"
    + _KIND.format(joints="_-", kinds=_PERSONAL),
)
_NO_LINK = r"(?!\(|\[\d|:\s*\w+://)"
# Capitals in any brackets, what is personal in square ones, and template slots, whatever their case; but neither
# places in arrays (`row[NAME]`), nor links (`[name](...)`, `[[Name]]`), nor elements (`<NAME>Bob</NAME>`).
_PLACEHOLDER = re.compile(
    rf"(?<![A-Za-z\d_\]$\\])(?:[\[{{]{{1,2}}{_ANY}[\]}}]{{1,2}}{_NO_LINK}|<{_ANY}>(?![^<]*</))"
    rf"|(?<![A-Za-z\d_\]\[])\[(?i:{_OWN})\](?!\]){_NO_LINK}"
    rf"|\{{\{{\s*(?i:{_ANY})\s*\}}\}}"
)
_JUDGING = (Split.TEST, Split.REGRESSION)
_LEAK = "a suite's case near what was learned"


@dataclass(frozen=True, slots=True)
class Contents:
    """What decides which rows stay, by row: content hash, source, person, why nobody should learn its answer.

    `answers` are what two rows of one group must share for one of them to be a duplicate, by index; of rows that
    are alone in their group there is none.
    """

    names: list[str]
    sources: list[str]
    persons: list[str]
    faults: list[str]
    answers: Mapping[int, Hashable]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows that stay, as indexes in the order of their content hashes, and why others do not, by key."""

    kept: list[int]
    dropped: tuple[tuple[str, str], ...]


def contents_of(rows: Sequence[Settled], placement: Placement) -> Contents:
    """Return what decides whether rows stay."""
    return Contents(
        names=[content_hash_in(split, row) for split, row in zip(placement.splits, rows, strict=True)],
        sources=[row.source for row in rows],
        persons=[row.person for row in rows],
        faults=[fault_of(row) for row in rows],
        answers={
            at: told_apart(rows[at].label, rows[at].answer, rows[at].rejected, is_wanted=rows[at].is_wanted)
            for at in placement.clusters
        },
    )


def fault_of(row: Settled) -> str:
    """Return why nobody should learn to say a row's answer; nothing of one that is sayable."""
    if not row.is_wanted or row.label is not None:
        return ""
    if not row.answer.strip():
        return "empty answer"
    return "placeholder in the answer" if has_placeholder(row.answer) else ""


def told_apart(label: str | None, answer: str, rejected: str | None, *, is_wanted: bool) -> Hashable:
    """Return what two rows with nearly equal prompts share if one of them is a duplicate: another pair is none."""
    return is_wanted, label, normalise(answer), normalise(rejected or "")


def choose(facts: Facts, placement: Placement, contents: Contents, recipe: Recipe) -> Chosen:
    """Choose among the rows that are no earlier version's.

    Of near-equal rows with equal answers one stays: one that an earlier version held, else the one whose content
    hash is smallest. Empty answers go, and those with a placeholder such as [EMAIL]: nobody should learn to say it.
    So do a suite's cases that are nearly what earlier versions learned from, for they must not be learned too.
    """
    new = [at for at, group in enumerate(facts.groups) if group is None]
    faults = {at: contents.faults[at] for at in new if contents.faults[at]}
    faults |= {at: _LEAK for at in new if facts.is_case[at] and placement.splits[at] not in _JUDGING}
    sayable = sorted((at for at in new if at not in faults), key=contents.names.__getitem__)
    twins = _twins(sayable, facts, placement, contents, recipe)
    distinct = [at for at in sayable if at not in twins]
    taught = [at for at in distinct if placement.splits[at] is Split.TRAIN]
    surplus = beyond_caps(taught, sources=contents.sources, persons=contents.persons, recipe=recipe)
    unsayable = sorted((facts.keys[at], fault) for at, fault in faults.items())
    return Chosen(
        kept=[at for at in distinct if at not in surplus],
        dropped=(
            *unsayable,
            *((facts.keys[at], f"duplicate of {facts.keys[twin]}") for at, twin in twins.items()),
            *((facts.keys[at], reason) for at, reason in surplus.items()),
        ),
    )


def has_placeholder(text: str) -> bool:
    """Tell whether a text holds what stands for something personal, such as [EMAIL] or <PERSON>."""
    return ("[" in text or "<" in text or "{" in text) and _PLACEHOLDER.search(text) is not None


def _twins(
    sayable: Iterable[int], facts: Facts, placement: Placement, contents: Contents, recipe: Recipe
) -> dict[int, int]:
    """Return each row that repeats another, with that one; nearly equal prompts with different answers all stay."""
    names, keys, prompts = contents.names, facts.keys, facts.prompts
    known = {names[at] for at, group in enumerate(facts.groups) if group is not None}
    accompanied = (at for at in sayable if at in placement.clusters)
    survivors: defaultdict[tuple[int, Hashable], list[int]] = defaultdict(list)
    twins = {}
    for at in sorted(accompanied, key=lambda at: (names[at] not in known, names[at], keys[at])):
        rivals = survivors[placement.clusters[at], contents.answers[at]]
        near = (rival for rival in rivals if overlap(prompts[rival], prompts[at]) >= recipe.near_threshold)
        if (twin := next(near, None)) is None:
            rivals.append(at)
        else:
            twins[at] = twin
    return twins
