"""Agreement beyond chance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.agreement import krippendorff_alpha
from annotation.errors import NotEnoughAnnotations

# Krippendorff (2011), section C: what four observers saw in each of twelve units; some saw nothing.
PUBLISHED = ["111", "2232", "3333", "3333", "2222", "1234", "4444", "1121", "2222", "555", "11", "3"]

TASKS = st.lists(st.text("abc", min_size=2, max_size=5), min_size=2, max_size=8)


def test_the_published_example():
    assert krippendorff_alpha(PUBLISHED) == pytest.approx(0.743, abs=0.0005)


def test_full_agreement_is_one():
    assert krippendorff_alpha(["aa", "bbb"]) == 1


def test_constant_disagreement_is_worse_than_chance():
    assert krippendorff_alpha(["ab", "ba", "ab"]) < 0


@pytest.mark.parametrize("tasks", [[], ["a", "b"], ["aa", "aa"], ["aa", "b"]])
def test_without_two_annotations_and_two_values_there_is_no_answer(tasks):
    with pytest.raises(NotEnoughAnnotations):
        krippendorff_alpha(tasks)


@given(TASKS, st.randoms())
def test_order_does_not_matter(tasks, random):
    tasks = ["ab", *tasks]
    shuffled = ["".join(random.sample(task, len(task))) for task in random.sample(tasks, len(tasks))]
    assert krippendorff_alpha(shuffled) == pytest.approx(krippendorff_alpha(tasks))


@given(TASKS)
def test_it_never_exceeds_one(tasks):
    assert krippendorff_alpha(["ab", *tasks]) <= 1
