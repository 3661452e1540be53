"""A person's yes is bound to what they saw, and at most one switch of the champion happens at a time."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from threading import Barrier

import pytest
from flask.testing import FlaskClient
from sqlmodel import col, select

from retrain.types import sha256_of
from service import champions, ledger
from service.errors import NotFound
from service.runtime import Runtime
from service.tables import (
    Approval,
    DocumentKind,
    Evaluation,
    EvaluationState,
    ModelState,
    ModelVersion,
    Project,
    Promotion,
    Role,
    TrainingRun,
    TrainingSet,
)
from service.web.app import create_app
from tests import builders


@dataclass(frozen=True, slots=True)
class Desk:
    """Where an approver works: one project with criteria."""

    runtime: Runtime
    client: FlaskClient
    project: Project
    headers: dict[str, str]

    def post(self, path: str, **body):
        return self.client.post(path, json={"project": "clinic"} | body, headers=self.headers)

    def challenger(
        self, number: int = 1, state: EvaluationState = EvaluationState.PASSED
    ) -> dict[str, object]:
        """A judged challenger, as the body of its approval."""
        with self.runtime.db.transaction() as session:
            model = builders.add_challenger(session, self.project, number=number)
            evaluation = builders.add_evaluation(session, self.project, model, state)
            training_set = session.get_one(TrainingSet, evaluation.training_set_id)
            return {
                "evaluation": str(evaluation.id),
                "model_version": model.number,
                "adapter_sha256": model.adapter_sha256,
                "training_set": training_set.fingerprint,
                "decision": "approved",
                "reason": "better on what users ask",
            }

    def approve(self, seen: dict[str, object], **changes):
        return self.post("/v1/approvals", **seen | changes)

    def promote(self, **body):
        return self.post("/v1/promotions", **body)

    def goes_live(self, number: int) -> None:
        assert self.approve(self.challenger(number)).status_code == 201
        assert self.promote(model_version=number).status_code == 201

    def champion(self) -> dict:
        return self.client.get("/v1/models/champion?project=clinic", headers=self.headers).json

    def change(self, table: type, **values) -> None:
        with self.runtime.db.transaction() as session:
            session.exec(select(table).order_by(col(table.id).desc())).first().sqlmodel_update(values)

    def rows(self, table: type) -> list:
        with self.runtime.db.reading() as session:
            return session.exec(select(table).order_by(col(table.id))).all()


@pytest.fixture
def desk(runtime) -> Desk:
    return open_desk(runtime)


@pytest.fixture
def any_desk(any_runtime) -> Desk:
    return open_desk(any_runtime)


def open_desk(runtime: Runtime) -> Desk:
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
        builders.add_criteria(session, project)
        _, token = builders.add_person(session, Role.APPROVER)
    client = create_app(runtime).test_client()
    return Desk(runtime, client, project, {"Authorization": f"Bearer {token}"})


def assert_refused(answer, code: str) -> None:
    assert (answer.status_code, answer.content_type) == (409, "application/problem+json"), answer.text
    assert answer.json["code"] == code


def test_before_the_first_promotion_the_base_model_is_the_champion(desk):
    champion = desk.champion()
    assert (champion["seq"], champion["kind"], champion["model_version"]) == (0, "first", 0)
    assert (champion["base_model"], champion["adapter_uri"], champion["sha256"]) == (
        "bundled:tiny",
        None,
        None,
    )


def test_an_approved_challenger_becomes_the_champion(any_desk):
    seen = any_desk.challenger()
    approval = any_desk.approve(seen).json["item"]
    promoted = any_desk.promote().json["item"]
    assert (promoted["seq"], promoted["kind"], promoted["model_version"]) == (1, "promotion", 1)
    assert promoted["sha256"] == seen["adapter_sha256"]
    assert any_desk.champion() == promoted
    assert [model.state for model in any_desk.rows(ModelVersion)] == [ModelState.RETIRED, ModelState.CHAMPION]
    assert str(any_desk.rows(Promotion)[-1].approval_id) == approval["id"]


def test_an_approval_names_everything_that_was_seen(desk):
    desk.approve(desk.challenger())
    (approval,) = desk.rows(Approval)
    assert set(approval.hashes) == {
        "adapter",
        "training_set",
        "criteria",
        "gate_rules",
        "suite",
        "report",
        "champion",
    }
    assert all(approval.hashes.values())


@pytest.mark.parametrize(
    "seen_wrongly",
    [
        {"adapter_sha256": sha256_of("another adapter")},
        {"training_set": sha256_of("another set")},
        {"model_version": 2},
        {"adapter_sha256": ""},
    ],
    ids=["adapter", "training set", "version", "nothing"],
)
def test_an_approval_of_something_else_is_stale(desk, seen_wrongly):
    assert_refused(desk.approve(desk.challenger(), **seen_wrongly), "approval_stale")
    assert desk.rows(Approval) == []


def test_an_evaluation_by_older_criteria_cannot_be_approved(desk):
    seen = desk.challenger()
    with desk.runtime.db.transaction() as session:
        builders.add_criteria(session, desk.project, margin=0.2)
    assert_refused(desk.approve(seen), "approval_stale")


def test_an_evaluation_against_an_older_champion_cannot_be_approved(desk):
    waiting = desk.challenger(1)
    desk.goes_live(2)
    assert_refused(desk.approve(waiting), "approval_stale")


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (ModelVersion, {"adapter_sha256": sha256_of("swapped")}),
        (TrainingSet, {"fingerprint": sha256_of("swapped")}),
        (Evaluation, {"report": sha256_of("swapped")}),
    ],
    ids=["adapter", "training set", "report"],
)
def test_what_changes_after_the_approval_makes_it_stale(desk, table, values):
    assert desk.approve(desk.challenger()).status_code == 201
    desk.change(table, **values)
    assert_refused(desk.promote(), "approval_stale")
    assert desk.champion()["seq"] == 0


def test_criteria_that_change_after_the_approval_make_it_stale(desk):
    desk.approve(desk.challenger())
    with desk.runtime.db.transaction() as session:
        builders.add_criteria(session, desk.project, margin=0.2)
    assert_refused(desk.promote(), "approval_stale")


def test_a_champion_that_changes_after_the_approval_makes_it_stale(any_desk):
    any_desk.approve(any_desk.challenger(1))
    any_desk.goes_live(2)
    assert_refused(any_desk.promote(model_version=1), "approval_stale")
    assert any_desk.champion()["model_version"] == 2


def test_nothing_is_promoted_without_an_approval(desk):
    desk.challenger()
    for body in ({}, {"model_version": 1}, {"model_version": 9}):
        assert_refused(desk.promote(**body), "approval_missing")


@pytest.mark.parametrize(
    "state", [EvaluationState.REFUSED, EvaluationState.CANNOT_TELL, EvaluationState.RUNNING]
)
def test_what_the_gate_did_not_pass_cannot_be_approved(desk, state):
    assert_refused(desk.approve(desk.challenger(state=state)), "wrong_state")


def test_a_rejected_challenger_cannot_be_approved_or_promoted(desk):
    seen = desk.challenger()
    assert desk.approve(seen, decision="rejected", reason="unsafe").status_code == 201
    assert_refused(desk.approve(seen), "wrong_state")
    assert_refused(desk.promote(), "approval_missing")


def test_a_champion_is_not_promoted_twice(desk):
    desk.goes_live(1)
    assert_refused(desk.promote(model_version=1), "wrong_state")
    assert len(desk.rows(Promotion)) == 2


def test_another_projects_evaluation_is_not_found(desk):
    seen = desk.challenger()
    with desk.runtime.db.transaction() as session:
        builders.add_project(session, "bakery")
    assert desk.approve(seen, project="bakery").status_code == 404


def test_a_rollback_brings_back_what_was_live_before(any_desk):
    any_desk.goes_live(1)
    any_desk.goes_live(2)
    back = any_desk.promote(action="rollback", reason="complaints").json["item"]
    assert (back["seq"], back["kind"], back["model_version"]) == (3, "rollback", 1)
    assert any_desk.champion()["model_version"] == 1
    states = {model.number: model.state for model in any_desk.rows(ModelVersion)}
    assert states == {0: ModelState.RETIRED, 1: ModelState.CHAMPION, 2: ModelState.RETIRED}


def test_there_is_nothing_to_roll_back_to_at_first(desk):
    assert_refused(desk.promote(action="rollback", reason="complaints"), "wrong_state")


@pytest.mark.parametrize("decide", ["approve", "rollback"])
def test_nothing_is_decided_without_a_reason(desk, decide):
    desk.goes_live(1)
    seen = desk.challenger(2)
    said = {"reason": " \n"}
    answer = desk.approve(seen, **said) if decide == "approve" else desk.promote(action="rollback", **said)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid")
    assert desk.champion()["model_version"] == 1


def test_a_suite_that_changed_makes_what_was_judged_by_the_old_one_stale(desk):
    first, second = desk.challenger(1), desk.challenger(2)
    assert desk.approve(first).status_code == 201
    with desk.runtime.db.transaction() as session:
        session.add(builders.successor(session, desk.project, DocumentKind.SUITE))
    assert_refused(desk.promote(model_version=1), "approval_stale")
    assert_refused(desk.approve(second), "approval_stale")


def test_history_tells_what_was_live_at_any_moment(any_desk):
    any_desk.goes_live(1)
    any_desk.promote(action="rollback", reason="complaints")
    moments = [row.created_at for row in any_desk.rows(Promotion)]
    just_before = timedelta(microseconds=1)
    with any_desk.runtime.db.reading() as session:
        live = [champions.live_at(session, any_desk.project, at)[1].number for at in [*moments, None]]
        earlier = [
            champions.live_at(session, any_desk.project, at - just_before)[1].number for at in moments[1:]
        ]
        with pytest.raises(NotFound):
            champions.live_at(session, any_desk.project, moments[0] - just_before)
    assert live == [0, 1, 0, 0]
    assert earlier == [0, 1]


def test_of_two_promotions_at_the_same_moment_one_wins(any_desk):
    for number in (1, 2):
        assert any_desk.approve(any_desk.challenger(number)).status_code == 201
    together = Barrier(2)

    def promote(number: int):
        client = any_desk.client.application.test_client()
        together.wait()
        body = {"project": "clinic", "model_version": number}
        return client.post("/v1/promotions", json=body, headers=any_desk.headers)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(promote, (1, 2)))
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    (winner,) = [answer.json["item"] for answer in answers if answer.status_code == 201]
    assert any_desk.champion() == winner
    assert [row.seq for row in any_desk.rows(Promotion)] == [0, 1]
    champions = [model for model in any_desk.rows(ModelVersion) if model.state is ModelState.CHAMPION]
    assert [model.number for model in champions] == [winner["model_version"]]


def test_decisions_and_switches_stand_in_the_ledger(desk):
    desk.goes_live(1)
    desk.promote(action="rollback", reason="complaints")
    with desk.runtime.db.reading() as session:
        noted = session.scalars(select(ledger.LedgerEntry).order_by(col(ledger.LedgerEntry.seq))).all()
        assert [(entry.actor, entry.action) for entry in noted][-3:] == [
            ("approver", "approved"),
            ("approver", "promotion"),
            ("approver", "rollback"),
        ]
        assert not list(ledger.broken(session))


def test_nothing_trains_before_success_is_defined(desk):
    with desk.runtime.db.transaction() as session:
        builders.add_set(session, builders.add_project(session, "bakery"))
    assert_refused(desk.post("/v1/training-runs", project="bakery"), "success_criteria_missing")
    assert desk.rows(TrainingRun) == []


def test_a_run_names_the_set_that_was_asked_for(desk):
    with desk.runtime.db.transaction() as session:
        first, second = (builders.add_set(session, desk.project, version=n).fingerprint for n in (1, 2))
        builders.add_set(session, builders.add_project(session, "bakery"))
    names = {None: second, first: first, first[7:20]: first, "clinic/v1": first}
    for name, fingerprint in names.items():
        run = desk.post("/v1/training-runs", training_set=name)
        assert (run.status_code, run.json["item"]["training_set"]) == (202, fingerprint)
    for name in ("clinic/v9", "bakery/v1", "0" * 12):
        assert desk.post("/v1/training-runs", training_set=name).status_code == 404


def test_a_second_rollback_goes_further_back_and_never_forward(desk):
    for number in (1, 2, 3):
        desk.goes_live(number)
    rollback = {"action": "rollback", "reason": "complaints"}
    versions = [desk.promote(**rollback).json["item"]["model_version"] for _ in range(3)]
    assert versions == [2, 1, 0]
    assert_refused(desk.promote(**rollback), "wrong_state")


def test_an_approval_does_not_outlive_a_newer_evaluation(desk):
    seen = desk.challenger()
    assert desk.approve(seen).status_code == 201
    with desk.runtime.db.transaction() as session:
        model = session.exec(select(ModelVersion).where(ModelVersion.number == 1)).one()
        builders.add_evaluation(session, desk.project, model, EvaluationState.CANNOT_TELL)
    assert_refused(desk.promote(), "approval_stale")


def test_a_rejection_takes_an_approval_back(desk):
    seen = desk.challenger()
    assert desk.approve(seen).status_code == 201
    assert desk.approve(seen, decision="rejected").status_code == 201
    assert_refused(desk.promote(), "approval_missing")


def test_the_evaluation_says_which_project_is_meant(desk):
    body = desk.challenger()
    assert desk.client.post("/v1/approvals", json=body, headers=desk.headers).status_code == 201


def test_a_rejected_version_that_passes_again_needs_a_new_approval(desk):
    seen = desk.challenger()
    desk.approve(seen)
    desk.approve(seen, decision="rejected")
    with desk.runtime.db.transaction() as session:
        model = session.exec(select(ModelVersion).where(ModelVersion.number == 1)).one()
        model.state = ModelState.CHALLENGER
        again = builders.add_evaluation(session, desk.project, model)
    assert_refused(desk.promote(), "approval_missing")
    assert_refused(desk.approve(seen), "approval_stale")
    assert desk.approve(seen, evaluation=str(again.id)).status_code == 201
    assert desk.promote().status_code == 201


def test_gate_rules_that_change_make_what_was_judged_by_the_old_ones_stale(desk):
    first, second = desk.challenger(1), desk.challenger(2)
    assert desk.approve(first).status_code == 201
    with desk.runtime.db.transaction() as session:
        session.add(builders.successor(session, desk.project, DocumentKind.GATE_RULES))
    assert_refused(desk.promote(model_version=1), "approval_stale")
    assert_refused(desk.approve(second), "approval_stale")


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (EvaluationState.PASSED, "passed"),
        (EvaluationState.REFUSED, "refused"),
        (EvaluationState.CANNOT_TELL, "cannot_tell"),
        (EvaluationState.RUNNING, None),
        (EvaluationState.FAILED, None),
    ],
)
def test_an_evaluation_has_a_verdict_once_it_was_judged(desk, state, verdict):
    evaluation_id = desk.challenger(state=state)["evaluation"]
    shown = desk.client.get(f"/v1/evaluations/{evaluation_id}", headers=desk.headers).json
    assert (shown["id"], shown["state"], shown["verdict"]) == (evaluation_id, state.value, verdict)
    assert {"sentence", "reasons", "hashes"} < set(shown)
    assert desk.client.get("/v1/evaluations?project=clinic", headers=desk.headers).json["items"] == [shown]
