"""Real worker processes, and a job whose effect can be counted, for tests that kill them."""

import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
from redis import Redis
from rq import SimpleWorker
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer
from sqlmodel import col, select

from service import jobs, logs, worker
from service.queue import LIGHT, Lease, rq_queue
from service.runtime import Runtime, from_environment
from service.tables import ConnectorKind, InboxEvent, Job, JobKind, JobState, Project, ProjectKind
from tests.forks import fork
from tests.waiting import eventually

STEPS = 3
COUNTED = JobKind.TRIAGE  # any kind; its own work is replaced by `count`


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a job, as it wrote itself down: its work-horse, and whether another was at it too."""

    job_id: UUID
    pid: int
    is_alone: bool

    @property
    def is_alive(self) -> bool:
        """Whether the work-horse is still there."""
        return psutil.pid_exists(self.pid) and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE


@dataclass(slots=True)
class Crew:
    """The workers of one installation, and what their jobs wrote down."""

    runtime: Runtime
    folder: Path
    target: "Callable[[Mapping[str, str], Path], None]" = field(default_factory=lambda: tied)
    workers: list[BaseProcess] = field(default_factory=list)
    size: int = 0

    def start(self) -> BaseProcess:
        """Start a worker."""
        chosen = self.runtime.settings
        names = ("data_dir", "cache_dir", "database_url", "redis_url", "lease_seconds", "retry_seconds")
        environment = {f"ERRATA_{name.upper()}": str(getattr(chosen, name)) for name in names}
        process = fork(self.target, environment, self.folder)
        self.workers.append(process)
        return process

    def staff(self, size: int) -> None:
        """See that there are this many workers, from now on."""
        self.size = size
        for _ in range(size - sum(process.is_alive() for process in self.workers)):
            self.start()

    def horses(self, process: BaseProcess) -> list[int]:
        """Return the process ids of a worker's work-horses."""
        return [child.pid for child in _children(process)]

    def end(self) -> None:
        """Kill all workers with their work-horses."""
        for process in self.workers:
            kill_both(process)

    def project(self) -> UUID:
        """Make a project for jobs to belong to."""
        return make_project(self.runtime)

    def ask(self, project_id: UUID, **options: Any) -> UUID:
        """Ask for a counted job."""
        with self.runtime.db.transaction() as session:
            return self.runtime.queue.ask(
                session, COUNTED, project_id, project_id=project_id, options=options
            )

    def attempts(self, job_id: UUID) -> list[Attempt]:
        """Return the attempts at a job, the first first."""
        journal = self.folder / f"{job_id}.journal"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [Attempt(job_id, **json.loads(line)) for line in lines]

    def steps(self, job_id: UUID) -> list[int]:
        """Return what the job left in the database, in order."""
        with self.runtime.db.reading() as session:
            events = session.exec(select(InboxEvent).where(InboxEvent.source == job_id.hex)).all()
        return sorted(event.facts["step"] for event in events)

    def job(self, job_id: UUID) -> Job:
        """Return the job's row."""
        with self.runtime.db.reading() as session:
            return session.get_one(Job, job_id)

    def holding(self, job_id: UUID) -> Attempt:
        """Wait until the first attempt has done its first step and holds; return it."""
        eventually(lambda: self.steps(job_id) == [0])
        return self.attempts(job_id)[0]

    def count(self, state: JobState) -> int:
        """Count the jobs in a state."""
        with self.runtime.db.reading() as session:
            return len(session.exec(select(Job.id).where(Job.state == state)).all())

    def waiting(self) -> int:
        """Count the messages that no worker took yet."""
        return rq_queue(LIGHT, self.runtime.queue.redis).count

    def finish(self, job_ids: list[UUID], seconds: float = 60) -> None:
        """Sweep, as the schedule does, and bring back ended workers, as `errata up` does, until all are done."""

        def are_done() -> bool:
            self.staff(self.size)
            self.runtime.queue.sweep()
            with self.runtime.db.reading() as session:
                left = select(Job.id).where(col(Job.id).in_(job_ids), Job.state != JobState.DONE)
                return session.exec(left).first() is None

        eventually(are_done, seconds, every=0.2)


@contextmanager
def crew(runtime: Runtime, folder: Path, **options: Any) -> Iterator[Crew]:
    """Yield a crew without workers; those it gets are gone afterwards."""
    made = Crew(runtime, folder, **options)
    try:
        yield made
    finally:
        made.end()


def make_project(runtime: Runtime, slug: str = "counted") -> UUID:
    """Make a project that has nothing but a row."""
    project = Project(
        slug=slug,
        kind=ProjectKind.CLASSIFICATION,
        base_model="bundled:tiny",
        connector=ConnectorKind.NONE,
    )
    with runtime.db.transaction() as session:
        session.add(project)
    return project.id


def kill_parent(process: BaseProcess) -> None:
    """SIGKILL the worker, not its work-horse."""
    process.kill()
    process.join()


def kill_child(process: BaseProcess) -> None:
    """SIGKILL the work-horse, not its worker."""
    for child in _children(process):
        with suppress(psutil.NoSuchProcess):
            child.kill()


def kill_both(process: BaseProcess) -> None:
    """SIGKILL the work-horse and its worker."""
    children = _children(process)
    kill_parent(process)
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def signal_both(process: BaseProcess, number: signal.Signals) -> None:
    """Send a signal to the worker and its work-horse."""
    for each in (psutil.Process(process.pid), *_children(process)):
        each.send_signal(number)


def do_one(environment: Mapping[str, str], job_id: UUID) -> None:
    """Do one job as a worker of an installation does."""
    os.environ.update(environment)
    jobs.run(str(job_id))


def tied(environment: Mapping[str, str], folder: Path) -> None:
    """Be the product's own worker."""
    os.environ.update(environment)
    logs.configure()
    jobs.performer = lambda kind: partial(count, folder)
    worker.work(LIGHT)


def untied(environment: Mapping[str, str], folder: Path) -> None:
    """Be a worker whose work-horses do not look after their parent."""
    worker.die_with_parent = lambda parent: None
    jobs._beating = lambda lease: nullcontext()
    tied(environment, folder)


class Unforked(SimpleWorker):
    """RQ's worker that does its jobs itself."""

    max_connection_wait_time = worker.TiedWorker.max_connection_wait_time


def unforked(environment: Mapping[str, str], folder: Path) -> None:
    """Be a worker that forks for no job: that takes many times as long as one of a step does."""
    worker.TiedWorker = Unforked
    tied(environment, folder)


def beatless(environment: Mapping[str, str], folder: Path) -> None:
    """Be a worker whose work-horses only have the kernel to tell them that their parent died."""
    jobs._beating = lambda lease: nullcontext()
    tied(environment, folder)


def drain(redis_url: str, message: type[RqJob], environment: Mapping[str, str]) -> None:
    """Be a worker that reads messages as this class does, until the queue is empty."""
    os.environ.update(environment)
    from_environment.cache_clear()
    logs.configure()
    redis = Redis.from_url(redis_url)
    worker.TiedWorker(
        [rq_queue(LIGHT, redis)], connection=redis, serializer=JSONSerializer, job_class=message
    ).work(burst=True, logging_level="CRITICAL")


def count(folder: Path, _runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Take the steps that nobody took yet; the first attempt holds after its first step when asked to."""
    with _written_down(folder, lease):
        with lease.queue.db.reading() as session:
            done = session.exec(select(InboxEvent.id).where(InboxEvent.source == lease.job_id.hex)).all()
        for step in range(len(done), lease.options.get("steps", STEPS)):
            with lease.transaction() as session:
                # Keyed by chance: a step that is taken twice must show twice.
                event = {"source": lease.job_id.hex, "natural_key": uuid4().hex, "facts": {"step": step}}
                session.add(InboxEvent(project_id=lease.project_id, **event))
            if lease.options.get("hold") and lease.fence == 1:
                eventually((folder / "release").exists, seconds=60)
    return {}


@contextmanager
def _written_down(folder: Path, lease: Lease) -> Iterator[None]:
    """Write the attempt down, and whether another process was at the same job: its lock dies with it."""
    with (
        (folder / f"{lease.job_id}.lock").open("w") as lock,
        (folder / f"{lease.job_id}.journal").open("a") as out,
    ):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_alone = True
        except BlockingIOError:
            is_alone = False
        out.write(json.dumps({"pid": os.getpid(), "is_alone": is_alone}) + "\n")
        out.flush()
        yield


def _children(process: BaseProcess) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []
