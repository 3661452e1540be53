"""Finds labels that training sees too rarely, or too often, to learn apart; reasons, languages and slices likewise.

Catches: one label only (blocks); labels below a floor, also those that occur in other splits alone; one label
that dominates; reasons of flags, languages and values of attributes with far fewer rows than the commonest.
Misses: labels that no split holds at all, imbalance within a label, and attributes of very many values. Attributes by
which rows are compared for bias are left to that check.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from retrain.amounts import how_many
from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Check, Finding, Severity
from retrain.types import Example, Kind, Split

CHECK = Check("imbalance", version=2)
_MOST_SLICES = 12
Values = Sequence[Collection[str]]


def find(
    examples: Sequence[Example], context: Context = NOTHING, *, floor: int = 5, dominance: float = 10.0
) -> list[Finding]:
    """Return what is wrong with the training split's counts; a rare slice only informs.

    `floor` is the fewest training examples a label needs, and the fewest of all splits that make a slice; `dominance`
    how many times the rarest one's count the commonest may have.
    """
    findings = _of_labels(examples, floor, dominance)
    for name, values, severity in _facets(examples, context.groups, floor):
        counts = _counts(examples, values)
        most, count = max(counts.items(), key=lambda item: (item[1], item[0]), default=("", 0))
        if rare := sorted(value for value in counts if counts[value] * dominance < count):
            told = ", ".join(f"{value!r} {counts[value]}" for value in rare)
            findings += _finding(
                (row for row, own in zip(examples, values, strict=True) if not set(own).isdisjoint(rare)),
                f"training examples by {name}: {most!r} has {count}, but {told}",
                "Send more responses of this kind to labelling, or give them more weight.",
                severity,
            )
    return findings


def _of_labels(examples: Sequence[Example], floor: int, dominance: float) -> list[Finding]:
    labelled = [row for row in examples if row.kind is Kind.CLASSIFICATION and row.label is not None]
    trained = [row for row in labelled if row.split is Split.TRAIN]
    counts = _counts(labelled, [(row.label or "",) for row in labelled])
    if not trained:
        return []
    present = sorted((+counts).items(), key=lambda item: (-item[1], item[0]))
    (most, count), (least, fewest) = present[0], present[-1]
    if len(present) == 1:
        evidence = f"the only label is {most!r}, in {how_many(count, 'training example')}"
        return _finding(trained, evidence, "Settle answers with other labels first.", Severity.BLOCK)
    findings = []
    if rare := sorted(label for label, own in counts.items() if own < floor):
        findings += _finding(
            (row for row in trained if row.label in rare),
            f"fewer than {floor} training examples: {', '.join(f'{label!r} {counts[label]}' for label in rare)}",
            "Send more responses of these labels to labelling, or merge labels that experts cannot tell apart.",
        )
    if count > dominance * fewest:
        findings += _finding(
            (row for row in trained if row.label == most),
            f"{most!r} has {how_many(count, 'training example')}, {least!r} has {fewest}",
            "Settle more of the rare label, or give it more weight.",
        )
    return findings


def _facets(
    examples: Sequence[Example], groups: Collection[str], floor: int
) -> Iterator[tuple[str, Values, Severity]]:
    """Yield what rows may be rare by, each row's values, and how much that matters."""
    yield "reason", [row.reasons for row in examples], Severity.WARN
    languages = [(row.language or "").split("-")[0].lower() for row in examples]
    yield "language", [(language,) if language else () for language in languages], Severity.WARN
    for name in sorted({name for row in examples for name in row.attributes}.difference(groups)):
        own = [row.attributes.get(name, "") for row in examples]
        slices = {value for value, size in Counter(own).items() if value and size >= floor}
        if len(slices) <= _MOST_SLICES:
            yield name, [slices & {value} for value in own], Severity.INFO


def _counts(examples: Iterable[Example], values: Values) -> Counter[str]:
    """Count the training examples of each value that any split holds."""
    counts: Counter[str] = Counter()
    for row, own in zip(examples, values, strict=True):
        counts.update(dict.fromkeys(own, int(row.split is Split.TRAIN)))
    return counts


def _finding(
    rows: Iterable[Example], evidence: str, repair: str, severity: Severity = Severity.WARN
) -> list[Finding]:
    return [CHECK.found((row.key for row in rows), evidence, repair, severity=severity)]
