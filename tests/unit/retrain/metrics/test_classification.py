"""Metrics of labels against scikit-learn and worked examples."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, f1_score

from retrain.errors import EmptySplit
from retrain.metrics.judged import Known
from retrain.metrics.statistics import measure
from tests.unit.retrain.metrics.cases import cells, judged, score

LABELS = ["eyes", "heart", "nobody"]
PAIRS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=20)
QUICK = settings(deadline=None, max_examples=30)


def of(pairs):
    return [judged(answer, expected, check="label") for expected, answer in pairs]


def sure(answer, expected, **probabilities):
    return judged(answer, expected, check="label", measured={"probabilities": probabilities})


@QUICK
@given(PAIRS)
def test_micro_f1_is_that_of_scikit_learn(pairs):
    expected, answers = zip(*pairs, strict=True)
    theirs = f1_score(expected, answers, average="micro", labels=["eyes", "heart"], zero_division=0)
    assert score("micro_f1", *of(pairs), known=Known(abstentions=["nobody"])) == pytest.approx(theirs)


@QUICK
@given(st.lists(st.tuples(st.sampled_from(LABELS), st.integers(0, 99)), min_size=3, max_size=20))
def test_brier_is_that_of_scikit_learn(rows):
    chances = [np.random.default_rng(seed).dirichlet([1, 1, 1]) for _, seed in rows]
    ours = [
        sure("eyes", expected, **dict(zip(LABELS, row, strict=True)))
        for (expected, _), row in zip(rows, chances, strict=True)
    ]
    theirs = brier_score_loss(
        [label for label, _ in rows], np.array(chances), labels=LABELS, scale_by_half=False
    )
    assert score("brier", *ours) == pytest.approx(theirs)


def test_calibration_error_is_that_of_a_worked_example():
    """Two bins: three answers at 0.9 of which two are right, one at 0.4 that is wrong."""
    rows = [sure("a", expected, a=0.9, b=0.1) for expected in "aab"] + [sure("a", "b", a=0.4, b=0.6)]
    assert score("calibration_error", *rows) == pytest.approx((abs(2.7 - 2) + abs(0.4 - 0)) / 4)
    assert measure(rows, "calibration_error", seed=1).low >= 0


def test_a_sure_and_always_right_model_is_calibrated():
    assert score("calibration_error", *[sure("a", "a", a=1.0, b=0.0)] * 3) == 0


def test_wrong_answers_cost_what_the_matrix_says():
    known = Known(costs={("heart", "nobody"): 50.0})
    assert cells("cost", *of([("heart", "nobody"), ("heart", "heart"), ("eyes", "heart")]), known=known) == [
        50,
        0,
        1,
    ]
    with pytest.raises(EmptySplit):
        score("cost", *of([("eyes", "heart")]))


def test_only_a_confident_wrong_label_misdirects():
    known = Known(abstentions=["nobody"], abstains_below=0.5, confident=0.8)
    rows = [
        sure("eyes", "heart", eyes=0.9),
        sure("eyes", "heart", eyes=0.6),
        sure("eyes", "heart", eyes=0.4),
        sure("nobody", "heart", nobody=0.9),
        sure("heart", "heart", heart=0.9),
    ]
    assert cells("misdirection", *rows, known=known) == [1, 0, 0, 0, 0]
    assert cells("abstention", *rows, known=known) == [0, 0, 1, 1, 0]
    unmeasured = [replace(row, probabilities=None) for row in rows]
    assert cells("misdirection", *unmeasured, known=known) == [1, 1, 1, 0, 0]
