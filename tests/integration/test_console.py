"""The console lets in whom each page is for, does what its forms say once, and notes it."""

import json
import re
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from sqlmodel import select

from service import ledger, projects
from service.runtime import Runtime
from service.tables import (
    ApiKey,
    ConnectorKind,
    Document,
    DocumentKind,
    Job,
    JobKind,
    JobState,
    LedgerEntry,
    Project,
    Role,
    TrainingRun,
)
from service.web.auth import PEOPLE, Access
from service.web.console.page import MAX_FORM_BYTES, Page
from tests import builders
from tests.console import PASSWORD, Person, path_of, person
from tests.integration.test_deciding import Challenger
from tests.integration.test_people import quick_hashes

__all__ = ["quick_hashes"]

NOBODY = "nobody"
EVERYWHERE, HERE, ELSEWHERE = "everywhere", "in this project", "in another project"
WHO = [(role, where) for role in Role for where in (EVERYWHERE, HERE, ELSEWHERE)]
PLACES = {"slug": "clinic", "name": "criteria"}
BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def clinic(runtime) -> Project:
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
        builders.add_criteria(session, project)
    return project


def pages(app: Any) -> list[tuple[str, str, Page]]:
    """Every page of the console as `(method, path, page)`, the one that signs out last."""
    found = []
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        if isinstance(view, Page):
            arguments = {name: PLACES.get(name) or str(uuid4()) for name in rule.arguments}
            path = rule.build(arguments)[1]
            found += [(method, path, view) for method in rule.methods & {"GET", "POST"}]
    return sorted(found, key=lambda each: each[1] == "/sign-out")


def is_let_in(answer: Any) -> bool:
    leads_to_sign_in = answer.status_code == 303 and path_of(answer) == "/sign-in"
    return answer.status_code not in (401, 403) and not leads_to_sign_in


class TestWhoIsLetIn:
    @pytest.mark.parametrize(("role", "where"), WHO, ids=str)
    def test_each_page_lets_in_exactly_those_it_is_for(self, runtime, clinic, role, where):
        who = self.somebody(runtime, clinic, role, where)
        csrf = who.csrf()
        for method, path, page in pages(who.client.application):
            if path == "/sign-out":  # for everybody, and its answer leads to the sign-in
                assert page.access is Access.PERSON
                continue
            answer = who.client.open(path, method=method, data={"csrf": csrf} if method == "POST" else None)
            counts = self.role_that_counts(role, where, is_of_project=path.startswith("/p/"))
            # Experts' own pages are for who joined, besides those who may read the project: nobody here has. Forms
            # of theirs that say nothing are refused before that.
            is_of_experts = path.startswith("/p/clinic/work") and method == "GET"
            access = Access.READER if is_of_experts else page.access
            assert is_let_in(answer) == (counts in PEOPLE[access]), (method, path, answer.status_code)
            assert answer.status_code < 500, (method, path)

    def test_nobody_is_let_in(self, client, clinic):
        for method, path, _ in pages(client.application):
            answer = client.open(path, method=method)
            if method == "GET":
                assert (answer.status_code, path_of(answer)) == (303, "/sign-in"), path
            else:
                assert answer.status_code == 401, path

    def test_every_route_of_the_console_is_a_page_or_where_one_signs_in(self, client):
        views = client.application.view_functions
        others = {n for n in views if n.startswith("console.") and not isinstance(views[n], Page)}
        ways_in = ("sign_in", "use_password", "link", "use_sign_in_link", "invitation", "join")
        assert others == {f"console.{name}" for name in ways_in}

    def test_every_page_of_a_project_says_which(self, client):
        for rule in client.application.url_map.iter_rules():
            if isinstance(client.application.view_functions[rule.endpoint], Page):
                assert ("slug" in rule.arguments) == rule.rule.startswith("/p/<slug>/")

    def test_a_page_that_is_for_more_than_it_says_is_found_out(self, runtime, clinic, monkeypatch):
        monkeypatch.setitem(PEOPLE, Access.READER, frozenset(Role))
        who = self.somebody(runtime, clinic, Role.ANNOTATOR, EVERYWHERE)
        assert is_let_in(who.get("/p/clinic/feedback"))

    @pytest.mark.parametrize("path", ["/p/nothing/feedback", "/nothing", "/p/clinic/jobs/no-id"])
    def test_what_is_not_there_is_a_page_that_says_so(self, runtime, clinic, path):
        answer = person(runtime, Role.ADMIN, password="").get(path)
        assert (answer.status_code, answer.mimetype) == (404, "text/html")

    def test_a_row_of_another_project_is_none_of_this(self, runtime, clinic):
        with runtime.db.transaction() as session:
            other = builders.add_project(session, "other")
            response = builders.add_response(session, other)
            flag = builders.add_flag(session, other, response, "wrong")
            job_id = runtime.queue.ask(session, JobKind.CURATE, other.id, project_id=other.id)
            builders.add_key(session, other)
            key = session.exec(select(ApiKey)).one()
        ada = person(runtime, Role.ADMIN, password="")
        assert ada.get(f"/p/other/feedback/{flag.id}").status_code == 200
        assert ada.get(f"/p/clinic/feedback/{flag.id}").status_code == 404
        assert ada.get(f"/p/clinic/jobs/{job_id}").status_code == 404
        assert ada.post(f"/p/clinic/jobs/{job_id}/cancel").status_code == 404
        assert ada.post(f"/p/clinic/settings/keys/{key.id}/revoke").status_code == 404
        with runtime.db.reading() as session:
            assert session.get_one(Job, job_id).state is JobState.PENDING
            assert session.get_one(ApiKey, key.id).revoked_at is None

    @staticmethod
    def somebody(runtime: Runtime, clinic: Project, role: Role, where: str) -> Person:
        if where == EVERYWHERE:
            return person(runtime, role, password="")
        if where == HERE:
            return person(runtime, role, project=clinic, password="")
        with runtime.db.transaction() as session:
            other = builders.add_project(session, "other")
        return person(runtime, role, project=other, password="")

    @staticmethod
    def role_that_counts(role: Role, where: str, *, is_of_project: bool) -> Role:
        counts = where == EVERYWHERE or (where == HERE and is_of_project)
        return role if counts else Role.ANNOTATOR


class TestAnswers:
    @pytest.mark.parametrize("path", ["/nothing", "/p/nothing/feedback", "/p/clinic/feedback?sort=odd"])
    def test_a_browser_gets_a_page_and_a_program_a_document(self, runtime, clinic, path):
        ada = person(runtime, Role.ADMIN, password="")
        page = ada.client.get(path, headers=BROWSER)
        assert page.mimetype == "text/html" and "Code: " in page.text
        for accept in ("application/json", "*/*", ""):
            document = ada.client.get(path, headers={"Accept": accept})
            assert document.mimetype == "application/problem+json"
            assert document.json["status"] == document.status_code == page.status_code

    def test_the_api_answers_with_documents_whoever_asks(self, client):
        answer = client.get("/v1/feedback", headers=BROWSER)
        assert (answer.status_code, answer.mimetype) == (401, "application/problem+json")

    def test_every_page_carries_the_nonce_that_its_policy_allows(self, runtime, clinic):
        page = person(runtime, Role.ADMIN, password="").get("/p/clinic/")
        nonce = re.search("'nonce-([^']+)'", page.headers["Content-Security-Policy"])[1]
        scripts = re.findall("<script[^>]*>", page.text)
        assert scripts and all(f'nonce="{nonce}"' in script for script in scripts)
        assert not re.search(r"<[^>]+\s(on\w+|style)=", page.text)

    def test_what_users_wrote_is_text_on_every_page(self, runtime, clinic):
        hostile = "<script>alert(1)</script>\u202e'\"{{ 7*7 }}"
        with runtime.db.transaction() as session:
            response = builders.add_response(session, clinic, hostile, asked=hostile)
            flag = builders.add_flag(session, clinic, response, "wrong", comment=hostile, correction=hostile)
            task = builders.add_task(session, clinic, response, flag=flag)
        ada = person(runtime, Role.ADMIN, password="", name=hostile)
        for path in ("feedback", f"feedback/{flag.id}", "tasks", f"tasks/{task.id}", "", "ledger"):
            page = ada.get(f"/p/clinic/{path}").text
            assert "&lt;script&gt;alert(1)" in page, path
            assert "<script>alert" not in page and "\u202e" not in page
            assert "⟦U+202E⟧" in page, path

    def test_home_leads_to_the_only_project_that_one_may_read(self, runtime, clinic):
        with runtime.db.transaction() as session:
            builders.add_project(session, "other")
        olga = person(runtime, Role.OPERATOR, project=clinic, password="")
        assert path_of(olga.get("/")) == "/p/clinic/"
        assert "other" in person(runtime, Role.AUDITOR, password="").get("/").text


class TestForms:
    @pytest.fixture
    def ada(self, runtime, clinic) -> Person:
        return person(runtime, Role.ADMIN, password="")

    def test_a_field_that_is_not_the_form_s_is_refused(self, ada):
        answer = ada.post("/p/clinic/settings/switches", random_share="0.1", more="x")
        assert answer.status_code == 422 and "more" in answer.text

    @pytest.mark.parametrize("share", ["", "many", "1.5", "-1", "nan", "inf"])
    def test_a_field_that_does_not_fit_is_shown_again(self, ada, runtime, share):
        answer = ada.post("/p/clinic/settings/switches", random_share=share)
        assert answer.status_code == 422
        assert "Share of unflagged answers that experts see: " in answer.text
        with runtime.db.reading() as session:
            assert projects.find(session, "clinic").random_share == 0

    @pytest.mark.parametrize(
        "sent", [{"random_share": "many"}, {"random_share": "0.1", "csrf": "of yesterday"}]
    )
    def test_what_is_shown_again_keeps_the_page_s_frame_and_its_labels(self, ada, sent):
        page = ada.get("/p/clinic/settings").text
        again = ada.post("/p/clinic/settings/switches", **sent).text
        for part in ('<nav aria-label="Pages">', "Sign out", "Share of unflagged answers that experts see"):
            assert part in page and part in again

    @pytest.mark.parametrize("text", ["nul \0 here", "half %ED%A0%80"], ids=["NUL", "surrogate"])
    def test_what_no_database_keeps_is_refused(self, ada, text):
        raw = f"csrf={ada.csrf()}&document={text}".encode()
        answer = ada.client.post(
            "/p/clinic/settings/criteria", data=raw, content_type="application/x-www-form-urlencoded"
        )
        assert answer.status_code == 422

    def test_a_form_that_is_too_large_is_refused(self, ada):
        answer = ada.post("/p/clinic/settings/criteria", document="x" * MAX_FORM_BYTES)
        assert answer.status_code == 413

    @pytest.mark.parametrize("path", ["/sign-in", "/sign-in/esl_x"])
    def test_so_is_one_of_somebody_who_is_not_signed_in(self, client, path):
        answer = client.post(path, data={"name": "x", "password": "x" * MAX_FORM_BYTES})
        assert answer.status_code in (404, 413)

    def test_a_file_that_is_too_large_is_refused_before_it_is_kept(self, client):
        head = b'--x\r\nContent-Disposition: form-data; name="name"; filename="x.bin"\r\n\r\n'
        sent = head + b"x" * 2 * MAX_FORM_BYTES + b"\r\n--x--\r\n"
        answer = client.post("/sign-in", data=sent, content_type="multipart/form-data; boundary=x")
        assert answer.status_code == 413

    def test_a_new_project_can_choose_every_tool(self, ada):
        page = ada.get("/projects/new").text
        assert all(f'<option value="{kind}"' in page for kind in ConnectorKind)

    def test_a_project_is_made_in_the_browser(self, ada, runtime):
        answer = ada.post(
            "/projects/new", name="wards", kind="classification", base_model="bundled:tiny", labels="A, B\nC"
        )
        assert path_of(answer) == "/p/wards/"
        with runtime.db.reading() as session:
            project = projects.find(session, "wards")
            assert projects.current(session, project.id, DocumentKind.LABEL_SCHEMA).content["labels"] == [
                "A",
                "B",
                "C",
            ]

    @pytest.mark.parametrize(
        "sent", [{"name": "Wards!"}, {"name": "clinic"}, {"kind": "odd"}, {"labels": "A"}]
    )
    def test_a_project_that_cannot_be_is_asked_for_again(self, ada, sent):
        whole = {"name": "wards", "kind": "classification", "base_model": "b", "labels": "A,B"} | sent
        answer = ada.post("/projects/new", **whole)
        assert answer.status_code in (409, 422)
        assert 'name="base_model"' in answer.text


class TestSettings:
    @pytest.fixture
    def ada(self, runtime, clinic) -> Person:
        return person(runtime, Role.ADMIN, name="ada", password="")

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("criteria", [{"metric": "accuracy", "suite": "test", "margin": 0.2}]),
            ("rules", {"default_loss": 0.1}),
            ("reasons", {"wrong": {"severity": 3}, "odd": {"severity": 1}}),
        ],
    )
    def test_a_document_s_next_version_holds(self, ada, runtime, clinic, name, content):
        kind = {"criteria": DocumentKind.CRITERIA, "rules": DocumentKind.GATE_RULES}.get(
            name, DocumentKind.REASONS
        )
        before = self.newest(runtime, clinic, kind)
        assert set_document(ada, name, json.dumps(content)).status_code == 303
        after = self.newest(runtime, clinic, kind)
        assert (after.version, after.author) == (before.version + 1, "ada")
        assert after.content in (content, {"criteria": content})

    @pytest.mark.parametrize(
        ("name", "document", "why"),
        [
            ("criteria", "{", "not JSON"),
            ("criteria", "[]", "at least one"),
            ("criteria", '[{"metric": "beauty", "suite": "test"}]', "beauty"),
            ("criteria", '[{"metric": "accuracy", "suite": "test", "margin": 7}]', "margin"),
            ("criteria", '[{"metric": "accuracy", "suite": "test", "margin": NaN}]', "NaN"),
            ("criteria", "[" * 5000, "nested"),
            ("rules", '{"odd": 1}', "odd"),
            ("rules", "[1]", "object"),
            ("rules", '{"max_loss": {"general": Infinity}}', "Infinity"),
            ("reasons", "{}", "at least one"),
            ("reasons", '{"Bad Code": {"severity": 1}}', "Bad Code"),
            ("reasons", '{"wrong": {"severity": 11}}', "severity"),
            ("reasons", '{"wrong": {"severity": NaN}}', "NaN"),
            ("reasons", '{"wrong": {"severity": 1, "note": "\\u0000"}}', "NUL"),
            ("reasons", '{"wrong": {"severity": 1, "note": "\\ud800"}}', "surrogate"),
            ("reasons", '{"wrong": {"severity": 1}, "wrong": {"severity": 2}}', "repeated"),
        ],
    )
    def test_a_wrong_document_is_refused_with_the_reason_and_kept(self, ada, runtime, name, document, why):
        with runtime.db.reading() as session:
            before = len(session.exec(select(Document)).all())
        answer = set_document(ada, name, document)
        assert answer.status_code in (409, 422)
        assert why in unescape(answer.text)
        assert unescape(re.search("<textarea[^>]*>\n(.*?)</textarea>", answer.text, re.DOTALL)[1]) == document
        with runtime.db.reading() as session:
            assert len(session.exec(select(Document)).all()) == before

    def test_switches_change_how_the_project_works(self, ada, runtime):
        ada.post("/p/clinic/settings/switches", random_share="0.25", persons_needed="3")
        with runtime.db.reading() as session:
            project = projects.find(session, "clinic")
        assert (project.random_share, project.persons_needed) == (0.25, 3)
        ada.post("/p/clinic/settings/switches", random_share="0.25")
        with runtime.db.reading() as session:
            assert projects.find(session, "clinic").persons_needed == 3

    def test_a_key_is_shown_once_works_and_can_be_revoked(self, ada, runtime, client):
        shown = ada.post("/p/clinic/settings/keys", kind="secret", name="backend").text
        secret = re.search(r'value="(esk_[^"]+)"', shown)[1]
        body = {"messages": [{"role": "user", "content": "x"}], "response": "y"}
        headers = {"Authorization": f"Bearer {secret}"}
        assert client.post("/v1/responses", json=body, headers=headers).status_code == 201
        assert secret not in ada.get("/p/clinic/settings").text
        with runtime.db.reading() as session:
            key = session.exec(select(ApiKey)).one()
        assert secret not in repr(key) and key.name == "backend"
        ada.post(f"/p/clinic/settings/keys/{key.id}/revoke")
        assert client.post("/v1/responses", json=body, headers=headers).status_code == 401

    def test_a_public_key_is_for_the_pages_that_were_named(self, ada, runtime):
        ada.post(
            "/p/clinic/settings/keys", kind="public", origins="https://a.example/\r\n http://b.example:81 "
        )
        with runtime.db.reading() as session:
            assert session.exec(select(ApiKey.origins)).one() == ["https://a.example", "http://b.example:81"]

    @pytest.mark.parametrize(
        "origin", ["a.example", "https://a.example/path", "javascript:x", "https://", "*"]
    )
    def test_what_is_no_origin_is_refused(self, ada, runtime, origin):
        answer = ada.post("/p/clinic/settings/keys", kind="public", origins=origin)
        assert answer.status_code == 422 and origin in answer.text
        with runtime.db.reading() as session:
            assert session.exec(select(ApiKey)).first() is None

    @staticmethod
    def newest(runtime: Runtime, project: Project, kind: DocumentKind) -> Document:
        with runtime.db.reading() as session:
            return projects.current(session, project.id, kind)


class TestLedger:
    def test_every_change_leaves_an_entry_and_the_chain_holds(self, runtime, clinic):
        challenger = Challenger(runtime, clinic)
        with runtime.db.transaction() as session:
            dead = runtime.queue.ask(session, JobKind.CURATE, uuid4(), project_id=clinic.id)
            job = session.get_one(Job, dead)
            runtime.queue.end(session, job, JobState.DEAD, failure="broke")
        ada = person(runtime, Role.ADMIN, name="ada")
        before = self.count(runtime)
        ada.post("/p/clinic/settings/keys", kind="secret", name="backend")
        with runtime.db.reading() as session:
            key_id = session.exec(select(ApiKey.id)).one()
        ada.post(f"/p/clinic/settings/keys/{key_id}/revoke")
        ada.post("/users/role", name="ada", role="approver", project="clinic")
        ada.post("/users/role", name="ada", role="admin", project="clinic")
        set_document(ada, "reasons", '{"wrong": {"severity": 2}}')
        set_document(ada, "reasons", json.dumps(projects.DEFAULT_REASONS))
        ada.post("/p/clinic/settings/switches", random_share="0.5")
        ada.post(f"/p/clinic/jobs/{dead}/retry")
        ada.post(f"/p/clinic/jobs/{dead}/cancel")
        ada.post("/p/clinic/sets")
        ada.post(f"/p/clinic/sets/{challenger.evaluation.training_set_id}/train")
        ada.post(f"/p/clinic/models/{challenger.model.id}/evaluate")
        ada.post("/p/clinic/playground/attack", action="begin")
        ada.post("/p/clinic/playground/attack", action="end")
        challenger.decide(ada)
        challenger.promote(ada)
        ada.post("/p/clinic/rollback", seq="1", reason="worse", password=PASSWORD)
        assert self.told(runtime, before) == [
            "key_added",
            "key_revoked",
            "role_set",
            "role_set",
            "document_added",
            "document_added",
            "project_changed",
            "job_retried",
            "job_cancelled",
            "curate_requested",
            "training_requested",
            "evaluate_requested",
            "attack_session_begin",
            "attack_session_end",
            "approved",
            "promotion",
            "rollback",
        ]
        shown = ada.get("/p/clinic/ledger?q=rollback").text
        assert "v0" in shown and "ada" in shown

    def test_what_is_refused_leaves_none(self, runtime, clinic):
        ada = person(runtime, Role.ADMIN, name="ada")
        csrf, before = ada.csrf(), self.count(runtime)
        for _, path, page in pages(ada.client.application):
            if page.form:  # nothing is sent that any of them could be content with
                ada.client.post(path, data={"csrf": csrf, "odd": "x"})
        assert self.count(runtime) == before

    @staticmethod
    def count(runtime: Runtime) -> int:
        with runtime.db.reading() as session:
            return len(session.exec(select(LedgerEntry)).all())

    @staticmethod
    def told(runtime: Runtime, after: int) -> list[str]:
        with runtime.db.reading() as session:
            assert not list(ledger.broken(session))
            entries = session.exec(select(LedgerEntry).order_by(LedgerEntry.seq)).all()[after:]
            assert {entry.actor for entry in entries} == {"ada"}
            return [entry.action for entry in entries]


def test_a_run_s_page_cancels_its_job(runtime, clinic):
    with runtime.db.transaction() as session:
        training_set = builders.add_set(session, clinic)
    olga = person(runtime, Role.OPERATOR, password="")
    sent = {"epochs": "2", "learning_rate": "0.001", "only_watch": "true"}
    sent |= {"method": "kto", "targets": "q_proj, v_proj"}
    answer = olga.post(f"/p/clinic/sets/{training_set.id}/train", **sent)
    run_page = path_of(answer)
    assert olga.get(run_page).status_code == olga.get(f"{run_page}/part").status_code == 200
    assert olga.post(f"{run_page}/cancel").status_code == 303
    with runtime.db.reading() as session:
        run = session.exec(select(TrainingRun)).one()
        assert (run.state, run.requested_by, run.spec) == (
            "cancelled",
            olga.user.id,
            {"epochs": 2, "learning_rate": 0.001, "method": "kto", "targets": ["q_proj", "v_proj"]},
        )
        assert run.is_only_watched
        assert session.exec(select(Job)).one().state is JobState.CANCELLED


def test_who_set_a_document_first_is_named_to_who_comes_second(runtime):
    with runtime.db.transaction() as session:
        builders.add_project(session)
    ada, ben = (person(runtime, Role.ADMIN, name=name, password="") for name in ("ada", "ben"))
    both_saw = shown_version(ada, "rules")
    assert set_document(ada, "rules", '{"default_loss": 0.2}').status_code == 303
    answer = ben.post("/p/clinic/settings/rules", document='{"default_loss": 0.3}', version=both_saw)
    assert answer.status_code == 409
    assert "ada set version 2 while you looked" in answer.text and "0.3" in answer.text


def set_document(somebody, name: str, document: str):
    """Send the form of the settings page as it stands."""
    version = shown_version(somebody, name)
    return somebody.post(f"/p/clinic/settings/{name}", document=document, version=version)


def shown_version(somebody, name: str) -> str:
    page = somebody.get("/p/clinic/settings").text
    return re.search(rf'settings/{name}".*?name="version" value="(\d+)"', page, re.DOTALL)[1]
