"""What intake survives: a flag that was acknowledged is there once, whatever happened to anything but the disk."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, select

from service import commits
from service.db import Database
from service.tables import User
from service.tables.project import Role
from tests.waiting import eventually

WRITERS = 20


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
