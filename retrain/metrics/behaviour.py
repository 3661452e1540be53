"""Whether answers keep, or change, as a case varies another, and say what must and must not be said."""

from retrain import text
from retrain.metrics.judged import Judged, Known
from retrain.metrics.metric import NOT_APPLICABLE, Metric, alone
from retrain.near_duplicates import normalise
from retrain.types import labels_in


def invariance(one: Judged, known: Known) -> float:
    """Score 1 if the answer agrees with that to the case which this one varies: labels to the letter, texts normalised.

    Applies to cases that vary another. 1 - invariance over swaps of people's groups is the counterfactual flip rate.
    Range 0 to 1, higher is better. Source: Ribeiro et al. (2020), "Beyond Accuracy: Behavioral Testing of NLP Models
    with CheckList", ACL (INV).
    """
    return NOT_APPLICABLE if one.pair is None else float(_agree(one, one.pair))


def direction(one: Judged, known: Known) -> float:
    """Score 1 if the answer differs from that to the case which this one varies, and says what is accepted.

    Applies to cases that vary another. Range 0 to 1, higher is better. Source: Ribeiro et al. (2020) (DIR).
    """
    return NOT_APPLICABLE if one.pair is None else float(not _agree(one, one.pair) and _keeps(one))


def kept_words(one: Judged, known: Known) -> float:
    """Score 1 if the answer says one of what the case accepts, if anything, and none of what it forbids.

    Applies to cases that accept or forbid something. Range 0 to 1, higher is better. Source: Ribeiro et al. (2020)
    (MFT).
    """
    return float(_keeps(one)) if one.case.accepted or one.case.forbidden else NOT_APPLICABLE


def _agree(one: Judged, other: str) -> bool:
    if one.case.is_labelled:
        return labels_in(one.answer) == labels_in(other)
    return normalise(one.answer) == normalise(other)


def _keeps(one: Judged) -> bool:
    is_accepted = not one.case.accepted or text.contains_any(one.answer, one.case.accepted)
    return is_accepted and not text.contains_any(one.answer, one.case.forbidden)


METRICS = (
    Metric("invariance", 1, alone(invariance), is_share=True),
    Metric("direction", 1, alone(direction), is_share=True),
    Metric("kept_words", 1, alone(kept_words), is_share=True),
)
