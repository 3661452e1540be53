"""What a task's annotations come to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.settlement import BAR, Contested, Settled, Waiting, accuracy, adjudicate, normalised, settle
from annotation.types import Answer, Cause, Verdict

RIGHT = Answer(Verdict.CORRECT)
UNSURE = Answer(Verdict.UNSURE)


def label(name, cause=Cause.MODEL, **given):
    return Answer(Verdict.INCORRECT, label=name, cause=cause, **given)


def text(correction):
    return Answer(Verdict.INCORRECT, correction=correction, cause=Cause.MODEL)


def outcome(*answers, needed=2, overlap=3, **known):
    return settle(list(zip(NAMES, answers, strict=False)), needed=needed, overlap=overlap, **known)


def come_to(result):
    """What was settled, without how it was worded or who was there."""
    if not isinstance(result, Settled):
        return type(result)
    answer = result.answer
    return answer.verdict, answer.label, answer.cause, answer.correction and normalised(answer.correction)


NAMES = ("ann", "ben", "cem", "dev", "eve")
STARS = dict.fromkeys(NAMES, 0.98)
ANSWERS = st.sampled_from(
    [RIGHT, UNSURE, label("a"), label("b"), label("a", Cause.POLICY), text("x"), text("X ")]
)
VOICES = st.lists(st.tuples(st.sampled_from(NAMES), ANSWERS), unique_by=lambda voice: voice[0])
ACCURACIES = st.dictionaries(st.sampled_from(NAMES), st.floats(0.01, 0.99))


def test_nobody_has_answered_yet():
    assert outcome() == Waiting(missing=3)


def test_two_who_agree_wait_for_a_third_who_could_change_it():
    assert outcome(label("a"), label("a")) == Waiting(missing=1)


def test_two_who_were_always_right_need_no_third():
    settled = outcome(label("a"), label("a"), accuracies=STARS)
    assert (settled.answer, settled.annotators) == (label("a"), ("ann", "ben"))


def test_a_settlement_explains_itself():
    settled = outcome(RIGHT, label("a"), RIGHT)
    assert (settled.answer, settled.annotators) == (RIGHT, ("ann", "cem"))
    assert settled.posterior == pytest.approx(81 / 91)
    assert settled.explanation == (
        "2 of 3 annotators agree, posterior 0.89; overruled: 1 for incorrect (a, cause model)"
    )


def test_an_explanation_quotes_no_text():
    settled = outcome(text("secret"), text("Secret"), text("private"), accuracies=STARS)
    assert settled.explanation.endswith("overruled: 1 for incorrect (cause model, another text)")


def test_one_of_one_settles():
    assert outcome(UNSURE, needed=1, overlap=1).annotators == ("ann",)


def test_one_of_one_who_is_often_wrong_does_not():
    assert outcome(RIGHT, needed=1, overlap=1, accuracies={"ann": 0.6}) == Contested(answers=1)


def test_one_click_settles_nothing_where_several_are_asked():
    assert outcome(RIGHT, needed=1, overlap=2, accuracies=STARS) == Waiting(missing=1)
    assert outcome(RIGHT, label("a"), needed=1, overlap=2, accuracies=STARS | {"ben": 0.5}) == Contested(2)


def test_one_who_is_no_better_than_chance_is_no_second_voice():
    careless = {"ben": 0.1}
    assert outcome(RIGHT, RIGHT, overlap=2, accuracies=careless) == Contested(answers=2)
    assert outcome(RIGHT, RIGHT, overlap=2).posterior == pytest.approx(81 / 82)


def test_a_majority_of_doubtful_annotators_is_contested():
    doubtful = {"ann": 0.95, "ben": 0.6, "cem": 0.6}
    assert outcome(RIGHT, label("a"), label("a"), accuracies=doubtful) == Contested(answers=3)


def test_two_who_are_mostly_right_overrule_three_who_are_not():
    known = {"ann": 0.95, "ben": 0.95, "cem": 0.55, "dev": 0.55, "eve": 0.55}
    settled = outcome(RIGHT, RIGHT, label("a"), label("a"), label("a"), overlap=5, accuracies=known)
    assert settled.answer == RIGHT


def test_a_higher_bar_asks_for_more():
    assert isinstance(outcome(RIGHT, label("a"), RIGHT, bar=0.95), Contested)


def test_an_expert_becomes_what_they_did():
    assert accuracy(0, 0) == pytest.approx(0.9)
    assert accuracy(100, 100) > 0.95
    assert accuracy(10, 100) < 0.2


@pytest.mark.parametrize(
    "other", [label("b"), label("a", Cause.CONTEXT), RIGHT, UNSURE, label(None, Cause.MODEL)]
)
def test_verdict_label_and_cause_must_agree(other):
    assert outcome(label("a"), other) == Waiting(missing=1)
    assert outcome(label("a"), other, overlap=2) == Contested(answers=2)


def test_it_is_contested_as_soon_as_those_to_come_cannot_settle_it():
    assert outcome(RIGHT, label("a"), needed=3) == Contested(answers=2)


def test_an_adjudicator_settles_what_was_contested():
    contested = [("ann", RIGHT), ("ben", label("a"))]
    assert isinstance(settle(contested, needed=2, overlap=2), Contested)
    settled = adjudicate([*contested, ("cem", label("a"))], by="cem")
    assert (settled.answer, settled.annotators) == (label("a"), ("ben", "cem"))
    assert settled.explanation == (
        "adjudicated: 2 of 3 annotators agree, posterior 0.89; overruled: 1 for correct"
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
    assert settle(answers, needed=2, overlap=2).annotators == ("ann", "ben")


@given(VOICES, st.integers(1, 4), st.integers(1, 5), ACCURACIES, st.randoms())
def test_the_order_of_annotators_does_not_matter(voices, needed, overlap, accuracies, random):
    asked = {"needed": needed, "overlap": overlap, "accuracies": accuracies}
    assert settle(random.sample(voices, len(voices)), **asked) == settle(voices, **asked)


@given(VOICES, st.integers(1, 4), ACCURACIES)
def test_answers_come_to_the_same_in_any_order_of_arrival(voices, needed, accuracies):
    asked = {"needed": needed, "overlap": len(voices), "accuracies": accuracies}
    whole = settle(voices, **asked)
    for arrived in range(len(voices)):
        early = settle(voices[:arrived], **asked)
        assert not isinstance(early, Settled) or come_to(early) == come_to(whole)
        assert not isinstance(early, Contested) or not isinstance(whole, Settled)


@given(VOICES, st.integers(1, 4), st.integers(1, 5), ACCURACIES)
def test_what_is_settled_has_enough_trusted_annotators_behind_it(voices, needed, overlap, accuracies):
    result = settle(voices, needed=needed, overlap=overlap, accuracies=accuracies)
    if isinstance(result, Settled):
        trusted = [name for name in result.annotators if accuracies.get(name, 0.9) > 0.5]
        assert len(trusted) >= max(needed, min(2, overlap))
        assert result.posterior >= BAR
        assert {dict(voices)[name].verdict for name in result.annotators} == {result.answer.verdict}


@given(VOICES, st.integers(1, 4))
def test_nobody_is_waited_for_once_all_have_answered(voices, needed):
    assert not isinstance(settle(voices, needed=needed, overlap=len(voices)), Waiting)
