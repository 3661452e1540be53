"""Finds groups of people whose rows are labelled, spoken to or answered at length otherwise than the others' are.

Catches: labels (and so selection, where a label decides) that one group gets more often, colder words, shorter
answers, and logged answers that experts found wrong more often, each with its interval and the source that adds most
to it; and, of attributes that are named, a group with far fewer rows than the largest.
Misses: differences that cancel out across labels, unfairness towards a group that no attribute or term
tells apart, single unfair rows, and tone beyond a short English list. A true difference between what groups ask
looks the same, and so does a group that flags more of what is wrong: a person decides. No rewrite is proposed for a
row with a word that has no sure counterpart, such as "her".
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from retrain.amounts import how_many
from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Check, Finding, Repair, RepairKind
from retrain.audit.gaps import Floats, Gap, Names, gaps
from retrain.audit.rows import by_key, grouped, is_prose, is_trained, trained
from retrain.audit.words import COLD, PAIRS, TERMS, WARM, WORD, words
from retrain.near_duplicates import text_of
from retrain.types import Example, Kind

CHECK = Check("bias", version=6)
_HEAVIEST = 4.0
ERRORS = "share of answers found wrong"


def find(
    examples: Sequence[Example],
    context: Context = NOTHING,
    *,
    alpha: float = 0.02,
    least: float = 0.08,
    floor: int = 30,
    scarce: float = 0.2,
    seed: int = 0,
) -> list[Finding]:
    """Return one finding per group and source, the widest gap first, then the groups that are scarce.

    A gap counts when Welch's test, corrected after Holm for all that is compared, stays below `alpha` and the means
    differ by `least` (of a length: of the larger mean), over all rows or in one source. A group is compared from
    `floor` rows on, and is scarce below `scarce` times the largest group's rows.
    """
    rows = by_key(examples)
    sources = np.array([row.source for row in rows], dtype=np.str_)
    groupings = dict(_groupings(rows, context.groups))
    wide = gaps(groupings, _metrics(rows), sources, alpha=alpha, least=least, floor=floor, seed=seed)
    findings = _findings(rows, wide, sources, is_by_terms=not context.groups)
    return findings + _scarce(trained(examples), context.groups, scarce, floor)


def _metrics(rows: Sequence[Example]) -> dict[str, Floats]:
    """Return each metric's value per row, shaped (n_rows,); all but lengths lie from 0 to 1, NaN is none."""
    labels = np.array(
        [row.label or "" if row.kind is Kind.CLASSIFICATION and is_trained(row) else "" for row in rows],
        dtype=np.str_,
    )
    said = [
        WORD.findall(row.answer.casefold()) if is_prose(row) and is_trained(row) else None for row in rows
    ]
    measured = {
        "warmth": (np.nan if one is None else _warmth(one) for one in said),
        "length in words": (np.nan if one is None else len(one) for one in said),
        ERRORS: (np.nan if row.was_wrong is None else row.was_wrong for row in rows),
    }
    return {
        f"share of label {label!r}": np.where(labels == "", np.nan, labels == label)
        for label in sorted(set(labels.tolist()) - {""})
    } | {name: np.fromiter(values, dtype=np.float64, count=len(rows)) for name, values in measured.items()}


def _warmth(said: Sequence[str]) -> float:
    """Return the share of warm words among the warm and the cold ones; a half where there are none."""
    warm, cold = sum(word in WARM for word in said), sum(word in COLD for word in said)
    return warm / (warm + cold) if warm + cold else 0.5


def _groupings(rows: Sequence[Example], attributes: Sequence[str]) -> Iterator[tuple[str, Names]]:
    """Yield each attribute with the rows' groups, empty where a row has none or more than one."""
    if attributes:
        for name in sorted(attributes):
            yield name, np.array([row.attributes.get(name, "") for row in rows], dtype=np.str_)
        return
    asked = [words(text_of(row.messages)) for row in rows]
    for name, groups in TERMS.items():
        yield name, np.array([_only(groups, said) for said in asked], dtype=np.str_)


def _only(groups: Mapping[str, frozenset[str]], said: frozenset[str]) -> str:
    found = [name for name, terms in groups.items() if not terms.isdisjoint(said)]
    return found[0] if len(found) == 1 else ""


def _findings(
    rows: Sequence[Example], gaps: Sequence[Gap], sources: Names, *, is_by_terms: bool
) -> list[Finding]:
    causes: dict[tuple[str, str, str, bool], list[Gap]] = {}
    for gap in gaps:
        name = (gap.of.attribute, gap.group, gap.source, gap.of.metric == ERRORS)
        causes.setdefault(name, []).append(gap)
    return [
        CHECK.found(
            (rows[place].key for gap in own for place in gap.places),
            f"{attribute} {group!r}, most of it from source {source!r}: {'; '.join(gap.text for gap in own[:3])}",
            "Settle more of what this group asks, so that the model learns it."
            if is_error
            else "Let a person rewrite these answers so that they would also suit the others, or settle them anew.",
            *(_rewrites(rows, own[0], sources) if is_by_terms and not is_error else ()),
        )
        for (attribute, group, source, is_error), own in causes.items()
    ]


def _rewrites(rows: Sequence[Example], gap: Gap, sources: Names) -> Iterator[Repair]:
    """Propose to exchange the groups' words in every second row of the source, so that its answers suit both alike.

    Source: Hall Maudslay et al. (2019), "It's All in the Name: Mitigating Gender Bias with Name-Based Counterfactual
    Data Substitution". The rows are halved within each group in the order of the metric, so that both halves are alike.
    """
    pairs = PAIRS[gap.of.attribute]
    paired = {word for pair in pairs for word in pair}
    unpaired = frozenset().union(*TERMS[gap.of.attribute].values()) - paired
    is_in = (sources == gap.source) & (gap.of.groups != "") & ~np.isnan(gap.of.values)
    said = {
        place: words(f"{text_of(rows[place].messages)} {rows[place].answer} {rows[place].rejected or ''}")
        for place in np.flatnonzero(is_in).tolist()
    }
    fit = sorted(
        (place for place, found in said.items() if unpaired.isdisjoint(found)),
        key=lambda place: (gap.of.groups[place], gap.of.values[place], rows[place].key),
    )
    used = paired.intersection(*[frozenset().union(*(said[place] for place in fit[::2]))])
    exchanged = [pair for pair in pairs if not used.isdisjoint(pair)]
    if exchanged:
        find, put = (" ".join(side) for side in zip(*exchanged, strict=True))
        keys = tuple(sorted(rows[place].key for place in fit[::2]))
        yield Repair(RepairKind.SWAP, keys, find=find, put=put)


def _scarce(rows: Sequence[Example], attributes: Sequence[str], scarce: float, floor: int) -> list[Finding]:
    """Return the groups with too few rows, counted by weight, with the weight that would even them out."""
    findings = []
    for attribute, groups in _groupings(rows, attributes) if attributes else ():
        members = grouped(groups.tolist(), rows)
        members.pop("", None)
        weights = {name: sum(row.weight for row in own) for name, own in members.items()}
        largest = max(weights, key=lambda name: (weights[name], name), default="")
        most = len(members.get(largest, ()))
        for group in sorted(name for name in members if weights[name] < scarce * weights[largest]):
            if most >= floor:
                own = members[group]
                findings.append(
                    CHECK.found(
                        (row.key for row in own),
                        f"{attribute} {group!r} has {how_many(len(own), 'training row')}, the largest group {most}",
                        "Settle more rows of this group, or give them more weight.",
                        *_weights(own, weights[largest] / weights[group]),
                    )
                )
    return findings


def _weights(rows: Sequence[Example], factor: float) -> Iterator[Repair]:
    """Propose more weight for the rows of each weight; what was accepted before counts, no row gets more than 4."""
    for weight, own in sorted(grouped((row.weight for row in rows), rows).items()):
        bounded = round(min(_HEAVIEST / weight, factor), 2)
        if bounded > 1:
            yield Repair(RepairKind.WEIGHT, tuple(row.key for row in own), factor=bounded)
