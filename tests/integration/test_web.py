"""The web as a whole: who may call what, how it describes itself, and what it never gives away."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from flask import Blueprint
from structlog.testing import capture_logs

from service import migrations, projects, supervisor, tokens
from service.client import signing
from service.runtime import build
from service.settings import Settings
from service.tables import KeyKind, Role
from service.web import app as web_app
from service.web.app import POLICY, SECURITY_HEADERS, create_app
from service.web.auth import Access
from service.web.console.page import Page
from service.web.endpoint import Endpoint
from tests import builders
from tests.waiting import eventually

SIGN_IN = "console.use_password"  # where one says who one is: it refuses whoever does not
UUID_TEXT = "0191d1d0-0000-4000-8000-000000000000"
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "datasets",
    "argilla",
    "label_studio_sdk",
    "pyarrow",
    "sklearn",
    "scipy",
}
KEYS = ("public key", "secret key")
READERS = ("auditor", "operator", "approver", "admin")
CREDENTIALS = ("nothing", *KEYS, "annotator", *READERS)
ALLOWED = {
    Access.ANYONE: set(CREDENTIALS),
    Access.TOOL: set(),  # knows its own path and header
    Access.WIDGET: set(KEYS),
    Access.HOST: {"secret key"},
    Access.READER: {"secret key", *READERS},
    Access.SUPPLIER: {"secret key", "operator", "approver", "admin"},
    Access.OPERATOR: {"operator", "approver", "admin"},
    Access.APPROVER: {"approver", "admin"},
    Access.ADMIN: {"admin"},
}
BODIES: dict[str, dict[str, Any]] = {
    "audits.waive": {"reason": "known", "until": "2026-12-24"},
    "audits.accept_repair": {"place": 0},
    "responses.log_response": {"messages": [{"role": "user", "content": "x"}], "response": "y"},
    "feedback.give": {"event_id": "0191d1d0-0000-4000-8000-000000000001", "rating": "down"},
    "signals.give": {
        "event_id": "0191d1d0-0000-4000-8000-000000000002",
        "kind": "copied",
    },
    "reports.report": {"question": "x", "complaint": "y", "channel": "phone", "project": "clinic"},
    "feedback.change": {},
    "feedback.withdraw": {},
    "corpus.add": {
        "source": "faq",
        "licence": "CC0",
        "rows": [{"question": "x", "label": "y"}],
        "project": "clinic",
    },
    "loop.curate": {"project": "clinic"},
    "loop.train": {"project": "clinic"},
    "loop.evaluate": {"project": "clinic"},
    "loop.approve": {
        "project": "clinic",
        "evaluation": UUID_TEXT,
        "model_version": 1,
        "adapter_sha256": "sha256:0",
        "training_set": "sha256:0",
        "decision": "approved",
        "reason": "good",
    },
    "loop.promote": {"project": "clinic"},
    "loop.waive_effort": {"reason": "known", "until": "2026-12-24"},
    "outcomes.report": {
        "event_id": "0191d1d0-0000-4000-8000-000000000003",
        "response_id": "chat-1",
        "name": "rerouted",
        "value": 1,
    },
    "corpus.import_corpus": {
        "project": "clinic",
        "source": "faq",
        "licence": "CC0",
        "place": "label-studio:7",
    },
    "notices.add": {"project": "clinic", "url": "https://hooks.example/x", "kinds": ["alarm"]},
    "notices.set_ticket": {"ticket_url": None},
    "serving.add": {"project": "clinic", "kind": "directory", "place": "memory://adapters"},
    "rights.erase": {"project": "clinic", "subject": "pat"},
    "rights.export": {"project": "clinic", "subject": "pat"},
    "suites.put": {"project": "clinic", "suites": {"behaviour": ["typos"]}},
    "rights.hold": {"project": "clinic", "subject": "pat", "reason": "a court", "until": "2999-01-01"},
    "rights.lift": {"project": "clinic", "subject": "pat"},
    "quarantines.impose": {"project": "clinic", "subject": "pat", "reason": "known"},
    "bisections.bisect": {"project": "clinic", "good": "1", "bad": "1", "metric": "accuracy"},
    "tunings.tune": {"project": "clinic"},
    "annotators.invite": {"project": "clinic", "name": "mia"},
    "annotators.change_pool": {"project": "clinic", "pool": "doctors"},
    "annotators.answer": {"answer": "!"},
    "questions.set_label_schema": {
        "project": "clinic",
        "label_schema": {"kind": "classification", "labels": ["a", "b"]},
    },
    "models.chat": {"model": "clinic", "messages": [{"role": "user", "content": "x"}]},
}


def test_every_route_declares_who_may_call_it(client):
    for rule in client.application.url_map.iter_rules():
        assert isinstance(client.application.view_functions[rule.endpoint].access, Access), rule


def test_a_route_that_does_not_say_who_may_call_it_fails_the_build(runtime, monkeypatch):
    careless = Blueprint("careless", __name__)
    careless.add_url_rule("/back-door", view_func=lambda: "come in")
    monkeypatch.setattr(web_app.operation, "bp", careless)
    with pytest.raises(RuntimeError, match="/back-door"):
        create_app(runtime)


@pytest.fixture
def credentials(runtime) -> dict[str, str]:
    """One of each kind."""
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
        people = {
            role.value: builders.add_person(session, role)[1] for role in Role if role.value in CREDENTIALS
        }
        return people | {
            "nothing": "",
            "public key": builders.add_key(session, project, KeyKind.PUBLIC),
            "secret key": builders.add_key(session, project),
        }


@pytest.mark.parametrize("who", CREDENTIALS)
def test_each_route_lets_in_exactly_those_it_declares(runtime, client, credentials, who):
    headers = {"Authorization": f"Bearer {credentials[who]}"} if credentials[who] else {}
    headers["Errata-Feedback-Token"] = _token(runtime)
    for rule in client.application.url_map.iter_rules():
        view = client.application.view_functions[rule.endpoint]
        if isinstance(view, Page) or rule.endpoint == SIGN_IN:  # test_console.py and test_people.py
            continue
        for method in rule.methods - {"OPTIONS"}:
            body = _body(runtime, rule.endpoint) if isinstance(view, Endpoint) and view.body else None
            path = rule.build(dict.fromkeys(rule.arguments, UUID_TEXT))[1]
            asked = getattr(view, "query", None)
            query = "?project=clinic" if asked and "project" in asked.model_fields else ""
            answer = client.open(path + query, method=method, json=body, headers=headers)
            is_let_in = answer.status_code not in (401, 403)
            assert is_let_in == (who in ALLOWED[view.access]), (method, path, answer.status_code)
            assert answer.status_code != 500, (method, path)


def _body(runtime, endpoint: str) -> dict[str, Any]:
    if not endpoint.startswith(("feedback.", "signals.")):
        return BODIES[endpoint]
    return BODIES[endpoint] | {"feedback_token": _token(runtime)}


def _token(runtime) -> str:
    with runtime.db.reading() as session:
        (kid,) = (key["kid"] for key in projects.find(session, "clinic").token_keys)
    key = tokens.signing_key("clinic", kid, runtime.secrets)
    return signing.sign(key, "clinic", "chat-1", "Billing")


def test_the_description_is_whole(client):
    document = client.get("/openapi.json").json
    assert document["openapi"] == "3.1.0"
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    ids = [operation["operationId"] for _, _, operation in operations]
    assert len(ids) == len(set(ids)) == sum(_documented(client.application))
    for path, method, operation in operations:
        named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}
        assert operation["summary"].endswith("."), (path, method)
        assert {"default"} < set(operation["responses"])
    for reference in _references(document):
        assert _resolved(document, reference), reference
    assert "feedback_token" in json.dumps(document["components"]["schemas"]["FeedbackIn"])


def _documented(app) -> Iterator[int]:
    for rule in app.url_map.iter_rules():
        if isinstance(app.view_functions[rule.endpoint], Endpoint):
            yield len(rule.methods - {"HEAD", "OPTIONS"})


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref":
                yield value
            yield from _references(value)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def _resolved(document: Any, reference: str) -> Any:
    assert reference.startswith("#/")
    for part in reference[2:].split("/"):
        document = document[part]
    return document


def test_browsers_find_the_icon_where_they_look_by_themselves(client):
    answer = client.get("/favicon.ico", follow_redirects=True)
    assert (answer.status_code, answer.mimetype) == (200, "image/svg+xml")


def test_the_web_loads_no_training_code_and_no_tools():
    script = "import json, sys, service.web.app; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert not HEAVY & {name.partition(".")[0] for name in json.loads(loaded.stdout)}


@pytest.mark.parametrize("path", ["/livez", "/openapi.json", "/metrics", "/nothing", "/v1/feedback"])
def test_every_answer_carries_the_security_headers(client, path):
    headers = client.get(path).headers
    assert {name: headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    nonce = re.search("'nonce-([^']+)'", headers["Content-Security-Policy"])[1]
    assert headers["Content-Security-Policy"] == POLICY.format(nonce=nonce)


def test_the_policy_allows_no_inline_code_and_nothing_from_elsewhere(client):
    first, second = (client.get("/sign-in").headers["Content-Security-Policy"] for _ in range(2))
    assert first != second  # each page has a nonce of its own
    for forbidden in ("unsafe-inline", "unsafe-eval", "http:", "https:", "*", "data:"):
        assert forbidden not in first
    for demanded in (
        "default-src 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for",
    ):
        assert demanded in first


@pytest.fixture
def broken(client, monkeypatch):
    """A client of a service with a bug that nobody foresaw."""

    def disk_usage(path: object) -> None:
        raise RuntimeError("patient-7 says")

    monkeypatch.setattr("service.web.api.operation.shutil.disk_usage", disk_usage)
    return client


def test_an_unforeseen_error_is_a_bare_500(broken):
    answer = broken.get("/readyz")
    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert answer.json["code"] == "internal_server_error"
    for secret in ("patient-7", "Traceback", "RuntimeError", "operation.py"):
        assert secret not in answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_an_unforeseen_error_is_logged_once_with_its_traceback(broken):
    with capture_logs() as entries:
        broken.get("/readyz")
    (failure,) = [entry for entry in entries if entry["event"] == "request_failed"]
    assert failure["route"] == "/readyz"
    assert failure["exc_info"][0] is RuntimeError


def test_requests_are_logged_by_route_and_never_by_path_or_credential(runtime, client, credentials):
    secret = runtime.secrets.hook_secret
    with capture_logs() as entries:
        client.post(f"/hooks/label-studio/{secret}", headers={"X-Errata-Secret": secret}, json={})
        client.get("/sign-in/esl_hidden")
        client.get("/v1/feedback", headers={"Authorization": f"Bearer {credentials['secret key']}"})
        client.get(f"/nothing/{secret}")
    routes = [entry["route"] for entry in entries if entry["event"] == "request"]
    assert routes == ["/hooks/label-studio/<secret>", "/sign-in/<secret>", "/v1/feedback", "None"]
    for hidden in (secret, "esl_hidden", credentials["secret key"]):
        assert hidden not in repr(entries)


def test_a_path_with_a_secret_stays_out_of_the_log_when_its_view_breaks(runtime, client, monkeypatch, caplog):
    secret = runtime.secrets.hook_secret
    monkeypatch.setattr("service.web.api.hooks.parse_label_studio", lambda body: 1 / 0)
    with capture_logs() as entries:
        answer = client.post(f"/hooks/label-studio/{secret}", headers={"X-Errata-Secret": secret})
    assert answer.status_code == 500
    assert secret not in repr(entries) + caplog.text


class Served:
    """The web server as `errata up` starts it."""

    def __init__(self, home: Path, redis_url: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.settings = Settings(data_dir=home / "data", port=port, redis_url=redis_url, web_threads=2)
        self.runtime = build(self.settings)
        migrations.upgrade(self.runtime.db)
        self.url, self.log = self.settings.own_url, home / "web.log"
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("ERRATA_")
        } | {
            "ERRATA_DATA_DIR": str(self.settings.data_dir),
            "ERRATA_REDIS_URL": redis_url,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                supervisor.commands(self.settings)["web"], env=environment, stdout=log, stderr=log
            )

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/livez", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.runtime.db.close()
        self.runtime.queue.redis.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory, valkey_url) -> Iterator[Served]:
    server = Served(tmp_path_factory.mktemp("served"), valkey_url)
    eventually(server.answers)
    yield server
    server.end()


def test_the_server_writes_one_line_a_request_and_no_secret(served):
    secret = served.runtime.secrets.hook_secret
    before = len(served.log.read_text().splitlines())
    httpx.post(f"{served.url}/hooks/label-studio/{secret}", content=b"{}", trust_env=False)
    httpx.get(f"{served.url}/sign-in/esl_hidden?x=esl_hidden", trust_env=False)
    eventually(lambda: len(served.log.read_text().splitlines()) >= before + 2)
    written = served.log.read_text()
    lines = [json.loads(line) for line in written.splitlines()[before:]]
    assert [line["route"] for line in lines] == ["/hooks/label-studio/<secret>", "/sign-in/<secret>"]
    assert all(line["request_id"] for line in lines)
    assert secret not in written and "esl_hidden" not in written


def test_a_chunked_body_is_read_up_to_the_limit_and_no_further(served):
    def chunks(size: int) -> Iterator[bytes]:
        yield b"["
        for _ in range(size // 65_536):
            yield b" " * 65_536

    headers = {"Content-Type": "application/json"}
    for size, status, code in ((65_536, 400, "malformed_json"), (2_000_000, 413, "request_entity_too_large")):
        answer = httpx.post(
            f"{served.url}/v1/responses", content=chunks(size), headers=headers, trust_env=False
        )
        assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: two\r\n",
        b"Transfer-Encoding: gzip, chunked, gzip\r\n",
        b"X-Long: " + b"x" * 1_000_000 + b"\r\n",
        b"".join(b"X-%d: x\r\n" % number for number in range(10_000)),
    ],
    ids=["two lengths", "negative", "no number", "odd coding", "long header", "many headers"],
)
def test_a_malformed_request_head_never_reaches_a_view(served, head):
    with socket.create_connection((served.settings.host, served.settings.port), timeout=5) as connection:
        start = b"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        try:
            connection.sendall(start + head + b"\r\n{}")
            said = connection.recv(4096)
        except ConnectionError:
            said = b""
    assert said == b"" or said.split()[1][:1] == b"4", said
    assert served.answers()


@pytest.mark.parametrize(("length", "answers"), [(b"Content-Length: 4\r\n", 1), (b"", 2)])
def test_what_hides_behind_a_second_length_is_never_read(served, length, answers):
    """Without that length it is simply the next request."""
    with socket.create_connection((served.settings.host, served.settings.port), timeout=5) as connection:
        chunked = b"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + length
        hidden = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        connection.sendall(chunked + b"\r\n2\r\n{}\r\n0\r\n\r\n" + hidden)
        said = b"".join(iter(lambda: connection.recv(4096), b""))
    assert said.count(b"HTTP/1.1 ") == answers


def test_many_requests_give_no_id_twice(served):
    for _ in range(5):
        httpx.get(f"{served.url}/livez", trust_env=False, headers={"X-Request-Id": str(uuid4())})
    ids = [json.loads(line)["request_id"] for line in served.log.read_text().splitlines()]
    assert len(ids) == len(set(ids))
