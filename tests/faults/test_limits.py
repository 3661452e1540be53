"""Where something runs out or goes wrong: memory of Redis, handles, a call to the disk, bits, clocks, a migration."""

import os
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from uuid import UUID

import psutil
import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError

from retrain.artifacts import ArtifactStore, _copy
from retrain.errors import BrokenArtifact
from service import clock, migrations
from service.db import Database
from service.queue import LIGHT, rq_queue
from service.runtime import Runtime, build
from service.tables import Job, JobKind, JobState
from tests.flagging import Flagging
from tests.killed_migrations import left_by, upgraded, upgraded_without_a_transaction
from tests.repetitions import CHOSEN
from tests.servers import start_valkey
from tests.workers import make_project

FULL_OF = 2 * 2**20  # bytes


class FailingCalls:
    """Fails the nth call below a folder that changes or opens a file: Python tells of each before it happens."""

    CALLS = frozenset({"open", "os.rename", "os.mkdir", "os.chmod", "os.utime", "os.link"})

    def __init__(self) -> None:
        self.folder, self.left, self.failed = "", 0, 0
        sys.addaudithook(self._called)  # for ever: a hook cannot be taken back

    @contextmanager
    def nth(self, number: int, folder: Path) -> Iterator[None]:
        self.folder, self.left, self.failed = str(folder), number, 0
        try:
            yield
        finally:
            self.folder = ""

    def _called(self, call: str, arguments: tuple[object, ...]) -> None:
        if not self.folder or call not in self.CALLS or not str(arguments[0]).startswith(self.folder):
            return
        self.left -= 1
        if self.left == 0:
            self.failed += 1
            raise OSError("the disk does not answer")


FAILING = FailingCalls()


@pytest.fixture
def adapter(tmp_path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 40)
    return folder


def _broken_of_each_failing_call(root: Path, adapter: Path) -> tuple[int, list[int]]:
    """Store while call 1, 2, … fails, until none does; return how many there are and which left something broken."""
    broken = []
    for number in range(1, 200):
        place = root / str(number)
        store = ArtifactStore(f"file://{place}")
        try:
            with FAILING.nth(number, place):
                store.put_directory(adapter)
        except OSError:
            pass
        objects = [f"sha256:{path.parent.name}{path.name}" for path in place.glob("objects/??/*")]
        if not all(_is_whole(store, name) for name in objects):
            broken.append(number)
        if not FAILING.failed:
            return number - 1, broken
        store.verify_directory(store.put_directory(adapter))  # the next attempt finds nothing in its way
    raise AssertionError("more calls than that?")


def _is_whole(store: ArtifactStore, name: str) -> bool:
    try:
        store.verify(name)
    except BrokenArtifact:
        return False
    return True


class TestPublishing:
    def test_whichever_call_to_the_disk_fails_nothing_half_written_has_a_name(self, tmp_path, adapter):
        calls, broken = _broken_of_each_failing_call(tmp_path / "store", adapter)
        assert calls > 10
        assert broken == []

    def test_a_store_that_writes_in_place_is_found_out(self, tmp_path, adapter, monkeypatch):
        def in_place(self: ArtifactStore, draft: Path, path: str) -> None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with Path(path).open("wb") as target:
                target.flush()
                with draft.open("rb") as source:
                    _copy(source, target)

        monkeypatch.setattr(ArtifactStore, "_publish", in_place)
        assert _broken_of_each_failing_call(tmp_path / "store", adapter)[1]

    def test_each_flipped_bit_of_an_adapter_is_found(self, tmp_path, adapter):
        store, chance = ArtifactStore(f"file://{tmp_path / 'store'}"), Random(0)
        name = store.put_directory(adapter)
        paths = sorted((tmp_path / "store" / "objects").rglob("*"))
        files = [path for path in paths if path.is_file()]
        found = 0
        for _ in range(CHOSEN.flipped_bits):
            file = chance.choice(files)
            sound = file.read_bytes()
            damaged = bytearray(sound)
            place = chance.randrange(len(sound) * 8)
            damaged[place // 8] ^= 1 << place % 8
            file.write_bytes(damaged)
            with pytest.raises(BrokenArtifact):
                store.verify_directory(name)
            found += 1
            file.write_bytes(sound)
        assert found == CHOSEN.flipped_bits
        store.verify_directory(name)


class TestFullRedis:
    def test_jobs_that_found_no_room_in_redis_are_done_once_there_is_some(self, settings, migrated_sqlite):
        own = settings.model_copy(update={"redis_url": ""})
        own.data_dir.mkdir()
        (own.data_dir / "errata.db").write_bytes(migrated_sqlite.read_bytes())
        server = start_valkey(own.data_dir)
        runtime = build(own)
        try:
            redis: Redis = runtime.queue.redis
            redis.config_set("maxmemory", FULL_OF)
            _fill(redis)
            project = make_project(runtime)
            with runtime.db.transaction() as session:
                job = runtime.queue.ask(session, JobKind.TRIAGE, project, project_id=project)
            assert rq_queue(LIGHT, redis).count == 0
            assert Flagging(runtime).flag().status_code == 201
            redis.delete("filler")
            assert runtime.queue.sweep() == 1
            assert rq_queue(LIGHT, redis).get_job_ids() == [f"{job}_0"]
        finally:
            runtime.db.close()
            runtime.queue.redis.close()
            server.terminate()
            server.wait()


def _fill(redis: Redis) -> None:
    with suppress(OutOfMemoryError):
        while redis.append("filler", "x" * 10_000):
            pass


class TestHandles:
    def test_without_handles_requests_are_refused_and_the_next_are_served(self, runtime):
        site = Flagging(runtime)
        assert site.flag().status_code == 201
        runtime.db.close()  # so that a connection has to be opened anew
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            refused = site.flag()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert refused.status_code == 503
        assert site.flag().status_code == 201
        assert site.count() == 2

    def test_requests_leave_neither_handles_nor_threads_behind(self, runtime):
        site, process = Flagging(runtime), psutil.Process()
        for _ in range(10):
            site.flag()
        before = process.num_fds(), threading.active_count()
        for _ in range(CHOSEN.requests_of_a_soak):
            assert site.flag().status_code == 201
        # Earlier tests' may be closed meanwhile.
        assert process.num_fds() <= before[0] and threading.active_count() <= before[1]
        after = process.num_fds()
        with Path(os.devnull).open():
            assert process.num_fds() == after + 1  # what is left behind would be seen


class TestClocks:
    @pytest.mark.parametrize("hours", [-2, 2])
    def test_by_the_database_s_clock_no_lease_ends_because_ours_jumps(
        self, settings, postgres, migrated_postgres, monkeypatch, hours
    ):
        url = postgres.database(template=migrated_postgres)
        runtime = build(settings.model_copy(update={"database_url": url, "lease_seconds": 600}))
        project = make_project(runtime)
        with runtime.db.transaction() as session:
            job = runtime.queue.ask(session, JobKind.TRIAGE, project, project_id=project)
        lease = runtime.queue.lease(job)
        ours = clock.utcnow
        for module in ("service.clock", "service.db", "service.queue"):
            monkeypatch.setattr(f"{module}.utcnow", lambda: ours() + timedelta(hours=hours), raising=False)
        runtime.queue.sweep()
        lease.extend()  # it would raise if it had been taken back
        lease.finish({})
        assert _state(runtime, job) == JobState.DONE
        runtime.db.close()
        runtime.queue.redis.close()

    def test_by_our_own_clock_it_would(self, runtime, monkeypatch):
        project = make_project(runtime)
        with runtime.db.transaction() as session:
            job = runtime.queue.ask(session, JobKind.TRIAGE, project, project_id=project)
        runtime.queue.lease(job)
        ours = clock.utcnow
        monkeypatch.setattr("service.db.utcnow", lambda: ours() + timedelta(hours=2))
        runtime.queue.sweep()
        assert _state(runtime, job) == JobState.PENDING


def _state(runtime: Runtime, job: UUID) -> JobState:
    with runtime.db.reading() as session:
        return session.get_one(Job, job).state


class TestMigrations:
    def test_a_migration_that_is_killed_anywhere_leaves_the_old_schema_and_goes_on_later(
        self, empty_database, tmp_path
    ):
        statements = upgraded(f"sqlite:///{tmp_path / 'counted.db'}")
        for number in range(1, statements, statements // CHOSEN.killed_migrations):
            assert left_by(upgraded, empty_database, kill_at=number) == []
        upgraded(empty_database)
        db = Database(empty_database)
        assert migrations.revision(db) == migrations.head()
        db.close()

    def test_without_its_transaction_it_would_leave_half_a_schema(self, empty_database):
        assert left_by(upgraded_without_a_transaction, empty_database, kill_at=60)
