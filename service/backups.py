"""Backups of a running installation: its rows as a SQLite file, whatever its database is, and all artifacts they name.

Rows come first and artifacts after them: what is published never changes, so that all that a row names is there. One
file goes back into SQLite or PostgreSQL.
"""

import io
import json
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Connection, bindparam, insert, update
from sqlalchemy import select as select_columns
from sqlmodel import Session, SQLModel, col, select

from retrain.artifacts import name_of
from retrain.errors import BrokenArtifact, MissingArtifact
from service import backup_keys, ledger, migrations
from service.backup_keys import Key
from service.clock import utcnow
from service.db import Database
from service.errors import Invalid, TryAgain, WrongState
from service.runtime import Runtime
from service.tables import Evaluation, ModelVersion, TrainingRun, TrainingSet

FORMAT = "errata backup 1"
BACKED_UP = "backed_up"
MANIFEST, ROWS, SECRETS, OBJECTS = "manifest.json", "errata.db", "secrets.json", "objects/"
BATCH = 1000
DIRECTORY: Any = ModelVersion.adapter_sha256
NAMES: tuple[Any, ...] = (
    *(TrainingSet.artifact, TrainingSet.audit_report, TrainingSet.card),
    *(Evaluation.report, TrainingRun.code_archive, TrainingRun.package_lock, DIRECTORY),
)


def write(runtime: Runtime, file: Path, *, with_secrets: bool, key: Key | None = None) -> dict[str, Any]:
    """Back everything up into one file, which appears whole or not at all; return its manifest.

    The ledger notes until when it can be read: of one that no key seals, for ever.

    Raises:
        Invalid: the file cannot be written, or there is one.
        TryAgain: an artifact that a row names is gone or damaged: an erasure went on beside, or `errata verify` tells.
    """
    if file.exists():
        raise Invalid(f"{file}: there is one already")
    dies = key.dies.isoformat() if key else None
    with runtime.db.transaction() as session:  # first, for the copy's ledger is to end with it
        facts = {"key": key.id if key else None, "readable_until": dies}
        ledger.append(session, actor="operator", action=BACKED_UP, subject="installation", facts=facts)
    try:
        with TemporaryDirectory(dir=file.absolute().parent) as folder:
            rows, whole = Path(folder) / ROWS, Path(folder) / "whole"
            _copy_out(runtime.db, rows)
            with closing(Database(f"sqlite:///{rows}")) as copy, copy.reading() as session:
                names = named(runtime, session)
                manifest = _manifest(session) | {"artifacts": len(names), "secrets": with_secrets}
            manifest["rows_sha256"] = name_of(rows)
            with tarfile.open(whole, "w") as tar:
                _add(tar, MANIFEST, json.dumps(manifest).encode())
                tar.add(rows, ROWS)
                for name in names:
                    _add(tar, OBJECTS + name.removeprefix("sha256:"), runtime.artifacts.get_bytes(name))
                if with_secrets:
                    _add(tar, SECRETS, (runtime.settings.data_dir / SECRETS).read_bytes())
            if key:
                plain, whole = whole, Path(folder) / "sealed"
                backup_keys.seal(plain, whole, key)
            whole.chmod(0o600)
            whole.rename(file)
    except OSError as error:
        raise Invalid(f"{file}: {error.strerror or error}") from error
    except (MissingArtifact, BrokenArtifact) as error:
        raise TryAgain(f"{error}; back up again, or see errata verify") from error
    return manifest | ({"key": key.id, "readable_until": dies} if key else {})


def restore(runtime: Runtime, file: Path, *, key: Key | None = None) -> dict[str, Any]:
    """Bring a backup into an empty installation; rows come last, so that one that broke off may be begun again.

    Raises:
        Invalid: the file cannot be read, or it is no whole backup.
        WrongState: the installation is not empty.
    """
    if migrations.revision(runtime.db) is not None:
        raise WrongState("this installation is not empty: restore into a fresh data directory and database")
    with TemporaryDirectory(dir=runtime.settings.data_dir) as folder, _opened(file, key) as (tar, manifest):
        rows = Path(folder) / ROWS
        rows.write_bytes(_content(tar, ROWS).read())
        if name_of(rows) != manifest["rows_sha256"]:
            raise Invalid(f"{file}: its rows are damaged")
        for name in tar.getnames():
            if name.startswith(OBJECTS):
                stored = runtime.artifacts.put(_content(tar, name))
                if stored != f"sha256:{name.removeprefix(OBJECTS)}":
                    raise Invalid(f"{file}: its {name} is damaged")
        if manifest["secrets"]:
            draft = Path(folder) / SECRETS
            draft.touch(mode=0o600)
            draft.write_bytes(_content(tar, SECRETS).read())
            draft.replace(runtime.settings.data_dir / SECRETS)
        _copy_in(rows, runtime.db)
    return manifest


def manifest_of(file: Path, *, key: Key | None = None) -> dict[str, Any]:
    """Return what a backup says of itself; raises Invalid for another file."""
    with _opened(file, key) as (_, manifest):
        return manifest


def broken_rows(db: Database) -> list[str]:
    """Return what is wrong with a SQLite file and its references; PostgreSQL's server sees to both by itself."""
    if not db.is_sqlite:
        return []
    with db.reader.connect() as connection:
        told = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        lost = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    return [line for line in told if line != "ok"] + [
        f"{table}: row {row} names a row of {parent} that is not there" for table, row, parent, _ in lost
    ]


def broken_artifacts(runtime: Runtime, session: Session) -> Iterator[str]:
    """Yield a sentence for each artifact that a row names and that is missing or damaged."""
    for column in NAMES:
        verify = runtime.artifacts.verify_directory if column is DIRECTORY else runtime.artifacts.verify
        for name in session.exec(select(column).where(col(column).is_not(None)).distinct()):
            try:
                verify(name)
            except (MissingArtifact, BrokenArtifact) as error:
                yield f"{column.class_.__tablename__}.{column.key}: {error}"


def _manifest(session: Session) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "made_at": utcnow().isoformat(),
        "schema": migrations.head(),
        "ledger": ledger.head(session),
    }


def named(runtime: Runtime, session: Session) -> list[str]:
    """Return every artifact that a row names, and each file of those that are directories."""
    names: set[str] = set()
    for column in NAMES:
        found = session.exec(select(column).where(col(column).is_not(None))).all()
        names.update(found)
        if column is DIRECTORY:
            names.update(file for name in found for file in runtime.artifacts.contents(name))
    return sorted(names)


def _copy_out(db: Database, file: Path) -> None:
    if db.is_sqlite:
        source = f"file:{db.url.removeprefix('sqlite:///')}?mode=ro"
        with closing(sqlite3.connect(source, uri=True)) as live, closing(sqlite3.connect(file)) as target:
            live.backup(target)
        return
    with closing(Database(f"sqlite:///{file}")) as copy:
        _copy_rows(db, copy)


def _copy_in(file: Path, db: Database) -> None:
    with closing(Database(f"sqlite:///{file}")) as copy:
        migrations.upgrade(copy)  # a backup of an earlier version
        if problems := broken_rows(copy):
            raise Invalid(f"the backup's rows are damaged: {problems[0]}")
        if not db.is_sqlite:
            _copy_rows(copy, db)
            return
        whole = file.with_name("whole")  # with its log of writes
        _copy_out(copy, whole)
    db.close()
    whole.replace(db.url.removeprefix("sqlite:///"))


def _copy_rows(from_db: Database, to_db: Database) -> None:
    """Copy every table into an empty database, causes first, in one transaction: all is there afterwards, or nothing.

    What rows name of their own table comes once all of it is there, for a later row's id may be the smaller one.
    """
    source: Connection
    with from_db.reader.connect() as source, to_db.engine.begin() as target:
        migrations.upgrade_in(target)
        if to_db.is_sqlite:
            target.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        for table in SQLModel.metadata.sorted_tables:
            own = [column for column in table.c if column.references(table.c.id)]
            empty = dict.fromkeys(column.name for column in own)
            rows = source.execute(select_columns(table), execution_options={"yield_per": BATCH})
            for part in rows.mappings().partitions():
                target.execute(insert(table), [dict(row) | empty for row in part])
            for column in own:
                named = source.execute(
                    select_columns(table.c.id.label("of"), column.label("to")).where(column.is_not(None)),
                    execution_options={"yield_per": BATCH},
                )
                to_name = update(table).where(table.c.id == bindparam("of")).values({column: bindparam("to")})
                for part in named.mappings().partitions():
                    target.execute(to_name, [dict(row) for row in part])


@contextmanager
def _opened(file: Path, key: Key | None) -> Iterator[tuple[tarfile.TarFile, dict[str, Any]]]:
    if not backup_keys.is_sealed(file):
        with _opened_plain(file) as found:
            yield found
        return
    with TemporaryDirectory(dir=file.absolute().parent) as folder:
        plain = Path(folder) / file.name
        backup_keys.unseal(file, plain, key)
        with _opened_plain(plain) as found:
            yield found


@contextmanager
def _opened_plain(file: Path) -> Iterator[tuple[tarfile.TarFile, dict[str, Any]]]:
    no_backup = f"{file}: no backup, or not a whole one"
    try:
        opened = file.open("rb")
    except OSError as error:
        raise Invalid(f"{no_backup}: {error}") from error
    try:
        with opened, tarfile.open(fileobj=opened, mode="r:") as tar:
            yield tar, _manifest_in(tar, no_backup)
    except (tarfile.TarError, KeyError) as error:  # cut off, or without a file
        raise Invalid(f"{no_backup}: {error}") from error


def _manifest_in(tar: tarfile.TarFile, no_backup: str) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.load(_content(tar, MANIFEST))
        if manifest["format"] != FORMAT:
            raise Invalid(f"{no_backup}: it has another format")
    except (ValueError, TypeError) as error:
        raise Invalid(f"{no_backup}: {error}") from error
    return manifest


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o600
    tar.addfile(entry, io.BytesIO(content))


def _content(tar: tarfile.TarFile, name: str) -> Any:
    """Return a file's content; nothing is ever unpacked to a path that an archive names."""
    found = tar.extractfile(name)
    if found is None:
        raise KeyError(name)
    return found
