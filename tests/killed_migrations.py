"""Processes that kill themselves in the middle of a migration."""

import os
import signal
from collections.abc import Callable
from functools import partial
from unittest.mock import patch

from sqlalchemy import create_engine, event, inspect

from service import migrations
from service.db import Database
from tests.forks import fork


def upgraded(url: str, *, kill_at: int = 0) -> int:
    """Upgrade, and count the statements; this process kills itself before the one of this number."""
    db, said = Database(url), 0

    def count(*_: object) -> None:
        nonlocal said
        said += 1
        if said == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(db.engine, "before_cursor_execute", count)
    migrations.upgrade(db)
    db.close()
    return said


def upgraded_without_a_transaction(url: str, *, kill_at: int) -> None:
    """Upgrade with a commit after each statement."""
    autonomous = partial(create_engine, url, isolation_level="AUTOCOMMIT")
    with (
        patch.object(Database, "_engine", lambda self, **_: autonomous()),
        patch("service.db._prepare_writer", lambda *_: None),
        patch("service.db._begin_immediate", lambda *_: None),
    ):
        upgraded(url, kill_at=kill_at)


def left_by(upgrade: Callable[..., object], url: str, *, kill_at: int) -> list[str]:
    """Name the tables that an upgrade leaves which is killed before this statement."""
    process = fork(upgrade, url, kill_at=kill_at)
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"there is no statement {kill_at}"
    engine = create_engine(url)
    tables = inspect(engine).get_table_names()
    engine.dispose()
    return tables
