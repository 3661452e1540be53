"""What nobody should send: each is refused with a problem document of a stable code, and leaves no trace."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from sqlmodel import SQLModel, func, select

from service import migrations, tokens
from service.client import signing
from service.clock import utcnow
from service.runtime import Runtime, build
from service.settings import Settings
from service.tables import ApiKey, Feedback, KeyKind, Role, UserToken
from service.web.app import create_app
from tests import builders

PAGE = "https://clinic.example"
PROBLEM = "application/problem+json"
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Site:
    """A running service with one project, everything that may call it, and a neighbour."""

    runtime: Runtime
    client: FlaskClient
    secret_key: str
    public_key: str
    revoked_key: str
    foreign_key: str
    person: str
    revoked_person: str
    token: str
    foreign_token: str
    foreign_response: str
    event: str

    def rows(self) -> dict[str, int]:
        """How many rows each table holds."""
        with self.runtime.db.reading() as session:
            return {
                table.name: session.scalar(select(func.count()).select_from(table))
                for table in SQLModel.metadata.sorted_tables
            }


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request, tmp_path_factory, valkey_url) -> Iterator[Site]:
    """One for all cases, since none of them may change it."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), redis_url=valkey_url)
    if request.param == "postgresql":
        cluster = request.getfixturevalue("postgres")
        url = cluster.database(template=request.getfixturevalue("migrated_postgres"))
        settings = settings.model_copy(update={"database_url": url})
    runtime = build(settings)
    migrations.upgrade(runtime.db)
    yield _furnish(runtime)
    runtime.db.close()
    runtime.queue.redis.close()


def _furnish(runtime: Runtime) -> Site:
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
        neighbour = builders.add_project(session, "bakery")
        builders.add_criteria(session, project)
        model = builders.add_challenger(session, project)
        builders.add_evaluation(session, project, model)
        keys = {
            "secret_key": builders.add_key(session, project),
            "public_key": builders.add_key(session, project, KeyKind.PUBLIC, [PAGE]),
            "revoked_key": builders.add_key(session, project),
            "foreign_key": builders.add_key(session, neighbour),
        }
        _, person = builders.add_person(session, Role.ADMIN)
        _, revoked = builders.add_person(session, Role.APPROVER)
        for table, secret in ((ApiKey, keys["revoked_key"]), (UserToken, revoked)):
            row = session.exec(select(table).where(table.sha256 == tokens.hashed(secret))).one()
            row.revoked_at = utcnow()
    client = create_app(runtime).test_client()
    mine = client.post("/v1/responses", json=RESPONSE, headers=_bearer(keys["secret_key"])).json
    theirs = client.post("/v1/responses", json=RESPONSE, headers=_bearer(keys["foreign_key"])).json
    event = str(uuid4())
    given = {"event_id": event, "response_id": mine["id"], "rating": "down"}
    assert client.post("/v1/feedback", json=given, headers=_bearer(keys["secret_key"])).status_code == 201
    return Site(
        runtime=runtime,
        client=client,
        **keys,
        person=person,
        revoked_person=revoked,
        token=mine["feedback_token"],
        foreign_token=theirs["feedback_token"],
        foreign_response=theirs["id"],
        event=event,
    )


RESPONSE = {"messages": [{"role": "user", "content": "who bills me?"}], "response": "Cardiology"}
FEEDBACK = {"event_id": "0191d1d0-0000-4000-8000-000000000000", "response_id": "chat-1", "rating": "down"}
APPROVAL = {
    "project": "clinic",
    "evaluation": "0191d1d0-0000-4000-8000-000000000000",
    "model_version": 1,
    "adapter_sha256": "sha256:0",
    "training_set": "sha256:0",
    "decision": "approved",
    "reason": "good",
}
BODIES = {
    "POST /v1/responses": RESPONSE,
    "POST /v1/feedback": FEEDBACK,
    "PATCH /v1/feedback/EVENT": {"comment": "on reflection"},
    "DELETE /v1/feedback/EVENT": {},
    "POST /v1/chat/completions": {"model": "clinic", "messages": [{"role": "user", "content": "hello"}]},
    "POST /v1/training-sets": {"project": "clinic"},
    "POST /v1/training-runs": {"project": "clinic"},
    "POST /v1/evaluations": {"project": "clinic"},
    "POST /v1/approvals": APPROVAL,
    "POST /v1/promotions": {"project": "clinic"},
}
OF_KEYS = ("/v1/responses", "/v1/feedback", "/v1/chat")


def _bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def _credential(site: Site, request: str) -> dict[str, str]:
    is_of_keys = request.split()[1].startswith(OF_KEYS)
    return _bearer(site.secret_key if is_of_keys else site.person)


def _send(site: Site, request: str, body: bytes, **changes: Any):
    method, path = request.split()
    arguments = {"headers": _credential(site, request), "content_type": "application/json"} | changes
    return site.client.open(path.replace("EVENT", site.event), method=method, data=body, **arguments)


def _assert_refused(answer, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.content_type == PROBLEM
    assert (answer.json["status"], answer.json["code"]) == (status, code)
    assert "Traceback" not in answer.text


def _with(request: str, extra: str) -> bytes:
    """The request's valid body with one more member, which may be anything."""
    members = json.dumps(BODIES[request])[1:-1]
    return ("{" + (members + ", " if members else "") + extra + "}").encode()


BROKEN = {
    "empty": (b"", 400, "malformed_json"),
    "white space": (b"  \n", 400, "malformed_json"),
    "no JSON": (b"rating=down", 400, "malformed_json"),
    "cut off": (b'{"rating": "do', 400, "malformed_json"),
    "two documents": (b"{}{}", 400, "malformed_json"),
    "single quotes": (b"{'rating': 'down'}", 400, "malformed_json"),
    "invalid UTF-8": (b'{"comment": "\xff"}', 400, "malformed_json"),
    "UTF-8 of a surrogate": (b'{"comment": "\xed\xa0\x80"}', 400, "malformed_json"),
    "UTF-16": ('{"rating": "down"}'.encode("utf-16"), 400, "malformed_json"),
    "byte order mark": (b"\xef\xbb\xbf{}", 400, "malformed_json"),
    "null": (b"null", 422, "invalid_request"),
    "array": (b"[]", 422, "invalid_request"),
    "text": (b'"down"', 422, "invalid_request"),
    "number": (b"1", 422, "invalid_request"),
    "100,000 nested lists": (b"[" * 100_000 + b"]" * 100_000, 422, "invalid_request"),
    "100,000 lists left open": (b"[" * 100_000, 422, "invalid_request"),
    "33 nested lists": (b"[" * 33 + b"]" * 33, 422, "invalid_request"),
}
MEMBERS = {
    "unknown field": '"colour": "red"',
    "unknown field of unknown kind": '"__proto__": {"admin": true}',
    "server's id": '"id": "0191d1d0-0000-7000-8000-000000000000"',
    "server's project": '"project_id": "0191d1d0-0000-7000-8000-000000000000"',
    "server's time": '"created_at": "2020-01-01T00:00:00Z"',
    "server's state": '"state": "trained"',
    "server's trust": '"trusted": true',
    "NUL": '"x": "a\\u0000b"',
    "NUL in a name": '"x\\u0000": 1',
    "lone surrogate": '"x": "\\ud800"',
    "surrogates swapped": '"x": "\\udc00\\ud800"',
    "repeated key": '"x": 1, "x": 1',
    "repeated key inside": '"x": {"y": 1, "y": 2}',
    "2^63": f'"x": {2**63}',
    "-2^63-1": f'"x": {-(2**63) - 1}',
    "5,000 digits": f'"x": {"9" * 5000}',
    "NaN": '"x": NaN',
    "Infinity": '"x": Infinity',
    "1e400": '"x": 1e400',
    "-1e400": '"x": [-1e400]',
}


@pytest.mark.parametrize("request_", BODIES, ids=str)
def test_a_broken_body_is_refused_by_every_route_and_leaves_nothing(site, request_):
    before = site.rows()
    for body, status, code in BROKEN.values():
        empty_is_fine = not body and request_.startswith("DELETE")
        if not empty_is_fine and not (len(body) > 65_536 and "feedback" in request_):
            _assert_refused(_send(site, request_, body), status, code)
    assert site.rows() == before


@pytest.mark.parametrize("request_", BODIES, ids=str)
def test_a_body_with_one_wrong_member_is_refused_by_every_route_and_leaves_nothing(site, request_):
    before = site.rows()
    for member in MEMBERS.values():
        # A chat's unknown options are ignored, as its clients expect.
        if "chat" not in request_ or "x" in member:
            body = _with(request_, member.replace('"x', '"metadata') if "chat" in request_ else member)
            _assert_refused(_send(site, request_, body), 422, "invalid_request")
    assert site.rows() == before


@pytest.mark.parametrize("request_", BODIES, ids=str)
def test_another_media_type_or_a_compressed_body_is_refused_by_every_route(site, request_):
    before, body = site.rows(), json.dumps(BODIES[request_]).encode()
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = _send(site, request_, body, content_type=media_type)
        _assert_refused(answer, 415, "unsupported_media_type")
    for coding in ("gzip", "br", "identity, gzip"):
        headers = _credential(site, request_) | {"Content-Encoding": coding}
        _assert_refused(_send(site, request_, body, headers=headers), 415, "unsupported_media_type")
    assert site.rows() == before


@pytest.mark.parametrize("request_", BODIES, ids=str)
def test_a_body_over_the_limit_is_refused_whether_announced_or_chunked(site, request_):
    before = site.rows()
    settings = site.runtime.settings
    limit = settings.max_feedback_bytes if "feedback" in request_ else settings.max_body_bytes
    body = b"[" * (limit + 1)
    _assert_refused(_send(site, request_, body), 413, "request_entity_too_large")
    lie = _send(site, request_, b"{}", environ_overrides={"CONTENT_LENGTH": str(10**12)})
    _assert_refused(lie, 413, "request_entity_too_large")
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    endless = _send(
        site, request_, b"", input_stream=BytesIO(body), content_length=None, environ_overrides=chunked
    )
    _assert_refused(endless, 413, "request_entity_too_large")
    assert site.rows() == before


WRONG_TYPES: dict[str, list[dict[str, Any]]] = {
    "POST /v1/responses": [
        {"messages": []},
        {"messages": "hello"},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "root", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x", "admin": True}]},
        {"messages": [{"role": "user", "content": 1}]},
        {"response": ""},
        {"response": None},
        {"response": 7},
        {"response": "x" * 100_001},
        {"external_id": ""},
        {"external_id": 5},
        {"external_id": "x" * 201},
        {"context": [{"id": "a"}]},
        {"context": {}},
        {"attributes": {"shift": 1}},
        {"attributes": {str(n): "x" for n in range(51)}},
        {"purpose": {"training": "yes", "basis": "consent"}},
        {"purpose": {"training": True}},
        {"metadata": []},
    ],
    "POST /v1/feedback": [
        {"event_id": "1"},
        {"event_id": 1},
        {"event_id": None},
        {"rating": "sideways"},
        {"rating": True},
        {"rating": 1},
        {"reasons": "wrong"},
        {"reasons": [1]},
        {"reasons": [""]},
        {"reasons": ["x"] * 21},
        {"comment": "x" * 4001},
        {"comment": ["x"]},
        {"correction": "x" * 8001},
        {"consent": "true"},
        {"consent": 1},
        {"selection": {"start": -1, "end": 2, "quote": "x"}},
        {"selection": {"start": True, "end": 2, "quote": "x"}},
        {"selection": {"start": 1.5, "end": 2, "quote": "x"}},
        {"session": "x" * 201},
        {"trace_id": "0" * 32},
        {"trace_id": "0AF7651916CD43DD8448EB211C80319C"},
        {"trace_id": "0af7651916cd43dd8448eb211c80319"},
        {"span_id": "0" * 16},
        {"span_id": "b7ad6b716920333g"},
        {"response_id": None},
        {"response_id": "x" * 201},
        {"feedback_token": "v1.x.y"},
    ],
    "PATCH /v1/feedback/EVENT": [
        {"rating": None},
        {"rating": "left"},
        {"reasons": None},
        {"reasons": [1]},
        {"comment": 1},
        {"event_id": "0191d1d0-0000-4000-8000-000000000000"},
        {"response_id": "chat-1"},
        {"withdrawn_at": None},
    ],
    "POST /v1/chat/completions": [
        {"model": 1},
        {"messages": []},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"metadata": {"shift": 1}},
    ],
    "POST /v1/training-sets": [{"project": None}, {"project": 1}, {"project": "x" * 65}],
    "POST /v1/training-runs": [
        {"training_set": "../x"},
        {"training_set": f"clinic/v{'9' * 90}"},
        {"training_set": "٣٣٣٣٣٣٣٣"},
        {"options": []},
        {"options": {"seed": 2**40}},
        {"options": {"seed": 1e300}},
        {"options": {"seed": "99999999999999999999"}},
        {"options": {"epochs": True}},
        {"options": {"epochs": None}},
        {"options": {"epochs": [1]}},
    ],
    "POST /v1/evaluations": [{"model_version": "1"}, {"model_version": -1}, {"model_version": 2**31}],
    "POST /v1/approvals": [
        {"evaluation": "latest"},
        {"model_version": 1.0},
        {"model_version": True},
        {"model_version": 2**40},
        {"decision": "perhaps"},
        {"reason": ""},
        {"reason": None},
        {"adapter_sha256": "x" * 72},
        {"user_id": "0191d1d0-0000-7000-8000-000000000000"},
    ],
    "POST /v1/promotions": [{"action": "force"}, {"model_version": 2**31}, {"reason": 1}],
}


@pytest.mark.parametrize("request_", WRONG_TYPES, ids=str)
def test_a_value_that_does_not_fit_its_field_is_named_and_leaves_nothing(site, request_):
    before = site.rows()
    for change in WRONG_TYPES[request_]:
        answer = _send(site, request_, json.dumps(BODIES[request_] | change).encode())
        _assert_refused(answer, 422, "invalid_request")
        assert answer.json["errors"], change
    assert site.rows() == before


def test_an_option_that_training_does_not_know_is_refused(site):
    before = site.rows()
    for options in ({"speed": 1}, {"mode": "wild"}, {"method": "ppo"}, {"learning_rate": "fast"}):
        body = json.dumps({"project": "clinic", "options": options}).encode()
        _assert_refused(_send(site, "POST /v1/training-runs", body), 422, "invalid")
    assert site.rows() == before


@pytest.mark.parametrize(
    "query",
    ["cursor=1", "cursor=", "cursor=%00", "cursor=%ff", "limit=5", "CURSOR=x", f"cursor={'9' * 5000}"],
)
def test_a_wrong_query_is_refused(site, query):
    answer = site.client.get(f"/v1/feedback?{query}", headers=_bearer(site.secret_key))
    _assert_refused(answer, 422, "invalid_request")


@pytest.mark.parametrize("slug", ["%00", "a%00b", "%ff%fe", "'; drop table project; --", "%25", "x" * 5000])
def test_no_project_is_found_by_a_strange_name(site, slug):
    answer = site.client.get(f"/v1/models/champion?project={slug}", headers=_bearer(site.person))
    assert answer.status_code in (404, 422), answer.text
    assert answer.content_type == PROBLEM


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("POST", "/v1/feedback/..%2f..%2fadmin", 404, "not_found"),
        ("GET", "/v1/jobs/1", 404, "not_found"),
        ("DELETE", "/v1/feedback/1", 404, "not_found"),
        ("TRACE", "/v1/feedback", 405, "method_not_allowed"),
        ("PUT", "/v1/responses", 405, "method_not_allowed"),
        ("GET", "/v1/responses", 405, "method_not_allowed"),
        ("POST", "/v1/models/champion", 405, "method_not_allowed"),
        ("GET", "/sign-in/esl_no\x00ne", 404, "not_found"),
    ],
)
def test_an_unknown_path_or_method_is_a_problem_too(site, method, path, status, code):
    headers = _bearer(site.secret_key) | {"X-HTTP-Method-Override": "DELETE"}
    _assert_refused(site.client.open(path, method=method, headers=headers), status, code)


CREDENTIALS = {
    "none": ({}, 401, "unauthenticated"),
    "empty": ({"Authorization": "Bearer "}, 401, "unauthenticated"),
    "another scheme": ({"Authorization": "Basic eHg6eHg="}, 401, "unauthenticated"),
    "unknown": (_bearer("esk_unknown"), 401, "unauthenticated"),
    "not ASCII": ({"Authorization": "Bearer \xe9\xff"}, 401, "unauthenticated"),
    "endless": (_bearer("x" * 60_000), 401, "unauthenticated"),
}


@pytest.mark.parametrize("request_", BODIES, ids=str)
def test_without_a_live_credential_no_route_does_anything(site, request_):
    before, body = site.rows(), json.dumps(BODIES[request_]).encode()
    for headers, status, code in CREDENTIALS.values():
        _assert_refused(_send(site, request_, body, headers=headers), status, code)
    for secret in (site.revoked_key, site.revoked_person, site.secret_key[:-1], site.secret_key + "x"):
        _assert_refused(_send(site, request_, body, headers=_bearer(secret)), 401, "unauthenticated")
    assert site.rows() == before


@pytest.mark.parametrize("request_", BODIES, ids=str)
def test_a_credential_of_the_wrong_kind_is_refused(site, request_):
    before, body = site.rows(), json.dumps(BODIES[request_]).encode()
    if request_.split()[1].startswith(OF_KEYS):
        _assert_refused(_send(site, request_, body, headers=_bearer(site.person)), 401, "unauthenticated")
    else:
        _assert_refused(_send(site, request_, body, headers=_bearer(site.secret_key)), 403, "forbidden")
    if "/v1/feedback" not in request_:
        headers = _bearer(site.public_key) | {"Origin": PAGE}
        _assert_refused(_send(site, request_, body, headers=headers), 403, "forbidden")
    assert site.rows() == before


@pytest.mark.parametrize("path", ["/v1/feedback", "/v1/responses"])
def test_a_secret_key_that_comes_from_a_page_is_refused(site, path):
    before = site.rows()
    headers = _bearer(site.secret_key) | {"Origin": PAGE}
    body = RESPONSE if path == "/v1/responses" else FEEDBACK
    answer = site.client.post(path, json=body, headers=headers)
    _assert_refused(answer, 403, "forbidden")
    assert site.rows() == before


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "http://clinic.example",
        "https://clinic.example:8443",
        "https://clinic.example.evil.example",
        "https://evilclinic.example",
        "https://CLINIC.example",
        "https://clinic.example/",
        "https://clinic.example, https://evil.example",
    ],
)
def test_a_public_key_works_on_its_own_pages_only(site, origin):
    before = site.rows()
    body = {"event_id": str(uuid4()), "rating": "up", "key": site.public_key, "feedback_token": site.token}
    headers = {"Origin": origin} if origin else {}
    answer = site.client.post("/v1/feedback", json=body, headers=headers)
    _assert_refused(answer, 403, "forbidden")
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert site.rows() == before


def _forged(site: Site, **changes: Any) -> str:
    genuine = signing.read(site.token)
    key = tokens.signing_key("clinic", genuine.kid, site.runtime.secrets)
    return signing.seal(replace(genuine, **changes), key)


def _resigned(site: Site, **changes: Any) -> str:
    """A payload of somebody's own making under the genuine signature."""
    version, payload, mac = site.token.split(".")
    said = json.loads(base64.urlsafe_b64decode(payload + "==")) | changes
    return f"{version}.{base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b'=').decode()}.{mac}"


TOKENS = {
    "text": (lambda site: "x", 401, "token_invalid"),
    "empty": (lambda site: "", 401, "token_invalid"),
    "dots": (lambda site: "...", 401, "token_invalid"),
    "not ASCII": (lambda site: "v1.é.ü", 401, "token_invalid"),
    "cut off": (lambda site: site.token[:-1], 401, "token_invalid"),
    "longer": (lambda site: site.token + "A", 401, "token_invalid"),
    "a dot more": (lambda site: site.token + ".x", 401, "token_invalid"),
    "no signature": (lambda site: site.token.rpartition(".")[0] + ".", 401, "token_invalid"),
    "another version": (lambda site: "v2" + site.token[2:], 401, "token_invalid"),
    "another payload": (lambda site: _resigned(site, subject="ann"), 401, "token_invalid"),
    "another algorithm": (lambda site: _resigned(site, alg="none"), 401, "token_invalid"),
    "a status link": (lambda site: tokens.sign_status("x", site.runtime.secrets), 401, "token_invalid"),
    "an unknown key": (lambda site: _forged(site, kid="old"), 401, "token_invalid"),
    "expired": (lambda site: _forged(site, exp=int(utcnow().timestamp()) - 1), 401, "token_expired"),
    "of tomorrow": (lambda site: _forged(site, iat=int(utcnow().timestamp()) + DAY), 401, "token_invalid"),
    "of another project": (lambda site: site.foreign_token, 401, "token_invalid"),
    "of another text": (lambda site: _forged(site, sha256="sha256:0"), 422, "response_mismatch"),
    "of numbers": (lambda site: _forged(site, response=5), 401, "token_invalid"),
    "of nothing": (lambda site: _forged(site, response=""), 401, "token_invalid"),
    "of a long name": (lambda site: _forged(site, subject="x" * 201), 401, "token_invalid"),
    "of a name with NUL": (lambda site: _forged(site, subject="a\0"), 401, "token_invalid"),
    "ending in words": (lambda site: _forged(site, exp="never"), 401, "token_invalid"),
}


@pytest.mark.parametrize("case", TOKENS, ids=str)
def test_a_token_that_is_not_genuine_for_this_response_is_refused(site, case):
    make, status, code = TOKENS[case]
    before = site.rows()
    credential = {"key": site.public_key, "feedback_token": make(site)}
    page = {"Origin": PAGE}
    given = {"event_id": str(uuid4()), "rating": "up", **credential}
    _assert_refused(site.client.post("/v1/feedback", json=given, headers=page), status, code)
    for method, more in (("PATCH", {"comment": "mine"}), ("DELETE", {})):
        answer = site.client.open(
            f"/v1/feedback/{site.event}", method=method, json=credential | more, headers=page
        )
        assert answer.status_code in (status, 403), answer.text
        assert answer.content_type == PROBLEM
    assert site.rows() == before


def test_the_token_of_another_response_changes_nothing(site):
    other = site.client.post("/v1/responses", json=RESPONSE, headers=_bearer(site.secret_key)).json
    credential = {"key": site.public_key, "feedback_token": other["feedback_token"]}
    for method in ("PATCH", "DELETE"):
        answer = site.client.open(
            f"/v1/feedback/{site.event}", method=method, json=credential, headers={"Origin": PAGE}
        )
        _assert_refused(answer, 403, "forbidden")


def test_a_public_key_alone_may_not_speak_of_a_response(site):
    body = FEEDBACK | {"key": site.public_key}
    answer = site.client.post("/v1/feedback", json=body, headers={"Origin": PAGE})
    _assert_refused(answer, 401, "unauthenticated")


def test_another_projects_response_and_feedback_look_like_none(site):
    before, headers = site.rows(), _bearer(site.secret_key)
    copied = {"kind": "copied", "event_id": str(uuid4())}
    answers = [
        site.client.post("/v1/signals", json=copied | {"response_id": named}, headers=headers)
        for named in (site.foreign_response, str(uuid4()))
    ]
    for answer in answers:
        _assert_refused(answer, 404, "not_found")
    details = {re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", answer.json["detail"]) for answer in answers}
    assert len(details) == 1
    for method in ("PATCH", "DELETE"):
        answer = site.client.open(
            f"/v1/feedback/{site.event}", method=method, json={}, headers=_bearer(site.foreign_key)
        )
        _assert_refused(answer, 404, "not_found")
    assert site.rows() == before


def test_a_key_of_one_project_sees_nothing_of_another(site):
    headers = _bearer(site.foreign_key)
    answer = site.client.get("/v1/models/champion?project=clinic", headers=headers)
    _assert_refused(answer, 403, "forbidden")
    assert site.client.get("/v1/feedback", headers=headers).json["items"] == []
    shown = site.client.get("/v1/evaluations?project=clinic", headers=_bearer(site.person)).json["items"]
    answer = site.client.get(f"/v1/evaluations/{shown[0]['id']}", headers=headers)
    _assert_refused(answer, 404, "not_found")


@pytest.mark.parametrize(
    "said",
    [
        {"comment": "x" * 4000, "correction": "y" * 8000},
        {"comment": "🙂" * 3900},
        {"correction": "é" * 7900},
        {"comment": "a" + "\u0301" * 3999},
        {"comment": "\u202eevil\u200b\U000e0041\ufeff" * 100},
        {"comment": "<script>alert(1)</script>{{7*7}}", "session": "../../etc/passwd"},
        {"reasons": ["__proto__", "'; drop table feedback; --", "=cmd|' /C calc'!A0"]},
        {"selection": {"start": 0, "end": 9, "quote": "</script><svg/onload=alert(1)>"}},
        {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"},
    ],
    ids="-".join,
)
def test_texts_at_their_limits_and_hostile_ones_are_kept_as_they_are(site, said):
    body = {"event_id": str(uuid4()), "response_id": "later-1", "rating": "down", **said}
    answer = _send(site, "POST /v1/feedback", json.dumps(body, ensure_ascii=False).encode())
    assert answer.status_code == 201, answer.text
    with site.runtime.db.reading() as session:
        row = session.get_one(Feedback, UUID(answer.json["id"]))
    assert {name: getattr(row, name) for name in said} == said


def test_what_a_query_says_besides_counts_for_nothing(site):
    before = site.rows()
    body = {"event_id": str(uuid4()), "rating": "up", "feedback_token": site.token}
    path = f"/v1/feedback?key={site.public_key}&rating=down"
    _assert_refused(site.client.post(path, json=body, headers={"Origin": PAGE}), 401, "unauthenticated")
    assert site.rows() == before
    answer = site.client.post(path, json=body | {"key": site.public_key}, headers={"Origin": PAGE})
    with site.runtime.db.reading() as session:
        assert session.get_one(Feedback, UUID(answer.json["id"])).rating == "up"
