"""Which answers fit the questions that were asked: neither tool checks what arrives by its API."""

import pytest

from annotation.answers import MAX_CORRECTION_CHARS, check
from annotation.errors import InvalidAnswer, InvalidSchema
from annotation.label_schema import doubt, from_json, to_json, validate
from annotation.questions import SPANS, default_ratings, questions
from annotation.settlement import Contested, Settled, Waiting, settle
from annotation.types import Abstention, Answer, Cause, LabelSchema, Span, TaskKind, Verdict
from annotation.visible import visible

RESPONSE = "Put \U0001f9ca on it, it always helps."
TEXT = LabelSchema(TaskKind.GENERATION, spans=SPANS)
ONE = LabelSchema(TaskKind.CLASSIFICATION, ("Billing", "Skin"))
MANY = LabelSchema(TaskKind.CLASSIFICATION, ("Billing", "Ears", "Skin"), is_multi_label=True)
PAIR = LabelSchema(TaskKind.PAIRWISE, ratings=())
SCRIPT = "<script>alert(1)</script>"


def wrong(**given):
    return Answer(Verdict.INCORRECT, **given)


@pytest.mark.parametrize(
    ("answer", "schema", "named"),
    [
        (wrong(labels=("Skin", "Nose")), MANY, "Nose"),
        (wrong(labels=("Skin", "Skin")), MANY, "repeats"),
        (wrong(labels=()), MANY, "right label"),
        (wrong(label="Skin"), MANY, "label"),
        (wrong(labels=("Skin",)), ONE, "labels"),
        (wrong(label=SCRIPT), ONE, "script"),
        (wrong(correction="x" * (MAX_CORRECTION_CHARS + 1)), TEXT, "100001 characters"),
        (wrong(correction="a\x00b"), TEXT, "no text"),
        (wrong(correction="a\ud800b"), TEXT, "no text"),
        (wrong(correction=RESPONSE), TEXT, "very response"),
        (wrong(correction="x", spans=(Span(0, 3, "dull"),)), TEXT, "dull"),
        (wrong(correction="x", spans=(Span(3, 3, "unsafe"),)), TEXT, "outside"),
        (wrong(correction="x", spans=(Span(-3, 3, "unsafe"),)), TEXT, "outside"),
        (wrong(correction="x", spans=(Span(0, len(RESPONSE) + 1, "unsafe"),)), TEXT, "outside"),
        (wrong(correction="x", spans=(Span(0, 3, "unsafe"),) * 201), TEXT, "201"),
        (Answer(Verdict.CORRECT, spans=(Span(0, 3, "unsafe"),)), ONE, "spans"),
        (Answer(Verdict.CORRECT, ratings={SCRIPT: 3}), TEXT, "not asked"),
        (Answer(Verdict.CORRECT, ratings={"verdict": 3}), TEXT, "not asked"),
        (Answer(Verdict.CORRECT, ratings={"spans": 3}), TEXT, "not asked"),
        (Answer(Verdict.CORRECT), PAIR, "correct"),
        (Answer(Verdict.A), TEXT, "'a'"),
        (Answer(Verdict.TIE, ratings={"coherence": 3}), PAIR, "coherence"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_by_name(answer, schema, named):
    with pytest.raises(InvalidAnswer, match=named):
        check(answer, schema, RESPONSE)


@pytest.mark.parametrize(
    ("answer", "schema"),
    [
        (wrong(labels=("Skin", "Billing"), cause=Cause.MODEL), MANY),
        (wrong(correction=SCRIPT, cause=Cause.MODEL, spans=(Span(0, len(RESPONSE), "unsafe"),)), TEXT),
        (Answer(Verdict.CORRECT, spans=(Span(4, 5, "unsafe"),), ratings={"coherence": 5}), TEXT),
        (wrong(correction=RESPONSE, cause=Cause.CONTEXT), TEXT),
        *((Answer(verdict), PAIR) for verdict in (Verdict.A, Verdict.B, Verdict.TIE)),
        *((Answer(why), schema) for why in Abstention for schema in (ONE, MANY, TEXT, PAIR)),
    ],
)
def test_an_answer_that_fits_is_kept_as_it_is(answer, schema):
    assert check(answer, schema, RESPONSE) == answer


def test_who_abstains_says_nothing_else():
    said = Answer(Abstention.CANNOT_JUDGE, label="Nose", ratings={"coherence": 9})
    assert check(said, ONE) == Answer(Abstention.CANNOT_JUDGE)


def test_a_browser_counts_what_lies_beyond_its_units_twice():
    # JavaScript takes the ice for two characters, so that everything after it is one further on.
    marked = Span(10, 12, "unsafe", text="it")
    [span] = check(Answer(Verdict.CORRECT, spans=(marked,)), TEXT, RESPONSE).spans
    assert RESPONSE[span.start : span.end] == "it"
    assert (span.start, span.end) == (9, 11)


@pytest.mark.parametrize(
    ("marked", "raw"),
    [("Ice", "Ice"), ("⟦U+202E⟧it", "\u202eit"), ("helps", "helps"), ("2E⟧it", "\u202eit"), ("🧊", "🧊")],
)
@pytest.mark.parametrize("unit", [1, 2], ids=["characters", "as browsers count"])
def test_a_mark_lies_in_the_response_and_not_in_what_is_shown_of_it(marked, raw, unit):
    response = "Ice 🧊 on \u202eit helps."
    shown = visible(response)
    before = shown[: shown.index(marked)]
    start = len(before) if unit == 1 else len(before.encode("utf-16-le")) // 2
    length = len(marked) if unit == 1 else len(marked.encode("utf-16-le")) // 2
    span = Span(start, start + length, "unsafe", text=marked)
    [kept] = check(Answer(Verdict.CORRECT, spans=(span,)), TEXT, response).spans
    assert response[kept.start : kept.end] == raw


@pytest.mark.parametrize("why", list(Abstention))
def test_who_abstains_counts_for_nobody(why):
    none, right = Answer(why), Answer(Verdict.CORRECT)
    assert settle([("a", none), ("b", none)], needed=2, overlap=2) == Waiting(2)
    outcome = settle([("a", right), ("b", none), ("c", right)], needed=2, overlap=2)
    assert isinstance(outcome, Settled)
    assert (outcome.answer, outcome.annotators) == (right, ("a", "c"))


def test_several_labels_agree_as_a_set_and_spans_do_not_count():
    first = wrong(labels=("Skin", "Ears"), cause=Cause.MODEL, spans=(Span(0, 3, "unsafe"),))
    second = wrong(labels=("Ears", "Skin"), cause=Cause.MODEL)
    outcome = settle([("a", first), ("b", second)], needed=2, overlap=2)
    assert isinstance(outcome, Settled)
    assert (set(outcome.answer.labels), outcome.answer.spans) == ({"Ears", "Skin"}, ())
    other = wrong(labels=("Skin",), cause=Cause.MODEL)
    assert settle([("a", first), ("b", other)], needed=2, overlap=2) == Contested(2)


def test_which_of_two_answers_is_better_is_settled_by_choice():
    a, tie = Answer(Verdict.A), Answer(Verdict.TIE)
    outcome = settle([("a", a), ("b", a)], needed=2, overlap=2)
    assert isinstance(outcome, Settled)
    assert (outcome.answer, outcome.annotators) == (a, ("a", "b"))
    assert settle([("a", a), ("b", tie)], needed=2, overlap=2) == Contested(2)


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "generation", "is_multi_label": True},
        {"kind": "classification", "labels": ["a", "b"], "is_multi_label": 1},
        {"kind": "generation", "anchors": {"coherence": ["a", "b"]}},
        {"kind": "generation", "anchors": {"tone": ["a", "b", "c"]}},
        {"kind": "generation", "anchors": ["a"]},
        {"kind": "generation", "spans": ["unsafe", "Unsafe"]},
        {"kind": "generation", "spans": [" "]},
        {"kind": "generation", "spans": [f"s{n}" for n in range(21)]},
        {"kind": "pairwise", "spans": ["unsafe"]},
        {"kind": "pairwise", "labels": ["a", "b"]},
        {"kind": "generation", "ratings": ["labels"]},
        {"kind": "generation", "ratings": ["rival"]},
    ],
)
def test_questions_that_cannot_be_asked_are_refused(document):
    with pytest.raises(InvalidSchema):
        from_json(document)


def test_every_part_of_a_schema_survives_json_and_an_early_document_keeps_its_hash():
    early = {"kind": "generation", "labels": [], "ratings": ["coherence"], "guidelines": "x"}
    assert to_json(from_json(early)) == early
    whole = LabelSchema(
        TaskKind.CLASSIFICATION,
        ("a", "b"),
        ("tone",),
        "x",
        is_multi_label=True,
        anchors={"tone": ("1", "3", "5")},
    )
    assert from_json(to_json(whole)) == whole
    assert from_json(to_json(TEXT)) == TEXT


def test_each_rating_says_what_its_numbers_mean():
    ratings = default_ratings(TaskKind.CONVERSATION)
    schema = LabelSchema(
        TaskKind.CONVERSATION, ratings=(*ratings, "tone"), anchors={"coherence": ("x", "y", "z")}
    )
    validate(schema)
    hints = {question.name: question.hint for question in questions(schema) if question.hint}
    assert set(hints) == {*ratings, "tone"}
    assert hints["coherence"] == "1 x · 3 y · 5 z"


THEN = LabelSchema(TaskKind.CLASSIFICATION, ("Billing", "Skin"))


@pytest.mark.parametrize(
    ("answer", "response", "labels", "why"),
    [
        (wrong(label="Skin"), "Billing", ("Billing", "Rash", "Acne"), "'Skin' is no label"),
        (Answer(Verdict.CORRECT), "Skin", ("Billing", "Rash"), "'Skin' is no label"),
        (Answer(Verdict.CORRECT), "Billing", ("Billing", "Rash"), None),
        (Answer(Verdict.CORRECT), "Nonsense", ("Billing", "Rash"), None),
        (Answer(Verdict.UNSURE), "Skin", ("Billing", "Rash"), None),
        (wrong(label="Skin"), "Billing", ("Billing", "Skin", "Ears"), None),
        (wrong(cause=Cause.POLICY), "Billing", ("Billing", "Rash"), None),
    ],
)
def test_a_removed_or_split_label_puts_its_answers_in_doubt_and_no_others(answer, response, labels, why):
    told = doubt(answer, response, then=THEN, now=LabelSchema(TaskKind.CLASSIFICATION, labels))
    assert told is why is None or told.startswith(why)


def test_where_several_labels_may_be_right_every_answer_is_in_doubt():
    now = LabelSchema(TaskKind.CLASSIFICATION, THEN.labels, is_multi_label=True)
    assert doubt(wrong(label="Skin"), "Billing", then=THEN, now=now) == "several labels may be right"
    assert doubt(Answer(Verdict.CORRECT), "Billing", then=now, now=THEN) == "one label is right"
