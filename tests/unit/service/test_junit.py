"""Evaluations as pipelines read them."""

from xml.etree import ElementTree as ET

from service.cli.junit import as_junit

REASON = {
    "rule": "loss", "suite": "general", "slice": None, "champion": 0.9, "challenger": 0.5,
    "low": -0.5, "high": -0.3, "margin": 0.15, "met": False,
}  # fmt: skip
REFUSED = {
    "model_version": 2,
    "verdict": "refused",
    "sentence": "Refused: it forgot <general> & more.",
    "reasons": [REASON, REASON | {"rule": "better", "suite": "test", "slice": "language=de", "met": True}],
}


def read(evaluation):
    return ET.fromstring(as_junit(evaluation))  # noqa: S314  we wrote it


def test_each_rule_is_a_case_and_the_verdict_another():
    suite = read(REFUSED)
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")
    failed = {
        case.get("name"): case.find("failure").get("message")
        for case in suite
        if case.find("failure") is not None
    }
    assert failed["verdict"] == REFUSED["sentence"]
    assert "champion 0.900, challenger 0.500" in failed["loss general"]


def test_a_passed_one_has_no_failures():
    passed = REFUSED | {"verdict": "passed", "reasons": [REASON | {"met": True}]}
    assert read(passed).get("failures") == "0"


def test_two_criteria_on_one_suite_are_told_apart():
    better = REASON | {"rule": "better", "suite": "test", "met": True}
    both = [better | {"metric": name} for name in ("accuracy", "misdirection")]
    names = [case.get("name") for case in read(REFUSED | {"reasons": both})]
    assert names == ["better accuracy test", "better misdirection test", "verdict"]
