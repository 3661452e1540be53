"""Webhooks of the annotation tools."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from annotation.errors import InvalidHook
from annotation.hooks import HookAction, is_authentic, is_signed, parse_argilla, parse_label_studio

PROJECT = {
    "id": 3,
    "title": "clinic",
    "token": "secret-one",
    "task_data_login": "secret-two",
    "task_data_password": "secret-three",
}
TASK = {
    "id": 8,
    "data": {"external_id": "task-8", "prompt": "?"},
    "updated_at": "2026-11-22T07:01:42.658646Z",
}
ANNOTATION = {
    "id": 11,
    "result": [],
    "was_cancelled": False,
    "updated_at": "2026-11-22T07:01:43.249877Z",
    "task": 8,
    "project": 3,
}


def body(action, **parts):
    return json.dumps({"action": action, "project": PROJECT, **parts}).encode()


@pytest.mark.parametrize("action", ["ANNOTATION_CREATED", "ANNOTATION_UPDATED"])
def test_an_annotation_names_its_task(action):
    event = parse_label_studio(body(action, annotation=ANNOTATION, task=TASK))
    assert event.action is HookAction(action)
    assert (event.project, event.task_keys, event.task_ids, event.annotation_ids) == (
        "3",
        ("task-8",),
        ("8",),
        ("11",),
    )
    assert event.updated_at == datetime(2026, 11, 22, 7, 1, 43, 249877, tzinfo=UTC)


def test_several_annotations_come_as_a_list_under_a_singular_name():
    other = {**ANNOTATION, "id": 12, "task": 9}
    event = parse_label_studio(
        body("ANNOTATIONS_CREATED", annotation=[ANNOTATION, other], task=[TASK, {"id": 9, "data": {}}])
    )
    assert (event.task_keys, event.task_ids, event.annotation_ids) == (("task-8",), ("8", "9"), ("11", "12"))


def test_deleted_annotations_have_ids_only():
    event = parse_label_studio(body("ANNOTATIONS_DELETED", annotations=[{"id": 11}, {"id": 12}]))
    assert (event.task_keys, event.task_ids, event.annotation_ids) == ((), (), ("11", "12"))
    assert event.updated_at is None


def test_deleted_tasks_have_ids_only():
    event = parse_label_studio(body("TASKS_DELETED", tasks=[{"id": 10}]))
    assert (event.task_keys, event.task_ids) == ((), ("10",))


def test_created_tasks_are_read():
    event = parse_label_studio(body("TASKS_CREATED", tasks=[TASK]))
    assert (event.task_keys, event.task_ids) == (("task-8",), ("8",))


def test_a_changed_project_is_read():
    assert parse_label_studio(body("PROJECT_UPDATED")).project == "3"


def test_no_secret_of_the_project_is_kept():
    event = parse_label_studio(body("ANNOTATION_CREATED", annotation=ANNOTATION, task=TASK))
    assert "secret" not in repr(event)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"action": ' + b"9" * 5000 + b"}",
        b"{}",
        b'{"action": "TASKS_DELETED", "action": "TASKS_DELETED"}',
        body("LABEL_LINK_CREATED"),
        body(["ANNOTATION_CREATED"]),
        body("ANNOTATION_CREATED", annotation="11"),
        body("ANNOTATION_CREATED", annotation=[11]),
        body("ANNOTATION_CREATED", annotation={"id": "11"}),
        body("ANNOTATION_CREATED", annotation={"id": True}),
        body("ANNOTATION_CREATED", annotation={"id": 2**63}),
        body("ANNOTATION_CREATED", annotation={"id": -1}),
        body("ANNOTATION_CREATED", annotation={**ANNOTATION, "task": None}),
        body("ANNOTATION_CREATED", annotation={**ANNOTATION, "updated_at": "yesterday"}),
        body("ANNOTATION_CREATED", annotation={**ANNOTATION, "updated_at": 5}),
        body("TASKS_CREATED", tasks=[{"id": 1, "data": {"external_id": "nul \0"}}]),
        body("TASKS_CREATED", tasks=[{"id": 1, "data": {"external_id": "half a pair \ud800"}}]),
        body("TASKS_CREATED", tasks=[{"id": 1, "data": {"external_id": "long " * 100}}]),
        body("TASKS_CREATED", tasks=[{"id": 1, "data": {"external_id": 7}}]),
    ],
)
def test_anything_else_is_refused(raw):
    with pytest.raises(InvalidHook):
        parse_label_studio(raw)


@given(st.binary() | st.text().map(lambda text: json.dumps({"action": text, "tasks": text}).encode()))
def test_nothing_else_than_an_invalid_hook_is_raised(raw):
    with pytest.raises(InvalidHook):
        parse_label_studio(raw)


@pytest.mark.parametrize(
    ("presented", "fits"),
    [
        ("s3cret", True),
        ("s3cre", False),
        ("", False),
        (None, False),
        ("s\u00e9cret", False),
        ("\ud800", False),
    ],
)
def test_only_the_registered_secret_is_authentic(presented, fits):
    assert is_authentic("s3cret", presented) is fits


def test_an_empty_secret_fits_nothing():
    assert not is_authentic("", "")


RESPONSE_ID, RECORD_ID, WORKSPACE_ID = (f"0ac2c2ef-b478-4b8e-91bf-4ccfb859842{n}" for n in range(3))
RECORD = {
    "id": RECORD_ID,
    "external_id": "task-8",
    "fields": {"prompt": "?"},
    "dataset": {"id": RECORD_ID, "workspace": {"id": WORKSPACE_ID, "name": "clinic"}},
}
RESPONSE = {"id": RESPONSE_ID, "values": {"verdict": {"value": "correct"}}, "record": RECORD}
AT = "2026-11-22T07:13:26.735813Z"
SECRET = "KVYjRNLDP4ZV3WitD5wgJx2G1wauHfIM"


def argilla_body(action, data):
    return json.dumps({"type": action, "version": 1, "timestamp": AT, "data": data}).encode()


@pytest.mark.parametrize("action", ["response.created", "response.updated", "response.deleted"])
def test_argillas_answer_names_its_record_and_workspace(action):
    event = parse_argilla(argilla_body(action, RESPONSE))
    assert event.action is HookAction(action)
    assert (event.project, event.task_keys, event.task_ids, event.annotation_ids) == (
        WORKSPACE_ID,
        ("task-8",),
        (RECORD_ID,),
        (RESPONSE_ID,),
    )
    assert event.updated_at == datetime(2026, 11, 22, 7, 13, 26, 735813, tzinfo=UTC)


def test_argillas_deleted_record_has_no_answer():
    event = parse_argilla(argilla_body("record.deleted", RECORD))
    assert (event.project, event.task_ids, event.annotation_ids) == (WORKSPACE_ID, (RECORD_ID,), ())


@pytest.mark.parametrize(
    "data", [None, [], {}, {"id": RESPONSE_ID}, {**RESPONSE, "record": {**RECORD, "id": 7}}, [RESPONSE] * 2]
)
def test_what_argilla_does_not_send_is_refused(data):
    with pytest.raises(InvalidHook):
        parse_argilla(argilla_body("response.created", data))


def signed(body, at, secret=SECRET):
    signature = Webhook(secret).sign("msg_1", at, body.decode())
    stamp = str(int(at.timestamp()))
    return {"webhook-id": "msg_1", "webhook-timestamp": stamp, "webhook-signature": signature}


def test_a_signature_of_one_of_our_secrets_counts():
    body = argilla_body("response.created", RESPONSE)
    headers = signed(body, datetime.now(UTC))
    assert is_signed(["b3RoZXI=", SECRET], body, headers)
    assert not is_signed(["b3RoZXI="], body, headers)
    assert not is_signed([SECRET], body + b" ", headers)
    assert not is_signed([], body, headers)
    for minutes in (-6, 6):
        assert not is_signed([SECRET], body, signed(body, datetime.now(UTC) + timedelta(minutes=minutes)))


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize(
    "value", ["", "x", "v1", "v1,", "v1,=", "v1,\u00e9", "1e400", "9" * 400, "-1", ",,", "v1,a,b"]
)
def test_a_malformed_header_is_no_signature(name, value):
    body = argilla_body("response.created", RESPONSE)
    assert not is_signed([SECRET], body, {**signed(body, datetime.now(UTC)), name: value})
