"""Metrics of texts against rouge-score, sacrebleu and worked examples."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import sentence_chrf

from retrain.metrics.judged import Known
from tests.unit.retrain.metrics.cases import cells, judged, score

WORDS = st.lists(
    st.sampled_from(["take", "two", "tablets", "daily", "with", "water", "5", "mg"]), max_size=9
).map(" ".join)
QUICK = settings(deadline=None, max_examples=50)


@QUICK
@given(WORDS, WORDS)
def test_rouge_is_that_of_its_package(expected, answer):
    theirs = RougeScorer(["rouge1", "rouge2"]).score(expected, answer)
    for ours, name in (("rouge_1", "rouge1"), ("rouge_2", "rouge2")):
        assert score(ours, judged(answer, expected)) == pytest.approx(theirs[name].fmeasure)


@QUICK
@given(WORDS, WORDS)
def test_chrf_is_that_of_sacrebleu(expected, answer):
    theirs = sentence_chrf(answer, [expected]).score / 100
    assert score("chrf", judged(answer, expected)) == pytest.approx(theirs, abs=1e-6)


def test_token_f1_counts_words_as_often_as_both_have_them():
    assert score("token_f1", judged("the red red cat", "a red cat")) == pytest.approx(2 * 2 / 7)
    assert score("token_f1", judged("", "a red cat")) == 0


def test_the_ratio_of_lengths_is_1_at_equal_length_and_falls_both_ways():
    rows = [judged("one two", expected) for expected in ("three four", "one", "a b c d")]
    assert cells("length_ratio", *rows) == [1, 0.5, 0.5]


def test_a_loop_repeats_itself_and_a_sentence_does_not():
    rows = [
        judged("call us now please " * 4),
        judged("please call the clinic before you come by"),
        judged(""),
    ]
    assert cells("repetition", *rows) == [pytest.approx(1 - 4 / 13), 0, 0]


def test_what_the_context_does_not_say_is_not_grounded():
    context = ("The clinic opens at 8 and closes at 17.",)
    rows = [
        judged(answer, context=context) for answer in ("The clinic opens at 8.", "The clinic opens at 9.")
    ]
    assert cells("groundedness", *rows) == [1, pytest.approx(2 / 3)]


@pytest.mark.parametrize(
    ("answer", "invented"),
    [
        ("See Section 12 and § 12.", 0),
        ("See section 12 and § 99.", 1 / 2),
        ("Article 12 says so.", 1),
        ("Take the AX-200, as you said.", 0),
        ("Your order B-7734 for the ZX-900 has left.", 1 / 2),
    ],
)
def test_names_that_neither_catalogue_nor_user_knows_are_invented(answer, invented):
    known = Known(catalogue=["§ 12", "AX-200"])
    assert score("invented_entities", judged(answer, asked="Where is order B-7734?"), known=known) == invented


def test_an_answer_without_names_invents_nothing_and_does_not_count():
    rows = [judged("In 2024 we moved."), judged("See § 99.")]
    assert score("invented_entities", *rows, known=Known(catalogue=["§ 12"])) == 1


@pytest.mark.parametrize(
    ("answer", "is_conflated"),
    [
        ("The plaintiff Anna Ames sued the defendant Boyd.", 0),
        ("Boyd, the plaintiff, sued Ames, the defendant.", 1),
        ("Boyd is the defendant and Ames the plaintiff.", 0),
        ("The plaintiff, Ames, the defendant, Boyd, and a judge.", 0),
        ("Plaintiff: Boyd. Defendant: Ames.", 1),
        ("Ames (the defendant) lost.", 1),
        ("The plaintiff sued Boyd; Ames was the plaintiff.", 0),
    ],
)
def test_a_role_given_to_the_other_party_is_conflation(answer, is_conflated):
    roles = {"plaintiff": "Anna Ames", "defendant": "Boyd"}
    assert score("role_conflation", judged(answer, roles=roles)) == is_conflated
