"""Success criteria and gate rules read from JSON, or refused with the field that is wrong."""

import pytest

from retrain.criteria import (
    HIGHEST,
    METRIC_NAMES,
    Criterion,
    Rules,
    WrongCriteria,
    read_criteria,
    read_rules,
)
from retrain.errors import UnknownMetric
from retrain.metrics import METRICS

FULL = {"metric": "macro_f1", "suite": "routing", "slice": "register=lay", "target": 0.8, "margin": 0}


def test_criteria_are_read():
    assert read_criteria([FULL, {"metric": "accuracy", "suite": "routing"}]) == [
        Criterion("macro_f1", "routing", "register=lay", 0.8, 0),
        Criterion("accuracy", "routing"),
    ]
    minutes = {"metric": "handling minutes", "suite": "outcomes", "target": 12.5, "less_is_better": True}
    assert read_criteria([minutes]) == [Criterion(**minutes)]


def test_rules_are_read_and_have_defaults():
    assert read_rules({}) == Rules()
    assert Rules().default_loss == 0.05
    assert Rules().max_slice_loss == {"red_flag": 0.0}
    read = read_rules({"max_loss": {"general": 0.15}, "confidence": 0.95, "min_cases": 30})
    assert (read.max_loss, read.confidence, read.min_cases) == ({"general": 0.15}, 0.95, 30)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"metrics": "accuracy"}, "'metrics'"),
        ({"suite": None}, "suite"),
        ({"suite": ""}, "suite"),
        ({"slice": 3}, "slice"),
        ({"target": "high"}, "target"),
        ({"target": 80}, "target"),
        ({"margin": True}, "margin"),
        ({"margin": float("nan")}, "margin"),
        ({"margin": -0.1}, "margin"),
        ({"less_is_better": True}, "less_is_better is not for"),
        ({"less_is_better": 1}, "less_is_better must be"),
        ({"suite": "outcomes"}, "slice is not for"),
        ({"suite": "outcomes", "slice": None, "target": float("inf")}, "target"),
    ],
)
def test_a_wrong_criterion_is_refused_by_name(changes, named):
    with pytest.raises(WrongCriteria, match=named):
        read_criteria([{**FULL, **changes}])


NEED_MORE = {"latency_seconds", "tokens"}  # which are not counted


def test_criteria_know_all_metrics_that_an_evaluation_can_measure():
    assert METRICS.keys() - NEED_MORE == METRIC_NAMES
    assert {name: METRICS[name].high for name in METRIC_NAMES} == dict.fromkeys(METRIC_NAMES, 1) | HIGHEST


def test_targets_and_margins_are_in_the_metrics_own_unit():
    dear = {"metric": "cost", "suite": "test", "target": 40}
    assert read_criteria([dear]) == [Criterion("cost", "test", target=40)]
    with pytest.raises(WrongCriteria, match="target must be a number from 0 to 1, not 40"):
        read_criteria([dear | {"metric": "misdirection"}])


@pytest.mark.parametrize("document", [None, [], {}, "x", [3]])
def test_what_is_no_list_of_criteria_is_refused(document):
    with pytest.raises(WrongCriteria):
        read_criteria(document)


def test_an_unknown_metric_is_refused():
    with pytest.raises(UnknownMetric, match="'bleu'"):
        read_criteria([{**FULL, "metric": "bleu"}])


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ([], "gate rules"),
        ({"max_losses": {}}, "max_losses"),
        ({"max_loss": 0.1}, "max_loss"),
        ({"max_loss": {"general": 2}}, "general"),
        ({"max_slice_loss": {"red_flag": "none"}}, "red_flag"),
        ({"default_loss": None}, "default_loss"),
        ({"confidence": 1}, "confidence"),
        ({"resamples": 2000.0}, "resamples"),
        ({"min_cases": True}, "min_cases"),
    ],
)
def test_wrong_rules_are_refused_by_name(document, named):
    with pytest.raises(WrongCriteria, match=named):
        read_rules(document)
