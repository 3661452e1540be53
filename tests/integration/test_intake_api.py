"""Hosts log answers, users say what they think of them and hear what became of it."""

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from inspect import getsource
from ipaddress import ip_network
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event
from sqlmodel import func, select

from annotation.types import Cause, Verdict
from retrain.types import Split
from service import api_keys, projects, reasons, tokens
from service.client import signing
from service.clock import utcnow
from service.runtime import Runtime
from service.stages import triage
from service.tables import (
    AnnotationTask,
    ApiKey,
    Document,
    DocumentKind,
    Feedback,
    JobKind,
    KeyKind,
    ModelState,
    ModelVersion,
    Project,
    Promotion,
    PromotionKind,
    Response,
    Role,
    Settlement,
    TaskFlag,
    TaskPurpose,
    TaskState,
    TrainingRun,
    TrainingSetExample,
)
from service.web.app import create_app
from tests import builders
from tests.console import path_of, person

PROXIES = (ip_network("127.0.0.1/32"),)
IMPORT = re.compile(r"(import|from) ")
PAGE = "https://clinic.example"
ANSWER = {"messages": [{"role": "user", "content": "who bills me?"}], "response": "Cardiology"}


@dataclass(frozen=True, slots=True)
class Site:
    """A service with one project and its two keys."""

    runtime: Runtime
    client: FlaskClient
    project: Project
    host: dict[str, str]
    public_key: str

    def log(self, **more):
        return self.client.post("/v1/responses", json=ANSWER | more, headers=self.host)

    def flag(self, token: str, **more):
        body = {"event_id": str(uuid4()), "rating": "down", "key": self.public_key, "feedback_token": token}
        return self.client.post("/v1/feedback", json=body | more, headers={"Origin": PAGE})

    def feedback(self, answer) -> Feedback:
        with self.runtime.db.reading() as session:
            return session.get_one(Feedback, UUID(answer.json["id"]))

    def triage(self) -> None:
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(session, JobKind.TRIAGE, self.project.id, project_id=self.project.id)
        triage.run(self.runtime.queue.lease(job), self.project.id)

    def count(self, table: type) -> int:
        with self.runtime.db.reading() as session:
            return session.scalar(select(func.count()).select_from(table))


@pytest.fixture
def site(runtime) -> Site:
    return open_site(runtime)


@pytest.fixture
def any_site(any_runtime) -> Site:
    return open_site(any_runtime)


def open_site(runtime: Runtime) -> Site:
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
        builders.add_criteria(session, project)
        host = {"Authorization": f"Bearer {builders.add_key(session, project)}"}
        public = builders.add_key(session, project, KeyKind.PUBLIC, [PAGE])
    return Site(runtime, create_app(runtime).test_client(), project, host, public)


def test_a_response_is_logged_once_under_its_external_id(site):
    first = site.log(external_id="chat-1")
    again = site.log(external_id="chat-1")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json == first.json
    assert site.count(Response) == 1


def test_a_response_without_an_external_id_is_a_fresh_one_each_time(site):
    assert site.log().json["id"] != site.log().json["id"]


def test_all_that_a_host_says_about_a_response_is_kept(any_site):
    said = {
        "external_id": "chat-1",
        "model_version": "v3",
        "conversation_id": "c-1",
        "context": [{"id": "p1", "text": "Bills are sent by Billing.", "uri": "https://clinic.example/p1"}],
        "source": "web chat",
        "subject": "patient-7",
        "attributes": {"register": "lay"},
        "language": "en",
        "purpose": {"training": False, "basis": "consent"},
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "metadata": {"nested": [1, 2.5, None, {"é": "🙂"}]},
    }
    logged = any_site.log(**said)
    with any_site.runtime.db.reading() as session:
        row = session.get_one(Response, UUID(logged.json["id"]))
    columns = said.keys() - {"source", "purpose", "metadata"}
    assert {name: getattr(row, name) for name in columns} == {name: said[name] for name in columns}
    assert (row.may_train, row.legal_basis, row.host_metadata) == (False, "consent", said["metadata"])


def test_the_same_event_again_gets_the_same_answer(any_site):
    token, event_id = any_site.log().json["feedback_token"], str(uuid4())
    first = any_site.flag(token, event_id=event_id, comment="wrong department")
    again = any_site.flag(token, event_id=event_id, comment="wrong department")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json == first.json
    assert any_site.count(Feedback) == 1


def test_the_same_event_with_another_body_is_a_conflict(site):
    token, event_id = site.log().json["feedback_token"], str(uuid4())
    site.flag(token, event_id=event_id, comment="wrong department")
    other = site.flag(token, event_id=event_id, comment="right department")
    assert (other.status_code, other.json["code"]) == (409, "event_conflict")
    assert site.count(Feedback) == 1


def test_the_same_event_through_the_public_and_the_secret_key_is_one(site):
    logged, event_id = site.log().json, str(uuid4())
    first = site.flag(logged["feedback_token"], event_id=event_id)
    body = {"event_id": event_id, "rating": "down", "response_id": logged["id"]}
    again = site.client.post("/v1/feedback", json=body, headers=site.host)
    assert (again.status_code, again.json) == (200, first.json)


def test_many_at_once_with_one_id_are_one(any_site):
    apps = [replace(any_site, client=any_site.client.application.test_client()) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        logged = list(pool.map(lambda app: app.log(external_id="chat-1", source="rush"), apps))
        token, event_id = logged[0].json["feedback_token"], str(uuid4())
        flagged = list(pool.map(lambda number: apps[number % 8].flag(token, event_id=event_id), range(100)))
    for answers in (logged, flagged):
        assert sorted(answer.status_code for answer in answers) == [200] * (len(answers) - 1) + [201]
        assert len({answer.text for answer in answers}) == 1
    assert (any_site.count(Response), any_site.count(Feedback)) == (1, 1)


def test_feedback_before_its_response_waits_and_is_joined(any_site):
    body = {"event_id": str(uuid4()), "rating": "down", "response_id": "chat-9"}
    parked = any_site.client.post("/v1/feedback", json=body, headers=any_site.host)
    assert (parked.status_code, parked.json["state"]) == (201, "received")
    assert any_site.feedback(parked).response_id is None
    logged = any_site.log(external_id="chat-9")
    assert any_site.feedback(parked).response_id == UUID(logged.json["id"])


def test_feedback_and_its_response_at_the_same_moment_find_each_other(any_site):
    def say(number: int):
        client = any_site.client.application.test_client()
        body = {"event_id": str(uuid4()), "rating": "down", "response_id": f"chat-{number // 2}"}
        if number % 2:
            return replace(any_site, client=client).log(external_id=f"chat-{number // 2}")
        return client.post("/v1/feedback", json=body, headers=any_site.host)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(say, range(24)))
    assert {answer.status_code for answer in answers} == {201}
    with any_site.runtime.db.reading() as session:
        assert None not in session.exec(select(Feedback.response_id)).all()


def test_changed_feedback_says_the_new_thing_and_keeps_the_rest(site):
    token, event_id = site.log().json["feedback_token"], str(uuid4())
    given = site.flag(token, event_id=event_id, comment="wrong", reasons=["wrong"])
    credential = {"key": site.public_key, "feedback_token": token}
    change = {"correction": "Billing", "consent": True, "comment": None}
    for _ in range(2):
        changed = site.client.patch(
            f"/v1/feedback/{event_id}", json=credential | change, headers={"Origin": PAGE}
        )
        assert (changed.status_code, changed.json) == (200, given.json)
    row = site.feedback(given)
    assert (row.correction, row.consent, row.comment) == ("Billing", True, None)
    assert (row.rating, row.reasons) == ("down", ["wrong"])


def test_a_changed_mind_that_makes_a_flag_waits_for_triage(site):
    token, event_id = site.log().json["feedback_token"], str(uuid4())
    given = site.flag(token, event_id=event_id, rating="up")
    with site.runtime.db.transaction() as session:
        session.get_one(Feedback, UUID(given.json["id"])).triaged_at = utcnow()
    body = {"rating": "down", "reasons": ["unsafe"]}
    answer = site.client.patch(f"/v1/feedback/{event_id}", json=body, headers=site.host)
    assert answer.status_code == 200
    row = site.feedback(given)
    assert (row.rating, row.reasons, row.triaged_at) == ("down", ["unsafe"], None)


def test_withdrawn_feedback_loses_its_words_and_cannot_be_changed(site):
    token, event_id = site.log().json["feedback_token"], str(uuid4())
    given = site.flag(token, event_id=event_id, comment="my name is Ann", correction="Billing")
    credential = {"key": site.public_key, "feedback_token": token}
    for _ in range(2):
        gone = site.client.delete(f"/v1/feedback/{event_id}", json=credential, headers={"Origin": PAGE})
        assert (gone.status_code, gone.json["state"]) == (200, "withdrawn")
    row = site.feedback(given)
    assert (row.comment, row.correction, row.selection) == (None, None, None)
    change = site.client.patch(f"/v1/feedback/{event_id}", json={"comment": "again"}, headers=site.host)
    assert (change.status_code, change.json["code"]) == (409, "wrong_state")


def test_a_host_withdraws_without_a_body(site):
    event_id = str(uuid4())
    site.flag(site.log().json["feedback_token"], event_id=event_id)
    for content_type in (None, "application/json"):
        gone = site.client.delete(f"/v1/feedback/{event_id}", headers=site.host, content_type=content_type)
        assert gone.json["state"] == "withdrawn"


def test_a_task_is_not_sent_once_all_its_flags_are_withdrawn(any_site):
    token = any_site.log().json["feedback_token"]
    given = [any_site.flag(token, event_id=str(uuid4())) for _ in range(2)]
    task_id = _grouped(any_site, given)
    states = []
    for answer in given:
        event_id = any_site.feedback(answer).event_id
        any_site.client.delete(f"/v1/feedback/{event_id}", headers=any_site.host)
        with any_site.runtime.db.reading() as session:
            states.append(session.get_one(AnnotationTask, task_id).state)
    assert states == [TaskState.SELECTED, TaskState.WITHDRAWN]


def test_the_status_link_tells_a_program_and_a_person(site):
    link = site.flag(site.log().json["feedback_token"]).json["status_url"]
    path = link.removeprefix(site.runtime.settings.own_url)
    told = site.client.get(path)
    assert told.content_type == "application/json"
    assert told.json["state"] == "received"
    assert datetime.fromisoformat(told.json["given_at"]).utcoffset() == timedelta(0)
    page = site.client.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.mimetype == "text/html"
    assert told.json["told"] in page.text
    assert {"Accept", "Origin"} <= set(page.vary)


def test_who_holds_the_link_takes_the_feedback_back_after_saying_so_twice(site):
    given = site.flag(site.log().json["feedback_token"], comment="my name is Ann", correction="Billing")
    path = given.json["status_url"].removeprefix(site.runtime.settings.own_url)
    forged = path.replace(path.rpartition("/")[2], tokens.sign_status(str(uuid4()), site.runtime.secrets))
    assert site.client.post(f"{forged}/withdraw", data={"sure": "yes"}).status_code == 404
    asked = site.client.post(f"{path}/withdraw")
    assert (asked.status_code, site.feedback(given).comment) == (200, "my name is Ann")
    gone = site.client.post(f"{path}/withdraw", data={"sure": "yes"})
    assert (gone.status_code, gone.location) == (303, path)
    row = site.feedback(given)
    assert (row.comment, row.correction, site.client.get(path).json["state"]) == (None, None, "withdrawn")
    assert "/withdraw" not in site.client.get(path, headers={"Accept": "text/html"}).text


def test_a_forged_status_link_leads_nowhere(site):
    link = site.flag(site.log().json["feedback_token"]).json["status_url"]
    path = link.removeprefix(site.runtime.settings.own_url)
    genuine = path.rpartition("/")[2]
    other = tokens.sign_status(str(uuid4()), site.runtime.secrets)
    for signature in (genuine[:-1], genuine + "A", other, "%C3%A9", "%00", "x" * 3000):
        assert site.client.get(path.replace(genuine, signature)).status_code == 404


def test_a_flag_is_followed_from_receipt_to_the_live_model(any_site):
    given = any_site.flag(any_site.log().json["feedback_token"])
    path = given.json["status_url"].removeprefix(any_site.runtime.settings.own_url)

    def state() -> str:
        return any_site.client.get(path).json["state"]

    walked_all = ["received", "grouped", "checking", "corrected", "trained", "live"]
    walked = [state()]
    task_id = _grouped(any_site, [given])
    walked.append(state())
    _change(any_site, AnnotationTask, task_id, state=TaskState.SENT)
    walked.append(state())
    settlement_id = _settled(any_site, task_id)
    walked.append(state())
    model_id = _trained(any_site, settlement_id)
    walked.append(state())
    _change(any_site, ModelVersion, model_id, state=ModelState.CHAMPION)
    assert state() == "trained"
    with any_site.runtime.db.transaction() as session:
        recheck = builders.add_recheck(session, settlement_id, model_id)
        live = Promotion(
            project_id=any_site.project.id, seq=1, kind=PromotionKind.PROMOTION, model_version_id=model_id
        )
        session.add(live)
    walked.append(state())
    told = any_site.client.get(path).json
    assert told["told"] == f"Fixed in version 1, live since {utcnow().date()}."
    assert [step["state"] for step in told["steps"] if step["at"]] == walked_all
    assert [step["version"] for step in told["steps"]][-2:] == [1, 1]
    _change(any_site, type(recheck), recheck.id, passed=False, reason="otherwise")
    assert (state(), any_site.client.get(path).json["live_since"]) == ("corrected", None)
    assert "still errs: it answered otherwise" in any_site.client.get(path).json["told"]
    assert walked == walked_all
    _change(any_site, Settlement, settlement_id, cause=Cause.USER_MISTAKEN)
    assert state() == "declined"


@pytest.mark.parametrize("state", [ModelState.CHALLENGER, ModelState.CHAMPION])
@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
def test_a_correction_that_models_are_measured_by_is_not_told_to_be_learned(site, split, state):
    given = site.flag(site.log().json["feedback_token"])
    model_id = _trained(site, _settled(site, _grouped(site, [given])), split)
    _change(site, ModelVersion, model_id, state=state)
    assert _state(site, given) == "corrected"


def test_what_only_a_refused_model_learned_is_not_told_to_be_learned(site):
    given = site.flag(site.log().json["feedback_token"])
    model_id = _trained(site, _settled(site, _grouped(site, [given])))
    _change(site, ModelVersion, model_id, state=ModelState.REFUSED)
    assert _state(site, given) == "corrected"


def test_a_response_answers_a_turn_of_the_user(site):
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "who bills me?"}]
    assert site.log(messages=messages).status_code == 422


def test_a_page_of_feedback_asks_the_same_few_questions_however_long_it_is(site):
    asked = []
    engine = site.runtime.db.reader
    event.listen(engine, "before_cursor_execute", lambda *call: asked.append(call[2]))

    def questions() -> int:
        asked.clear()
        page = site.client.get("/v1/feedback", headers=site.host)
        assert page.status_code == 200
        return len(asked)

    token = site.log().json["feedback_token"]
    site.flag(token)
    few = questions()
    for _ in range(5):
        site.flag(token)
    assert questions() == few <= 5


def test_feedback_is_read_page_by_page_in_order(any_site, monkeypatch):
    monkeypatch.setattr("service.web.api.feedback.PAGE", 2)
    token = any_site.log().json["feedback_token"]
    given = [any_site.flag(token).json["id"] for _ in range(5)]
    read, cursor = [], ""
    while cursor is not None:
        page = any_site.client.get(f"/v1/feedback?{cursor}", headers=any_site.host).json
        read += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"] and f"cursor={page['next_cursor']}"
    assert read == given


def test_times_are_told_in_utc(site):
    site.flag(site.log().json["feedback_token"])
    (item,) = site.client.get("/v1/feedback", headers=site.host).json["items"]
    at = datetime.fromisoformat(item["created_at"])
    assert at.utcoffset() == timedelta(0)
    assert abs(utcnow() - at) < timedelta(minutes=1)


def test_a_page_that_the_key_is_for_may_read_the_answer(site):
    answer = site.flag(site.log().json["feedback_token"])
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert "Origin" in answer.vary
    link = answer.json["status_url"].removeprefix(site.runtime.settings.own_url)
    told = site.client.get(link, headers={"Origin": PAGE})
    assert told.headers["Access-Control-Allow-Origin"] == PAGE
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_page_learns_what_was_wrong_with_its_token(site):
    answer = site.flag("v1.x.y")
    assert answer.json["code"] == "token_invalid"
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_a_preflight_is_granted_to_pages_of_some_public_key_only(site, method):
    path = "/v1/feedback" if method == "POST" else f"/v1/feedback/{uuid4()}"
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-type"}
    granted = site.client.options(path, headers=asked | {"Origin": PAGE})
    assert granted.status_code == 200
    assert granted.headers["Access-Control-Allow-Origin"] == PAGE
    assert method in granted.headers["Access-Control-Allow-Methods"]
    headers = granted.headers["Access-Control-Allow-Headers"].lower()
    assert headers == "content-type, authorization, errata-feedback-token"
    for origin in ("https://evil.example", "null", PAGE.upper()):
        refused = site.client.options(path, headers=asked | {"Origin": origin})
        assert "Access-Control-Allow-Origin" not in refused.headers
        assert "Origin" in refused.vary


def test_logging_responses_is_for_no_page(site):
    asked = {"Access-Control-Request-Method": "POST", "Origin": PAGE}
    assert "Access-Control-Allow-Origin" not in site.client.options("/v1/responses", headers=asked).headers


def test_feedback_on_a_response_that_was_not_logged_yet_is_never_lost(any_site):
    """Hosts' ids look like ours, and a token signed by the host names them."""
    ref = str(uuid4())
    token = sign(any_site, ref, ANSWER["response"], subject="ann")
    parked = any_site.flag(token)
    assert (parked.status_code, any_site.feedback(parked).response_id) == (201, None)
    logged = any_site.log(external_id=ref)
    assert any_site.feedback(parked).response_id == UUID(logged.json["id"])
    assert any_site.flag(token, rating="up").json["id"] == parked.json["id"]


def test_a_token_of_another_text_is_joined_to_nothing_and_says_so(any_site):
    said, other = sign(any_site, "chat-5", ANSWER["response"]), sign(any_site, "chat-5", "Billing")
    parked = [any_site.flag(token) for token in (said, other)]
    logged = any_site.log(external_id="chat-5")
    rows = [any_site.feedback(each) for each in parked]
    assert [row.response_id for row in rows] == [UUID(logged.json["id"]), None]
    assert [row.is_mismatched for row in rows] == [False, True]
    late = any_site.flag(other)
    assert (late.status_code, late.json["code"]) == (422, "response_mismatch")
    assert any_site.flag(said).status_code == 201


def test_one_subject_has_one_voice_on_each_response(any_site):
    ann = any_site.log(subject="ann", external_id="a").json["feedback_token"]
    first, later = str(uuid4()), str(uuid4())
    given = any_site.flag(ann, event_id=first, comment="wrong", reasons=["wrong"])
    again = any_site.flag(ann, event_id=later, comment="unsafe", reasons=["unsafe"])
    assert (again.status_code, again.json) == (200, given.json)
    for event_id, status in ((first, 200), (later, 200)):  # what the first request said is sent again, late
        words = {first: "wrong", later: "unsafe"}[event_id]
        replay = any_site.flag(ann, event_id=event_id, comment=words, reasons=[words])
        assert (replay.status_code, replay.json["id"]) == (status, given.json["id"])
    assert any_site.flag(ann, event_id=first, comment="other").status_code == 409
    row = any_site.feedback(given)
    assert (row.comment, row.reasons, any_site.count(Feedback)) == ("unsafe", ["unsafe"], 1)
    credential = {"key": any_site.public_key, "feedback_token": ann}
    gone = any_site.client.delete(f"/v1/feedback/{first}", json=credential, headers={"Origin": PAGE})
    assert gone.json["state"] == "withdrawn"
    assert any_site.flag(ann).status_code == 201


def test_two_subjects_have_two_voices(site):
    ref = "chat-7"
    for who in ("ann", "ben"):
        assert site.flag(sign(site, ref, "Billing", subject=who)).status_code == 201
    assert site.count(Feedback) == 2


def test_nobody_changes_what_another_subject_said(site):
    site.log(external_id="chat-8")
    event_id, (ann, ben) = (
        str(uuid4()),
        (sign(site, "chat-8", "Cardiology", subject=s) for s in ("ann", "ben")),
    )
    site.flag(ann, event_id=event_id)
    for token, status in ((ben, 403), (ann, 200)):
        body = {"key": site.public_key, "feedback_token": token, "comment": "mine"}
        changed = site.client.patch(f"/v1/feedback/{event_id}", json=body, headers={"Origin": PAGE})
        assert changed.status_code == status


@pytest.mark.parametrize("state", [TaskState.SELECTED, TaskState.SENT, TaskState.CONTESTED])
def test_praise_instead_of_a_flag_leaves_no_task_behind(any_site, state):
    token = any_site.log().json["feedback_token"]
    given = [any_site.flag(token) for _ in range(2)]
    task_id = _grouped(any_site, given)
    _change(any_site, AnnotationTask, task_id, state=state)
    states = []
    for answer in given:
        event_id = any_site.feedback(answer).event_id
        body = {"rating": "up"}
        any_site.client.patch(f"/v1/feedback/{event_id}", json=body, headers=any_site.host)
        with any_site.runtime.db.reading() as session:
            states.append(session.get_one(AnnotationTask, task_id).state)
    assert states == [state, TaskState.WITHDRAWN]
    assert any_site.count(TaskFlag) == 0


def test_other_reasons_are_of_their_own_version_and_weighed_again(site):
    event_id = str(uuid4())
    given = site.flag(site.log().json["feedback_token"], event_id=event_id, reasons=["style"])
    task_id = _grouped(site, [given])
    _change(site, Feedback, UUID(given.json["id"]), triaged_at=utcnow())
    with site.runtime.db.transaction() as session:
        project = session.get_one(Project, site.project.id)
        newer = projects.set_reasons(session, project, {"unsafe": {"severity": 5}}, actor="test")
    site.client.patch(f"/v1/feedback/{event_id}", json={"reasons": ["unsafe"]}, headers=site.host)
    row = site.feedback(given)
    assert (row.reasons_id, row.triaged_at, _state(site, given)) == (newer.id, None, "grouped")
    site.triage()
    with site.runtime.db.reading() as session:
        assert session.get_one(AnnotationTask, task_id).urgency["severity"] == 5
    assert (site.count(AnnotationTask), site.feedback(given).triaged_at is not None) == (1, True)


def test_a_flag_keeps_the_reasons_of_its_time_and_those_that_nobody_knows_are_told_so(site):
    of_old, of_new = (site.log(external_id=name).json["feedback_token"] for name in ("chat-1", "chat-2"))
    old = site.feedback(site.flag(of_old, reasons=["invented", "ghost"]))
    with site.runtime.db.transaction() as session:
        project = session.get_one(Project, site.project.id)
        newer = projects.set_reasons(session, project, {"ghost": {"severity": 1}}, actor="test")
    new = site.feedback(site.flag(of_new, reasons=["invented", "ghost"]))
    with site.runtime.db.reading() as session:
        told = [
            reasons.told(session.get_one(Document, row.reasons_id).content, row.reasons) for row in (old, new)
        ]
        assert session.get_one(Document, old.reasons_id).version == newer.version - 1
    assert new.reasons_id == newer.id
    assert told == [["invented", "ghost (unknown)"], ["invented (unknown)", "ghost"]]


def test_a_public_key_without_pages_is_for_ours_alone(site):
    with site.runtime.db.transaction() as session:
        key = builders.add_key(session, site.project, KeyKind.PUBLIC)
    token, own = site.log().json["feedback_token"], site.runtime.settings.own_url
    asked = {"Access-Control-Request-Method": "POST"}
    for origin, status in (
        ("https://evil.example", 403),
        ("null", 403),
        (own, 201),
        ("http://localhost", 201),
    ):
        body = {"event_id": str(uuid4()), "rating": "up", "key": key, "feedback_token": token}
        answer = site.client.post("/v1/feedback", json=body, headers={"Origin": origin})
        assert answer.status_code == status, origin
    for origin, granted in (("https://evil.example", None), (PAGE, PAGE), ("https://clinic%example", None)):
        preflight = site.client.options("/v1/feedback", headers=asked | {"Origin": origin})
        assert preflight.headers.get("Access-Control-Allow-Origin") == granted


def test_a_rotated_key_holds_until_the_overlap_is_over(site):
    old = sign(site, "chat-1", "Cardiology")
    with site.runtime.db.transaction() as session:
        project = session.get_one(Project, site.project.id)
        about = {"overlap": timedelta(days=1), "now": utcnow(), "actor": "test"}
        key = api_keys.rotate(session, project, site.runtime.secrets, **about)
    fresh = signing.sign(key, project.slug, "chat-1", "Cardiology")
    assert [site.flag(token).status_code for token in (old, fresh)] == [201, 201]
    assert signing.read(site.log().json["feedback_token"]).kid == signing.kid_of(key)
    with site.runtime.db.transaction() as session:
        project = session.get_one(Project, site.project.id)
        project.token_keys = [each | {"until": each["until"] and 1.0} for each in project.token_keys]
    assert [site.flag(token).status_code for token in (old, fresh)] == [401, 201]


def test_a_hosts_own_key_opens_no_other_project_and_signs_nothing_else(site):
    with site.runtime.db.transaction() as session:
        neighbour = builders.add_project(session, "bakery")
    kid = neighbour.token_keys[0]["kid"]
    key = tokens.signing_key("bakery", kid, site.runtime.secrets)
    for slug in ("bakery", "clinic"):
        assert site.flag(signing.sign(key, slug, "chat-1", "x")).json["code"] == "token_invalid"
    keys = {
        key,
        tokens.signing_key("clinic", kid, site.runtime.secrets),
        tokens.sign_status(kid, site.runtime.secrets),
    }
    assert len(keys) == 3


def test_signing_needs_the_standard_library_alone():
    names = {
        line.split()[1].partition(".")[0] for line in getsource(signing).splitlines() if IMPORT.match(line)
    }
    assert names <= sys.stdlib_module_names


def test_what_nobody_signed_waits_for_an_operator(site):
    body = {
        "event_id": str(uuid4()),
        "rating": "down",
        "key": site.public_key,
        "response_id": site.log().json["id"],
    }
    assert site.client.post("/v1/feedback", json=body, headers={"Origin": PAGE}).status_code == 401
    _change(site, Project, site.project.id, needs_token=False)
    given = site.client.post("/v1/feedback", json=body, headers={"Origin": PAGE})
    assert (given.status_code, site.feedback(given).is_trusted) == (201, False)
    site.triage()
    assert (site.count(AnnotationTask), _state(site, given)) == (0, "received")
    _change(site, Feedback, UUID(given.json["id"]), is_trusted=True)
    site.triage()
    assert site.count(AnnotationTask) == 1


def test_a_page_is_told_what_its_token_said_and_nothing_else(site):
    site.log(external_id="chat-3")
    ann, ben = (sign(site, "chat-3", "Cardiology", subject=who) for who in ("ann", "ben"))
    given = site.flag(ann, comment="wrong")
    site.flag(sign(site, "chat-4", "x", subject="ann"))
    page, query = {"Origin": PAGE}, f"key={site.public_key}&feedback_token={ann}"
    headers = page | {"Authorization": f"Bearer {site.public_key}", "Errata-Feedback-Token": ann}
    for answer in (
        site.client.get(f"/v1/feedback?{query}", headers=page),
        site.client.get("/v1/feedback", headers=headers),
    ):
        (item,) = answer.json["items"]
        assert (item["comment"], item["status_url"]) == ("wrong", given.json["status_url"])
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert (
        site.client.get("/v1/feedback", headers=headers | {"Errata-Feedback-Token": ben}).json["items"] == []
    )
    del headers["Errata-Feedback-Token"]
    assert site.client.get("/v1/feedback", headers=headers).status_code == 401
    secret = site.host["Authorization"].removeprefix("Bearer ")
    assert site.client.get(f"/v1/feedback?key={secret}").status_code == 401


def test_a_form_without_script_leads_to_its_status(site):
    token = site.log().json["feedback_token"]
    form = {
        "key": site.public_key,
        "rating": "down",
        "reasons": ["wrong", "style"],
        "comment": "no",
        "correction": "",
    }
    for _ in range(2):
        sent = site.client.post(f"/f/{token}", data=form | {"consent": "yes"}, headers={"Origin": PAGE})
        assert sent.status_code == 303
    path = sent.location.removeprefix(site.runtime.settings.own_url)
    assert site.client.get(path, headers={"Accept": "text/html"}).status_code == 200
    with site.runtime.db.reading() as session:
        (row,) = session.exec(select(Feedback)).all()
    assert (row.reasons, row.comment, row.correction, row.consent) == (["wrong", "style"], "no", None, True)
    for wrong, status in (
        ({"rating": "sideways"}, 422),
        ({"is_trusted": "true"}, 422),
        ({"comment": ["a", "b"]}, 422),
        ({"comment": "a\0b"}, 422),
        ({"key": "epk_unknown"}, 401),
        ({"comment": "x" * 17_000}, 413),
    ):
        assert (
            site.client.post(f"/f/{token}", data=form | wrong, headers={"Origin": PAGE}).status_code == status
        )
    evil = {"Origin": "https://evil.example"}
    assert site.client.post(f"/f/{token}", data=form, headers=evil).status_code == 403
    assert site.client.post(f"/f/{token}x", data=form, headers={"Origin": PAGE}).status_code == 401
    named = {"Origin": PAGE, "Authorization": f"Bearer {site.public_key}"}
    assert site.client.post(f"/f/{token}", json=form, headers=named).status_code == 415
    assert site.count(Feedback) == 1


def test_reasons_are_told_in_the_language_of_the_page(site):
    page = {"Origin": PAGE, "Authorization": f"Bearer {site.public_key}"}
    with site.runtime.db.transaction() as session:
        project = session.get_one(Project, site.project.id)
        codes = {"wrong": {"severity": 3}, "off_topic": {"severity": 2, "labels": {"de": "Am Thema vorbei"}}}
        projects.add_document(session, project, DocumentKind.REASONS, codes, actor="test")
    told = site.client.get("/v1/reasons?language=de-AT", headers=page)
    assert told.headers["Access-Control-Allow-Origin"] == PAGE
    assert told.json == {
        "version": 2,
        "reasons": [{"code": "wrong", "label": "Wrong"}, {"code": "off_topic", "label": "Am Thema vorbei"}],
    }
    assert site.client.get("/v1/reasons", headers=page).json["reasons"][1]["label"] == "Off topic"


def test_of_a_batch_each_answer_has_its_own_fate(any_site):
    good = [ANSWER | {"external_id": f"chat-{n}"} for n in range(3)]
    batch = [good[0], ANSWER | {"response": ""}, good[1], good[0], 5, good[2]]
    answer = any_site.client.post("/v1/responses/batch", json=batch, headers=any_site.host)
    assert answer.status_code == 207
    items = answer.json["items"]
    assert [(each["line"], each["status"]) for each in items] == list(
        enumerate((201, 422, 201, 200, 422, 201), start=1)
    )
    assert any_site.flag(items[2]["feedback_token"]).status_code == 201
    assert items[3] == items[0] | {"line": 4, "status": 200}
    lines = "\n".join(map(json.dumps, good))
    again = any_site.client.post(
        "/v1/responses/batch", data=lines, headers=any_site.host, content_type="application/x-ndjson"
    )
    assert [json.loads(line)["status"] for line in again.text.splitlines()] == [200] * 3
    assert any_site.count(Response) == 3
    many = any_site.client.post("/v1/responses/batch", json=[1] * 10_001, headers=any_site.host)
    assert (many.status_code, many.json["code"]) == (413, "request_entity_too_large")
    for wrong in ({}, "x"):
        refused = any_site.client.post("/v1/responses/batch", json=wrong, headers=any_site.host)
        assert refused.status_code == 422


def test_a_complaint_by_telephone_is_a_flag_of_an_unverified_answer(any_site):
    said = {"question": "who bills me?", "complaint": "it named the wrong ward", "channel": "phone"}
    event = {"event_id": str(uuid4())}
    given = any_site.client.post("/v1/reports", json=said | event, headers=any_site.host)
    again = any_site.client.post("/v1/reports", json=said | event, headers=any_site.host)
    assert (given.status_code, again.status_code, again.json) == (201, 200, given.json)
    other = any_site.client.post("/v1/reports", json=said | event | {"answer": "x"}, headers=any_site.host)
    assert other.status_code == 409
    row = any_site.feedback(given)
    with any_site.runtime.db.reading() as session:
        response = session.get_one(Response, row.response_id)
    assert (row.rating, row.comment, response.channel) == ("down", "it named the wrong ward", "phone")
    assert (any_site.count(Feedback), any_site.count(Response)) == (1, 1)
    any_site.triage()
    assert any_site.count(AnnotationTask) == 1


def test_an_operator_takes_in_what_nobody_signed_and_what_was_told_by_telephone(site):
    _change(site, Project, site.project.id, needs_token=False)
    body = {
        "event_id": str(uuid4()),
        "rating": "down",
        "key": site.public_key,
        "response_id": site.log().json["id"],
    }
    given = site.client.post("/v1/feedback", json=body, headers={"Origin": PAGE})
    olga, story = person(site.runtime, Role.OPERATOR), f"/p/clinic/feedback/{given.json['id']}"
    assert "It came without a token" in olga.get(story).text
    for came, shown in (("without a token", True), ("with a token", False)):
        assert (given.json["id"] in olga.get(f"/p/clinic/feedback?came={came}").text) == shown
    olga.post(f"{story}/take-in")
    assert site.feedback(given).is_trusted
    complaint = {"event": str(uuid4()), "question": "who bills me?", "complaint": "rude", "channel": "phone"}
    told = [olga.post("/p/clinic/complaints", **complaint) for _ in range(2)]
    assert {each.status_code for each in told} == {303} and site.count(Feedback) == 2
    assert "it was reported by phone" in olga.get(path_of(told[0])).text


def test_a_key_does_what_its_scopes_say(site):
    with site.runtime.db.transaction() as session:
        key = api_keys.add(session, site.project, KeyKind.SECRET, [], actor="test", scopes=["feedback"])
    headers = {"Authorization": f"Bearer {key}"}
    assert site.client.get("/v1/feedback", headers=headers).status_code == 200
    refused = site.client.post("/v1/responses", json=ANSWER, headers=headers)
    assert (refused.status_code, refused.json["code"]) == (403, "forbidden")
    with site.runtime.db.reading() as session:
        used = session.exec(select(ApiKey.last_used_at).where(ApiKey.sha256 == tokens.hashed(key))).one()
    assert used and utcnow() - used < timedelta(minutes=1)


@pytest.fixture
def limited(runtime, request) -> Site:
    chosen = runtime.settings.model_copy(update=request.param)
    return open_site(replace(runtime, settings=chosen))


@pytest.mark.parametrize(
    "limited",
    [{name: 3} for name in ("token_rate", "subject_rate", "key_rate", "key_quota", "address_rate")],
    indirect=True,
    ids=str,
)
def test_too_many_are_told_when_to_come_again_and_others_are_not_hindered(limited):
    token = limited.log(subject="ann").json["feedback_token"]
    told = [limited.flag(token) for _ in range(5)]
    assert [each.status_code for each in told] == [201, 200, 200, 429, 429]
    assert [each.headers["RateLimit-Remaining"] for each in told] == ["2", "1", "0", "0", "0"]
    assert told[3].json["code"] == "too_many_requests"
    assert int(told[3].headers["Retry-After"]) >= 1 and told[3].headers["Access-Control-Allow-Origin"] == PAGE
    assert limited.log().status_code == 201
    with limited.runtime.db.transaction() as session:
        neighbour = builders.add_project(session, "bakery")
        key = builders.add_key(session, neighbour, KeyKind.PUBLIC, [PAGE])
        kid = neighbour.token_keys[0]["kid"]
    ben = signing.sign(
        tokens.signing_key("bakery", kid, limited.runtime.secrets), "bakery", "b", "x", subject="ben"
    )
    body = {"event_id": str(uuid4()), "rating": "up", "key": key, "feedback_token": ben}
    good = limited.client.post(
        "/v1/feedback", json=body, headers={"Origin": PAGE}, environ_overrides={"REMOTE_ADDR": "198.51.100.9"}
    )
    assert good.status_code == 201


@pytest.mark.parametrize(
    "limited", [{"address_rate": 2, "trusted_proxies": (ip_network("127.0.0.1/32"),)}], indirect=True
)
def test_only_a_trusted_proxy_says_who_asks(limited):
    token = limited.log().json["feedback_token"]

    def statuses(peer: str, said: list[str]) -> list[int]:
        client = limited.client.application.test_client()
        client.environ_base["REMOTE_ADDR"] = peer
        found = []
        for each in said:
            client.environ_base["HTTP_X_FORWARDED_FOR"] = each
            found.append(replace(limited, client=client).flag(token).status_code)
        return found

    assert statuses("127.0.0.1", [f"6.6.6.6, 203.0.{n}.5" for n in range(4)]) == [201] * 4
    assert statuses("127.0.0.1", ["2001:db8::1", "2001:db8::2:1", "2001:db8::3:1"]) == [201, 201, 429]
    assert statuses("198.51.100.7", [f"203.0.{n}.5" for n in range(10, 14)]) == [201, 201, 429, 429]


def sign(site: Site, ref: str, text: str, **about) -> str:
    with site.runtime.db.reading() as session:
        project = session.get_one(Project, site.project.id)
    key = tokens.signing_key(project.slug, project.token_keys[0]["kid"], site.runtime.secrets)
    return signing.sign(key, project.slug, ref, text, **about)


def _state(site: Site, given) -> str:
    path = given.json["status_url"].removeprefix(site.runtime.settings.own_url)
    return site.client.get(path).json["state"]


def _change(site: Site, table: type, row_id: UUID, **values) -> None:
    with site.runtime.db.transaction() as session:
        session.get_one(table, row_id).sqlmodel_update(values)


def _grouped(site: Site, given: list) -> UUID:
    flags = [site.feedback(answer) for answer in given]
    with site.runtime.db.transaction() as session:
        task = AnnotationTask(
            project_id=site.project.id,
            response_id=flags[0].response_id,
            purpose=TaskPurpose.FLAG,
            flag_id=flags[0].id,
            schema_id=builders.newest(session, site.project, DocumentKind.LABEL_SCHEMA),
            guidelines_id=builders.newest(session, site.project, DocumentKind.GUIDELINES),
            priority=1.0,
            connector=site.project.connector,
        )
        session.add(task)
        session.flush()
        session.add_all([TaskFlag(task_id=task.id, feedback_id=flag.id) for flag in flags])
    return task.id


def _settled(site: Site, task_id: UUID) -> UUID:
    with site.runtime.db.transaction() as session:
        session.get_one(AnnotationTask, task_id).state = TaskState.SETTLED
        settlement = Settlement(
            project_id=site.project.id,
            task_id=task_id,
            verdict=Verdict.INCORRECT,
            label="Billing",
            cause=Cause.MODEL,
            agreeing=2,
            asked=2,
            explanation="2 of 2 agree",
        )
        session.add(settlement)
    return settlement.id


def _trained(site: Site, settlement_id: UUID, split: Split = Split.TRAIN) -> UUID:
    with site.runtime.db.transaction() as session:
        model = builders.add_challenger(session, site.project)
        session.add(
            TrainingSetExample(
                training_set_id=session.get_one(TrainingRun, model.training_run_id).training_set_id,
                settlement_id=settlement_id,
                content_sha256="sha256:0",
                split=split,
                group_name="g",
            )
        )
    return model.id
