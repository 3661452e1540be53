"""How far annotators concur beyond chance."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from annotation.errors import NotEnoughAnnotations


def krippendorff_alpha(values_by_task: Iterable[Sequence[Hashable]]) -> float:
    """Return Krippendorff's alpha for nominal values: 1 is full agreement, 0 what chance would give.

    Each element holds the values that one task was given, in any order; a task with a single value has
    nothing to compare and is left out.

    Raises:
        NotEnoughAnnotations: no task has two values, or only one value was ever given.

    Source: K. Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section C.
    """
    observed = 0.0
    overall: Counter[Hashable] = Counter()
    for values in values_by_task:
        if len(values) < 2:
            continue
        counts = Counter(values)
        overall += counts
        observed += _unequal_pairs(counts) / (len(values) - 1)
    expected = _unequal_pairs(overall)
    if not expected:
        raise NotEnoughAnnotations("agreement needs two values on one task and two different values overall")
    return 1 - observed * (overall.total() - 1) / expected


def _unequal_pairs(counts: Counter[Hashable]) -> int:
    """Count the ordered pairs whose two values differ."""
    total = counts.total()
    return sum(count * (total - count) for count in counts.values())
