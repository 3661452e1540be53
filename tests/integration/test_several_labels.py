"""Answers of which several labels are right, from the adjudicator's ticks to what a model is judged by."""

import pytest
from sqlmodel import select

from annotation.answers import check
from annotation.errors import InvalidAnswer, InvalidSchema
from annotation.label_schema import from_json
from annotation.questions import labels_in
from annotation.types import Answer, Cause, Verdict
from retrain import card, examination, export, types
from retrain.metrics.judged import Judged
from retrain.metrics.statistics import measure
from retrain.types import Case, Message
from service import projects
from service.answers.annotators import everybody
from service.tables import (
    AnnotationTask,
    Annotator,
    ConnectorKind,
    Project,
    ProjectKind,
    Role,
    Settlement,
    TaskState,
)
from tests import builders
from tests.console import person
from tests.desk import Desk

MANY = {"kind": "classification", "labels": ["Billing", "Cardiology", "Skin"], "is_multi_label": True}


@pytest.fixture
def desk(runtime) -> Desk:
    desk = Desk(runtime, ProjectKind.CLASSIFICATION)
    with runtime.db.transaction() as session:
        projects.set_schema(session, session.get_one(Project, desk.project.id), MANY, actor="test")
    return desk


class TestTeaching:
    def test_they_become_one_text_in_one_order_down_to_the_training_row(self, desk):
        wrong = desk.settle("both?", "Cardiology", Verdict.INCORRECT, labels=["Skin", "Billing"])
        right = desk.settle("the same?", "Skin;Billing")
        foreign = desk.settle("what?", "Skin; Oncology")
        rows = desk.examples(made := desk.curate())
        assert {key: (row.answer, row.label) for key, row in rows.items()} == {
            wrong: ("Billing; Skin", "Billing; Skin"),
            right: ("Billing; Skin", "Billing; Skin"),
        }
        assert foreign not in rows
        content = desk.runtime.artifacts.get_bytes(made.artifact)
        assert b"Billing; Skin" in content and b"Oncology" not in content

    def test_a_project_of_one_label_learns_no_two(self, runtime):
        desk = Desk(runtime, ProjectKind.CLASSIFICATION)
        desk.settle("both?", "Billing; Cardiology")
        kept = desk.settle("one?", "Billing")
        assert set(desk.examples(desk.curate())) == {kept}

    def test_a_rebuilt_set_is_the_same(self, desk):
        desk.settle("both?", "Cardiology", Verdict.INCORRECT, labels=["Skin", "Billing"])
        made = desk.curate()
        assert desk.rebuild(made)["fingerprint"] == made.fingerprint

    def test_export_and_card_keep_them(self, desk):
        desk.settle("both?", "Cardiology", Verdict.INCORRECT, labels=["Skin", "Billing"])
        [row] = desk.examples(desk.curate()).values()
        assert export.classification(row, "") == [{"text": "both?", "label": "Billing; Skin"}]
        assert set(card.count([row])["label"]) == {"Billing; Skin"}


def said(expected: str, answer: str) -> Judged:
    return Judged(Case("k", "test", (Message("user", "both?"),), expected, "label"), answer)


class TestJudging:
    @pytest.mark.parametrize(
        ("answer", "is_right"),
        [("Skin; Billing", 1), ("Billing;Skin", 1), ("Skin", 0), ("Billing; Skin; Cardiology", 0), ("", 0)],
    )
    def test_what_a_model_says_is_compared_as_a_set(self, answer, is_right):
        assert measure([said("Billing; Skin", answer)], "accuracy", seed=0).value == is_right

    def test_a_model_writes_several_and_chooses_one(self):
        case = Case("k", "test", (Message("user", "both?"),), "Billing; Skin", "label")

        class Model:
            def answer(self, conversations, *, max_new_tokens):
                return [f"written within {max_new_tokens}"]

            def score_labels(self, conversations, labels):
                return [[-2.0, -1.0, -3.0]]

        assert examination.ask(Model(), [case], [])["k"].text == "written within 96"
        assert examination.ask(Model(), [case], MANY["labels"])["k"].text == MANY["labels"][1]


class TestAsking:
    def test_a_label_that_would_be_read_as_two_is_refused(self):
        with pytest.raises(InvalidSchema, match="stands between several labels"):
            from_json(MANY | {"labels": ["Billing", "Skin; hair"]})

    def test_the_very_labels_that_were_found_wrong_correct_nothing(self):
        answer = Answer(Verdict.INCORRECT, labels=("Skin", "Billing"), cause=Cause.MODEL)
        with pytest.raises(InvalidAnswer, match="very response"):
            check(answer, from_json(MANY), "Billing; Skin")
        assert check(answer, from_json(MANY), "Billing") == answer

    @pytest.mark.parametrize("text", ["Skin; Billing", "Skin\nBilling", " Skin ;; Billing "])
    def test_both_libraries_read_a_text_alike(self, text):
        assert {*labels_in(text)} == types.labels_in(text) == {"Skin", "Billing"}
        assert types.labels_in(types.label_of(labels_in(text))) == types.labels_in(text)

    def test_an_adjudicator_ticks_them(self, desk):
        with desk.runtime.db.transaction() as session:
            response = builders.add_response(session, desk.project, "Cardiology")
            task = builders.add_task(session, desk.project, response, state=TaskState.CONTESTED)
        olga, path = person(desk.runtime, Role.OPERATOR, name="otto"), f"/p/clinic/tasks/{task.id}"
        assert olga.get(path).text.count('type="checkbox" name="labels"') == 3
        said = {"verdict": "incorrect", "cause": "model", "reason": "both are meant"}
        assert olga.post(f"{path}/adjudicate", **said, labels=["Skin", "Surgery"]).status_code >= 400
        olga.post(f"{path}/adjudicate", **said, labels=["Skin", "Billing"])
        with desk.runtime.db.reading() as session:
            settled = session.exec(select(Settlement).where(Settlement.task_id == task.id)).one()
            assert session.get_one(AnnotationTask, task.id).state is TaskState.SETTLED
        assert {*settled.labels} == {"Skin", "Billing"}


def test_as_settled_is_who_ticked_all_that_was_settled(any_runtime):
    with any_runtime.db.transaction() as session:
        project = builders.add_project(session)
        task = builders.add_task(session, project, builders.add_response(session, project))
        for account, ticked in (("ann", ["Billing", "Skin"]), ("ben", ["Billing"])):
            annotator = Annotator(connector=ConnectorKind.NONE, account=account)
            session.add(annotator)
            session.flush()
            wrong = {"verdict": Verdict.INCORRECT, "cause": Cause.MODEL, "labels": ticked}
            builders.add_annotation(session, task, annotator, **wrong)
        builders.add_settlement(session, task, label=None, labels=["Billing", "Skin"])
    with any_runtime.db.reading() as session:
        told = {row[0].account: row[3:5] for row in everybody(session, project)}
    assert told == {"ann": (1, 1), "ben": (1, 0)}
