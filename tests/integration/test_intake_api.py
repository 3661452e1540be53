"""Hosts log answers, users say what they think of them and hear what became of it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event
from sqlmodel import func, select

from annotation.types import Cause, Verdict
from retrain.types import Split
from service import tokens
from service.clock import utcnow
from service.runtime import Runtime
from service.tables import (
    AnnotationTask,
    DocumentKind,
    Feedback,
    KeyKind,
    ModelState,
    ModelVersion,
    Project,
    Promotion,
    PromotionKind,
    Response,
    Settlement,
    TaskFlag,
    TaskPurpose,
    TaskState,
    TrainingRun,
    TrainingSetExample,
)
from service.web.app import create_app
from tests import builders

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
        flagged = list(pool.map(lambda app: app.flag(token, event_id=event_id), apps))
    for answers in (logged, flagged):
        assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
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
    assert questions() == few <= 4


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
    assert granted.headers["Access-Control-Allow-Headers"].lower() == "content-type"
    for origin in ("https://evil.example", "null", PAGE.upper()):
        refused = site.client.options(path, headers=asked | {"Origin": origin})
        assert "Access-Control-Allow-Origin" not in refused.headers
        assert "Origin" in refused.vary


def test_logging_responses_is_for_no_page(site):
    asked = {"Access-Control-Request-Method": "POST", "Origin": PAGE}
    assert "Access-Control-Allow-Origin" not in site.client.options("/v1/responses", headers=asked).headers


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
