"""Feedback in bulk, in and out, and what users do without a word."""

import json
from uuid import uuid4

import pytest
from sqlmodel import func, select

from service.stages import triage
from service.tables import AnnotationTask, Feedback, JobKind, KeyKind, Signal
from service.web.api import bulk
from tests import builders

NDJSON = "application/x-ndjson"


class Host:
    """A backend with a secret key, and its project with one answer."""

    def __init__(self, runtime, client) -> None:
        self.runtime, self.client = runtime, client
        with runtime.db.transaction() as session:
            self.project = builders.add_project(session)
            self.key = builders.add_key(session, self.project)
            self.public = builders.add_key(session, self.project, KeyKind.PUBLIC)
            self.response = str(builders.add_response(session, self.project, "Billing").id)

    def send(self, lines, *, key: str = "", kind: str = NDJSON):
        headers = {"Authorization": f"Bearer {key or self.key}", "Content-Type": kind}
        body = lines if isinstance(lines, bytes) else "\n".join(map(json.dumps, lines)).encode()
        return self.client.post("/v1/feedback/import", data=body, headers=headers)

    def line(self, **more) -> dict:
        return {"event_id": str(uuid4()), "response_id": self.response, "rating": "down"} | more

    def signal(self, **more):
        body = {"event_id": str(uuid4()), "response_id": self.response, "kind": "copied"} | more
        return self.client.post("/v1/signals", json=body, headers={"Authorization": f"Bearer {self.key}"})

    def count(self, table) -> int:
        with self.runtime.db.reading() as session:
            return session.exec(select(func.count()).select_from(table)).one()


@pytest.fixture
def host(runtime, client) -> Host:
    return Host(runtime, client)


def told(answer) -> list[dict]:
    assert (answer.status_code, answer.mimetype) == (207, NDJSON)
    return [json.loads(line) for line in answer.text.splitlines()]


def test_each_line_has_a_fate_of_its_own(host):
    good, again = host.line(comment="no"), host.line()
    lines = [
        good,
        host.line(rating="sideways"),
        again,
        again,
        again | {"rating": "up"},
        host.line(response_id=str(uuid4())),
        host.line(feedback_token="x", response_id=None),
    ]
    answers = told(host.send(lines))
    assert [(one["line"], one["status"]) for one in answers] == list(
        enumerate((201, 422, 201, 200, 409, 201, 401), start=1)
    )
    codes = [one["problem"]["code"] for one in answers if "problem" in one]
    assert codes == ["invalid_request", "event_conflict", "token_invalid"]
    assert answers[1]["problem"]["errors"][0]["pointer"] == "/rating"
    assert host.count(Feedback) == 3
    assert [one["status"] for one in told(host.send([good]))] == [200]


def test_lines_that_no_parser_agrees_on_are_told_and_hinder_no_other(host):
    good = json.dumps(host.line()).encode()
    lines = b"\n".join(
        [b"{", b"\xff", good, b"", b'{"rating": "up", "rating": "down"}', b"[" * 5000, b"null"]
    )
    answers = told(host.send(lines))
    assert [(one["line"], one["status"]) for one in answers] == [
        (1, 400),
        (2, 400),
        (3, 201),
        (5, 422),
        (6, 422),
        (7, 422),
    ]


def test_what_is_no_import_is_refused_as_a_whole(host, monkeypatch):
    assert host.send([host.line()], kind="application/json").status_code == 415
    assert host.send([host.line()], key=host.public).status_code == 403
    monkeypatch.setattr(bulk, "MAX_LINES", 1)
    assert host.send([host.line(), host.line()]).status_code == 413
    monkeypatch.setattr(bulk, "MAX_BYTES", 10)
    assert host.send([host.line()]).status_code == 413
    assert host.count(Feedback) == 0


def test_lines_are_committed_part_by_part(host, monkeypatch):
    monkeypatch.setattr(bulk, "AT_ONCE", 2)
    taken, calls = bulk._taken, []

    def break_off(*arguments):
        calls.append(arguments)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return taken(*arguments)

    lines = [host.line() for _ in range(5)]
    with monkeypatch.context() as broken:
        broken.setattr(bulk, "_taken", break_off)
        with pytest.raises(KeyboardInterrupt):
            host.send(lines)
    assert host.count(Feedback) == 2
    assert sorted(one["status"] for one in told(host.send(lines))) == [200, 200, 201, 201, 201]


def test_an_export_is_a_line_for_each_feedback_oldest_first(host, errata, capsys, monkeypatch):
    for number in range(3):
        host.send([host.line(comment=f"\u202ewörd {number}")])
    monkeypatch.setattr("service.cli.feedback.PAGE", 2)
    monkeypatch.setattr("sys.argv", ["errata", "feedback", "export", "--project", "clinic"])
    from service import cli

    with pytest.raises(SystemExit) as ended:
        cli.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert not ended.value.code
    assert [row["comment"] for row in rows] == [f"\u202ewörd {number}" for number in range(3)]
    assert {row["state"] for row in rows} == {"received"} and "subject" not in rows[0]


def test_a_signal_is_kept_once_and_nobody_is_asked_about_it(host):
    event = str(uuid4())
    first, second = host.signal(event_id=event), host.signal(event_id=event)
    assert (first.status_code, second.status_code) == (201, 200) and first.json == second.json
    assert host.signal(kind="liked").status_code == 422
    assert host.signal(response_id=str(uuid4())).status_code == 404
    assert host.signal(comment="hello").status_code == 422
    with host.runtime.db.transaction() as session:
        host.project.random_share = 0.0
        session.add(host.project)
        job = host.runtime.queue.ask(session, JobKind.TRIAGE, host.project.id, project_id=host.project.id)
    triage.run(host.runtime.queue.lease(job), host.project.id)
    assert (host.count(Signal), host.count(AnnotationTask), host.count(Feedback)) == (1, 0, 0)
