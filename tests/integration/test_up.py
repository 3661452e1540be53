"""`errata up`: everything starts, comes back after a crash, and ends together, however it ends."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlmodel import select

from annotation.argilla import ArgillaConnector
from service import argilla_server, valkey
from service.db import Database
from service.queue import QUEUES
from service.tables import AnnotationTask, ConnectorKind, TaskState, ToolProject
from tests import builders, servers
from tests.servers import free_port, start_valkey
from tests.tree import READY_SECONDS, Tree, grown
from tests.waiting import eventually

CHILDREN = ("service.web.app", "service.responder", *(f"worker {name}" for name in QUEUES), "schedule")


@pytest.fixture
def tree(tmp_path: Path, cache_dir: Path) -> Iterator[Tree]:
    with grown(tmp_path / "data", cache_dir) as tree:
        yield tree


def test_everything_comes_up_comes_back_and_ends_together(tree: Tree):
    tree.start()
    for name in CHILDREN:
        assert tree.processes(name), name
    assert not tree.processes("argilla")

    # The directory is taken.
    assert refused({**tree.environment, "ERRATA_PORT": str(free_port())}) == "ERRATA_DATA_DIR"

    # A crashed child is there again.
    for number in (1, 0):  # the server behind its leash, then a leash itself
        was = sorted(tree.processes("service.web.app"), key=lambda p: p.create_time())
        was[number].kill()
        eventually(lambda was=was: not set(was) & set(tree.processes("service.web.app")), 20)
        eventually(tree.answers, READY_SECONDS)

    tree.process.send_signal(signal.SIGTERM)
    assert tree.process.wait(timeout=30) == 0
    assert tree.processes() == []


def test_a_bundled_argilla_comes_up_takes_a_project_and_its_tasks_and_ends(tmp_path: Path):
    with grown(tmp_path / "data", servers.cache_dir()) as tree:
        tree.environment["ERRATA_SYNC_SECONDS"] = "1"
        tree.start("--with", "argilla")
        running = eventually(lambda: argilla_server.running(tree.data_dir), servers.START_SECONDS)
        database = Database(f"sqlite:///{tree.data_dir}/errata.db")
        with database.transaction() as session:
            project = builders.add_project(session)
            project.connector = ConnectorKind.ARGILLA
            builders.add_task(session, project, builders.add_response(session, project))

        def sent() -> AnnotationTask | None:
            with database.reading() as session:
                is_sent = AnnotationTask.state == TaskState.SENT
                return session.exec(select(AnnotationTask).where(is_sent)).first()

        task = eventually(sent, 60)
        with database.reading() as session:
            there = session.exec(select(ToolProject.external_id)).one()
        database.close()
        held = ArgillaConnector(running.url, running.token).fetch(there, [task.external_id])
        assert [one.key for one in held] == [str(task.id)]

        tree.process.send_signal(signal.SIGTERM)
        assert tree.process.wait(timeout=60) == 0
        assert tree.processes() == []
        assert not argilla_server.is_up(running.url)


def test_an_orphaned_valkey_is_used_until_it_ends_and_a_killed_parent_leaves_nothing_behind(tree: Tree):
    orphan = start_valkey(tree.data_dir)
    tree.start()
    (waiting,) = [p for p in tree.processes("service.valkey") if "leash.py" not in " ".join(p.cmdline())]
    orphan.kill()
    orphan.wait()
    eventually(lambda: "valkey-server" in " ".join(waiting.cmdline()) and valkey.answers(tree.data_dir), 20)

    tree.process.kill()
    tree.process.wait()
    tree.process.stderr.close()
    eventually(lambda: tree.processes() == [], 20)


def test_a_busy_port_is_named(tree: Tree):
    with busy_port() as port:
        assert refused({**tree.environment, "ERRATA_PORT": str(port)}) == "ERRATA_PORT"


def test_a_data_directory_that_cannot_be_written_is_named(tree: Tree, tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert refused({**tree.environment, "ERRATA_DATA_DIR": str(tmp_path / "file")}) == "ERRATA_DATA_DIR"


def test_a_newer_schema_is_named(tree: Tree, tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path}/newer.db")
    with database.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('9999')")
    database.close()
    environment = {**tree.environment, "ERRATA_DATABASE_URL": f"sqlite:///{tmp_path}/newer.db"}
    assert refused(environment) == "ERRATA_DATABASE_URL"


def refused(environment: dict[str, str]) -> str:
    """Start, which must end at once with status 78 and one line; return the setting that the line names."""
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", "up"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("errata: ")]
    assert "Traceback" not in done.stderr
    return line.removeprefix("errata: ").partition(":")[0]


@contextmanager
def busy_port() -> Iterator[int]:
    import socket

    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]
