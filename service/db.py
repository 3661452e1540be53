"""Engine, transactions and the column types that every table shares."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Enum,
    TypeDecorator,
    event,
    func,
    insert,
    inspect,
    make_url,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import make_transient_to_detached
from sqlmodel import Session, SQLModel, create_engine

from service.clock import utcnow
from service.commits import Commits, Member

# Alembic can only drop or alter a constraint that has a name.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

Json = JSON().with_variant(JSONB(), "postgresql")
BUSY_SECONDS = 10


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC. SQLite forgets time zones, so they are put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime: use clock.utcnow()")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def text_enum(kind: type[StrEnum]) -> Any:
    """Return a column type that stores `kind`'s values as checked text."""
    return Enum(
        kind,
        values_callable=lambda members: [member.value for member in members],
        native_enum=False,
        length=32,
        create_constraint=True,
        name=kind.__name__.lower(),
    )


def _loaded(text: str) -> Any:
    """Read JSON; most of what is kept is empty, and a parser takes longest to begin."""
    return {} if text == "{}" else [] if text == "[]" else json.loads(text)


class Database:
    """Hands out transactions: `transaction()` to write, `reading()` to look.

    On SQLite those who write wait `busy_seconds` for each other and for other processes.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.busy_seconds: float = BUSY_SECONDS
        self._writers: dict[int, tuple[Commits, Engine]] = {}  # by process
        self._opening = Lock()
        self.engine = self._engine()
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_writer)
            event.listen(self.engine, "begin", _begin_immediate)
            self.reader = self._engine()
            event.listen(self.reader, "connect", _prepare_reader)
            event.listen(self.reader, "begin", _begin_deferred)
        else:
            self.reader = self.engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )

    @property
    def writer(self) -> Engine:
        """The engine of `transaction()`: on SQLite its sessions write through one connection in turn."""
        return self._shared()[1] if self.is_sqlite else self.engine

    def commits(self) -> Commits:
        """Return the connection through which this process's threads write to SQLite."""
        return self._shared()[0]

    def _shared(self) -> tuple[Commits, Engine]:
        with self._opening:
            # A fork must neither use nor close its parent's connection, so it is kept.
            if os.getpid() not in self._writers:
                commits = Commits(self._connect)
                writer = self._engine(creator=partial(Member, commits))
                event.listen(writer, "begin", self._enter)
                self._writers[os.getpid()] = commits, writer
            return self._writers[os.getpid()]

    def _connect(self) -> sqlite3.Connection:
        path = make_url(self.url).database or ""
        connection = sqlite3.connect(path, timeout=self.busy_seconds, check_same_thread=False)
        _prepare_writer(connection, None)
        return connection

    def _enter(self, connection: Connection) -> None:
        member: Any = connection.connection.driver_connection
        try:
            member.begin(self.busy_seconds)
        except sqlite3.OperationalError as error:
            raise OperationalError("BEGIN IMMEDIATE", None, error) from error

    def _engine(self, **chosen: Any) -> Engine:
        # Parameters are users' texts, and an error's message ends up in a log.
        # JSON is kept as people write it, so that a search finds every script's letters on SQLite too.
        options: dict[str, Any] = {
            "hide_parameters": True,
            "pool_size": 16,
            "max_overflow": 32,
            "json_serializer": partial(json.dumps, ensure_ascii=False),
            "json_deserializer": _loaded,
            **chosen,
        }
        if not self.is_sqlite:
            return create_engine(self.url, pool_pre_ping=True, **options)
        Path(self.url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return create_engine(self.url, connect_args={"timeout": BUSY_SECONDS}, **options)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Commit when the block ends, roll back when it raises."""
        with Session(self.writer, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Look at one consistent state; a write raises."""
        with Session(self.reader, expire_on_commit=False) as session, session.begin():
            yield session

    def now(self, session: Session) -> datetime:
        """Return the clock that leases are measured by: the database server's, or this machine's for a file."""
        if self.is_sqlite:
            return utcnow()
        moment: datetime = session.scalars(select(func.clock_timestamp())).one()
        return moment.astimezone(UTC)

    def vacuum(self) -> bool:
        """Leave nothing in SQLite's files of what was deleted or changed; say whether no reader was in the way.

        PostgreSQL's administrator does that there: its log of writes and its backups hold it too.
        """
        if not self.is_sqlite:
            return True
        with closing(self.engine.raw_connection()) as connection:
            connection.cursor().execute("VACUUM")
            busy, *_ = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def close(self) -> None:
        if shared := self._writers.pop(os.getpid(), None):
            shared[1].dispose()
            shared[0].close()
        self.engine.dispose()
        self.reader.dispose()


def insert_now(session: Session, row: SQLModel) -> None:
    """Insert a row as `add` and `flush` do, without what the unit of work costs: several times as much as the rest."""
    session.flush()
    mapper = inspect(type(row))
    values = {each.key: getattr(row, each.key) for each in mapper.column_attrs}
    session.connection().execute(_inserted(mapper.local_table), values)
    make_transient_to_detached(row)
    session.add(row)


@cache
def _inserted(table: Any) -> Any:
    return insert(table)


def _prepare_writer(connection: Any, _record: Any) -> None:
    # The driver's own transaction handling begins late and deferred, under which concurrent
    # read-then-write transactions lose updates without an error; `_begin_immediate` takes over.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "trusted_schema=OFF",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_deferred(connection: Any) -> None:
    # Without it each SELECT sees a state of its own.
    connection.exec_driver_sql("BEGIN")


def _prepare_reader(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA query_only=ON")
    connection.execute("PRAGMA trusted_schema=OFF")
