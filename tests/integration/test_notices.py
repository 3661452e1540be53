"""What others are to hear of reaches them, signed and once, however they behave; and nobody's words go with it."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlmodel import col, select
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from annotation.types import Cause, Verdict
from retrain.types import Split
from service import experts, forgetting, ledger, notice_targets, notices, settlements, standing, tool_state
from service.clock import utcnow
from service.digests import tell_experts
from service.queue import NOTICES, QUEUE_OF
from service.schedule import ask_for_notices
from service.stages import notifying, promotion
from service.tables import (
    AnnotationTask,
    Annotator,
    ConnectorKind,
    Job,
    JobKind,
    JobState,
    LedgerEntry,
    Notice,
    NoticeKind,
    NoticeState,
    NoticeTarget,
    Project,
    Response,
    Role,
    Settlement,
    TrainingRun,
    TrainingSetExample,
)
from service.web.api import loop
from tests import builders
from tests.console import person
from tests.waiting import eventually

MARKER = "zebrafish"
ALL = list(notice_targets.CHOICES)


class Receiver:
    """A host's server: gives these answers in turn and then 204; while it is held it gives none."""

    def __init__(self, *answers: int, headers: dict[str, str] | None = None) -> None:
        self.answers, self.received, self.free = list(answers), [], Event()
        self.free.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.received.append((dict(self.headers), body))
                outer.free.wait(20)
                self.send_response(outer.answers.pop(0) if outer.answers else 204)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.secret = self.target = ""
        self.thread = Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.free.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.received]

    def heard(self) -> list[dict]:
        """What it was told, each once by its id, as a host would take it."""
        once = {
            headers["webhook-id"]: Webhook(self.secret).verify(body, headers)
            for headers, body in self.received
        }
        return list(once.values())


@pytest.fixture
def settings(settings, request):
    """Attempts without a rest, unless a test has it otherwise."""
    chosen = {"notice_to_loopback": True, "notice_retry_seconds": (0, 0), "notice_timeout_seconds": 5}
    return settings.model_copy(update=chosen | getattr(request, "param", {}))


class Post:
    """A project, and the hosts that hear of it."""

    def __init__(self, runtime, work) -> None:
        self.runtime, self.work, self.receivers = runtime, work, []
        with runtime.db.transaction() as session:
            self.project = builders.add_project(session)

    def host(self, *answers: int, kinds=ALL, **more) -> Receiver:
        receiver = Receiver(*answers, **more)
        self.receivers.append(receiver)
        with self.runtime.db.transaction() as session:
            added = notice_targets.add(
                session, self.project, receiver.url, kinds, runtime=self.runtime, actor="ada"
            )
        receiver.secret, receiver.target = added["secret"], added["id"]
        return receiver

    def happens(self, event: str = "x", kind: NoticeKind = NoticeKind.ALARM) -> None:
        with self.runtime.db.transaction() as session:
            notices.tell(session, self.project.id, kind, [{"event": event}])

    def deliver(self) -> None:
        ask_for_notices(self.runtime)
        self.work()

    def all(self, **facts) -> list[Notice]:
        with self.runtime.db.reading() as session:
            return session.exec(select(Notice).filter_by(**facts).order_by(col(Notice.id))).all()

    def settle(
        self, cause: Cause = Cause.CONTEXT, verdict=Verdict.INCORRECT, subject: str | None = None
    ) -> Settlement:
        """Somebody flags an answer, and two experts say what it comes to."""
        with self.runtime.db.transaction() as session:
            said = {"asked": f"my {MARKER}?", "subject": subject}
            response = builders.add_response(session, self.project, f"{MARKER} {subject}", **said)
            flag = builders.add_flag(session, self.project, response, comment=f"no {MARKER}")
            label = "Cardiology" if verdict is Verdict.INCORRECT else None
            task = builders.add_task(session, self.project, response, flag=flag)
            return self._answer(session, task, verdict=verdict, cause=cause, label=label)

    def settle_again(self, settled: Settlement, **answer) -> Settlement:
        with self.runtime.db.transaction() as session:
            first = session.get_one(AnnotationTask, settled.task_id)
            response = session.get_one(Response, first.response_id)
            again = builders.add_task(session, self.project, response, rechecks_id=first.id)
            return self._answer(session, again, **answer)

    def _answer(self, session, task: AnnotationTask, **answer) -> Settlement:
        for account in ("ann", "ben"):
            expert = Annotator(connector=ConnectorKind.NONE, account=f"{account}-{task.id}")
            session.add(expert)
            session.flush()
            builders.add_annotation(session, task, expert, correction=MARKER, **answer)
        settlements.settle_task(session, self.project, task)
        return session.exec(select(Settlement).where(Settlement.task_id == task.id)).one()


@pytest.fixture
def post(runtime, work) -> Iterator[Post]:
    made = Post(runtime, work)
    yield made
    for receiver in made.receivers:
        receiver.close()


class TestDelivery:
    def test_a_notice_is_signed_as_standard_webhooks_has_it(self, post):
        host = post.host()
        post.happens("tool_away")
        post.deliver()
        ((headers, body),) = host.received
        told = Webhook(host.secret).verify(body, headers)
        assert (told["type"], told["data"]["event"]) == ("alarm", "tool_away")
        assert told["data"]["url"] == f"{post.runtime.settings.own_url}/p/clinic/ledger"
        with post.runtime.db.reading() as session:
            assert told["ledger"] == ledger.head(session)
        for secret, said in ((post.host().secret, body), (host.secret, body.replace(b"away", b"here"))):
            with pytest.raises(WebhookVerificationError):
                Webhook(secret).verify(said, headers)

    def test_it_is_written_with_what_it_tells_or_not_at_all(self, post):
        post.host()
        with suppress(ZeroDivisionError), post.runtime.db.transaction() as session:
            notices.tell(session, post.project.id, NoticeKind.ALARM, [{"event": "x"}])
            session.flush()
            raise ZeroDivisionError
        assert post.all() == []
        post.happens()
        assert len(post.all()) == 1

    def test_a_host_hears_the_kinds_that_it_wants_and_its_own_project(self, post):
        host, other = post.host(kinds=["promoted"]), post.host(kinds=["alarm"])
        with post.runtime.db.transaction() as session:
            elsewhere = builders.add_project(session, "elsewhere")
            notices.tell(session, elsewhere.id, NoticeKind.ALARM, [{"event": "x"}])
        post.happens()
        post.deliver()
        assert (len(host.heard()), len(other.heard())) == (0, 1)

    def test_a_host_that_fails_hears_it_again_under_the_same_id_and_does_it_once(self, post):
        host = post.host(500, 503)
        post.happens()
        for _ in range(4):
            post.deliver()
        (notice,) = post.all()
        assert host.ids == [str(notice.id)] * 3
        assert len(host.heard()) == 1
        assert (notice.state, notice.attempts, notice.failure) == (NoticeState.DELIVERED, 3, None)

    def test_a_crash_after_the_answer_sends_it_twice_under_one_id(self, post, monkeypatch):
        host = post.host()
        post.happens()
        with monkeypatch.context() as crash:
            crash.setattr(notifying, "_record", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                post.deliver()
        assert len(host.ids) == 1
        post.deliver()
        assert len(host.ids) == 2
        assert len(host.heard()) == 1

    @pytest.mark.parametrize(("minutes", "heard"), [(0, [1, 2, 3]), (1, [3, 3, 3])])
    def test_a_turn_ends_by_time_and_the_next_one_goes_on(self, post, monkeypatch, minutes, heard):
        monkeypatch.setattr(notifying, "TURN", timedelta(minutes=minutes))
        host = post.host()
        for event in "abc":
            post.happens(event)
        counts = []
        for _ in heard:
            post.deliver()
            counts.append(len(host.ids))
        assert counts == heard

    @pytest.mark.parametrize("settings", [{"notice_retry_seconds": (3600, 7200)}], indirect=True)
    def test_it_rests_as_the_schedule_says(self, post):
        host = post.host(500)
        post.happens()
        for _ in range(3):
            post.deliver()
        (notice,) = post.all()
        assert len(host.ids) == 1
        assert round((notice.not_before - notice.created_at).total_seconds() / 3600) == 1

    def test_after_the_last_attempt_it_is_dead_and_others_hear_of_that(self, post):
        host, other = post.host(*[500] * 3), post.host(kinds=["dead_letter"])
        post.happens()
        for _ in range(6):
            post.deliver()
        (dead,) = post.all(state=NoticeState.DEAD)
        assert host.ids == [str(dead.id)] * 3
        (told,) = other.heard()
        assert told["data"] | {"url": ""} == {
            "project": "clinic",
            "notice": str(dead.id),
            "target": host.target,
            "kind": "alarm",
            "url": "",
        }

    def test_a_dead_letter_about_a_dead_letter_is_not_told(self, post):
        post.host(*[500] * 9, kinds=["dead_letter"])
        post.host(*[500] * 9, kinds=["dead_letter", "alarm"])
        post.happens()
        for _ in range(9):
            post.deliver()
        assert Counter(notice.kind for notice in post.all()) == {"alarm": 1, "dead_letter": 1}
        assert {notice.state for notice in post.all()} == {NoticeState.DEAD}

    @pytest.mark.parametrize(("status", "problem", "heard"), [(410, "answered 410 Gone", 1), (404, None, 3)])
    def test_a_target_that_is_gone_gets_nothing_more(self, post, status, problem, heard):
        host = post.host(status)
        post.happens("first")
        post.happens("second")
        for _ in range(3):
            post.deliver()
        post.happens("third")
        post.deliver()
        with post.runtime.db.reading() as session:
            assert session.exec(select(NoticeTarget)).one().problem == problem
        assert len({*host.ids}) == heard
        assert {notice.state for notice in post.all()} == {
            NoticeState.DEAD if problem else NoticeState.DELIVERED
        }

    def test_a_redirect_is_not_followed(self, post):
        elsewhere = post.host(kinds=["promoted"])
        host = post.host(302, headers={"Location": elsewhere.url})
        post.happens()
        post.deliver()
        (notice,) = post.all()
        assert (notice.state, notice.failure) == (NoticeState.WAITING, "answered 302")
        post.deliver()
        assert len(host.ids) == 2
        assert elsewhere.received == []

    def test_a_host_that_does_not_answer_keeps_no_other_waiting(self, post):
        slow, quick = post.host(), post.host()
        slow.free.clear()
        post.happens("first")
        post.happens("second")
        sending = Thread(target=post.deliver)
        sending.start()
        eventually(lambda: len(quick.ids) == 2)
        assert len(slow.ids) == 1
        slow.free.set()
        sending.join()
        assert [told["data"]["event"] for told in slow.heard()] == ["first", "second"]

    def test_notices_have_a_queue_of_their_own(self):
        assert [kind for kind, queue in QUEUE_OF.items() if queue == NOTICES] == [JobKind.NOTIFY]

    @pytest.mark.parametrize("settings", [{"notice_to_loopback": False}], indirect=True)
    def test_an_address_of_ours_is_refused_when_it_is_sent_to_as_well(self, post, monkeypatch):
        with monkeypatch.context() as careless:
            careless.setattr("service.outgoing.check_url", lambda *_, **__: None)
            host = post.host()
        post.happens()
        post.deliver()
        assert host.received == []
        (notice,) = post.all()
        assert notice.failure == "url: only https:// is sent to"


class TestKinds:
    def test_what_is_not_the_models_fault_is_handed_over(self, post):
        host = post.host(kinds=["handed_over"])
        settled = post.settle(Cause.CONTEXT)
        post.settle(Cause.MODEL)
        post.settle(Cause.USER_MISTAKEN)
        post.deliver()
        (told,) = host.heard()
        assert told["data"] == {
            "project": "clinic",
            "settlement": str(settled.id),
            "task": str(settled.task_id),
            "cause": "context",
            "url": f"{post.runtime.settings.own_url}/p/clinic/tasks/{settled.task_id}",
        }

    @pytest.mark.parametrize(
        ("cause", "state", "is_handed_over"),
        [(Cause.MODEL, "corrected", False), (Cause.PROMPT, "declined", True)],
    )
    def test_a_flag_is_answered(self, post, client, cause, state, is_handed_over):
        host = post.host(kinds=["flag_answered"])
        post.settle(cause)
        post.deliver()
        (told,) = host.heard()
        assert (told["data"]["state"], told["data"]["is_handed_over"]) == (state, is_handed_over)
        page = told["data"]["url"].removeprefix(post.runtime.settings.own_url)
        assert client.get(page).json["state"] == state

    def test_no_word_of_a_user_goes_out(self, post):
        host = post.host()
        settled = post.settle(Cause.PROMPT)
        with post.runtime.db.reading() as session:
            held = session.connection().execute(text("SELECT group_concat(text) FROM response")).scalar_one()
        post.deliver()
        assert MARKER in held
        assert settled.correction == MARKER
        assert len(host.received) == 2
        assert MARKER.encode() not in b"".join(body for _, body in host.received)

    def test_a_promotion_is_told_at_once_and_a_correction_only_when_the_version_was_asked_again(self, post):
        host = post.host(kinds=["flag_answered", "promoted", "rolled_back"])
        taught, measured = post.settle(Cause.MODEL, subject="a"), post.settle(Cause.MODEL, subject="b")
        for number in (1, 2):
            self._goes_live(post, number, {taught.id: Split.TRAIN, measured.id: Split.TEST})
        with post.runtime.db.transaction() as session:
            user, _ = builders.add_person(session, Role.APPROVER, "olga")
            project = session.get_one(Project, post.project.id)
            promotion.roll_back(session, project, reason="worse", user=user)
        post.deliver()
        told = [(each["type"], each["data"].get("state")) for each in host.heard()]
        assert Counter(told) == {
            ("flag_answered", "corrected"): 2,
            ("promoted", None): 2,
            ("rolled_back", None): 1,
        }
        with post.runtime.db.reading() as session:
            asked = session.exec(select(Job.id).where(Job.kind == JobKind.RECHECK)).all()
        assert len(asked) == 2

    @pytest.mark.parametrize(
        ("label", "told"),
        [("Cardiology", ["corrected"]), ("Billing", ["corrected", "corrected"])],
        ids=["confirmed", "otherwise"],
    )
    def test_who_is_asked_again_is_told_of_where_they_change_the_answer(self, post, label, told):
        host = post.host(kinds=["flag_answered"])
        first = post.settle(Cause.MODEL)
        self._goes_live(post, 1, {first.id: Split.TRAIN})
        again = post.settle_again(first, verdict=Verdict.INCORRECT, cause=Cause.MODEL, label=label)
        self._goes_live(post, 2, {again.id: Split.TRAIN})
        post.deliver()
        assert [each["data"]["state"] for each in host.heard()] == told

    def _goes_live(self, post, number: int, splits: dict[UUID, Split]) -> None:
        with post.runtime.db.transaction() as session:
            if number == 1:
                builders.add_criteria(session, post.project)
            model = builders.add_challenger(session, post.project, number=number)
            evaluation = builders.add_evaluation(session, post.project, model)
            run = session.get_one(TrainingRun, model.training_run_id)
            for settled_id, split in splits.items():
                row = {"content_sha256": "sha256:0", "group_name": "g", "split": split}
                session.add(
                    TrainingSetExample(training_set_id=run.training_set_id, settlement_id=settled_id, **row)
                )
            user, _ = builders.add_person(session, Role.APPROVER, f"approver {number}")
            seen = promotion.what_to_approve(session, evaluation)
            project = session.get_one(Project, post.project.id)
            promotion.decide(
                session,
                project,
                evaluation_id=evaluation.id,
                model_version=number,
                adapter_sha256=seen["adapter"],
                training_set=seen["training_set"],
                decision=promotion.Decision.APPROVED,
                reason="better",
                user=user,
            )
            promotion.promote(session, project, model_version=number, user=user)

    def test_a_tool_that_is_away_is_an_alarm_once(self, post):
        post.host(kinds=["alarm"])
        for failures in range(1, 6):
            with post.runtime.db.transaction() as session:
                args = (post.project.id, ConnectorKind.LABEL_STUDIO, MARKER, post.runtime.settings)
                tool_state.failed(session, *args)
            assert len(post.all()) == (failures >= tool_state.AWAY_AFTER)
        assert MARKER not in json.dumps([notice.facts for notice in post.all()])

    @pytest.mark.parametrize(("kind", "told"), [(JobKind.TRIAGE, 1), (JobKind.NOTIFY, 0)])
    def test_a_job_that_gave_up_is_a_dead_letter(self, post, kind, told):
        post.host(kinds=["dead_letter"])
        with post.runtime.db.transaction() as session:
            job = post.runtime.queue.ask(session, kind, post.project.id, project_id=post.project.id)
        post.runtime.queue.lease(job).bury(ValueError(MARKER), code="invalid")
        with post.runtime.db.reading() as session:
            assert session.get_one(Job, job).state is JobState.DEAD
        assert [notice.facts["code"] for notice in post.all()] == ["invalid"] * told

    @pytest.mark.parametrize(
        ("action", "kinds"),
        [
            ("evaluation_passed", ["approval_wanted", "gate_passed"]),
            ("evaluation_refused", ["gate_refused"]),
            ("evaluation_cannot_tell", ["gate_refused"]),
            ("webhook_put_back", ["alarm"]),
            ("consolidation_proposed", ["alarm"]),
            ("key_added", []),
        ],
    )
    def test_what_the_ledger_notes_is_told_by_its_kind(self, post, action, kinds):
        host = post.host()
        with post.runtime.db.transaction() as session:
            evaluation = "0191d1d0-0000-7000-8000-000000000001"
            entry = {"actor": MARKER, "subject": "v1", "project_id": post.project.id}
            ledger.append(session, action=action, facts={"evaluation": evaluation}, **entry)
        post.deliver()
        assert sorted(told["type"] for told in host.heard()) == kinds
        assert all(evaluation in told["data"]["url"] for told in host.heard())


class TestFlagger:
    def _status(self, post, client) -> tuple[dict, str]:
        post.deliver()
        url = post.receivers[0].heard()[-1]["data"]["url"]
        path = url.removeprefix(post.runtime.settings.own_url)
        return client.get(path).json, client.get(path, headers={"Accept": "text/html"}).text

    @pytest.mark.parametrize("cause", sorted(settlements.HANDED_OVER))
    def test_whoever_flagged_reads_that_it_was_handed_over_and_when(self, post, client, cause):
        post.host(kinds=["flag_answered"])
        settled = post.settle(cause)
        told, page = self._status(post, client)
        assert told["told"].startswith("This was not the model's fault: ")
        assert told["told"].endswith(f"handed over to the team on {settled.created_at.date()}.")
        assert (told["state"], told["cause"], told["ticket_url"]) == ("declined", cause, None)
        assert "handed over to the team" in page
        assert "<a " not in page

    @pytest.mark.parametrize(
        ("cause", "verdict"), [(Cause.USER_MISTAKEN, Verdict.INCORRECT), (None, Verdict.CORRECT)]
    )
    def test_what_was_not_handed_over_is_not_said_to_be(self, post, client, cause, verdict):
        post.host(kinds=["flag_answered"])
        settled = post.settle(cause, verdict)
        told, page = self._status(post, client)
        assert told["cause"] is None
        assert "handed over" not in page
        answer = _ticket(post, client, settled, "https://tickets.example/1")
        assert (answer.status_code, answer.json["code"]) == (409, "wrong_state")

    def test_a_ticket_is_shown_where_it_was_linked(self, post, client):
        post.host(kinds=["flag_answered"])
        settled = post.settle()
        assert _ticket(post, client, settled, "https://tickets.example/1?a=b&c=d").status_code == 200
        told, page = self._status(post, client)
        assert told["ticket_url"] == "https://tickets.example/1?a=b&c=d"
        link = '<a href="https://tickets.example/1?a=b&amp;c=d" rel="noopener noreferrer">'
        assert link in page
        assert _ticket(post, client, settled, None).json["item"]["ticket_url"] is None

    def test_a_command_links_a_ticket(self, post, client, shell):
        settled = post.settle()
        given = ("tasks", "ticket", str(settled.id), "-p", post.project.slug)
        assert shell(*given, "--url", "ftp://tickets.example/1")[1]["code"] == "invalid"
        for url in ("https://tickets.example/1", None):
            assert shell(*given, *(("--url", url) if url else ())) == (
                0,
                {"settlement": str(settled.id), "ticket_url": url},
            )
            with post.runtime.db.reading() as session:
                assert session.get_one(Settlement, settled.id).ticket_url == url

    @pytest.mark.parametrize(
        "url",
        [
            "javascript:alert(1)",
            "data:text/html,x",
            "//tickets.example/1",
            "https://user:word@tickets.example/1",
            'https://tickets.example/" onclick="x',
            "https://tickets.example\\@other.example/",
            "ftp://tickets.example/1",
            "https://" + "x" * 500,
        ],
    )
    def test_what_is_no_link_is_no_ticket(self, post, client, url):
        answer = _ticket(post, client, post.settle(), url)
        assert answer.status_code == 422
        assert answer.json["code"] in ("invalid", "invalid_request")


def _ticket(post, client, settled: Settlement, url: str | None):
    with post.runtime.db.transaction() as session:
        key = builders.add_key(session, post.project)
    headers = {"Authorization": f"Bearer {key}"}
    return client.patch(f"/v1/settlements/{settled.id}", json={"ticket_url": url}, headers=headers)


def test_an_erasure_takes_back_what_was_to_be_told_of_a_person(post):
    host = post.host()
    theirs, other = post.settle(subject="pat"), post.settle(subject="sam")
    with post.runtime.db.transaction() as session:
        for row in (theirs, other):
            settlement = session.get_one(Settlement, row.id)
            settlements.link_ticket(session, settlement, f"https://t.example/{MARKER}", actor="ada")
    with post.runtime.db.transaction() as session:
        forgetting.erase_words(session, builders.add_erasure(session, "pat"))
    post.deliver()
    told = {each["data"].get("settlement") for each in host.heard()} - {None}
    assert told == {str(other.id)}
    assert len(host.heard()) == 2
    erased = post.all(state=NoticeState.DEAD)
    assert [notice.facts for notice in erased] == [{}, {}]
    with post.runtime.db.reading() as session:
        tickets = {row.id: row.ticket_url for row in session.exec(select(Settlement))}
        assert MARKER not in repr(session.exec(select(LedgerEntry)).all())
    assert tickets == {theirs.id: None, other.id: f"https://t.example/{MARKER}"}
    ada = person(post.runtime, Role.OPERATOR, name="ada")
    assert ada.post(f"/p/clinic/notices/{erased[0].id}/again").status_code == 409


class TestFaces:
    @pytest.fixture
    def admin(self, post, client):
        with post.runtime.db.transaction() as session:
            _, token = builders.add_person(session, Role.ADMIN, "root")
        headers = {"Authorization": f"Bearer {token}"}

        def call(method: str, path: str, **body):
            return client.open(f"/v1{path}", method=method, json=body or None, headers=headers)

        return call

    def test_a_secret_is_shown_once_and_kept_nowhere(self, post, admin):
        body = {"project": "clinic", "url": "https://hooks.example/x", "kinds": ["alarm"]}
        added = admin("POST", "/notice-targets", **body).json["item"]
        assert added["secret"].startswith("whsec_")
        listed = admin("GET", "/notice-targets?project=clinic").json["items"]
        assert listed == [{name: added[name] for name in added if name != "secret"}]
        files = [path.read_bytes() for path in post.runtime.settings.data_dir.rglob("*") if path.is_file()]
        assert any(added["id"].replace("-", "").encode() in file for file in files)
        assert not any(added["secret"].encode() in file for file in files)

    @pytest.mark.parametrize(
        ("url", "kinds", "code"),
        [
            ("https://10.0.0.1/x", ["alarm"], "address_refused"),
            ("http://hooks.example/x", [], "invalid"),
            ("https://hooks.example/x", ["nonsense"], "invalid"),
            ("https://hooks.example/x", ["test"], "invalid"),
            ("https://hooks.example/x", [], "invalid"),
        ],
    )
    def test_a_target_that_cannot_be_is_refused(self, admin, url, kinds, code):
        answer = admin("POST", "/notice-targets", project="clinic", url=url, kinds=kinds)
        assert (answer.status_code, answer.json["code"]) == (422, code)

    def test_a_program_tries_a_target_and_sends_again_what_died(self, post, admin):
        host = post.host(*[500] * 3)
        assert admin("POST", f"/notice-targets/{host.target}/test").status_code == 202
        for _ in range(4):
            post.deliver()
        (dead,) = admin("GET", "/notices?project=clinic&state=dead").json["items"]
        assert (dead["failure"], dead["kind"], dead["attempts"]) == ("answered 500", "test", 3)
        assert admin("POST", f"/notices/{dead['id']}/again").status_code == 202
        post.deliver()
        assert host.ids == [dead["id"]] * 4
        again = admin("POST", f"/notices/{dead['id']}/again")
        assert (again.status_code, again.json["code"]) == (409, "wrong_state")
        assert admin("DELETE", f"/notice-targets/{host.target}").status_code == 200
        assert admin("GET", "/notice-targets?project=clinic").json["items"] == []
        assert admin("POST", f"/notice-targets/{host.target}/test").status_code == 409

    def test_an_operator_does_the_same_by_the_console(self, post):
        root = person(post.runtime, Role.ADMIN)
        hooked = Receiver(*[500] * 3)
        post.receivers.append(hooked)
        page = root.post("/p/clinic/notices", url=hooked.url, kinds=["alarm", "promoted"])
        hooked.secret = page.text.partition('value="whsec_')[2].partition('"')[0]
        assert hooked.secret
        post.happens("tool_away")
        for _ in range(4):
            post.deliver()
        (dead,) = post.all()
        assert "Nobody has heard of these" in root.get("/p/clinic/notices").text
        assert root.post(f"/p/clinic/notices/{dead.id}/again").status_code == 303
        post.deliver()
        assert len(hooked.heard()) == 1
        shown = root.get("/p/clinic/notices").text
        assert hooked.url in shown
        assert "Nobody has heard of these" not in shown
        with post.runtime.db.reading() as session:
            target = session.exec(select(NoticeTarget)).one()
        for verb in ("test", "remove"):
            assert root.post(f"/p/clinic/notices/targets/{target.id}/{verb}").status_code == 303
        assert "Send a test" not in root.get("/p/clinic/notices").text

    @pytest.mark.parametrize(("role", "sees"), [(Role.AUDITOR, False), (Role.OPERATOR, True)])
    def test_only_operators_read_the_whole_address_of_a_target(self, post, role, sees):
        host = post.host()
        post.happens()
        reader = person(post.runtime, role)
        for query in ("", "?format=csv", "?format=json"):
            page = reader.get(f"/p/clinic/notices{query}").text
            assert "127.0.0.1" in page
            assert (host.url in page) == sees

    def test_lists_go_on_from_a_cursor(self, post, admin, monkeypatch):
        monkeypatch.setattr(loop, "PAGE", 2)
        hosts = [post.host() for _ in range(3)]
        post.happens()
        for path in ("/notice-targets", "/notices"):
            first = admin("GET", f"{path}?project=clinic").json
            second = admin("GET", f"{path}?project=clinic&cursor={first['next_cursor']}").json
            listed = [*first["items"], *second["items"]]
            assert [len(first["items"]), len(second["items"])] == [2, 1]
            assert {row.get("target_id", row["id"]) for row in listed} == {host.target for host in hosts}
            assert second["next_cursor"] is None

    def test_a_key_of_another_project_learns_of_no_settlement(self, post, client):
        settled = post.settle()
        with post.runtime.db.transaction() as session:
            key = builders.add_key(session, builders.add_project(session, "other"))
        headers = {"Authorization": f"Bearer {key}"}
        path, body = f"/v1/settlements/{settled.id}", {"ticket_url": None}
        assert client.patch(path, json=body, headers=headers).status_code == 404

    def test_an_operator_links_a_ticket_on_the_tasks_page(self, post):
        olga, settled = person(post.runtime, Role.OPERATOR), post.settle()
        path = f"/p/clinic/tasks/{settled.task_id}"
        assert "Handed over" in olga.get(path).text
        saved = olga.post(f"/p/clinic/settlements/{settled.id}/ticket", ticket_url="https://t.example/1")
        assert saved.status_code == 303
        assert 'href="https://t.example/1" rel="noopener' in olga.get(path).text

    def test_the_command_line_adds_lists_tries_and_removes(self, errata):
        assert errata("init", "--admin", "ada")[0] == 0
        kind = ("--kind", "classification", "--base-model", "bundled:tiny", "--labels", "a,b")
        assert errata("projects", "create", "clinic", *kind, "--connector", "none")[0] == 0
        status, added = errata("notices", "add", "clinic", "https://hooks.example/x", "--kind", "alarm")
        assert (status, added["secret"][:6]) == (0, "whsec_")
        assert errata("notices", "test", added["id"])[0] == 0
        listed = errata("notices", "list", "clinic")[1]
        assert [row["kind"] for row in listed["items"]] == ["test"]
        assert [row["url"] for row in listed["targets"]] == ["https://hooks.example/x"]
        assert errata("notices", "again", listed["items"][0]["id"])[1]["code"] == "wrong_state"
        assert errata("notices", "remove", added["id"])[0] == 0
        assert errata("notices", "list", "clinic", "--dead")[1]["items"][0]["failure"] == "removed"
        private = errata("notices", "add", "clinic", "https://127.0.0.1/x", "--kind", "alarm")
        assert (private[0], private[1]["code"]) == (1, "address_refused")


class TestDigest:
    def test_each_expert_s_waiting_tasks_are_told_once_a_day_until_they_leave(self, post):
        host, other = post.host(kinds=["digest"]), post.host(kinds=["alarm"])
        now = utcnow()
        with post.runtime.db.transaction() as session:
            ann, _ = (Annotator(connector=ConnectorKind.NONE, account=name) for name in ("ann", "ben"))
            session.add(ann)
            session.flush()
            standing.change_pool(session, post.project, "doctors", add=["ann"], remove=[], actor="ada")
        self.tell(post, now)  # nothing waits yet
        with post.runtime.db.transaction() as session:
            response = builders.add_response(session, post.project, MARKER)
            builders.add_task(session, post.project, response, connector=ConnectorKind.NONE)
        for hours in (0, 1, 23):
            self.tell(post, now + timedelta(hours=hours))
        post.deliver()
        (told,) = host.heard()
        facts = {"account": "ann", "tool": "none", "waiting": 1, "new": 1, "annotator": str(ann.id)}
        url = f"{post.runtime.settings.own_url}/p/clinic/work"
        assert (told["type"], told["data"]) == ("digest", {"project": "clinic", "url": url, **facts})
        assert other.heard() == []

        self.tell(post, now + timedelta(hours=25))
        with post.runtime.db.transaction() as session:
            experts.off_board(
                session, post.runtime.secrets, [session.get_one(Annotator, ann.id)], actor="ada"
            )
        post.deliver()
        assert len(host.heard()) == 1
        assert [notice.facts for notice in post.all()] == [{}, {}]

    @staticmethod
    def tell(post, now):
        tell_experts(post.runtime.db, every=timedelta(days=1), now=now)
