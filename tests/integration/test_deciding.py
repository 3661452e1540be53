"""Deciding on a challenger: what an evaluation's page shows of it, and who may then put it live."""

import json
import re
from datetime import timedelta
from html import unescape

import pytest
import typer
from sqlmodel import Session, select

from retrain.suites import GENERAL, general_cases, general_questions
from retrain.suites.document import bundled_suites
from retrain.suites.expansion import expand
from retrain.types import Split, sha256_of
from service import people
from service.answers.cases import cases_of
from service.cli import loop
from service.clock import utcnow
from service.runtime import Runtime
from service.tables import (
    Approval,
    Document,
    DocumentKind,
    Evaluation,
    EvaluationState,
    LedgerEntry,
    ModelState,
    ModelVersion,
    Project,
    Role,
    TrainingRun,
    TrainingSetExample,
)
from tests import builders
from tests.console import PASSWORD, Person, person


@pytest.fixture
def clinic(runtime) -> Project:
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
        builders.add_criteria(session, project)
    return project


@pytest.fixture
def ada(runtime, clinic) -> Person:
    return person(runtime, Role.APPROVER, name="ada")


@pytest.fixture
def pia(runtime, clinic) -> Person:
    return person(runtime, Role.APPROVER, name="pia")


class Challenger:
    """A judged challenger before people who decide on it."""

    def __init__(
        self, runtime: Runtime, project: Project, state: EvaluationState = EvaluationState.PASSED
    ) -> None:
        self.runtime, self.project = runtime, project
        with runtime.db.transaction() as session:
            self.model = builders.add_challenger(session, project)
            self.evaluation = builders.add_evaluation(session, project, self.model, state)

    def form(self, who: Person) -> dict[str, str]:
        """The decision's hidden fields as the page shows them."""
        page = who.get(f"/p/clinic/evaluations/{self.evaluation.id}").text
        part = page.partition('id="decide"')[2]
        return {
            name: unescape(text)
            for name, text in re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', part)
            if name != "csrf"
        }

    def decide(self, who: Person, form: dict[str, str] | None = None, **changes: str):
        sent = {"reason": "better", "decision": "approved"} | (form or self.form(who)) | changes
        return who.post(f"/p/clinic/evaluations/{self.evaluation.id}/decide", **sent)

    def promote(self, who: Person, password: str = PASSWORD):
        return who.post("/p/clinic/promote", model_version="1", password=password)

    def state(self) -> ModelState:
        with self.runtime.db.reading() as session:
            return session.get_one(ModelVersion, self.model.id).state

    def decisions(self) -> int:
        with self.runtime.db.reading() as session:
            return len(session.exec(select(Approval)).all())

    def requested_by(self, who: Person) -> None:
        with self.runtime.db.transaction() as session:
            session.exec(select(TrainingRun)).one().requested_by = who.user.id

    def needs_persons(self, count: int) -> None:
        with self.runtime.db.transaction() as session:
            session.exec(select(Project)).one().persons_needed = count


class TestDecisions:
    @pytest.fixture
    def challenger(self, runtime, clinic) -> Challenger:
        return Challenger(runtime, clinic)

    def test_a_challenger_is_approved_promoted_and_taken_back(self, challenger, ada):
        assert challenger.decide(ada).status_code == 303
        assert challenger.promote(ada).status_code == 303
        assert challenger.state() is ModelState.CHAMPION
        assert ada.post("/p/clinic/rollback", seq="1", reason="worse", password=PASSWORD).status_code == 303
        assert challenger.state() is ModelState.RETIRED

    @pytest.mark.parametrize("password", ["", "wrong", PASSWORD.upper()])
    def test_promoting_and_rolling_back_need_the_password_again(self, challenger, ada, password):
        challenger.decide(ada)
        assert challenger.promote(ada, password).status_code == 403
        assert challenger.state() is ModelState.CHALLENGER
        challenger.promote(ada)
        answer = ada.post("/p/clinic/rollback", seq="1", reason="worse, I say", password=password)
        assert answer.status_code == 403 and "worse, I say" in answer.text
        assert challenger.state() is ModelState.CHAMPION

    def test_who_has_no_password_promotes_nothing(self, runtime, challenger, ada):
        challenger.decide(ada)
        eve = person(runtime, Role.APPROVER, name="eve", password="")
        answer = challenger.promote(eve, "")
        assert answer.status_code == 409 and "choose one first" in answer.text
        assert challenger.state() is ModelState.CHALLENGER

    def test_nothing_is_promoted_that_nobody_approved(self, challenger, ada):
        assert challenger.promote(ada).status_code == 409
        assert challenger.state() is ModelState.CHALLENGER

    def test_who_asked_for_the_training_does_not_approve_it_alone(self, runtime, challenger, ada):
        eve, path = (
            person(runtime, Role.APPROVER, name="eve"),
            f"/p/clinic/evaluations/{challenger.evaluation.id}",
        )
        challenger.requested_by(ada)
        assert "Approve version 1" in ada.get(path).text
        challenger.needs_persons(2)
        told = "You asked for its training: somebody else approves it. 1 more person has to approve it."
        shown = [
            (told in page, "Approve version 1" in page) for page in (ada.get(path).text, eve.get(path).text)
        ]
        assert shown == [(True, False), (False, True)]
        answer = challenger.decide(ada)
        assert answer.status_code == 409 and "somebody else approves" in answer.text
        assert challenger.decisions() == 0
        assert challenger.decide(eve).status_code == 303

    def test_through_the_api_neither(self, runtime, challenger, ada, client):
        challenger.requested_by(ada)
        challenger.needs_persons(2)
        form = challenger.form(ada)
        with runtime.db.transaction() as session:
            token = people.add_token(session, "ada", actor="test")
        body = {
            "evaluation": str(challenger.evaluation.id),
            "model_version": 1,
            "adapter_sha256": form["adapter_sha256"],
            "training_set": form["training_set"],
            "decision": "approved",
            "reason": "better",
        }
        answer = client.post("/v1/approvals", json=body, headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json["code"]) == (409, "two_persons_needed")

    def test_who_asked_for_the_training_may_reject_it(self, challenger, ada):
        challenger.requested_by(ada)
        challenger.needs_persons(2)
        assert challenger.decide(ada, decision="rejected").status_code == 303
        assert challenger.state() is ModelState.REFUSED

    def test_of_three_persons_two_approve_what_the_third_asked_for(self, runtime, challenger, ada):
        eve, bob = (person(runtime, Role.APPROVER, name=name) for name in ("eve", "bob"))
        challenger.requested_by(ada)
        challenger.needs_persons(3)
        challenger.decide(eve)
        assert "1 more person has to approve it" in ada.get("/p/clinic/models").text
        assert "Is it to go live?" in ada.get("/p/clinic/").text
        answer = challenger.promote(eve)
        assert answer.status_code == 409 and "1 more person has to approve it" in answer.text
        challenger.decide(eve)
        assert challenger.promote(eve).status_code == 409  # one voice each
        challenger.decide(bob)
        assert "Promote" in ada.get("/p/clinic/models").text
        assert challenger.promote(eve).status_code == 303

    def test_what_a_trigger_asked_for_two_persons_approve(self, runtime, challenger, ada):
        challenger.needs_persons(2)
        assert challenger.decide(ada).status_code == 303
        assert challenger.promote(ada).status_code == 409
        challenger.decide(person(runtime, Role.APPROVER, name="eve"))
        assert challenger.promote(ada).status_code == 303

    def test_without_the_rule_one_person_does_both(self, challenger, ada):
        challenger.requested_by(ada)
        assert challenger.decide(ada).status_code == 303

    @pytest.mark.parametrize("decision", ["approved", "rejected"])
    def test_the_second_of_two_hears_what_the_first_decided(self, runtime, challenger, ada, decision):
        eve = person(runtime, Role.APPROVER, name="eve")
        seen = challenger.form(ada)
        challenger.decide(eve, decision=decision)
        answer = challenger.decide(ada, seen, reason="my own reason")
        assert answer.status_code == 409
        assert f"{decision} by eve" in answer.text and "my own reason" in answer.text
        assert challenger.decisions() == 1

    @pytest.mark.parametrize(
        "changed", [{"adapter_sha256": "sha256:0"}, {"training_set": "sha256:0"}, {"model_version": "2"}]
    )
    def test_a_decision_on_what_is_not_there_any_more_is_refused(self, challenger, ada, changed):
        answer = challenger.decide(ada, **changed)
        assert answer.status_code == 409 and "changed since" in answer.text
        assert challenger.decisions() == 0

    def test_an_approval_is_void_once_the_criteria_change(self, runtime, challenger, ada, clinic):
        challenger.decide(ada)
        with runtime.db.transaction() as session:
            builders.add_criteria(session, clinic, margin=0.3)
        assert challenger.promote(ada).status_code == 409
        assert challenger.state() is ModelState.CHALLENGER

    def test_what_the_gate_refused_nobody_approves(self, runtime, clinic, ada):
        refused = Challenger(runtime, clinic, EvaluationState.REFUSED)
        assert refused.decide(ada).status_code == 409
        assert 'value="approved"' not in ada.get(f"/p/clinic/evaluations/{refused.evaluation.id}").text

    def test_a_rollback_of_another_champion_than_was_shown_is_refused(self, challenger, ada):
        challenger.decide(ada)
        challenger.promote(ada)
        answer = ada.post("/p/clinic/rollback", seq="0", reason="worse", password=PASSWORD)
        assert answer.status_code == 409 and "changed since" in answer.text
        assert challenger.state() is ModelState.CHAMPION

    def test_a_decision_needs_a_reason(self, challenger, ada):
        assert challenger.decide(ada, reason="  ").status_code == 422
        assert challenger.decisions() == 0

    @pytest.mark.parametrize(("minutes", "counted"), [(2, 120), (600, 3600), (-5, 0)])
    def test_the_time_that_a_decision_took_is_kept_within_bounds(
        self, runtime, challenger, ada, minutes, counted
    ):
        form = challenger.form(ada)
        opened = str(float(form["opened_at"]) - 60 * minutes)
        challenger.decide(ada, form, opened_at=opened)
        with runtime.db.reading() as session:
            assert session.exec(select(Approval)).one().seconds_spent == pytest.approx(counted, abs=30)


class TestDifferences:
    """Cases that the models answered differently, as an evaluation's page tells them."""

    ASKED, SAID, BETTER = "Where may I park?", "parking in the yard", "parking in the street"

    @pytest.fixture
    def page(self, runtime, clinic) -> str:
        challenger = Challenger(runtime, clinic)
        general = general_cases(general_questions())[0]
        with runtime.db.transaction() as session:
            evaluation = session.get_one(Evaluation, challenger.evaluation.id)
            won = self.settled(session, clinic, evaluation)
            evaluation.report = self.report(runtime, won, general.key)
        auditor = person(runtime, Role.AUDITOR, password="")
        return auditor.get(f"/p/clinic/evaluations/{challenger.evaluation.id}").text

    def settled(self, session: Session, clinic: Project, evaluation: Evaluation) -> str:
        """Add an example of the set that was judged, and return its key."""
        response = builders.add_response(session, clinic, self.SAID, asked=self.ASKED)
        settlement = builders.add_settlement(
            session, builders.add_task(session, clinic, response), label=None, correction=self.BETTER
        )
        key = sha256_of(["example", self.ASKED])
        session.add(
            TrainingSetExample(
                training_set_id=evaluation.training_set_id,
                settlement_id=settlement.id,
                content_sha256=key,
                split=Split.TEST,
                group_name="parking",
            )
        )
        return key

    def report(self, runtime: Runtime, won: str, lost: str) -> str:
        answers = {
            "champion": {won: self.SAID, lost: "the right one"},
            "challenger": {won: self.BETTER, lost: "another one"},
        }
        report = {
            "right": {"champion": [lost], "challenger": [won]},
            "suites": {"test": [won], GENERAL: [lost]},
            "answers": answers,
        }
        return runtime.artifacts.put_bytes(json.dumps(report).encode())

    def test_what_only_the_challenger_knows_stands_beside_what_the_champion_said(self, page):
        won = page.partition("Only the challenger is right")[2].partition("Only the champion is right")[0]
        assert self.ASKED in won and self.SAID in won and self.BETTER in won
        assert "<del>yard</del>" in won and "<ins>street</ins>" in won

    def test_what_only_the_champion_knows_is_told_as_plainly(self, page):
        lost = page.partition("Only the champion is right")[2].partition("</section>")[0]
        assert general_cases(general_questions())[0].messages[-1].content in unescape(lost)
        assert "<del>the right</del>" in lost and "<ins>another</ins>" in lost

    def test_cases_of_suites_are_told_in_turn_the_surest_mistake_first(self, runtime, clinic):
        sarcasm, other = expand(bundled_suites()["sarcasm"], seed=0, has_labels=True).cases[:2]
        first, second = (case.key for case in general_cases(general_questions())[:2])
        right = [sarcasm.key, first, second]
        asked = [*right, other.key, sarcasm.pair]
        said = {who: dict.fromkeys(asked, who) for who in ("champion", "challenger")}
        report = {
            "suites": {GENERAL: [first, second], "sarcasm": [sarcasm.key, other.key]},
            "right": {"champion": [*right, other.key], "challenger": []},
            "answers": said,
            "sure": {"champion": {second: 0.7}, "challenger": {first: 0.6, second: 0.9}},
            "flaky": {other.key: "olga"},
        }
        challenger = Challenger(runtime, clinic)
        with runtime.db.transaction() as session:
            evaluation = session.get_one(Evaluation, challenger.evaluation.id)
            evaluation.report = runtime.artifacts.put_bytes(json.dumps(report).encode())
            found = cases_of(session, runtime.artifacts, evaluation)
        assert (found.won, found.sureness) == ([], [])
        assert [each.suite for each in found.lost] == [GENERAL, "sarcasm", GENERAL]
        assert [each.sure.get("challenger") for each in found.lost] == [0.9, None, 0.6]
        assert found.lost[1].asked == sarcasm.messages[-1].content
        assert found.lost[1].plainly == {"champion": "champion", "challenger": "challenger"}
        assert found.lost[1].expected == "the same label as without the variation"
        assert [(each.asked, each.owner) for each in found.flaky] == [(other.messages[-1].content, "olga")]
        page = person(runtime, Role.AUDITOR, password="").get(f"/p/clinic/evaluations/{evaluation.id}").text
        assert "(90 % sure)" in page and "sarcasm, of olga" in page

    def test_how_sure_the_models_were_is_said_beside_how_often_they_were_right(self, runtime, clinic):
        report = {
            "suites": {"test": ["a", "b"]},
            "right": {"champion": ["a"], "challenger": ["a", "b"]},
            "answers": {who: {"a": "x", "b": "y"} for who in ("champion", "challenger")},
            "sure": {"champion": {"a": 0.9, "b": 0.8}, "challenger": {"a": 0.9, "b": 0.7}},
        }
        challenger = Challenger(runtime, clinic)
        with runtime.db.transaction() as session:
            evaluation = session.get_one(Evaluation, challenger.evaluation.id)
            evaluation.report = runtime.artifacts.put_bytes(json.dumps(report).encode())
            builders.add_score(session, evaluation)
        page = person(runtime, Role.AUDITOR, password="").get(f"/p/clinic/evaluations/{evaluation.id}").text
        assert "the champion gave its labels 85 % on average and was right in 50 %" in page
        assert "the challenger gave its labels 80 % on average and was right in 100 %." in page


class TestWaivingEffort:
    """Time on validation may be waived by one person for another to approve, and nothing else may."""

    EFFORT, LOSS = (
        {"rule": rule, "suite": "people", "slice": None, "met": False} for rule in ("effort", "loss")
    )
    FIGURES = dict.fromkeys(("champion", "challenger", "low", "high", "margin"), 0.1)

    @pytest.fixture
    def lacking(self, runtime, clinic) -> Challenger:
        return self.judged(runtime, clinic, self.EFFORT)

    def judged(self, runtime, clinic, *unmet) -> Challenger:
        challenger = Challenger(runtime, clinic, EvaluationState.CANNOT_TELL)
        met = self.EFFORT | {"rule": "better", "met": True}
        with runtime.db.transaction() as session:
            evaluation = session.get_one(Evaluation, challenger.evaluation.id)
            evaluation.reasons = [each | self.FIGURES for each in (met, *unmet)]
        return challenger

    def waive(
        self, who: Person, challenger: Challenger, *, days: int = 7, reason: str = "they read transcripts"
    ):
        until = (utcnow() + timedelta(days=days)).date().isoformat()
        path = f"/p/clinic/evaluations/{challenger.evaluation.id}/waive"
        return who.post(path, reason=reason, until=until)

    def test_one_waives_and_another_approves(self, lacking, ada, pia):
        assert lacking.decide(ada).status_code == 409
        assert self.waive(pia, lacking).status_code == 303
        own = lacking.decide(pia)
        assert own.status_code == 409 and "somebody else approves" in own.text
        assert lacking.decisions() == 0
        page = ada.get(f"/p/clinic/evaluations/{lacking.evaluation.id}").text
        assert "pia waived the time on validation until" in page and "they read transcripts" in page
        lacking.decide(ada)
        assert lacking.promote(ada).status_code == 303
        assert lacking.state() is ModelState.CHAMPION

    def test_what_misses_anything_else_is_not_waived(self, runtime, clinic, ada, pia):
        both = self.judged(runtime, clinic, self.EFFORT, self.LOSS)
        answer = self.waive(pia, both)
        assert answer.status_code == 409 and "misses nothing but time" in answer.text
        assert both.decide(ada).status_code == 409

    @pytest.mark.parametrize("changes", [{"reason": " "}, {"days": -1}, {"days": 800}])
    def test_a_waiver_has_a_reason_and_a_day_within_a_year(self, lacking, ada, pia, changes):
        assert self.waive(pia, lacking, **changes).status_code in (409, 422)
        assert lacking.decide(ada).status_code == 409

    def test_after_its_day_it_lets_nothing_through(self, runtime, lacking, ada, pia):
        self.waive(pia, lacking)
        with runtime.db.transaction() as session:
            [waiver] = session.exec(select(Document).where(Document.kind == DocumentKind.WAIVER))
            waiver.content = waiver.content | {"until": "2026-01-01"}
        assert lacking.decide(ada).status_code == 409

    def test_lists_say_that_it_was_waived(self, runtime, client, lacking, ada, pia):
        with runtime.db.transaction() as session:
            _, token = builders.add_person(session, Role.AUDITOR)
        path, headers = "/v1/evaluations?project=clinic", {"Authorization": f"Bearer {token}"}
        assert client.get(path, headers=headers).json["items"][0]["waived"] is None
        assert "Waived by" not in ada.get("/p/clinic/evaluations").text
        self.waive(pia, lacking)
        told = client.get(path, headers=headers).json["items"][0]["waived"]
        assert (told["by"], told["reason"]) == ("pia", "they read transcripts")
        assert f"Waived by pia until {told['until']}." in ada.get("/p/clinic/evaluations").text

    def test_a_pipeline_that_judges_it_again_passes_once_it_is_waived(
        self, lacking, pia, monkeypatch, tmp_path
    ):
        def evaluate(*unmet) -> tuple[int, int]:
            """Return the exit status, and how many failures the report counts."""
            again = self.judged_again(lacking, *unmet)
            monkeypatch.setattr(loop, "find_project", lambda _: (lacking.runtime, lacking.project))
            monkeypatch.setattr(loop, "do", lambda *_, **__: {"id": str(again)})
            report, status = tmp_path / "report.xml", 0
            try:
                loop.evaluate("clinic", junit=report)
            except typer.Exit as ended:
                status = ended.exit_code
            return status, int(re.search(r'failures="(\d+)"', report.read_text())[1])

        assert evaluate(self.EFFORT) == (3, 2)
        self.waive(pia, lacking)
        assert evaluate(self.EFFORT) == (0, 0)
        assert evaluate(self.EFFORT, self.LOSS) == (3, 3)

    def judged_again(self, challenger: Challenger, *unmet):
        with challenger.runtime.db.transaction() as session:
            model = session.get_one(ModelVersion, challenger.model.id)
            again = builders.add_evaluation(session, challenger.project, model, EvaluationState.CANNOT_TELL)
            again.hashes = session.get_one(Evaluation, challenger.evaluation.id).hashes
            again.reasons = [each | self.FIGURES for each in unmet]
            return again.id

    def test_the_api_and_the_ledger_know_it(self, runtime, client, lacking):
        with runtime.db.transaction() as session:
            _, token = builders.add_person(session, Role.APPROVER, "mia")
        body = {"reason": "known", "until": utcnow().date().isoformat()}
        path = f"/v1/evaluations/{lacking.evaluation.id}/waivers"
        answer = client.post(path, json=body, headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json["item"]["author"]) == (201, "mia")
        with runtime.db.reading() as session:
            entry = session.exec(select(LedgerEntry).order_by(LedgerEntry.seq.desc())).first()
        assert (entry.action, entry.actor, entry.facts["reason"]) == ("effort_waived", "mia", "known")
