"""Answers as Label Studio writes them, and those that Argilla does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.argilla_results import from_values, to_values
from annotation.errors import InvalidAnswer
from annotation.label_studio_results import from_result, to_result
from annotation.types import RATINGS, Abstention, Answer, Cause, Span, Verdict

ANSWERS = st.builds(
    Answer,
    verdict=st.sampled_from([*Verdict, *Abstention]),
    label=st.none() | st.text(min_size=1),
    labels=st.lists(st.text(), max_size=3).map(tuple),
    spans=st.lists(st.builds(Span, st.integers(), st.integers(), st.text()), max_size=3).map(tuple),
    correction=st.none() | st.text(),
    cause=st.none() | st.sampled_from(Cause),
    ratings=st.dictionaries(st.sampled_from(RATINGS), st.integers(1, 5)),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


def region(name, kind, value):
    return {
        "id": "r1",
        "from_name": name,
        "to_name": "response",
        "type": kind,
        "origin": "manual",
        "value": value,
    }


VERDICT = region("verdict", "choices", {"choices": ["incorrect"]})


@given(ANSWERS)
def test_an_answer_is_read_as_it_was_written(answer):
    assert from_result(to_result(answer)) == answer
    assert from_values(to_values(answer)) == answer


def test_what_the_page_sends_is_read():
    result = [
        VERDICT,
        region("coherence", "rating", {"rating": 4}),
        region("spans", "labels", {"start": 3, "end": 9, "text": "abcdef", "labels": ["hallucination"]}),
        region("correction", "textarea", {"text": ["It opened in 1889."]}),
        region("cause", "choices", {"choices": ["context"]}),
    ]
    assert from_result(result) == Answer(
        Verdict.INCORRECT,
        correction="It opened in 1889.",
        cause=Cause.CONTEXT,
        ratings={"coherence": 4},
        spans=(Span(3, 9, "hallucination"),),
    )


@pytest.mark.parametrize(
    "result",
    [
        None,
        [],
        "correct",
        [7],
        [{"from_name": "verdict"}],
        [region("verdict", "choices", {"choices": []})],
        [region("verdict", "choices", {"choices": ["correct", "incorrect"]})],
        [region("verdict", "choices", {"choices": ["perhaps"]})],
        [region("verdict", "choices", {"choices": [["correct"]]})],
        [VERDICT, VERDICT],
        [VERDICT, region("cause", "choices", {"choices": ["weather"]})],
        [VERDICT, region("label", "choices", {"choices": "billing"})],
        [VERDICT, region("label", "choices", {"choices": ["billing", "delivery"]})],
        [VERDICT, region("labels", "choices", {"choices": [1]})],
        [VERDICT, region("spans", "labels", {"start": 0, "end": 1, "labels": []})],
        [VERDICT, region("spans", "labels", {"start": "0", "end": 1, "labels": ["unsafe"]})],
        [VERDICT, region("spans", "labels", {"labels": ["unsafe"]})],
        [VERDICT, region("correction", "textarea", {"text": [1]})],
        [VERDICT, region("coherence", "rating", {"rating": "4"})],
        [VERDICT, region("coherence", "rating", {"rating": True})],
    ],
)
def test_what_is_no_answer_is_refused(result):
    with pytest.raises(InvalidAnswer):
        from_result(result)


@given(
    JSON
    | st.lists(
        st.builds(region, st.sampled_from(["verdict", "cause", "labels", "spans", "x"]), st.text(), JSON)
    )
)
def test_nothing_else_than_an_invalid_answer_is_raised(result):
    try:
        from_result(result)
    except InvalidAnswer:
        return
