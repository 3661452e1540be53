"""Label Studio's webhooks: hints that are stored and answered at once, and never believed."""

import json
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from uuid import UUID

import pytest
from sqlmodel import SQLModel, select
from standardwebhooks.webhooks import Webhook

from service import secrets
from service.tables import ConnectorKind, InboxEvent, Job, JobKind, JobState
from service.web.app import create_app
from tests import builders
from tests.repetitions import CHOSEN

TOOL_PROJECT = 7
EVENT = {
    "action": "ANNOTATION_CREATED",
    "project": {"id": TOOL_PROJECT, "token": "tool-secret", "control_weights": {}},
    "task": {
        "id": 11,
        "data": {"external_id": "0191d1d0-0000-7000-8000-000000000000", "text": "my name is Ann"},
    },
    "annotation": {
        "id": 5,
        "task": 11,
        "updated_at": "2026-01-02T03:04:05.678901Z",
        "completed_by": {"email": "ann@clinic.example"},
        "result": [{"value": {"choices": ["incorrect"]}}],
    },
}


class Hook:
    """Sends webhooks as Label Studio does, and looks at what became of them."""

    def __init__(self, runtime) -> None:
        self.runtime, self.client = runtime, create_app(runtime).test_client()
        self.secret = runtime.secrets.hook_secret
        with runtime.db.transaction() as session:
            self.project = builders.add_project(session, tool_project=str(TOOL_PROJECT))
            builders.add_project(session, "bakery")

    def send(self, body: object, *, path: str | None = None, header: str | None = None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(
            f"/hooks/label-studio/{self.secret if path is None else path}",
            data=data,
            content_type="application/json",
            headers={"X-Errata-Secret": self.secret if header is None else header},
        )

    def events(self) -> list[InboxEvent]:
        with self.runtime.db.reading() as session:
            return session.exec(select(InboxEvent)).all()

    def jobs(self) -> list[Job]:
        with self.runtime.db.reading() as session:
            return session.exec(select(Job)).all()


@pytest.fixture
def hook(runtime) -> Hook:
    return Hook(runtime)


@pytest.fixture
def any_hook(any_runtime) -> Hook:
    return Hook(any_runtime)


def test_a_webhook_is_stored_and_asks_for_the_change_to_be_read(hook):
    answer = hook.send(EVENT)
    assert (answer.status_code, answer.data) == (204, b"")
    (event,), (job,) = hook.events(), hook.jobs()
    assert (event.project_id, event.source, event.handled_at) == (hook.project.id, "label-studio", None)
    assert (job.kind, job.row_id, job.state) == (JobKind.SYNC, hook.project.id, JobState.PENDING)


def test_a_repeated_webhook_is_stored_once(any_hook):
    assert [any_hook.send(EVENT).status_code for _ in range(3)] == [204] * 3
    assert (len(any_hook.events()), len(any_hook.jobs())) == (1, 1)


def test_webhooks_that_are_replayed_at_once_are_stored_once(any_hook):
    sent = [number for number in range(CHOSEN.hook_calls) for _ in range(1 + number % 5)]
    Random(0).shuffle(sent)

    def send(number: int) -> int:
        hook = copy(any_hook)
        hook.client = any_hook.client.application.test_client()
        return hook.send(EVENT | {"annotation": EVENT["annotation"] | {"id": number + 1}}).status_code

    with ThreadPoolExecutor(CHOSEN.racing_threads) as pool:
        assert set(pool.map(send, sent)) == {204}
    assert (len(any_hook.events()), len(any_hook.jobs())) == (CHOSEN.hook_calls, 1)


def test_many_webhooks_ask_for_one_reading(any_hook):
    for number in range(1, 6):
        any_hook.send(EVENT | {"annotation": EVENT["annotation"] | {"id": number}})
    assert (len(any_hook.events()), len(any_hook.jobs())) == (5, 1)


def test_a_later_change_of_the_same_annotation_is_another_event(hook):
    hook.send(EVENT)
    changed = EVENT["annotation"] | {"updated_at": "2026-01-02T03:05:00Z"}
    hook.send(EVENT | {"action": "ANNOTATION_UPDATED", "annotation": changed})
    assert len(hook.events()) == 2


def test_different_deletions_are_different_events(hook):
    for number in (1, 2):
        deletion = {"action": "TASKS_DELETED", "project": EVENT["project"], "tasks": [{"id": number}]}
        assert hook.send(deletion).status_code == 204
    assert len(hook.events()) == 2


def test_only_ids_and_times_of_a_webhook_are_kept(hook):
    hook.send(EVENT)
    (event,) = hook.events()
    kept = json.dumps(event.facts)
    for theirs in ("tool-secret", "Ann", "ann@", "incorrect", hook.secret):
        assert theirs not in kept
    assert event.facts["annotations"] == ["5"]


SECRETS = ("9MzvlPgLYizsjEi55HPZ", "s3cr3t-of-data", "pbkdf2-hash", "Bearer eyJhbGciOi")


def test_secrets_in_a_webhook_are_in_no_table_log_or_file(hook, capfd):
    token, password, hashed, bearer = SECRETS
    project = EVENT["project"] | {"token": token, "task_data_password": password}
    person = {"email": "ann@clinic.example", "password": hashed}
    body = EVENT | {"project": project, "headers": {"Authorization": bearer}}
    body["annotation"] = EVENT["annotation"] | {"completed_by": person}
    assert hook.send(body).status_code == 204
    assert hook.send(body | {"action": f"FORMAT {bearer}"}).status_code == 422
    with hook.runtime.db.reading() as session:
        tables = [session.execute(table.select()).all() for table in SQLModel.metadata.sorted_tables]
    kept = [json.dumps([[str(cell) for cell in row] for row in rows]) for rows in tables]
    files = [path.read_bytes() for path in hook.runtime.settings.data_dir.rglob("*") if path.is_file()]
    log = "".join(capfd.readouterr())
    assert any("ANNOTATION_CREATED" in text for text in kept)
    assert any(b"ANNOTATION_CREATED" in held for held in files)
    for secret in SECRETS:
        assert not [text for text in (*kept, log) if secret in text]
        assert not [held for held in files if secret.encode() in held]


@pytest.mark.parametrize(
    "wrong",
    [{"path": "x"}, {"header": "x"}, {"header": ""}, {"path": "x", "header": "x"}, {"path": "é"}],
    ids=["path", "header", "no header", "both", "not ASCII"],
)
def test_a_wrong_secret_is_refused_and_leaves_nothing(hook, wrong):
    answer = hook.send(EVENT, **wrong)
    assert (answer.status_code, answer.json["code"]) == (401, "unauthenticated")
    assert not hook.events() and not hook.jobs()


def test_while_secrets_are_rotated_no_webhook_is_lost(hook):
    before, data_dir = hook.secret, hook.runtime.settings.data_dir
    for _ in range(2):
        secrets.rotate(data_dir)
        assert (data_dir / "secrets.json").stat().st_mode & 0o777 == 0o600
        # A process that started before believes what it knows, one that started after both.
        assert hook.send(EVENT, path=before, header=before).status_code == 204
        renewed = replace(hook.runtime, secrets=secrets.load(data_dir))
        hook.client, now = create_app(renewed).test_client(), renewed.secrets
        assert hook.send(EVENT, path=now.hook_secret, header=now.hook_secret).status_code == 204
        assert hook.send(EVENT, path=before, header=before).status_code == 204
        assert hook.send(EVENT, path=before, header=now.hook_secret).status_code == 401
        assert hook.client.application.config["SECRET_KEY_FALLBACKS"] == [now.earlier_session_key]
        before, oldest = now.hook_secret, before
    assert hook.send(EVENT, path=oldest, header=oldest).status_code == 204  # until the next rotation
    secrets.rotate(data_dir)
    hook.client = create_app(replace(hook.runtime, secrets=secrets.load(data_dir))).test_client()
    assert hook.send(EVENT, path=oldest, header=oldest).status_code == 401
    assert secrets.load(data_dir).signing_key == hook.runtime.secrets.signing_key


def test_another_installations_project_is_ignored(hook):
    answer = hook.send(EVENT | {"project": {"id": 8}})
    assert answer.status_code == 204
    assert not hook.events() and not hook.jobs()


def test_a_workspace_that_is_another_tools_project_is_ignored(hook):
    workspace, secret, at = {"id": str(UUID(int=1))}, "whsec_c2VjcmV0c2VjcmV0", datetime.now(UTC)
    with hook.runtime.db.transaction() as session:
        builders.add_project(session, "letters", tool_project=workspace["id"])
        ours = builders.add_project(session, "songs")
        elsewhere = str(UUID(int=2))
        builders.place(session, ours, elsewhere, tool=ConnectorKind.ARGILLA, hook_secret=secret)
    body = json.dumps({"type": "record.deleted", "data": workspace | {"dataset": {"workspace": workspace}}})
    signature, stamp = Webhook(secret).sign("m", at, body), str(int(at.timestamp()))
    headers = {"webhook-id": "m", "webhook-timestamp": stamp, "webhook-signature": signature}
    assert hook.client.post("/hooks/argilla", data=body, headers=headers).status_code == 204
    assert not hook.events() and not hook.jobs()


def test_a_webhook_without_a_project_belongs_to_none_of_ours(hook):
    answer = hook.send({name: value for name, value in EVENT.items() if name != "project"})
    assert answer.status_code == 204
    assert not hook.events() and not hook.jobs()


GARBAGE = [
    b"",
    b"x",
    b"null",
    b"[]",
    b"\xff",
    b"[" * 100_000,
    b'{"action": "ANNOTATION_CREATED", "action": "TASKS_DELETED"}',
    {"action": "FORMAT_DISK"},
    {"action": None},
    EVENT | {"project": "7"},
    EVENT | {"project": {"id": "7"}},
    EVENT | {"project": {"id": 2**63}},
    EVENT | {"task": {"id": True}},
    EVENT | {"task": {"id": 1, "data": {"external_id": "a\x00b"}}},
    EVENT | {"annotation": [1]},
    EVENT | {"annotation": {"id": 5, "task": 11, "updated_at": "yesterday"}},
]


def test_garbage_is_refused_and_leaves_nothing(any_hook):
    for garbage in GARBAGE:
        answer = any_hook.send(garbage)
        assert (answer.status_code, answer.content_type) == (422, "application/problem+json"), garbage
        assert answer.json["code"] == "invalid_hook"
    assert not any_hook.events() and not any_hook.jobs()


def test_an_endless_webhook_is_refused(hook):
    assert hook.send(b" " * 4_000_001).status_code == 413


def test_a_webhook_is_stored_while_redis_is_away(hook, monkeypatch):
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionRefusedError("redis")

    monkeypatch.setattr("service.queue.rq_queue", unreachable)
    assert hook.send(EVENT).status_code == 204
    assert (len(hook.events()), len(hook.jobs())) == (1, 1)
