"""Label schemas and the answers that fit them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.answers import check
from annotation.errors import InvalidAnswer, InvalidSchema
from annotation.label_schema import default_guidelines, from_json, to_json, validate
from annotation.questions import default_ratings, default_spans
from annotation.types import RATINGS, Answer, Cause, LabelSchema, TaskKind, Verdict

CLASSIFICATION = LabelSchema(kind=TaskKind.CLASSIFICATION, labels=("billing", "delivery"))
GENERATION = LabelSchema(kind=TaskKind.GENERATION)


def wrong(**given):
    return Answer(Verdict.INCORRECT, **given)


@pytest.mark.parametrize(
    "labels",
    [(), ("only one",), ("a", "a"), ("Cash", "cash"), ("a", ""), ("a", " b"), ("a", "b\n"), ("a", "b" * 101)],
)
def test_labels_that_cannot_be_shown_are_refused(labels):
    with pytest.raises(InvalidSchema):
        validate(LabelSchema(kind=TaskKind.CLASSIFICATION, labels=labels))


def test_labels_are_for_classification_only():
    with pytest.raises(InvalidSchema, match="generation"):
        validate(LabelSchema(kind=TaskKind.GENERATION, labels=("a", "b")))


@pytest.mark.parametrize("ratings", [("verdict",), ("tone", "tone"), ("Tone",), ("to ne",), ("",)])
def test_ratings_that_cannot_be_asked_are_refused(ratings):
    with pytest.raises(InvalidSchema, match="rating"):
        validate(LabelSchema(kind=TaskKind.GENERATION, ratings=ratings))


@pytest.mark.parametrize("kind", list(TaskKind))
def test_what_a_project_gets_by_default_can_be_asked(kind):
    labels = ("a", "b") if kind is TaskKind.CLASSIFICATION else ()
    asked = {"ratings": default_ratings(kind), "spans": default_spans(kind)}
    validate(LabelSchema(kind=kind, labels=labels, guidelines=default_guidelines(kind), **asked))


def test_a_schema_survives_json():
    schema = LabelSchema(TaskKind.CLASSIFICATION, ("a", "b"), ("tone",), "# Read first")
    assert from_json(json.loads(json.dumps(to_json(schema)))) == schema


def test_a_short_schema_takes_the_defaults():
    schema = from_json({"kind": "generation"})
    assert schema == LabelSchema(
        TaskKind.GENERATION, ratings=RATINGS, guidelines=default_guidelines(schema.kind)
    )


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"kind": "poetry"},
        {"kind": []},
        {"kind": "generation", "colour": "red"},
        {"kind": "generation", "guidelines": 7},
        {"kind": "generation", "ratings": "tone"},
        {"kind": "classification", "labels": [1, 2]},
        {"kind": "classification"},
    ],
)
def test_what_is_no_schema_is_refused(document):
    with pytest.raises(InvalidSchema):
        from_json(document)


@pytest.mark.parametrize("verdict", [Verdict.CORRECT, Verdict.UNSURE])
def test_only_an_incorrect_response_is_corrected(verdict):
    stray = Answer(verdict, label="billing", cause=Cause.MODEL, ratings={"coherence": 5})
    assert check(stray, CLASSIFICATION) == Answer(verdict, ratings={"coherence": 5})


def test_a_corrected_response_without_a_cause_is_the_models_fault():
    assert check(wrong(label="billing"), CLASSIFICATION).cause is Cause.MODEL
    assert check(wrong(correction="Better."), GENERATION).cause is Cause.MODEL


def test_a_fault_that_is_not_the_models_needs_no_correction():
    answer = wrong(cause=Cause.CONTEXT)
    assert check(answer, CLASSIFICATION) == check(answer, GENERATION) == answer


@pytest.mark.parametrize(
    ("answer", "schema", "named"),
    [
        (wrong(), CLASSIFICATION, "label"),
        (wrong(cause=Cause.MODEL), CLASSIFICATION, "label"),
        (wrong(cause=Cause.MODEL), GENERATION, "corrected response"),
        (wrong(label="refund"), CLASSIFICATION, "refund"),
        (wrong(correction="billing"), CLASSIFICATION, "label"),
        (wrong(label="billing"), GENERATION, "billing"),
        (wrong(correction=" \n"), GENERATION, "empty"),
        (wrong(correction="", cause=Cause.POLICY), GENERATION, "empty"),
        (Answer(Verdict.CORRECT, ratings={"coherence": 9}), GENERATION, "9"),
        (Answer(Verdict.CORRECT, ratings={"coherence": 0}), GENERATION, "0"),
        (Answer(Verdict.CORRECT, ratings={"coherence": True}), GENERATION, "True"),
        (Answer(Verdict.CORRECT, ratings={"tone": 3}), GENERATION, "tone"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_by_name(answer, schema, named):
    with pytest.raises(InvalidAnswer, match=named):
        check(answer, schema)


@given(
    st.sampled_from(Verdict),
    st.none() | st.sampled_from(CLASSIFICATION.labels),
    st.none() | st.sampled_from(Cause),
    st.dictionaries(st.sampled_from(RATINGS), st.integers(1, 5)),
)
def test_what_was_checked_once_passes_unchanged(verdict, label, cause, ratings):
    try:
        checked = check(Answer(verdict, label=label, cause=cause, ratings=ratings), CLASSIFICATION)
    except InvalidAnswer:
        return
    assert check(checked, CLASSIFICATION) == checked
