"""What happens between us and the database or Redis: late, silent, cut off, an answer that is lost."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from redis import Redis
from sqlalchemy import make_url

from service.queue import LIGHT, rq_queue
from service.runtime import Runtime, build
from service.tables import JobKind
from tests.fault_proxy import Fault, RunningProxy, in_between
from tests.flagging import Flagging
from tests.waiting import eventually

LOST_COMMIT = Fault(swallows_answer=True, after=(b"INSERT INTO feedback", b"COMMIT"))
TO_REDIS = {
    "late": Fault(latency_seconds=30),
    "silent": Fault(is_black_hole=True),
    "reset": Fault(is_reset=True),
    "cut off": Fault(cut_after_bytes=3),
    "lost answers": Fault(swallows_answer=True),
}


@pytest.fixture
def to_postgres(postgres) -> Iterator[RunningProxy]:
    socket = Path(str(postgres.url.query["host"])) / ".s.PGSQL.5432"
    with in_between(socket) as proxy:
        yield proxy


@pytest.fixture
def site(settings, postgres, migrated_postgres, to_postgres) -> Iterator[Flagging]:
    """An application whose PostgreSQL is behind the proxy."""
    direct = postgres.database(template=migrated_postgres)
    through = make_url(direct).difference_update_query(["host"])
    url = through.set(host="127.0.0.1", port=to_postgres.port).render_as_string(hide_password=False)
    runtime = build(settings.model_copy(update={"database_url": url}))
    yield Flagging(runtime)
    runtime.db.close()
    runtime.queue.redis.close()
    postgres.drop(direct)


class TestPostgres:
    def test_connections_that_were_cut_while_nothing_happened_cost_no_flag(self, site, to_postgres):
        assert site.flag().status_code == 201
        to_postgres.reset_all()
        assert to_postgres.faults > 0
        assert site.flag().status_code == 201
        assert site.count() == 2

    def test_a_flag_that_was_cut_off_is_refused_for_now_and_taken_when_it_is_sent_again(
        self, site, to_postgres
    ):
        event = uuid4()
        with to_postgres.suffering(Fault(is_reset=True, after=(b"INSERT INTO feedback",))):
            refused = site.flag(event)
        assert to_postgres.faults > 0
        assert (refused.status_code, refused.json["code"]) == (503, "database_unavailable")
        assert "Retry-After" in refused.headers
        assert site.flag(event).status_code == 201
        assert site.count() == 1

    def test_a_flag_whose_commit_was_not_confirmed_is_there_once_when_it_is_sent_again(
        self, site, to_postgres
    ):
        event = uuid4()
        with to_postgres.suffering(LOST_COMMIT):
            assert site.flag(event).status_code == 503
        assert to_postgres.faults > 0
        eventually(lambda: site.count() == 1)  # it was committed, and nobody heard of it
        assert site.flag(event).status_code == 200
        assert site.count() == 1

    def test_a_database_that_takes_no_connection_is_told_and_comes_back(self, site, to_postgres):
        with to_postgres.suffering(Fault(is_reset=True)):
            to_postgres.reset_all()
            refused = [site.flag() for _ in range(3)]
        assert {one.status_code for one in refused} == {503}
        assert site.flag().status_code == 201
        assert site.count() == 1


@pytest.fixture
def to_redis(valkey_url) -> Iterator[RunningProxy]:
    with in_between(Path(urlsplit(valkey_url).path)) as proxy:
        yield proxy


@pytest.fixture
def ringing(runtime, to_redis) -> Iterator[Runtime]:
    """A runtime whose Redis is behind the proxy."""
    url = f"redis://127.0.0.1:{to_redis.port}/0"
    made = build(runtime.settings.model_copy(update={"redis_url": url}))
    yield made
    made.db.close()
    made.queue.redis.close()


class TestRedis:
    @pytest.mark.parametrize("fault", TO_REDIS)
    def test_what_is_asked_for_meanwhile_is_rung_for_later_and_nobody_waits_twice(
        self, ringing, to_redis, valkey_url, fault
    ):
        ringing.queue.redis.connection_pool.connection_kwargs["socket_timeout"] = 0.2
        site = Flagging(ringing)
        with to_redis.suffering(TO_REDIS[fault]):
            with ringing.db.transaction() as session:
                ringing.queue.ask(session, JobKind.TRIAGE, site.project.id, project_id=site.project.id)
            assert to_redis.connections == 1
            assert site.flag().status_code == 201
            assert to_redis.connections == 1, "a flag waits for nobody's Redis"
            assert ringing.queue.sweep() == 0
        assert ringing.queue.sweep() in (0, 1)  # an answer that was lost was a bell that was heard
        with Redis.from_url(valkey_url) as redis:
            assert rq_queue(LIGHT, redis).count == 1

    def test_without_a_fault_the_proxy_is_not_noticed(self, ringing, to_redis):
        site = Flagging(ringing)
        with ringing.db.transaction() as session:
            ringing.queue.ask(session, JobKind.TRIAGE, site.project.id, project_id=site.project.id)
        assert (rq_queue(LIGHT, ringing.queue.redis).count, to_redis.faults) == (1, 0)
