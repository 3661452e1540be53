"""`errata up`: everything starts, comes back after a crash, and ends together, however it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from service import valkey
from service.db import Database
from tests.label_studio import free_port
from tests.servers import start_valkey
from tests.waiting import eventually

READY_SECONDS = 60
CHILDREN = ("service.web.app", "service.responder", "worker light", "worker heavy", "schedule")


class Tree:
    """One running `errata up` with a data directory and a port of its own."""

    def __init__(self, data_dir: Path, cache_dir: Path, port: int) -> None:
        self.data_dir, self.url = data_dir, f"http://127.0.0.1:{port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ERRATA_")},
            "ERRATA_DATA_DIR": str(data_dir),
            "ERRATA_CACHE_DIR": str(cache_dir),
            "ERRATA_PORT": str(port),
            "ERRATA_LABEL_STUDIO": "false",
        }
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> "Tree":
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "up"],
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        eventually(self.answers, READY_SECONDS)
        return self

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=1, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def processes(self, word: str = "") -> list[psutil.Process]:
        """Return what runs with this data directory, by its environment and its command."""
        found = []
        for process in psutil.process_iter():
            try:
                command, environment = " ".join(process.cmdline()), process.environ()
            except (psutil.Error, OSError):
                continue
            ours = environment.get("ERRATA_DATA_DIR") == str(self.data_dir)
            if ours and word in command and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found


@pytest.fixture
def tree(tmp_path: Path, cache_dir: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path / "data", cache_dir, free_port())
    yield tree
    if tree.process:
        tree.process.kill()
        tree.process.wait()
    for process in tree.processes():
        with suppress(psutil.NoSuchProcess):
            process.kill()
    if tree.process:
        tree.process.stderr.close()


def test_everything_comes_up_comes_back_and_ends_together(tree: Tree):
    tree.start()
    for name in CHILDREN:
        assert tree.processes(name), name

    # A crashed child is there again.
    for number in (1, 0):  # the server behind its leash, then a leash itself
        was = sorted(tree.processes("service.web.app"), key=lambda p: p.create_time())
        was[number].kill()
        eventually(lambda was=was: not set(was) & set(tree.processes("service.web.app")), 20)
        eventually(tree.answers, READY_SECONDS)

    tree.process.send_signal(signal.SIGTERM)
    assert tree.process.wait(timeout=30) == 0
    assert tree.processes() == []


def test_a_killed_parent_leaves_nothing_behind(tree: Tree):
    tree.start()
    tree.process.kill()
    tree.process.wait()
    tree.process.stderr.close()
    eventually(lambda: tree.processes() == [], 20)


def test_an_orphaned_valkey_is_used_until_it_ends(tree: Tree):
    orphan = start_valkey(tree.data_dir)
    tree.start()
    (waiting,) = [p for p in tree.processes("service.valkey") if "leash.py" not in " ".join(p.cmdline())]
    orphan.kill()
    orphan.wait()
    eventually(lambda: "valkey-server" in " ".join(waiting.cmdline()) and valkey.answers(tree.data_dir), 20)


def test_a_second_tree_in_the_same_directory_is_refused(tree: Tree):
    tree.start()
    assert refused({**tree.environment, "ERRATA_PORT": str(free_port())}) == "ERRATA_DATA_DIR"


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
