"""Agreement beyond chance, against published worked examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from annotation.agreement import (
    Scale,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    span_f1,
    text_similarity,
)
from annotation.errors import NotEnoughAnnotations

# Krippendorff (2011), section C: what four observers saw in each of twelve units; some saw nothing.
PUBLISHED = [
    [int(value) for value in unit]
    for unit in ["111", "2232", "3333", "3333", "2222", "1234", "4444", "1121", "2222", "555", "11", "3"]
]
# Fleiss (1971), table 1: which of five diagnoses six psychiatrists gave each of thirty patients.
DIAGNOSES = [
    *("444444", "222555", "233335", "555555", "222444", "113333", "333355", "113334", "114444", "555555"),
    *("144444", "124444", "222333", "144444", "224445", "333335", "111455", "111112", "224444", "133555"),
    *("555555", "244444", "224555", "114444", "144445", "222224", "111155", "224444", "133333", "555555"),
]
# A textbook's two readers of fifty grant proposals: both yes 20, both no 15, and 5 and 10 apart.
GRANTS = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15

TASKS = st.lists(st.text("abc", min_size=2, max_size=5), min_size=2, max_size=8)
BOTH = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=2, max_size=20)


@pytest.mark.parametrize(
    ("scale", "published"), [(Scale.NOMINAL, 0.743), (Scale.ORDINAL, 0.815), (Scale.INTERVAL, 0.849)]
)
def test_krippendorffs_published_example(scale, published):
    alpha = krippendorff_alpha(PUBLISHED, scale=scale)
    assert alpha.value == pytest.approx(published, abs=0.0005)
    assert alpha.low < alpha.value < alpha.high
    assert alpha.n == 11


def test_fleiss_published_example():
    assert fleiss_kappa(DIAGNOSES).value == pytest.approx(0.430, abs=0.0005)


def test_cohens_textbook_example():
    assert cohen_kappa(GRANTS).value == pytest.approx(0.4)


@given(BOTH)
def test_cohens_kappa_is_scikit_learns(pairs):
    pairs = [("a", "b"), *pairs]
    ours = cohen_kappa(pairs).value
    assert ours == pytest.approx(cohen_kappa_score(*zip(*pairs, strict=True)))


def test_spans_agree_as_far_as_both_marked_them():
    both, one = (0, 4, "drug"), (9, 12, "dose")
    assert span_f1([[{both, one}, {both}], [set(), set()]]).value == pytest.approx((2 / 3 + 1) / 2)
    assert span_f1([[{(0, 4, "drug")}, {(0, 4, "dose")}, {(0, 5, "drug")}]]).value == 0


def test_texts_agree_as_far_as_their_words():
    similarity = text_similarity([["Take it twice a day.", "take it once a day."], ["yes", "yes"]])
    assert similarity.value == pytest.approx((4 * 2 / 10 + 1) / 2)


def test_full_agreement_is_one():
    alpha = krippendorff_alpha(["aa", "bbb"])
    assert (alpha.value, alpha.low, alpha.high) == (1, 1, 1)


def test_constant_disagreement_is_worse_than_chance():
    assert krippendorff_alpha(["ab", "ba", "ab"]).value < 0


def test_near_ratings_disagree_less_than_far_ones():
    near, far = [[1, 2], [4, 5], [2, 2]], [[1, 5], [4, 1], [2, 2]]
    for scale in (Scale.ORDINAL, Scale.INTERVAL):
        assert krippendorff_alpha(near, scale=scale).value > krippendorff_alpha(far, scale=scale).value


@pytest.mark.parametrize("tasks", [[], ["a", "b"], ["aa", "aa"], ["aa", "b"]])
@pytest.mark.parametrize("measure", [krippendorff_alpha, fleiss_kappa])
def test_without_two_annotations_and_two_values_there_is_no_answer(tasks, measure):
    with pytest.raises(NotEnoughAnnotations):
        measure(tasks)


def test_without_two_answers_there_is_no_similarity():
    with pytest.raises(NotEnoughAnnotations):
        text_similarity([["one"], []])
    with pytest.raises(NotEnoughAnnotations):
        cohen_kappa([])


def test_the_same_seed_gives_the_same_interval():
    assert krippendorff_alpha(DIAGNOSES, seed=1) == krippendorff_alpha(DIAGNOSES, seed=1)
    assert krippendorff_alpha(DIAGNOSES, seed=1) != krippendorff_alpha(DIAGNOSES, seed=2)


def test_more_tasks_narrow_the_interval():
    few, many = krippendorff_alpha(DIAGNOSES), krippendorff_alpha(DIAGNOSES * 30)
    assert many.high - many.low < (few.high - few.low) / 3


def test_a_hundred_thousand_tasks_cost_what_their_patterns_do():
    values = np.random.default_rng(0).integers(1, 6, size=(100_000, 3)).tolist()
    alpha = krippendorff_alpha(values, scale=Scale.ORDINAL)
    assert (alpha.n, alpha.value) == (100_000, pytest.approx(0, abs=0.01))


@settings(max_examples=30)
@given(TASKS, st.randoms())
def test_order_does_not_matter(tasks, random):
    tasks = ["ab", *tasks]
    shuffled = ["".join(random.sample(task, len(task))) for task in random.sample(tasks, len(tasks))]
    assert krippendorff_alpha(shuffled).value == pytest.approx(krippendorff_alpha(tasks).value)


@settings(max_examples=30)
@given(TASKS)
def test_it_never_exceeds_one(tasks):
    assert krippendorff_alpha(["ab", *tasks]).high <= 1 + 1e-9
