"""A web server that is killed at random while clients flag and try again, and what is left of what it acknowledged."""

import json
import os
import random
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from multiprocessing.process import BaseProcess
from threading import Event
from time import sleep
from uuid import UUID, uuid4

from sqlmodel import col, select
from werkzeug.serving import WSGIRequestHandler, make_server

from service import commits, db
from service.queue import JobQueue
from service.runtime import Runtime
from service.tables import Feedback, JobKind, KeyKind, Project, TaskFlag
from service.web.app import create_app, from_environment_app
from tests import builders
from tests.due import do_all_due
from tests.forks import fork
from tests.servers import NO_LIMITS_SET, free_port
from tests.waiting import eventually

CLIENTS = 8
PAGE = "https://clinic.example"
LATE = 40  # flags that a server which acknowledges too early commits together


@dataclass(slots=True)
class Site:
    """A project with a response to flag, and a server for it that can be killed whole."""

    runtime: Runtime
    target: Callable[[Mapping[str, str], int], None]
    port: int = field(default_factory=free_port)
    process: BaseProcess | None = None
    project: Project = field(init=False)
    said: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.project, self.said = what_flags_say(self.runtime)

    def start(self) -> None:
        """Start the server and wait until it listens."""
        chosen = self.runtime.settings
        names = ("data_dir", "cache_dir", "database_url", "redis_url")
        environment = {f"ERRATA_{name.upper()}": str(getattr(chosen, name)) for name in names} | NO_LIMITS_SET
        self.process = fork(self.target, environment, self.port)
        eventually(self._listens, 60)

    def kill(self) -> None:
        """SIGKILL all of it."""
        self.process.kill()
        self.process.join()

    def flag(self, event_id: UUID) -> str | None:
        """Flag the response and return the flag's id once it is acknowledged, or None."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Origin": PAGE, "Content-Type": "application/json"}
            body = json.dumps(self.said | {"event_id": str(event_id)})
            connection.request("POST", "/v1/feedback", body, headers)
            answer = connection.getresponse()
            return json.loads(answer.read())["id"] if answer.status in (200, 201) else None
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def what_flags_say(runtime: Runtime) -> tuple[Project, dict[str, str]]:
    """Make a project with a public key and a logged response; return it and what each flag of the response says."""
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
        host = {"Authorization": f"Bearer {builders.add_key(session, project)}"}
        key = builders.add_key(session, project, KeyKind.PUBLIC, [PAGE])
    answer = {"messages": [{"role": "user", "content": "When?"}], "response": "On Thursday."}
    logged = create_app(runtime).test_client().post("/v1/responses", json=answer, headers=host)
    return project, {"rating": "down", "key": key, "feedback_token": logged.json["feedback_token"]}


@contextmanager
def running_site(
    runtime: Runtime, target: "Callable[[Mapping[str, str], int], None] | None" = None
) -> Iterator[Site]:
    """Serve until the block ends."""
    site = Site(runtime, target or serve)
    site.start()
    try:
        yield site
    finally:
        site.kill()


@dataclass(frozen=True, slots=True)
class Survived:
    """What became of the flags that were acknowledged."""

    kills: int
    acknowledged: int
    lost: int
    doubled: int
    triaged_not_once: int


def kill_at_random(site: Site, kills: int, *, seed: int = 0) -> Survived:
    """Kill the server again and again under clients that try again, then triage and count."""
    chance, stop, acknowledged = random.Random(seed), Event(), Counter[tuple[UUID, str]]()
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(_flag_and_try_again, site, stop, acknowledged) for _ in range(CLIENTS)]
        try:
            for _ in range(kills - 1):
                before = len(acknowledged)
                eventually(lambda before=before: len(acknowledged) > before, 60)
                sleep(chance.uniform(0, 0.15))
                site.kill()
                site.start()
        finally:
            stop.set()
        for client in clients:
            client.result()
    site.kill()
    return _counted(site, kills, set(acknowledged))


def _flag_and_try_again(site: Site, stop: Event, acknowledged: Counter[tuple[UUID, str]]) -> None:
    while not stop.is_set():
        event_id = uuid4()
        while (flag_id := site.flag(event_id)) is None:
            sleep(0.05)
        acknowledged[event_id, flag_id] += 1
        if again := site.flag(event_id):  # as whoever lost the answer asks
            acknowledged[event_id, again] += 1


def _counted(site: Site, kills: int, acknowledged: set[tuple[UUID, str]]) -> Survived:
    _triage(site)
    with site.runtime.db.reading() as session:
        kept = [(event, str(row)) for event, row in session.exec(select(Feedback.event_id, Feedback.id))]
        tasks = Counter(session.exec(select(TaskFlag.feedback_id)))
        untriaged = session.exec(select(Feedback.id).where(col(Feedback.triaged_at).is_(None))).all()
    events = Counter(event for event, _ in {*kept, *acknowledged})
    return Survived(
        kills=kills,
        acknowledged=len({event for event, _ in acknowledged}),
        lost=len(acknowledged - set(kept)),
        doubled=sum(count > 1 for count in events.values()),
        triaged_not_once=len(untriaged) + sum(tasks[UUID(row)] != 1 for _, row in kept),
    )


def _triage(site: Site) -> None:
    """Do what is due, twice: what was triaged must not be so again."""
    queue: JobQueue = site.runtime.queue
    for _ in range(2):
        with site.runtime.db.transaction() as session:
            queue.ask(session, JobKind.TRIAGE, site.project.id, project_id=site.project.id)
        do_all_due(site.runtime)


def serve(environment: Mapping[str, str], port: int) -> None:
    """Be the web application in one process."""
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    make_server(
        "127.0.0.1", port, from_environment_app(), threaded=True, request_handler=_Quiet
    ).serve_forever()


def serve_hastily(environment: Mapping[str, str], port: int) -> None:
    """Acknowledge before the commit."""
    commits.Commits.keep = _keep_for_later
    serve(environment, port)


def serve_carelessly(environment: Mapping[str, str], port: int) -> None:
    """Commit without waiting for the disk."""
    careful = db._prepare_writer

    def prepare(connection: object, record: object) -> None:
        careful(connection, record)
        connection.execute("PRAGMA synchronous=NORMAL")

    db._prepare_writer = prepare
    serve(environment, port)


def _keep_for_later(self: commits.Commits, batch: commits._Batch) -> None:
    self.connection.execute("RELEASE member")
    batch.members += 1
    if batch.members >= LATE:
        self._leave()
        return
    with self._door:
        if self._waiting:
            self._waiting.popleft().release()
        else:
            self._is_taken = False


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        pass
