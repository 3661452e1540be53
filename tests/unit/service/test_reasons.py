"""What users may choose from: the default is whole, and what operators write is checked."""

import pytest

from service import reasons
from service.errors import Invalid

DEFAULT = reasons.default_reasons()


def test_the_default_says_everything_of_at_most_ten_reasons():
    assert len(DEFAULT) == 10
    assert {"wrong", "unsafe", "incomplete", "off_topic", "style", "other"} <= set(DEFAULT)
    for code, reason in DEFAULT.items():
        assert tuple(reason["labels"]) == reasons.LANGUAGES, code
        assert len(set(reason["labels"].values())) == len(reasons.LANGUAGES), code
        assert code == "other" or set(reason) == reasons.FIELDS, code
    reasons.check(DEFAULT)


@pytest.mark.parametrize(
    ("language", "label"),
    [("de", "Veraltet"), ("de-AT", "Veraltet"), ("nl", "Out of date"), ("ar", "قديم")],
)
def test_a_label_is_in_the_language_of_the_page_or_in_english(language, label):
    assert reasons.label(DEFAULT, "outdated", language) == label
    assert reasons.label({"far_off": {"severity": 1}}, "far_off", language) == "Far off"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ({}, "severity"),
        ({"severity": True}, "severity"),
        ({"severity": 11}, "severity"),
        ({"severity": 1, "colour": "red"}, "'colour'"),
        ({"severity": 1, "labels": {"German": "x"}}, "'German' is no language"),
        ({"severity": 1, "labels": {"de": " "}}, "a label is a text"),
        ({"severity": 1, "labels": {"de": "x" * 101}}, "a label is a text"),
        ({"severity": 1, "labels": ["x"]}, "labels is an object"),
        ({"severity": 1, "tool": "hammer"}, "tool is one of argilla, label-studio"),
        ({"severity": 1, "question": "why"}, "question is one of"),
        ({"severity": 1, "metric": "beauty"}, "metric is one of"),
        ({"severity": 1, "metric": ["accuracy"]}, "metric is one of"),
        (5, "severity"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(reason, told):
    with pytest.raises(Invalid, match=f"reasons: rude.*{told}"):
        reasons.check({"rude": reason})


@pytest.mark.parametrize("content", [None, {}, [], {"Rude": {"severity": 1}}, {"": {"severity": 1}}])
def test_codes_are_simple_names(content):
    with pytest.raises(Invalid, match="reasons"):
        reasons.check(content)
