"""Group commit on SQLite: threads write through one connection in turn, and one wait for the disk does for all of them.

A thread leaves its turn before its commit: whoever comes meanwhile writes into the same transaction of SQLite's, behind
a savepoint of its own, and the last one commits for all. No `commit()` returns before its rows are on the disk.
"""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from copy import copy

MAX_MEMBERS = 64
MAX_SECONDS = 0.02  # before the first of a batch has its answer, besides what its last member takes


class _Batch:
    """What is committed together."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.members = 0
        self.error: sqlite3.Error | None = None
        self.ended = threading.Event()

    def is_full(self) -> bool:
        return self.members >= MAX_MEMBERS or time.monotonic() - self.began >= MAX_SECONDS


class Commits:
    """A connection to write through, and who waits for it."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._door = threading.Lock()
        self._is_taken = False
        self._waiting: deque[threading.Lock] = deque()
        self._batch = _Batch()

    @property
    def connection(self) -> sqlite3.Connection:
        """The one connection, opened on first use."""
        if self._connection is None:
            with self._door:
                self._connection = self._connection or self._connect()
        return self._connection

    @property
    def waiting(self) -> int:
        """How many threads stand in line."""
        return len(self._waiting)

    def enter(self, seconds: float) -> _Batch:
        """Wait for the turn and stand behind a savepoint; the batch is the one that this thread is to be in.

        Raises:
            sqlite3.OperationalError: neither this process's other threads nor other processes let us in soon enough.
        """
        until = time.monotonic() + seconds
        connection = self.connection
        self._take_turn(seconds)
        try:
            if not connection.in_transaction:
                self._batch = _Batch()
                left = max(0, until - time.monotonic())
                connection.execute(f"PRAGMA busy_timeout={left * 1000:.0f}")
                connection.execute("BEGIN IMMEDIATE")
            connection.execute("SAVEPOINT member")
        except BaseException:
            self._leave()
            raise
        return self._batch

    def keep(self, batch: _Batch) -> None:
        """Leave the turn and wait until what was written is on the disk.

        Raises:
            sqlite3.OperationalError: it was not committed, whoever's fault that was.
        """
        try:
            self.connection.execute("RELEASE member")
            batch.members += 1
        finally:
            self._leave()
        batch.ended.wait()
        if batch.error:
            raise copy(batch.error)  # each thread its own, for a traceback is written into it

    def undo(self) -> None:
        """Leave the turn as if nothing had been written; the others of the batch keep what they wrote."""
        try:
            # After some errors, such as a full disk, SQLite has undone everything already.
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK TO member")
                self.connection.execute("RELEASE member")
        finally:
            self._leave()

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def _take_turn(self, seconds: float) -> None:
        turn = threading.Lock()
        with self._door:
            if not self._is_taken:
                self._is_taken = True
                return
            turn.acquire()
            self._waiting.append(turn)
        if turn.acquire(timeout=seconds):
            return
        with self._door:
            if turn in self._waiting:
                self._waiting.remove(turn)
                raise sqlite3.OperationalError("database is locked by this process")

    def _leave(self) -> None:
        """Let the next one in, or commit for all when nobody waits or the batch has grown enough."""
        with self._door:
            if self._waiting and self.connection.in_transaction and not self._batch.is_full():
                self._waiting.popleft().release()
                return
        try:
            self._end(self._batch)
        finally:
            with self._door:
                if self._waiting:
                    self._waiting.popleft().release()
                else:
                    self._is_taken = False

    def _end(self, batch: _Batch) -> None:
        batch.error = sqlite3.OperationalError("the transaction was undone") if batch.members else None
        try:
            if self.connection.in_transaction:
                self.connection.execute("COMMIT" if batch.members else "ROLLBACK")
                batch.error = None
        except sqlite3.Error as error:
            batch.error = error
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        finally:
            batch.ended.set()


class Member:
    """One session's view of the shared connection, as the driver's own connections look."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._batch: _Batch | None = None

    def begin(self, seconds: float) -> None:
        """Wait for the turn; see `Commits.enter`."""
        self._batch = self._commits.enter(seconds)

    def commit(self) -> None:
        """Return once everything written is on the disk; see `Commits.keep`."""
        batch, self._batch = self._batch, None
        if batch:
            self._commits.keep(batch)

    def rollback(self) -> None:
        """Undo what was written."""
        batch, self._batch = self._batch, None
        if batch:
            self._commits.undo()

    def close(self) -> None:
        """Leave the connection to the others."""
        self.rollback()

    def cursor(self) -> sqlite3.Cursor:
        """Return a cursor of the shared connection."""
        return self._commits.connection.cursor()

    def create_function(self, *_: object, **_options: object) -> None:
        """Register nothing: it would be for everybody, and SQLite refuses it in the middle of somebody's statement."""
