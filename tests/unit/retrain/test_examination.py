"""Examinations: which suites are asked, of whom, and what is told of the answers."""

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest

from retrain import examination
from retrain.criteria import Criterion
from retrain.errors import MetricFailed, WrongSuite
from retrain.evidence import Role
from retrain.examination import (
    answer_all,
    ask,
    behaviour_suites,
    exam_of,
    heard_in,
    known_of,
    report_of,
    report_without,
    scores,
    suite_answers,
)
from retrain.gate import Judgement, Verdict
from retrain.metrics.judged import NOTHING, Answer
from retrain.near_duplicates import text_of
from retrain.suites.expansion import Suite
from retrain.types import Case, Example, Kind, Message, canonical_json

SAID = "Oh great, another three hours on hold, just how I like to spend my Monday."
OWN = {
    "name": "our_tone", "title": "our tone", "type": "MFT", "check": "words", "forbidden": ["yippee"],
    "items": [{"said": SAID}, {"said": "My parcel came back to me for the second time without a word."}],
}  # fmt: skip
TEST = [
    Case(f"t{i}", "test", (Message("user", text),), "billing", "label")
    for i, text in enumerate((SAID, "who pays?"))
]


def drawn(wanted, own=(), *, test=(), trained=()):
    return behaviour_suites(wanted, own, test=test, trained=trained, seed=0, has_labels=True)


class Model:
    """Chooses the first label and writes what it was asked, and counts how often it was asked."""

    def __init__(self):
        self.asked = []

    def using(self, name):
        return nullcontext()

    def score_labels(self, conversations, labels):
        self.asked.append(len(conversations))
        return [[-1000.0 - 2 * at for at in range(len(labels))] for _ in conversations]

    def answer(self, conversations, *, max_new_tokens):
        self.asked.append(len(conversations))
        return [f"{messages[-1].content} {max_new_tokens}" for messages in conversations]


def test_a_suite_that_nobody_knows_is_refused():
    with pytest.raises(WrongSuite, match="no suite is called 'sarcasms'; there are bias_elicitation"):
        drawn(["sarcasms"])


def test_a_suite_that_was_trained_on_is_refused_and_names_the_cases():
    [suite] = drawn(["our_tone"], [OWN])
    assert [case.suite for case in suite.cases] == ["our_tone", "our_tone"]
    trained = [text_of(suite.cases[0].messages)]
    with pytest.raises(WrongSuite, match="1 cases are nearly what was trained on"):
        drawn(["our_tone"], [OWN], trained=trained)


def test_a_suite_of_variations_is_left_out_where_there_is_nothing_to_vary():
    assert drawn(["typos"]) == []
    [suite] = drawn(["typos"], test=TEST)
    assert {case.pair for case in suite.cases} <= {case.key for case in TEST}


def test_equal_adapters_are_asked_once_and_no_case_twice():
    model, told = Model(), []
    adapters = {"base": None, "champion": None, "challenger": "sha256:1"}
    answers = answer_all(
        model, adapters, [*TEST, *TEST], ["billing"], report=lambda **facts: told.append(facts)
    )
    assert model.asked == [2, 2]
    assert answers["base"] is answers["champion"]
    assert list(dict.fromkeys(each["asking"] for each in told)) == list(adapters)


def test_somebody_who_waits_sees_how_far_it_is(monkeypatch):
    monkeypatch.setattr(examination, "PORTION", 1)
    told = []
    answer_all(
        Model(),
        {"champion": None, "challenger": "sha256:1"},
        TEST,
        [],
        report=lambda **facts: told.append(facts),
    )
    assert [each["step"] for each in told] == [0, 1, 2, 2, 3, 4]
    assert {each["steps"] for each in told} == {4}


@pytest.mark.parametrize(("champion", "asked"), [("sha256:2", [1, 2, 2]), (None, [2, 2])])
def test_a_base_that_is_not_judged_is_asked_no_more_than_what_it_may_forget(champion, asked):
    model = Model()
    adapters = {"base": None, "champion": champion, "challenger": "sha256:1"}
    answers = answer_all(model, adapters, TEST, ["billing"], only={"base": TEST[:1]}, report=lambda **_: None)
    assert model.asked == asked
    assert {who: len(said) for who, said in answers.items()} == dict(
        zip(adapters, [asked[0], 2, 2], strict=True)
    )


def test_what_was_heard_to_the_same_exam_is_not_asked_again_and_is_the_same():
    labels, adapters = ["billing", "skin"], {"base": None, "champion": "sha256:1", "challenger": "sha256:2"}
    first = answer_all(Model(), adapters, TEST, labels, report=lambda **_: None)
    suite = Suite("test", "the test split", "v", TEST)
    told = json.loads(
        canonical_json(report_of([suite], first, Judgement(Verdict.PASSED, "Passed.", ()), [], labels))
    )
    heard = {"sha256:1": heard_in(told, "champion", TEST), None: heard_in(told, "base", TEST)}
    model = Model()
    again = answer_all(model, adapters, TEST, labels, heard=heard, report=lambda **_: None)
    assert model.asked == [2]
    assert again == first
    assert heard_in(report_without(told, {"t0"}), "champion", TEST) is None


def test_another_exam_has_another_name():
    here = {"cpu": "this"}
    exams = {
        exam_of("sha256:base", "Answer.", TEST, ["billing"], answered_by=here),
        exam_of("sha256:other", "Answer.", TEST, ["billing"], answered_by=here),
        exam_of("sha256:base", "Reply.", TEST, ["billing"], answered_by=here),
        exam_of("sha256:base", "Answer.", TEST[::-1], ["billing"], answered_by=here),
        exam_of("sha256:base", "Answer.", TEST, ["skin"], answered_by=here),
        exam_of("sha256:base", "Answer.", TEST, ["billing"], answered_by={"cpu": "another"}),
        exam_of(
            "sha256:base",
            "Answer.",
            [replace(TEST[0], check="exact"), TEST[1]],
            ["billing"],
            answered_by=here,
        ),
    }
    assert len(exams) == 7
    assert exam_of("sha256:base", "Answer.", [*TEST, TEST[0]], ["billing"], answered_by=here) in exams


def test_without_labels_models_write_and_short_answers_get_few_tokens():
    short = Case("s", "general", (Message("user", "capital?"),), "Paris", "contains")
    said = ask(Model(), [*TEST, short], [])
    assert said == {"t0": Answer(f"{SAID} 96"), "t1": Answer("who pays? 96"), "s": Answer("capital? 16")}


def test_with_labels_the_likeliest_is_chosen_and_probabilities_are_among_them():
    said = ask(Model(), TEST, ["billing", "skin", "heart"])["t0"]
    assert said.text == "billing"
    assert said.probabilities == pytest.approx({"billing": 0.8668, "skin": 0.1173, "heart": 0.0159}, abs=1e-4)
    assert said.sure == said.probabilities["billing"]


@pytest.mark.parametrize("row", [[float("nan"), -1.0], [-1.0, float("nan")], [float("-inf")] * 2])
def test_likelihoods_that_are_no_numbers_choose_no_label(row):
    model = Model()
    model.score_labels = lambda conversations, labels: [row for _ in conversations]
    with pytest.raises(MetricFailed, match="likelihood failed on case 't0'"):
        ask(model, TEST, ["billing", "skin"])


def test_who_is_sure_and_wrong_misdirects_and_the_report_says_how_sure():
    suite = Suite("test", "the test split", "v", TEST)
    unsure, sure = ({"billing": 1 - chance, "skin": chance} for chance in (0.6, 0.95))
    answers = {
        "champion": {"t0": Answer("skin", sure), "t1": Answer("skin", sure)},
        "challenger": {"t0": Answer("skin", unsure), "t1": Answer("skin", unsure)},
    }
    criteria = [Criterion("brier", "test")]
    told = {
        (who, row["metric"]): row["value"]
        for who, row in scores([suite], answers, criteria, known=NOTHING, seed=0)
    }
    assert (told["champion", "misdirection"], told["challenger", "misdirection"]) == (1, 0)
    assert told["champion", "calibration_error"] == pytest.approx(0.95)
    assert told["challenger", "brier"] == pytest.approx(2 * 0.6**2)
    assert ("champion", "cost") not in told  # nobody said what a wrong label costs
    report = report_of([suite], answers, Judgement(Verdict.PASSED, "Passed.", ()), criteria)
    assert report["sure"]["champion"] == {"t0": 0.95, "t1": 0.95}
    assert report["metrics"]["brier"] == 1
    assert report_without(report, {"t0"})["sure"]["champion"] == {"t1": 0.95}


def test_what_a_project_knows_comes_from_its_document_and_its_rows():
    row = Example("k", "g", (Message("user", "who pays?"),), "billing", Kind.CLASSIFICATION)
    known = known_of({"costs": {"heart": {"skin": 50}}, "abstentions": ["nobody"]}, [row])
    assert (known.costs, known.abstentions) == ({("heart", "skin"): 50.0}, ["nobody"])
    assert (known.approved, known.learned) == (["billing"], ["who pays?", "billing"])
    assert known.identifiers == NOTHING.identifiers


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"cost": {}}, "known: cost"),
        ({"confident": 2}, "known: confident"),
        ({"costs": {"heart": {"skin": -1}}}, "known: costs.heart.skin"),
        ({"identifiers": ["("]}, "is no pattern"),
        ([], "known: "),
    ],
)
def test_what_a_project_knows_is_refused_by_field(document, said):
    with pytest.raises(WrongSuite, match=said):
        known_of(document, [])


def test_cases_that_waver_judge_nobody_and_their_owner_is_told():
    suite = Suite("test", "the test split", "v", TEST, flaky={"t0": "olga"})
    said = {"t0": Answer("skin"), "t1": Answer("billing")}
    answers = {"champion": said, "challenger": said}
    assert [one.case.key for one in suite_answers(suite, answers, behaviour=False).champion] == ["t1"]
    assert suite_answers(suite, answers, behaviour=True).role is Role.BEHAVIOUR
    rows = scores([suite], answers, [], known=NOTHING, seed=0)
    steady = {who: row["value"] for who, row in rows if row["metric"] == "accuracy"}
    assert steady == {"champion": 1.0, "challenger": 1.0}
    report = report_of([suite], answers, Judgement(Verdict.PASSED, "Passed.", ()), [])
    assert report["flaky"] == {"t0": "olga"}
    assert report["metrics"]["macro_f1"] == 1 and report["versions"] == {"test": "v"}
    assert report["right"]["champion"] == ["t1"]
