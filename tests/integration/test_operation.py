"""What keeps an installation running is told: alive, ready, every figure, what is wrong, and who does what is due."""

import json
import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from redis.exceptions import ConnectionError as RedisIsDown
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlmodel import select, update
from structlog.testing import capture_logs

from service import jobs, logs, schedule
from service.answers.gauges import LEDGER_TURN
from service.clock import utcnow
from service.runtime import Runtime, build
from service.settings import Settings
from service.stages import intake
from service.tables import (
    Feedback,
    Job,
    JobKind,
    JobState,
    Notice,
    NoticeKind,
    NoticeTarget,
    ScheduleTurn,
    TaskState,
    ToolProject,
)
from service.web.answering import ask
from service.web.app import create_app
from service.web.watching import STUCK_SECONDS
from service.worker import end_when_stuck
from tests import alerts, builders

DEPLOY = Path(__file__).parents[2] / "deploy"
DAY = timedelta(days=1)
# Others' dashboards and rules rely on these names, so they are spelt out.
NAMES = {
    "flags_total",
    "ingest_seconds",
    "outbox_oldest_seconds",
    "jobs",
    "job_oldest_pending_seconds",
    "lease_expired_total",
    "webhook_in_total",
    "ls_reconcile_lag_seconds",
    "training_step",
    "training_loss",
    "gate_result",
    "champion_info",
    "audit_chain_ok",
    "disk_free_bytes",
}


@dataclass
class Site:
    """An installation where a little of everything goes on, and a client of it."""

    runtime: Runtime

    def __post_init__(self) -> None:
        self.app = create_app(self.runtime)
        self.client, self.watch = self.app.test_client(), self.app.extensions["watch"]
        with self.runtime.db.transaction() as session:
            project = builders.add_project(session, tool_project="7")
            self.project, self.key = project.id, builders.add_key(session, project)
            builders.add_criteria(session, project)
            self.response = builders.add_response(session, project)
            builders.add_task(session, project, self.response, state=TaskState.SENT)
            builders.add_evaluation(session, project, builders.add_challenger(session, project))
            self.training = self.ask(session, JobKind.TRAIN)
        self.runtime.queue.lease(self.training).report(step=3, loss=0.5)
        self.tick(LEDGER_TURN)

    def ask(self, session, kind: JobKind = JobKind.TRIAGE):
        return self.runtime.queue.ask(session, kind, self.project, project_id=self.project)

    def tick(self, name: str) -> None:
        (tick,) = [tick for tick, _ in schedule.ticks(self.runtime) if tick.__name__ == name]
        tick()

    def say(self, statement: object) -> None:
        with self.runtime.db.transaction() as session:
            session.exec(statement)

    def flag(self) -> int:
        body = {"event_id": str(uuid4()), "rating": "down", "response_id": str(self.response.id)}
        headers = {"Authorization": f"Bearer {self.key}"}
        return self.client.post("/v1/feedback", json=body, headers=headers).status_code

    def hook(self) -> int:
        return self.client.post("/hooks/label-studio/wrong", json={}).status_code

    def look(self, up: float = 1) -> alerts.Look:
        return alerts.look(self.client.get("/metrics").text, up=up)


@pytest.fixture
def site(any_runtime: Runtime) -> Site:
    return Site(any_runtime)


@pytest.fixture
def own(runtime: Runtime) -> Site:
    return Site(runtime)


def _refuse(*_: object, **__: object) -> None:
    raise OperationalError("INSERT", None, Exception("the disk is slow today"))


class TestAlive:
    def test_a_request_that_never_ends_is_no_life(self, own, monkeypatch):
        begun, end = threading.Event(), threading.Event()
        monkeypatch.setattr(
            "service.web.api.operation._free_bytes", lambda: [begun.set(), end.wait(), 10**9][2]
        )
        hanging = threading.Thread(target=own.app.test_client().get, args=["/readyz"])
        hanging.start()
        begun.wait()
        assert own.client.get("/livez").status_code == 200  # it may still end
        now, own.watch.clock = own.watch.clock(), lambda: now + STUCK_SECONDS + 1
        assert (own.client.get("/livez").status_code, own.client.get("/livez").json["status"]) == (
            503,
            "stuck",
        )
        end.set()
        hanging.join()
        assert own.client.get("/livez").status_code == 200

    def test_a_worker_whose_loop_hangs_leaves_to_be_started_again(self):
        left: list[int] = []
        end_when_stuck(lambda: 1.0, 0.5, leave=left.append).join()
        assert left == [75]

    def test_a_worker_that_gets_on_stays(self):
        left: list[int] = []
        turns = iter([0.0] * 20)
        end_when_stuck(lambda: next(turns, 9.0), 0.01, leave=left.append).join()
        assert next(turns, None) is None  # it looked again and again before it left


class TestReady:
    def test_a_whole_installation_is_ready(self, site):
        answer = site.client.get("/readyz")
        assert (answer.status_code, answer.json) == (
            200,
            {"database": "ok", "disk": "ok", "redis": "ok"},
        )
        with site.runtime.db.reading() as session:
            names = session.exec(select(ScheduleTurn.name)).all()
        assert names == [LEDGER_TURN]  # the write test left no row

    @pytest.mark.parametrize(
        ("broken", "told", "status"),
        [
            (("migrations.is_behind", lambda db: True), {"database": "schema"}, 503),
            (("ScheduleTurn", _refuse), {"database": "away"}, 503),
            (("_free_bytes", lambda: 1000), {"disk": "full"}, 503),
            (("_redis_answers", lambda: False), {"redis": "degraded"}, 200),
        ],
        ids=["schema", "no writes", "full", "no redis"],
    )
    def test_what_is_wrong_is_named(self, own, monkeypatch, broken, told, status):
        part, instead = broken
        monkeypatch.setattr(f"service.web.api.operation.{part}", instead)
        answer = own.client.get("/readyz")
        well = {"database": "ok", "disk": "ok", "redis": "ok"}
        assert (answer.status_code, answer.json) == (status, well | told)

    def test_flags_are_taken_without_redis(self, own, monkeypatch):
        def away(*_: object, **__: object) -> None:
            raise RedisIsDown

        monkeypatch.setattr("redis.connection.AbstractConnection.send_command", away)
        assert own.client.get("/readyz").json["redis"] == "degraded"
        assert own.flag() == 201


class TestFigures:
    def test_every_name_is_there_and_no_other(self, site):
        families = re.findall(r"^# TYPE (\w+) ", site.client.get("/metrics").text, re.MULTILINE)
        assert {name for name in families if not name.endswith("_created")} == NAMES

    def test_figures_are_what_the_rows_say(self, site):
        site.flag()
        with site.runtime.db.transaction() as session:
            site.ask(session)
        seen = {(name, *labels): value for (name, labels), value in site.look().items()}
        assert seen["flags_total", ("result", "recorded")] == 1
        assert seen["jobs", ("queue", "light"), ("state", "pending")] == 1
        assert seen["jobs", ("queue", "heavy"), ("state", "leased")] == 1
        assert seen["training_step", ("project", "clinic")] == 3
        assert seen["champion_info", ("project", "clinic"), ("version", "0")] == 1
        assert seen["gate_result", ("project", "clinic"), ("verdict", "passed")] == 1
        assert seen["gate_result", ("project", "clinic"), ("verdict", "refused")] == 0

    def test_a_lease_that_ran_out_is_counted_for_good(self, site):
        for _ in range(2):
            site.say(update(Job).where(Job.id == site.training).values(lease_until=utcnow() - DAY))
            site.runtime.queue.sweep()
            site.runtime.queue.lease(site.training)
        assert site.look()["lease_expired_total", ()] == 2


def _fail_a_flag(site: Site, monkeypatch) -> None:
    monkeypatch.setattr(intake, "record_feedback", _refuse)
    assert site.flag() == 503


def _be_slow(site: Site, monkeypatch) -> None:
    passed = iter(range(1000))
    monkeypatch.setattr(site.watch, "clock", lambda: next(passed))
    site.flag()


def _leave_a_flag(site: Site, monkeypatch) -> None:
    site.flag()
    site.say(update(Feedback).values(created_at=utcnow() - DAY))


def _leave_a_job(kind: JobKind) -> Callable[..., None]:
    def leave(site: Site, monkeypatch) -> None:
        with site.runtime.db.transaction() as session:
            job = site.ask(session, kind)
        site.say(update(Job).where(Job.id == job).values(not_before=utcnow() - DAY))

    return leave


def _lose_leases(site: Site, monkeypatch) -> None:
    site.say(update(Job).where(Job.id == site.training).values(leases_lost=3))


def _bury(site: Site, monkeypatch) -> None:
    site.say(update(Job).where(Job.id == site.training).values(state=JobState.DEAD))


def _lose_a_tool(site: Site, monkeypatch) -> None:
    site.say(update(ToolProject).values(polled_at=utcnow() - DAY))


def _leave_a_notice(site: Site, monkeypatch) -> None:
    with site.runtime.db.transaction() as session:
        target = NoticeTarget(project_id=site.project, url="https://hooks.example", kinds=[])
        session.add(target)
        session.flush()
        facts = {"project_id": site.project, "target_id": target.id, "kind": NoticeKind.TEST, "facts": {}}
        session.add(Notice(**facts, created_at=utcnow() - 2 * DAY))


def _refuse_webhooks(site: Site, monkeypatch) -> None:
    assert {site.hook() for _ in range(6)} == {401}


def _break_the_ledger(site: Site, monkeypatch) -> None:
    monkeypatch.setattr("service.ledger.broken", lambda session: iter(["entry 2 was edited"]))
    site.say(update(ScheduleTurn).values(due_at=utcnow() - DAY))
    site.tick(LEDGER_TURN)


def _fill_the_disk(site: Site, monkeypatch) -> None:
    monkeypatch.setattr("service.web.api.operation._free_bytes", lambda: 500_000_000)


# What makes each shipped alert fire.
TROUBLE = {
    "WebDown": lambda site, monkeypatch: None,
    "FlagsFail": _fail_a_flag,
    "FlagsSlow": _be_slow,
    "FlagsWait": _leave_a_flag,
    "JobsWait": _leave_a_job(JobKind.TRIAGE),
    "TrainingsWait": _leave_a_job(JobKind.EVALUATE),
    "JobsDie": _bury,
    "WorkersVanish": _lose_leases,
    "ToolBehind": _lose_a_tool,
    "NoticesWait": _leave_a_notice,
    "WebhooksRefused": _refuse_webhooks,
    "LedgerBroken": _break_the_ledger,
    "DiskLow": _fill_the_disk,
}


@pytest.fixture(scope="module")
def worn(tmp_path_factory, migrated_sqlite, valkey_url) -> Iterator[Site]:
    """One installation for all troubles, each of which stays."""
    runtime = build(Settings(data_dir=tmp_path_factory.mktemp("worn"), redis_url=valkey_url))
    shutil.copy(migrated_sqlite, runtime.settings.data_dir / "errata.db")
    yield Site(runtime)
    runtime.db.close()
    runtime.queue.redis.close()


def _firing(before: alerts.Look, after: alerts.Look) -> set[str]:
    return {alert for alert, rule in alerts.rules().items() if alerts.fires(rule["expr"], before, after)}


class TestAlerts:
    def test_every_shipped_alert_is_made_to_fire_here(self):
        assert set(alerts.rules()) == set(TROUBLE)

    def test_where_all_is_well_none_fires(self, own):
        before = own.look()
        own.flag()
        assert _firing(before, own.look()) == set()

    @pytest.mark.parametrize("name", TROUBLE)
    def test_an_alert_fires_in_its_trouble_and_no_other_does(self, worn, monkeypatch, name):
        worn.flag()
        before = worn.look()
        TROUBLE[name](worn, monkeypatch)
        after = worn.look(up=float(name != "WebDown"))
        assert _firing(before, after) - _firing(before, before) == {name}

    def test_rules_and_dashboard_name_what_is_there(self, own):
        known = {name for name, _ in own.look()}
        asked = [rule["expr"] for rule in alerts.rules().values()]
        board = json.loads((DEPLOY / "grafana" / "errata.json").read_text())
        asked += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        named = {name for expr in asked for name in re.findall(r"\b([a-z]\w*_\w+|jobs|up)\b[{)\[]", expr)}
        assert named <= known
        assert NAMES - {"ingest_seconds"} <= {name.removesuffix("_bucket") for name in named}

    def test_each_alert_leads_to_a_part_of_the_run_book(self):
        titles = re.findall(r"^## (.+)$", (DEPLOY / "README.md").read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        for rule in alerts.rules().values():
            page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
            assert (page, anchor in anchors) == ("deploy/README.md", True), anchor


class TestLogs:
    def test_an_answer_and_its_line_have_one_id(self, own):
        with capture_logs(processors=[logs.merge_contextvars]) as lines:
            answer = own.client.get("/livez")
        (line,) = [line for line in lines if line["event"] == "request"]
        assert answer.headers["X-Request-Id"] == line["request_id"]
        assert line["seconds"] >= 0

    def test_a_job_is_followed_from_the_request_that_asked_for_it(self, own, monkeypatch):
        with capture_logs(processors=[logs.merge_contextvars]) as lines:
            with logs.bound(request_id="r1"), own.runtime.db.transaction() as session:
                job = str(own.ask(session))
            monkeypatch.setattr(jobs, "from_environment", lambda: own.runtime)
            jobs.run(job)
        asked, ended = [line for line in lines if line["event"] in ("job_asked", "job_ended")]
        assert (asked["request_id"], asked["job_id"]) == ("r1", job)
        assert (ended["job_id"], ended["job"]) == (job, "triage")

    def test_what_libraries_say_is_one_line_of_json(self, capsys, monkeypatch):
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        logs.configure()
        with logs.bound(job_id="j1"):
            logging.getLogger("rq").warning("a line\nand another of %s", "mine")
        line = json.loads(capsys.readouterr().err)
        assert (line["event"], line["logger"], line["job_id"]) == ("a line\nand another of mine", "rq", "j1")


class TestTurns:
    def test_of_many_schedulers_one_has_the_turn(self, site):
        taken: list[bool] = []
        begin = threading.Barrier(6)

        def ask() -> None:
            begin.wait()
            taken.append(schedule.has_turn(site.runtime.db, "sweep", seconds=60))

        for _ in range(2):  # the first time nobody has ever had it
            threads = [threading.Thread(target=ask) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(taken) == [False] * 5 + [True]
            taken.clear()
            site.say(update(ScheduleTurn).values(due_at=utcnow() - DAY))

    def test_a_turn_comes_again(self, site):
        assert schedule.has_turn(site.runtime.db, "sweep", seconds=0)
        assert schedule.has_turn(site.runtime.db, "sweep", seconds=60)
        assert not schedule.has_turn(site.runtime.db, "sweep", seconds=60)


class TestUpgrade:
    def test_a_process_of_the_version_before_goes_on_beside_a_newer_schema(self, site):
        with site.runtime.db.engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = 'v2_later'"))
        assert site.client.get("/readyz").json["database"] == "ok"
        assert site.flag() == 201

    def test_a_process_that_needs_a_later_schema_waits_for_it(self, site):
        with site.runtime.db.engine.begin() as connection:
            connection.execute(text("DELETE FROM alembic_version"))
        assert (site.client.get("/readyz").status_code, site.client.get("/readyz").json["database"]) == (
            503,
            "schema",
        )


class TestResponderElsewhere:
    def test_the_web_asks_it_at_its_address_and_shows_who_it_is(self, own, monkeypatch):
        asked: list[httpx.Request] = []

        def answer(client: httpx.Client, request: httpx.Request, **_: object) -> httpx.Response:
            asked.append(request)
            said = {"text": "Skin", "model_version": "v0", "model_version_id": str(uuid4())}
            return httpx.Response(200, json=said, request=request)

        monkeypatch.setattr(httpx.Client, "send", answer)
        elsewhere = replace(own.runtime, settings=Settings(responder_url="http://responder:8000/"))
        with create_app(elsewhere).app_context():
            assert ask("clinic", [{"role": "user", "content": "it itches"}]).text == "Skin"
        assert str(asked[0].url) == "http://responder:8000/answer"
        assert asked[0].headers["Authorization"] == f"Bearer {own.runtime.secrets.salted('responder')}"
