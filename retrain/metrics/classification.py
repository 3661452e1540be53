"""How well labels are told apart, how sure the model is of them, and what its mistakes cost."""

from collections.abc import Callable, Sequence

import numpy as np

from retrain.metrics.judged import Judged, Known
from retrain.metrics.metric import NOT_APPLICABLE, Floats, Metric, Row, alone, ratio
from retrain.types import labels_in

_BINS = 10


def accuracy(one: Judged, known: Known) -> float:
    """Score 1 for the expected label, to the letter, or the expected several in any order. 0 to 1, higher is better."""
    return float(labels_in(one.answer) == labels_in(one.case.expected))


def macro_f1(judged: Sequence[Judged], known: Known) -> Callable[[Judged], Row]:
    """Count hits, and labels expected or answered, label by label; `_mean_f1` averages F1 over the labels that occur.

    F1 = 2·hits / (expected + answered), unweighted mean. Range 0 to 1, higher is better.
    Source: scikit-learn, `f1_score(average="macro", zero_division=0)`.
    """
    labels = _labels(judged)
    one_hot = dict(zip(labels, np.eye(len(labels)), strict=True))

    def count(one: Judged) -> Row:
        wanted, given = (
            np.sum([one_hot[label] for label in labels_in(text)], axis=0)
            for text in (one.case.expected, one.answer)
        )
        row: Sequence[float] = np.concatenate([wanted * given, wanted + given]).tolist()
        return row

    return count


def micro_f1(one: Judged, known: Known) -> Row:
    """Count hits, and labels expected or answered, pooled: F1 = 2·hits / (both). Abstentions are no labels.

    Without abstentions it equals accuracy. Range 0 to 1, higher is better.
    Source: scikit-learn, `f1_score(average="micro", labels=…, zero_division=0)`.
    """
    wanted, given = (
        {label for label in labels_in(text) if label not in known.abstentions}
        for text in (one.case.expected, one.answer)
    )
    return 2.0 * len(wanted & given), float(len(wanted) + len(given))


def calibration_error(one: Judged, known: Known) -> Row:
    """Put how sure the model was, less whether it was right, into one of ten bins of equal width.

    ECE = Σ over bins of |Σ (confidence - right)| / n, the confidence being the answer's. Range 0 to 1, lower is better.
    Source: Guo et al. (2017), "On Calibration of Modern Neural Networks", ICML.
    """
    row = [0.0] * _BINS
    if one.probabilities is None:
        return [NOT_APPLICABLE] * _BINS
    sure = one.probabilities[one.answer]
    row[min(_BINS - 1, max(0, int(np.ceil(sure * _BINS)) - 1))] = sure - (one.answer == one.case.expected)
    return row


def brier(one: Judged, known: Known) -> float:
    """Score Σ over labels of (probability - is expected)². Range 0 to 2, lower is better.

    Source: Brier (1950), "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather Review 78.
    """
    if one.probabilities is None:
        return NOT_APPLICABLE
    chances = {one.case.expected: 0.0, **one.probabilities}
    return sum((chance - (label == one.case.expected)) ** 2 for label, chance in chances.items())


def cost(one: Judged, known: Known) -> float:
    """Score what this answer costs by the project's matrix: 0 if right, 1 where the matrix is silent.

    In the matrix's own unit, from 0 to a million, lower is better. Source: Elkan (2001), "The Foundations of
    Cost-Sensitive Learning".
    """
    expected, given = one.case.expected, one.answer
    return NOT_APPLICABLE if not known.costs else known.costs.get((expected, given), float(expected != given))


def abstention(one: Judged, known: Known) -> float:
    """Score 1 where the model passes the case on to a person: by its label, or by a probability below the bar.

    Range 0 to 1, lower is better on what the project is for. Source: Chow (1970), "On Optimum Recognition Error and
    Reject Tradeoff".
    """
    if not known.abstentions and not known.abstains_below:
        return NOT_APPLICABLE
    return float(_abstains(one, known))


def misdirection(one: Judged, known: Known) -> float:
    """Score 1 for a wrong label of which the model is sure: nobody looks again, and the case goes astray.

    Sure is a probability of `confident` or more, and any label where probabilities are not known; abstaining is never
    astray. Range 0 to 1, lower is better.
    """
    is_sure = one.probabilities is None or one.probabilities[one.answer] >= known.confident
    is_wrong = labels_in(one.answer) != labels_in(one.case.expected)
    return float(is_sure and is_wrong and not _abstains(one, known))


def _abstains(one: Judged, known: Known) -> bool:
    is_unsure = one.probabilities is not None and one.probabilities[one.answer] < known.abstains_below
    return one.answer in known.abstentions or is_unsure


def _labels(judged: Sequence[Judged]) -> list[str]:
    texts = {text for one in judged for text in (one.case.expected, one.answer)}
    return sorted({label for text in texts for label in labels_in(text)})


def _mean_f1(sums: Floats, counts: Floats) -> Floats:
    hits, sizes = np.split(sums, 2, axis=1)
    f1: Floats = (2 * hits / np.maximum(sizes, 1)).sum(axis=1) / (sizes > 0).sum(axis=1)
    return f1


def _summed_gaps(sums: Floats, counts: Floats) -> Floats:
    gaps: Floats = np.abs(sums).sum(axis=1) / counts
    return gaps


METRICS = (
    Metric("accuracy", 1, alone(accuracy), is_share=True),
    Metric("macro_f1", 1, macro_f1, _mean_f1),
    Metric("micro_f1", 1, alone(micro_f1), ratio),
    Metric("calibration_error", 1, alone(calibration_error), _summed_gaps, is_higher_better=False),
    Metric("brier", 1, alone(brier), is_higher_better=False, high=2.0),
    Metric("cost", 1, alone(cost), is_higher_better=False, high=1_000_000.0),
    Metric("abstention", 1, alone(abstention), is_share=True, is_higher_better=False),
    Metric("misdirection", 1, alone(misdirection), is_share=True, is_higher_better=False),
)
