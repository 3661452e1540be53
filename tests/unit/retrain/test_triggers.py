"""What starts a training: rules as data, each refused by the field that is wrong."""

from dataclasses import replace

import pytest

from retrain.errors import InvalidTriggers
from retrain.triggers import CONDITIONS, Facts, fired, progress, read_triggers

NONE = Facts(count=0, severity=0, age_days=0, every_days=0, drift=0)
RULES = read_triggers({"rules": [{"count": 50}, {"count": 5, "age_days": 14}]})


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        ({"count": 49}, None),
        ({"count": 50}, {"count": 50}),
        ({"count": 5, "age_days": 13.9}, None),
        ({"count": 4, "age_days": 14}, None),
        ({"count": 5, "age_days": 14}, {"count": 5, "age_days": 14}),
    ],
)
def test_the_first_rule_all_of_whose_conditions_hold_starts(facts, rule):
    assert fired(RULES, replace(NONE, **facts)) == rule


@pytest.mark.parametrize("condition", CONDITIONS)
def test_each_condition_starts_by_itself_and_never_without_anything_new(condition):
    triggers = read_triggers({"rules": [{condition: 0.5}]})
    assert fired(triggers, replace(NONE, **{"count": 1, condition: 0.5})) == {condition: 0.5}
    if condition != "count":
        assert fired(triggers, replace(NONE, **{condition: 0.5})) is None
        assert fired(triggers, replace(NONE, **{"count": 1, condition: 0.4})) is None


def test_how_far_a_rule_is_is_told_in_one_order():
    told = progress({"age_days": 14, "count": 5}, replace(NONE, count=5, age_days=7))
    assert [(each.condition, each.has, each.wants, each.is_met) for each in told] == [
        ("count", 5, 5, True),
        ("age_days", 7, 14, False),
    ]


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "an object with rules"),
        ({}, "an object with rules"),
        ({"rules": [], "when": 1}, "an object with rules"),
        ({"rules": {}}, "rules: a list"),
        ({"rules": [{}]}, "rule 1: an object with some of count"),
        ({"rules": [{"count": 1}, {"counts": 1}]}, "rule 2: an object with some of count"),
        ({"rules": [{"count": "50"}]}, "rule 1: count: a number above 0"),
        ({"rules": [{"count": True}]}, "rule 1: count: a number above 0"),
        ({"rules": [{"drift": 0}]}, "rule 1: drift: a number above 0"),
        ({"rules": [{"drift": float("nan")}]}, "rule 1: drift: a number above 0"),
        ({"rules": [], "rest_hours": -1}, "rest_hours: a number from 0"),
        ({"rules": [], "trains": 1}, "trains: true or false"),
        ({"rules": [], "options": []}, "options: an object"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_field(document, told):
    with pytest.raises(InvalidTriggers, match=told):
        read_triggers(document)
