"""Finds labels that training sees too rarely, or too often, to learn apart.

Catches: one label only (blocks); labels below a floor, also those that occur in other splits alone; one label
that dominates.
Misses: labels that no split holds at all, and imbalance between groups of people within a label.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Check, Finding, Severity
from retrain.types import Example, Kind, Split

CHECK = Check("imbalance", version=1)


def find(
    examples: Sequence[Example], context: Context = NOTHING, *, floor: int = 5, dominance: float = 10.0
) -> list[Finding]:
    """Return what is wrong with the training split's label counts.

    `floor` is the fewest examples a label needs; `dominance` how many times the rarest label's count the
    commonest may have.
    """
    labelled = [row for row in examples if row.kind is Kind.CLASSIFICATION and row.label is not None]
    trained = [example for example in labelled if example.split is Split.TRAIN]
    if not trained:
        return []
    counts = Counter(dict.fromkeys(sorted(_labels(labelled)), 0))
    counts.update(_labels(trained))
    if len(+counts) == 1:
        evidence = f"all {len(trained)} training examples have one label, {trained[0].label!r}"
        return [_finding(Severity.BLOCK, trained, evidence, "Settle answers with other labels first.")]
    return _below_floor(trained, counts, floor) + _dominant(trained, counts, dominance)


def _below_floor(trained: Sequence[Example], counts: Counter[str], floor: int) -> list[Finding]:
    rare = [label for label, count in counts.items() if count < floor]
    if not rare:
        return []
    evidence = f"fewer than {floor} training examples: " + ", ".join(
        f"{name!r} {counts[name]}" for name in rare
    )
    repair = (
        "Send more responses of these labels to labelling, or merge labels that experts cannot tell apart."
    )
    return [_finding(Severity.WARN, [row for row in trained if row.label in rare], evidence, repair)]


def _dominant(trained: Sequence[Example], counts: Counter[str], dominance: float) -> list[Finding]:
    [(most, count), *_, (least, fewest)] = (+counts).most_common()
    if count <= dominance * fewest:
        return []
    evidence = f"{most!r} has {count} training examples, {least!r} has {fewest}"
    repair = "Settle more of the rare label, or give it more weight."
    return [_finding(Severity.WARN, [row for row in trained if row.label == most], evidence, repair)]


def _labels(examples: Iterable[Example]) -> list[str]:
    return [example.label for example in examples if example.label is not None]


def _finding(severity: Severity, rows: Iterable[Example], evidence: str, repair: str) -> Finding:
    return CHECK.found((example.key for example in rows), evidence, repair, severity=severity)
