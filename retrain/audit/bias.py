"""Finds groups of people whose rows are labelled, spoken to or answered at length otherwise than the others' are.

Catches: labels (and so selection, where a label decides) that one group gets more often, colder words, shorter
answers, each with its interval and the source that adds most to it; and, of attributes that are named, a group with
far fewer rows than the largest.
Misses: differences that cancel out across labels or sources, unfairness towards a group that no attribute or term
tells apart, single unfair rows, and tone beyond a short English list. A true difference between what groups ask
looks the same: a person decides.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from fairlearn.metrics import MetricFrame
from numpy.typing import NDArray
from scipy.stats import ttest_ind_from_stats

from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Check, Finding, Repair, RepairKind
from retrain.audit.rows import trained
from retrain.near_duplicates import text_of
from retrain.types import Example, Kind

CHECK = Check("bias", version=1)

Floats = NDArray[np.float64]
Names = NDArray[np.str_]
_WORD = re.compile(r"[\w'-]+")
TERMS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "gender": {
        "female": frozenset(
            _WORD.findall("woman women wife mother sister daughter aunt girlfriend mrs ms she her lady girl")
        ),
        "male": frozenset(
            _WORD.findall("man men husband father brother son uncle boyfriend mr he him his gentleman boy")
        ),
    },
    "age": {
        "young": frozenset(_WORD.findall("young teenager teenage teen youth")),
        "old": frozenset(_WORD.findall("old elderly pensioner senior retired aged")),
    },
    "origin": {
        "foreign": frozenset(_WORD.findall("foreign foreigner immigrant migrant refugee expat asylum")),
        "native": frozenset(_WORD.findall("native citizen national domestic")),
    },
}
COLD = frozenset(
    _WORD.findall(
        "unfortunately regrettably cannot can't won't refuse refused reject rejected deny denied decline impossible"
        " never no fault forbidden must wrong unable"
    )
)
WARM = frozenset(
    _WORD.findall("glad gladly happy happily please thank thanks welcome pleasure certainly course sure")
)
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class _Gap:
    """How far a metric's mean lies between one group's rows and the others', and the source that adds most to it."""

    attribute: str
    group: str
    metric: str
    source: str
    size: float
    text: str


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
    differ by `least` (of a length: of the larger mean). A group is compared from `floor` rows on, and is scarce below
    `scarce` times the largest group's rows.
    """
    rows = trained(examples)
    metrics = _metrics(rows)
    compared = []
    for attribute, groups in _groupings(rows, context.groups):
        for metric, values in metrics.items():
            is_in = (groups != "") & ~np.isnan(values)
            if p := _p_values(values[is_in], groups[is_in], floor):
                tests = len(p) if len(p) > 2 else 1  # two groups make one comparison
                compared.append((min(p.values()) * tests, attribute, metric, groups, is_in))
    kept = [
        _gap(
            attribute,
            metric,
            groups=groups[is_in],
            values=metrics[metric][is_in],
            sources=_sources(rows)[is_in],
            seed=seed,
        )
        for p, attribute, metric, groups, is_in in _holm(compared, alpha)
    ]
    wide = sorted((gap for gap in kept if gap.size >= least), key=lambda gap: (-gap.size, gap.metric))
    return _findings(rows, wide, context) + _scarce(rows, context.groups, scarce, floor)


def _metrics(rows: Sequence[Example]) -> dict[str, Floats]:
    """Return each metric's value per row, shaped (n_rows,); all but lengths lie from 0 to 1, NaN is none."""
    labels = np.array(
        [row.label or "" if row.kind is Kind.CLASSIFICATION else "" for row in rows], dtype=np.str_
    )
    values = {
        f"share of label {label!r}": np.where(labels == "", np.nan, labels == label)
        for label in sorted(set(labels.tolist()) - {""})
    }
    words = [
        _WORD.findall(row.answer.casefold()) if row.kind in {Kind.GENERATION, Kind.CONVERSATION} else None
        for row in rows
    ]
    values["warmth"] = np.array(
        [np.nan if said is None else _warmth(said) for said in words], dtype=np.float64
    )
    values["length in words"] = np.array(
        [np.nan if said is None else len(said) for said in words], dtype=np.float64
    )
    return values


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
    asked = [frozenset(_WORD.findall(text_of(row.messages).casefold())) for row in rows]
    for name, groups in TERMS.items():
        yield name, np.array([_only(groups, words) for words in asked], dtype=np.str_)


def _only(groups: Mapping[str, frozenset[str]], words: frozenset[str]) -> str:
    found = [name for name, terms in groups.items() if not terms.isdisjoint(words)]
    return found[0] if len(found) == 1 else ""


def _sources(rows: Sequence[Example]) -> Names:
    return np.array([row.source for row in rows], dtype=np.str_)


def _p_values(values: Floats, groups: Names, floor: int) -> dict[str, float]:
    """Return, per group of at least `floor` rows, how likely its mean differs from the others' by chance."""
    sizes = Counter(groups.tolist())
    found = {}
    for group in sorted(name for name, size in sizes.items() if floor <= size <= len(values) - floor):
        own, others = values[groups == group], values[groups != group]
        if np.ptp(own) > 0 or np.ptp(others) > 0:
            one, other = ((part.mean(), part.std(ddof=1), len(part)) for part in (own, others))
            found[group] = float(ttest_ind_from_stats(*one, *other, equal_var=False).pvalue)
    return found


def _holm(
    compared: Sequence[tuple[float, str, str, Names, NDArray[np.bool_]]], alpha: float
) -> Iterator[tuple[float, str, str, Names, NDArray[np.bool_]]]:
    """Yield what stays significant. Source: Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure"."""
    for rank, entry in enumerate(sorted(compared, key=lambda entry: entry[:3])):
        if entry[0] * (len(compared) - rank) >= alpha:
            return
        yield entry


def _gap(attribute: str, metric: str, *, groups: Names, values: Floats, sources: Names, seed: int) -> _Gap:
    """Measure a gap in the group and the source that stand out most."""
    frame = MetricFrame(
        metrics=lambda _, value: float(np.mean(value)),
        y_true=values,
        y_pred=values,
        sensitive_features=groups,
    )
    source = max(np.unique(sources), key=lambda name: _spread(values, groups, sources == name))
    group = max(frame.by_group.index, key=lambda name: _shift(values, groups == name, sources == source))
    own, others = values[groups == group], values[groups != group]
    low, high = _interval(own, others, seed)
    larger = max(own.mean(), others.mean()) if metric.startswith("length") else 1.0
    text = (
        f"{metric} {own.mean():.2f} against {others.mean():.2f} of the others,"
        f" difference {own.mean() - others.mean():+.2f} [{low:+.2f}, {high:+.2f}];"
        f" over all groups difference {frame.difference():.2f}, ratio {frame.ratio():.2f}"
    )
    return _Gap(
        attribute, str(group), metric, str(source), float(abs(own.mean() - others.mean()) / larger), text
    )


def _spread(values: Floats, groups: Names, is_source: NDArray[np.bool_]) -> float:
    """Return how much narrower the widest distance between two groups gets without the source."""
    return -_range(values[~is_source], groups[~is_source])


def _range(values: Floats, groups: Names) -> float:
    means = [values[groups == name].mean() for name in np.unique(groups)]
    return float(max(means) - min(means)) if len(means) > 1 else 0.0


def _shift(values: Floats, is_group: NDArray[np.bool_], is_source: NDArray[np.bool_]) -> float:
    """Return how far the group's mean in the source lies from its mean elsewhere; with one source, from the others'."""
    inside, outside = values[is_group & is_source], values[is_group & ~is_source]
    if len(inside) == 0:
        return 0.0
    return float(abs(inside.mean() - (outside if len(outside) else values[~is_group]).mean()))


def _interval(own: Floats, others: Floats, seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the difference of two means, drawn as counts of equal values."""
    rng = np.random.default_rng(seed)
    means = []
    for values in (own, others):
        distinct, counts = np.unique(values, return_counts=True)
        means.append(rng.multinomial(len(values), counts / len(values), _RESAMPLES) @ distinct / len(values))
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return float(low), float(high)


def _findings(rows: Sequence[Example], gaps: Sequence[_Gap], context: Context) -> list[Finding]:
    causes: dict[tuple[str, str, str], list[str]] = {}
    for gap in gaps:
        causes.setdefault((gap.attribute, gap.group, gap.source), []).append(gap.text)
    groupings = dict(_groupings(rows, context.groups))
    return [
        _finding(
            [
                row
                for row, name in zip(rows, groupings[attribute], strict=True)
                if name == group and row.source == source
            ],
            f"{attribute} {group!r}, most of it from source {source!r}: {'; '.join(texts[:3])}",
            "Let a person rewrite these answers so that they would also suit the other groups, or settle them anew.",
        )
        for (attribute, group, source), texts in causes.items()
    ]


def _scarce(rows: Sequence[Example], attributes: Sequence[str], scarce: float, floor: int) -> list[Finding]:
    """Return the groups with too few rows, with the weight that would even them out, at most 4."""
    findings = []
    for attribute, groups in _groupings(rows, attributes) if attributes else ():
        sizes = Counter(name for name in groups.tolist() if name)
        most = max(sizes.values(), default=0)
        for group in sorted(name for name, size in sizes.items() if size < scarce * most and most >= floor):
            own = [row for row, name in zip(rows, groups, strict=True) if name == group]
            keys = tuple(row.key for row in own)
            findings.append(
                _finding(
                    own,
                    f"{attribute} {group!r} has {len(own)} training rows, the largest group {most}",
                    "Settle more rows of this group, or give them more weight.",
                    Repair(RepairKind.WEIGHT, keys, factor=min(4.0, round(most / len(own), 2))),
                )
            )
    return findings


def _finding(own: Sequence[Example], evidence: str, repair: str, *proposals: Repair) -> Finding:
    return CHECK.found((row.key for row in own), evidence, repair, *proposals)
