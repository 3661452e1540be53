"""What a task's annotations come to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.settlement import Contested, Settled, Waiting, normalised, settle
from annotation.types import Answer, Cause, Verdict

RIGHT = Answer(Verdict.CORRECT)
UNSURE = Answer(Verdict.UNSURE)


def label(name, cause=Cause.MODEL, **given):
    return Answer(Verdict.INCORRECT, label=name, cause=cause, **given)


def text(correction):
    return Answer(Verdict.INCORRECT, correction=correction, cause=Cause.MODEL)


def outcome(*answers, needed=2, overlap=3):
    names = (f"annotator {at}" for at in range(len(answers)))
    return settle(list(zip(names, answers, strict=False)), needed=needed, overlap=overlap)


ANSWERS = st.sampled_from(
    [RIGHT, UNSURE, label("a"), label("b"), label("a", Cause.POLICY), text("x"), text("X ")]
)
VOICES = st.lists(st.tuples(st.sampled_from("pqrst"), ANSWERS), unique_by=lambda voice: voice[0])


def test_nobody_has_answered_yet():
    assert outcome() == Waiting(missing=3)


def test_two_of_three_settle_before_the_third_answers():
    assert outcome(label("a"), label("a")) == Settled(label("a"), ("annotator 0", "annotator 1"))


def test_a_dissenter_does_not_unsettle():
    assert outcome(RIGHT, label("a"), RIGHT) == Settled(RIGHT, ("annotator 0", "annotator 2"))


def test_one_of_one_settles():
    assert outcome(UNSURE, needed=1, overlap=1) == Settled(UNSURE, ("annotator 0",))


@pytest.mark.parametrize(
    "other", [label("b"), label("a", Cause.CONTEXT), RIGHT, UNSURE, label(None, Cause.MODEL)]
)
def test_verdict_label_and_cause_must_agree(other):
    assert outcome(label("a"), other) == Waiting(missing=1)
    assert outcome(label("a"), other, overlap=2) == Contested(answers=2)


def test_it_is_contested_as_soon_as_those_to_come_cannot_settle_it():
    assert outcome(RIGHT, label("a"), needed=3) == Contested(answers=2)


def test_an_adjudicator_settles_what_was_contested():
    assert isinstance(outcome(RIGHT, label("a"), UNSURE), Contested)
    assert outcome(RIGHT, label("a"), UNSURE, label("a")) == Settled(
        label("a"), ("annotator 1", "annotator 3")
    )


def test_two_camps_of_equal_size_are_contested():
    assert outcome(RIGHT, RIGHT, label("a"), label("a"), overlap=4) == Contested(answers=4)


def test_different_corrections_are_contested():
    assert outcome(text("In 1889."), text("In 1887."), overlap=2) == Contested(answers=2)


def test_corrections_that_differ_in_form_only_agree():
    settled = outcome(text("In  1889."), text("in 1889. "), text("In 1889."), needed=3)
    assert isinstance(settled, Settled)
    assert normalised(settled.answer.correction) == "in 1889."


def test_the_most_frequent_wording_wins():
    settled = outcome(text("in 1889"), text("In 1889"), text("In 1889"), needed=3)
    assert settled.answer.correction == "In 1889"


def test_ratings_are_the_median_of_those_who_agree():
    settled = outcome(
        label("a", ratings={"coherence": 1}),
        label("a", ratings={"coherence": 4, "tone": 2}),
        label("b", ratings={"coherence": 5}),
        label("a", ratings={"coherence": 5}),
    )
    assert settled.answer.ratings == {"coherence": 4, "tone": 2}


def test_an_annotator_has_one_voice_and_may_change_their_mind():
    answers = [("ann", RIGHT), ("ann", RIGHT), ("ben", label("a")), ("ann", label("a"))]
    assert settle(answers[:2], needed=2, overlap=2) == Waiting(missing=1)
    assert settle(answers, needed=2, overlap=2) == Settled(label("a"), ("ann", "ben"))


@given(VOICES, st.integers(1, 4), st.integers(1, 5), st.randoms())
def test_the_order_of_annotators_does_not_matter(voices, needed, overlap, random):
    shuffled = random.sample(voices, len(voices))
    assert settle(shuffled, needed=needed, overlap=overlap) == settle(voices, needed=needed, overlap=overlap)


@given(VOICES, st.integers(1, 4), st.integers(1, 5))
def test_what_is_settled_has_enough_annotators_behind_it(voices, needed, overlap):
    result = settle(voices, needed=needed, overlap=overlap)
    if isinstance(result, Settled):
        assert len(result.annotators) >= needed
        assert {dict(voices)[name].verdict for name in result.annotators} == {result.answer.verdict}


@given(VOICES, st.integers(1, 4))
def test_nobody_is_waited_for_once_all_have_answered(voices, needed):
    assert not isinstance(settle(voices, needed=needed, overlap=len(voices)), Waiting)
