"""The one door to RQ: the database holds every job and its lease, RQ only rings the bell.

A request for work commits its `Job` row with its cause; a message lost on the way is sent again by `sweep`,
and one that comes twice finds the job leased or done.
"""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.command import send_stop_job_command
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer
from sqlalchemy import event, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from service import job_rows, ledger, notices
from service.db import Database
from service.errors import LeaseLost, NotFound, WrongState
from service.settings import Settings
from service.tables import Job, JobKind, JobState

ENTRY = "service.jobs.run"
# What waits for somebody else's machine has a queue of its own, so that nothing waits behind it.
QUEUES = LIGHT, HEAVY, REMOTE, TOOLS, NOTICES = "light", "heavy", "remote", "tools", "notices"
QUEUE_OF = dict.fromkeys(JobKind, LIGHT) | {
    JobKind.SEND: TOOLS,
    JobKind.SYNC: TOOLS,
    JobKind.NOTIFY: NOTICES,
    **dict.fromkeys((JobKind.TRAIN, JobKind.EVALUATE, JobKind.BISECT), HEAVY),
    **dict.fromkeys((JobKind.VALUE, JobKind.BASES, JobKind.TUNE, JobKind.REPRODUCE), HEAVY),
    **dict.fromkeys((JobKind.MIRROR, JobKind.COLLECT, JobKind.ERASE, JobKind.SERVE), REMOTE),
    JobKind.RECHECK: HEAVY,
}
OPEN = (JobState.PENDING, JobState.LEASED)

log = structlog.get_logger()


class AllowedJob(RqJob):
    """An RQ message that can only mean `service.jobs.run`.

    A JSON serializer alone lets whoever writes to Redis name any importable function, as a callback too.
    """

    @property
    def func(self) -> Any:
        if self.func_name != ENTRY:
            raise PermissionError(f"{self.func_name} is not a job of ours")
        return super().func

    success_callback = failure_callback = stopped_callback = property(lambda self: None)


def rq_queue(name: str, redis: "Redis") -> Queue:
    """Return RQ's queue of this name; a worker listens to one only, for only then RQ pops safely."""
    return Queue(f"errata-{name}", connection=redis, serializer=JSONSerializer, job_class=AllowedJob)


@dataclass(frozen=True, slots=True)
class JobQueue:
    """Asks for jobs, leases them, and brings back those that were lost."""

    db: Database
    redis: "Redis"
    settings: Settings

    def ask(
        self,
        session: Session,
        kind: JobKind,
        row_id: UUID,
        *,
        project_id: UUID | None,
        unique_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        after_seconds: float = 0,
        actor: str | None = None,
    ) -> UUID:
        """Add a job inside the caller's transaction and ring after its commit; return the job's id.

        A job due `after_seconds` gathers what comes until then; the sweep rings for it. What an `actor` asks for
        is noted in the ledger.

        While a job with the same `unique_key` is pending, its id is returned and nothing is added.
        """
        job = Job(
            kind=kind,
            project_id=project_id,
            row_id=row_id,
            unique_key=unique_key,
            options=dict(options or {}),
            max_attempts=self.settings.max_attempts,
            not_before=self.db.now(session) + timedelta(seconds=after_seconds),
        )
        if found := add(session, job):
            return found
        log.info("job_asked", job_id=str(job.id), job=kind.value)
        if actor:
            _note(session, job, actor=actor, action=f"{kind}_requested")
        if not after_seconds:
            _after_commit(session, lambda: self.ring(job.id, job.kind, job.fence))
        return job.id

    def ring(self, job_id: UUID, kind: JobKind, fence: int) -> None:
        """Tell a worker; when Redis is away the sweep will."""
        # Another's machine may be as slow as training is; tools are read, and notices sent, in small parts.
        light = QUEUE_OF[kind] in (LIGHT, TOOLS, NOTICES)
        try:
            rq_queue(QUEUE_OF[kind], self.redis).enqueue_call(
                ENTRY,
                (str(job_id),),
                job_id=_message_id(job_id, fence),
                timeout=self.settings.light_job_seconds if light else self.settings.heavy_job_seconds,
                result_ttl=0,
                failure_ttl=3600,
            )
        except (RedisError, OSError) as error:
            log.warning("bell_not_rung", job_id=str(job_id), error=str(error))

    def lease(self, job_id: UUID) -> "Lease | None":
        """Take a pending job that is due; None when it is taken, ended, or another of its key is at work."""
        try:
            return self._lease(job_id)
        except IntegrityError:
            return None

    def _lease(self, job_id: UUID) -> "Lease | None":
        with self.db.transaction() as session:
            now = self.db.now(session)
            taken = session.exec(
                update(Job)
                .where(col(Job.id) == job_id, col(Job.state) == JobState.PENDING, col(Job.not_before) <= now)
                .values(
                    state=JobState.LEASED,
                    fence=Job.fence + 1,
                    attempts=Job.attempts + 1,
                    lease_owner=f"{socket.gethostname()}:{os.getpid()}",
                    lease_until=now + timedelta(seconds=self.settings.lease_seconds),
                    started_at=now,
                )
            )
            if taken.rowcount == 0:
                return None
            job = session.get_one(Job, job_id)
            return Lease(self, job.id, job.kind, job.row_id, job.project_id, job.fence, dict(job.options))

    def cancel(self, job_id: UUID, *, actor: str) -> None:
        """End a job now: its lease is void at once, its process is stopped.

        Raises:
            NotFound: there is no such job.
            WrongState: it has ended already.
        """
        with self.db.transaction() as session:
            job = _locked(session, job_id)
            if job.state not in OPEN:
                raise WrongState(f"job {job_id} is {job.state} already")
            message = _message_id(job.id, job.fence - 1)
            job.fence += 1
            self.end(session, job, JobState.CANCELLED, failure="cancelled")
            _note(session, job, actor=actor, action="job_cancelled")
        try:
            send_stop_job_command(self.redis, message, serializer=JSONSerializer)
        except (RedisError, OSError, NoSuchJobError, InvalidJobOperation) as error:
            # Not running under RQ: the job's own heartbeat sees that its lease is gone.
            log.info("stop_not_sent", job_id=str(job_id), reason=str(error))

    def retry(self, job_id: UUID, *, actor: str) -> None:
        """Give a dead or cancelled job a fresh set of attempts.

        Raises:
            NotFound: there is no such job.
            WrongState: it is not dead or cancelled, or the same was asked for again.
        """
        with self.db.transaction() as session:
            job = _locked(session, job_id)
            if job.state not in (JobState.DEAD, JobState.CANCELLED):
                raise WrongState(f"job {job_id} is {job.state}; only dead and cancelled jobs can be retried")
            if other := _pending(session, job.unique_key):
                raise WrongState(f"job {job_id} was asked for again since: see job {other}")
            job.sqlmodel_update(
                {"state": JobState.PENDING, "attempts": 0, "failure": None, "failure_code": None}
            )
            job.not_before = self.db.now(session)
            job_rows.reopen(session, job)
            _note(session, job, actor=actor, action="job_retried")
            _after_commit(session, lambda: self.ring(job.id, job.kind, job.fence))

    def sweep(self) -> int:
        """Take back expired leases, ring for every due job that RQ does not hold, and count those."""
        with self.db.transaction() as session:
            now = self.db.now(session)
            expired = (
                select(Job).where(Job.state == JobState.LEASED, col(Job.lease_until) < now).with_for_update()
            )
            for job in session.exec(expired).all():
                job.leases_lost += 1
                self.give_up_or_wait(
                    session, job, "its worker stopped answering", code="worker_lost", seconds=0
                )
        with self.db.reading() as session:
            due = select(Job.id, Job.kind, Job.fence).where(
                Job.state == JobState.PENDING, col(Job.not_before) <= self.db.now(session)
            )
            waiting = session.exec(due.order_by(col(Job.id))).all()
        try:
            held = self._held() if waiting else set()
        except (RedisError, OSError) as error:
            log.warning("bells_not_rung", jobs=len(waiting), error=str(error))
            return 0
        missing = [
            (job_id, kind, fence) for job_id, kind, fence in waiting if _message_id(job_id, fence) not in held
        ]
        for job_id, kind, fence in missing:
            self.ring(job_id, JobKind(kind), fence)
        return len(missing)

    def give_up_or_wait(self, session: Session, job: Job, failure: str, *, code: str, seconds: float) -> None:
        """Make a job whose attempt failed pending again, or dead when it has used up its attempts."""
        job.failure, job.failure_code = failure, code
        if job.attempts >= job.max_attempts:
            self.end(session, job, JobState.DEAD, failure=failure, code=code)
            return
        if _pending(session, job.unique_key):
            self.end(session, job, JobState.CANCELLED, failure=f"{failure}; asked again since", code=code)
            return
        job.state, job.lease_owner, job.lease_until = JobState.PENDING, None, None
        job.not_before = self.db.now(session) + timedelta(seconds=seconds * 2 ** (job.attempts - 1))

    def end(
        self,
        session: Session,
        job: Job,
        state: JobState,
        *,
        failure: str | None = None,
        code: str | None = None,
    ) -> None:
        """End a job, and with it the run or evaluation that it was for."""
        job.sqlmodel_update({"state": state, "failure": failure, "failure_code": code, "lease_until": None})
        job.finished_at = self.db.now(session)
        if state is not JobState.DONE:
            job_rows.end(session, job, failure or "", at=job.finished_at)
            notices.tell_of_dead(session, job)

    def workers(self, name: str) -> int:
        """Count a queue's workers that Redis heard of lately; RQ's list keeps killed ones, and a flush empties it."""
        listens_to = rq_queue(name, self.redis).name.encode()
        try:
            keys = [key for key in self.redis.scan_iter("rq:worker:*", count=1000) if key.count(b":") == 2]
            # A worker that said goodbye is remembered for a minute, with its death.
            return sum(self.redis.hmget(key, "queues", "death") == [listens_to, None] for key in keys)
        except (RedisError, OSError):
            return 0

    def _held(self) -> set[str]:
        return {job_id for name in QUEUES for job_id in rq_queue(name, self.redis).job_ids}


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do one job until it is lost; writes go through `transaction`, which checks the fence."""

    queue: JobQueue = field(repr=False)
    job_id: UUID
    kind: JobKind
    row_id: UUID
    project_id: UUID | None
    fence: int
    options: Mapping[str, Any]

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a transaction that commits only while this lease is the newest.

        Raises:
            LeaseLost: another worker has the job, or it was cancelled.
        """
        with self.queue.db.transaction() as session:
            self._hold(session)
            yield session

    def report(self, **facts: Any) -> None:
        """Show how far the job is."""
        with self.transaction() as session:
            session.get_one(Job, self.job_id).progress = facts

    def extend(self) -> None:
        """Push the lease's end into the future."""
        with self.transaction() as session:
            until = self.queue.db.now(session) + timedelta(seconds=self.queue.settings.lease_seconds)
            session.execute(update(Job).where(col(Job.id) == self.job_id).values(lease_until=until))

    def is_lost(self) -> bool:
        """Say whether the job was cancelled or taken away, without writing: this is asked at every step."""
        with self.queue.db.reading() as session:
            job = session.get_one(Job, self.job_id)
            return job.fence != self.fence or job.state is not JobState.LEASED

    def is_ended(self) -> bool:
        """Say whether the job ended under this very lease, rather than being taken away."""
        with self.queue.db.reading() as session:
            job = session.get_one(Job, self.job_id)
            return job.fence == self.fence and job.state not in OPEN

    def finish(self, result: Mapping[str, Any]) -> None:
        """Mark the job done."""
        with self.transaction() as session:
            job = session.get_one(Job, self.job_id)
            job.result = dict(result)
            self.queue.end(session, job, JobState.DONE)

    def fail(self, error: Exception, *, code: str) -> None:
        """Put the job back for another attempt, or give it up when there were enough."""
        wait = self.queue.settings.retry_seconds
        self._unless_lost(partial(self.queue.give_up_or_wait, failure=str(error), code=code, seconds=wait))

    def bury(self, error: Exception, *, code: str) -> None:
        """Give the job up: trying again would not help."""
        self._unless_lost(partial(self.queue.end, state=JobState.DEAD, failure=str(error), code=code))

    def _unless_lost(self, change: Callable[[Session, Job], None]) -> None:
        """Change the job; how it failed is no longer our business once another has it."""
        try:
            with self.transaction() as session:
                change(session, session.get_one(Job, self.job_id))
        except LeaseLost:
            log.warning("lease_lost", job_id=str(self.job_id))

    def _hold(self, session: Session) -> None:
        # Written, not only read, so that PostgreSQL holds the row against a sweep until we commit.
        mine = (col(Job.id) == self.job_id, col(Job.fence) == self.fence, col(Job.state) == JobState.LEASED)
        held = session.exec(update(Job).where(*mine).values(fence=self.fence))
        if held.rowcount == 0:
            raise LeaseLost(f"job {self.job_id} is no longer ours")


def _message_id(job_id: UUID, fence: int) -> str:
    """Name a message after the lease that it leads to, so that a zombie's is never mistaken for it."""
    return f"{job_id}_{fence}"


def _after_commit(session: Session, call: Callable[[], None]) -> None:
    """Call once everything is committed; SQLAlchemy announces each savepoint's end in the same way."""

    @event.listens_for(session, "after_commit")
    def announce(_: Session) -> None:
        if not session.in_nested_transaction():
            call()


def _note(session: Session, job: Job, *, actor: str, action: str) -> None:
    facts = {"job": str(job.id), "kind": job.kind.value}
    ledger.append(
        session, actor=actor, action=action, subject=str(job.row_id), project_id=job.project_id, facts=facts
    )


def _locked(session: Session, job_id: UUID) -> Job:
    # Locked, so that on PostgreSQL no worker takes or ends the job between our look and our change.
    job = session.get(Job, job_id, with_for_update=True)
    if job is None:
        raise NotFound(f"no job {job_id}")
    return job


def add(session: Session, job: Job) -> UUID | None:
    """Add a job, for which the sweep rings, unless one with its key is pending: then return that one's id."""
    if found := _pending(session, job.unique_key):  # a refused insert costs several times as much
        return found
    try:
        with session.begin_nested():
            session.add(job)
    except IntegrityError:
        if found := _pending(session, job.unique_key):
            return found
        raise
    return None


def _pending(session: Session, unique_key: str | None) -> UUID | None:
    if unique_key is None:
        return None
    pending = select(Job.id).where(Job.unique_key == unique_key, Job.state == JobState.PENDING)
    return session.exec(pending).first()
