"""The database's schema over time: `upgrade` brings it to this code's version."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from service.db import Database
from service.errors import ConfigurationError


def upgrade(db: Database) -> None:
    """Bring the schema to this code's version, in one transaction.

    Raises:
        ConfigurationError: the database was written by a version of Errata that this one does not know.
    """
    check(db)
    with db.engine.begin() as connection:
        upgrade_in(connection)


def upgrade_in(connection: Connection) -> None:
    """Bring the schema to this code's version inside the caller's transaction."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def check(db: Database) -> None:
    """Refuse a database whose schema this code does not know.

    Raises:
        ConfigurationError: the database was written by a later version of Errata.
    """
    current = revision(db)
    if current and not _is_known(current):
        raise ConfigurationError(
            f"ERRATA_DATABASE_URL: the schema {current} is from a version that this one does not know: start that one, "
            "or restore a backup"
        )


def is_behind(db: Database) -> bool:
    """Say whether the schema lacks what this code needs; a later one, of an upgrade beside us, has it still."""
    current = revision(db)
    return current is None or (current != head() and _is_known(current))


def revision(db: Database) -> str | None:
    """Return the schema's version, or None for an empty database."""
    with db.reader.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


@cache
def head() -> str | None:
    """Return this code's version of the schema; to read it takes longer than all else that readiness asks."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _is_known(revision: str) -> bool:
    try:
        ScriptDirectory.from_config(_config()).get_revision(revision)
    except CommandError:
        return False
    return True


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config
