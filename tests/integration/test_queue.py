"""What the job queue promises, on each database and each server that rings the bell."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest
from redis import Redis
from rq import Callback, Queue
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from service import jobs
from service.errors import LeaseLost, NotFound, TryAgain, WrongState
from service.queue import ENTRY, HEAVY, LIGHT, QUEUE_OF, REMOTE, AllowedJob, JobQueue, Lease, rq_queue
from service.runtime import Runtime
from service.tables import (
    Document,
    DocumentKind,
    Evaluation,
    EvaluationState,
    InboxEvent,
    Job,
    JobKind,
    JobState,
    ModelState,
    ModelVersion,
    RunState,
    TrainingRun,
    TrainingSet,
    uuid7,
)
from tests.forks import fork
from tests.repetitions import CHOSEN
from tests.workers import drain, make_project

KEY = "triage:counted"


class Shop:
    """An installation with one project, and short ways to say what happens to its jobs."""

    def __init__(self, runtime: Runtime, slug: str = "counted") -> None:
        self.runtime, self.queue, self.db = runtime, runtime.queue, runtime.db
        self.project = make_project(runtime, slug)

    def ask(self, kind: JobKind = JobKind.TRIAGE, row_id: UUID | None = None, key: str | None = None) -> UUID:
        with self.db.transaction() as session:
            return self.ask_in(session, kind, row_id, key)

    def ask_in(
        self,
        session: Session,
        kind: JobKind = JobKind.TRIAGE,
        row_id: UUID | None = None,
        key: str | None = None,
    ) -> UUID:
        return self.queue.ask(session, kind, row_id or self.project, project_id=self.project, unique_key=key)

    def leased(self, **asked: object) -> Lease:
        lease = self.queue.lease(self.ask(**asked))
        assert lease is not None
        return lease

    def expire(self, lease: Lease) -> None:
        with self.db.transaction() as session:
            past = self.db.now(session) - timedelta(seconds=1)
            session.execute(update(Job).where(col(Job.id) == lease.job_id).values(lease_until=past))

    def job(self, job_id: UUID) -> Job:
        with self.db.reading() as session:
            return session.get_one(Job, job_id)

    def rung(self, name: str = LIGHT) -> list[str]:
        return rq_queue(name, self.queue.redis).job_ids

    def events(self) -> int:
        with self.db.reading() as session:
            return len(session.exec(select(InboxEvent)).all())

    def publish(self, session: Session) -> None:
        session.add(InboxEvent(project_id=self.project, source="test", natural_key=uuid4().hex, facts={}))


@pytest.fixture
def shop(any_runtime: Runtime) -> Shop:
    return Shop(any_runtime)


class TestAsking:
    def test_a_job_asked_for_twice_under_one_key_is_one_job(self, shop):
        assert shop.ask(key=KEY) == shop.ask(key=KEY)
        assert len(shop.rung()) == 1

    def test_threads_that_ask_at_once_under_one_key_get_one_job(self, shop):
        assert len(set(_race(lambda: shop.ask(key=KEY)))) == 1

    def test_jobs_without_a_key_are_never_merged(self, shop):
        assert shop.ask() != shop.ask()

    def test_a_job_is_asked_for_anew_once_the_pending_one_is_at_work(self, shop):
        assert shop.leased(key=KEY).job_id != shop.ask(key=KEY)

    def test_a_project_that_does_not_exist_is_no_reason_to_return_another_job(self, shop):
        shop.ask()
        with pytest.raises(IntegrityError), shop.db.transaction() as session:
            shop.queue.ask(session, JobKind.TRIAGE, shop.project, project_id=uuid4())

    def test_the_bell_rings_after_the_commit(self, shop):
        with shop.db.transaction() as session:
            first, second = shop.ask_in(session), shop.ask_in(session)
            assert shop.rung() == []
        assert shop.rung() == [f"{first}_0", f"{second}_0"]

    def test_the_bell_stays_silent_after_a_rollback(self, shop):
        with suppress(ZeroDivisionError), shop.db.transaction() as session:
            shop.ask_in(session)
            with session.begin_nested():
                shop.ask_in(session)
            raise ZeroDivisionError
        assert shop.rung() == []

    @pytest.mark.parametrize(
        ("kind", "limit"),
        [("TRIAGE", "light"), ("TRAIN", "heavy"), ("MIRROR", "heavy"), ("COLLECT", "heavy")],
    )
    def test_only_light_work_has_to_be_done_soon(self, runtime, kind, limit):
        shop = Shop(runtime)
        shop.ask(JobKind[kind])
        [message] = rq_queue(QUEUE_OF[JobKind[kind]], shop.queue.redis).jobs
        assert message.timeout == getattr(runtime.settings, f"{limit}_job_seconds")

    def test_training_and_evaluation_wait_in_a_queue_of_their_own(self, shop):
        shop.ask(JobKind.TRAIN)
        shop.ask(JobKind.EVALUATE)
        assert (len(shop.rung(HEAVY)), len(shop.rung(LIGHT))) == (2, 0)

    def test_a_set_is_built_while_a_remote_keeps_its_mirror_waiting(self, shop):
        mirror = shop.ask(JobKind.MIRROR)
        built = shop.ask(JobKind.CURATE)
        assert (shop.rung(REMOTE), shop.rung(LIGHT)) == ([f"{mirror}_0"], [f"{built}_0"])
        assert shop.queue.sweep() == 0

    def test_asking_needs_no_redis(self, shop):
        deaf = Redis.from_url("unix:///nonexistent")
        queue = JobQueue(shop.db, deaf, shop.runtime.settings)
        with shop.db.transaction() as session:
            job = queue.ask(session, JobKind.TRIAGE, shop.project, project_id=shop.project)
        assert (queue.sweep(), queue.workers(LIGHT)) == (0, 0)
        assert shop.queue.sweep() == 1
        assert shop.rung() == [f"{job}_0"]


class TestLeasing:
    def test_one_of_many_racing_threads_gets_the_lease(self, shop):
        job = shop.ask()
        leases = _race(lambda: shop.queue.lease(job))
        assert sum(lease is not None for lease in leases) == 1
        assert shop.job(job).attempts == 1

    def test_two_jobs_of_one_key_are_never_at_work_together(self, shop):
        first = shop.leased(key=KEY)
        second = shop.ask(key=KEY)
        assert shop.queue.lease(second) is None
        first.finish({})
        assert shop.queue.lease(second) is not None

    def test_one_training_of_a_project_is_at_work_at_a_time(self, shop):
        first, waiting = shop.leased(kind=JobKind.TRAIN), shop.ask(JobKind.TRAIN)
        assert shop.queue.lease(waiting) is None
        assert shop.leased(kind=JobKind.EVALUATE)
        elsewhere = Shop(shop.runtime, "elsewhere")
        assert elsewhere.leased(kind=JobKind.TRAIN)
        first.finish({})
        assert shop.queue.lease(waiting)

    def test_a_job_is_not_leased_before_it_is_due(self, shop):
        job = shop.ask()
        with shop.db.transaction() as session:
            session.get_one(Job, job).not_before += timedelta(hours=1)
        assert shop.queue.lease(job) is None

    def test_a_stale_lease_writes_nothing(self, shop):
        stale = shop.leased()
        with stale.transaction() as session:
            shop.publish(session)
        shop.expire(stale)
        shop.queue.sweep()
        fresh = shop.queue.lease(stale.job_id)
        for write in (lambda: stale.report(step=1), stale.extend, lambda: stale.finish({})):
            with pytest.raises(LeaseLost):
                write()
        with pytest.raises(LeaseLost), stale.transaction() as session:
            shop.publish(session)
        assert shop.events() == 1
        assert (fresh.fence, shop.job(stale.job_id).state) == (stale.fence + 1, JobState.LEASED)

    def test_without_the_fence_a_stale_lease_would_write(self, shop, monkeypatch):
        stale = shop.leased()
        shop.expire(stale)
        shop.queue.sweep()
        monkeypatch.setattr(Lease, "_hold", lambda lease, session: None)
        with stale.transaction() as session:
            shop.publish(session)
        assert shop.events() == 1

    def test_a_cancellation_waits_for_a_transaction_that_holds_the_lease(self, shop):
        lease = shop.leased()
        entered = threading.Event()

        def cancel() -> None:
            entered.wait()
            shop.queue.cancel(lease.job_id, actor="test")

        with ThreadPoolExecutor(1) as pool:
            cancelled = pool.submit(cancel)
            with lease.transaction() as session:
                entered.set()
                shop.publish(session)
                lease.queue.end(session, session.get_one(Job, lease.job_id), JobState.DONE)
        with pytest.raises(WrongState):
            cancelled.result()
        assert (shop.job(lease.job_id).state, shop.events()) == (JobState.DONE, 1)

    def test_an_extended_lease_is_not_taken_back(self, shop):
        lease = shop.leased()
        shop.expire(lease)
        lease.extend()
        shop.queue.sweep()
        assert shop.job(lease.job_id).state == JobState.LEASED


class TestSweeping:
    def test_an_expired_lease_is_taken_back_and_the_bell_rings_again(self, shop):
        lease = shop.leased()
        shop.queue.redis.flushall()
        shop.expire(lease)
        assert shop.queue.sweep() == 1
        job = shop.job(lease.job_id)
        assert (job.state, job.failure_code) == (JobState.PENDING, "worker_lost")
        assert shop.rung() == [f"{job.id}_{lease.fence}"]

    def test_a_message_that_redis_lost_is_sent_again_once(self, shop):
        jobs_asked = [shop.ask() for _ in range(3)]
        shop.queue.redis.flushall()
        assert [shop.queue.sweep(), shop.queue.sweep()] == [3, 0]
        assert shop.rung() == [f"{job}_0" for job in jobs_asked]

    def test_a_job_whose_workers_all_die_is_given_up(self, shop):
        job = shop.ask()
        for _ in range(3):
            shop.expire(shop.queue.lease(job))
            shop.queue.sweep()
        row = shop.job(job)
        assert (row.state, row.attempts, row.failure_code) == (JobState.DEAD, 3, "worker_lost")
        assert shop.queue.lease(job) is None

    def test_a_lost_job_that_was_asked_for_again_gives_way(self, shop):
        lease = shop.leased(key=KEY)
        newer = shop.ask(key=KEY)
        shop.expire(lease)
        shop.queue.sweep()
        assert shop.job(lease.job_id).state == JobState.CANCELLED
        assert shop.queue.lease(newer) is not None


class TestFailing:
    def test_a_poison_job_is_dead_after_all_its_attempts_and_keeps_the_reason(self, shop, monkeypatch):
        def break_down(_runtime: Runtime, _lease: Lease) -> dict[str, object]:
            raise ZeroDivisionError("poison")

        monkeypatch.setattr(jobs, "performer", lambda kind: break_down)
        job = shop.ask()
        performed = 0
        while lease := shop.queue.lease(job):
            performed += 1
            with suppress(ZeroDivisionError):
                jobs.perform(shop.runtime, lease)
        row = shop.job(job)
        assert (performed, row.attempts, row.max_attempts) == (3, 3, 3)
        assert (row.state, row.failure, row.failure_code) == (JobState.DEAD, "poison", "unexpected")

    def test_each_attempt_waits_twice_as_long_as_the_one_before(self, shop):
        patient = shop.runtime.settings.model_copy(update={"retry_seconds": 10, "max_attempts": 4})
        queue = JobQueue(shop.db, shop.queue.redis, patient)
        with shop.db.transaction() as session:
            job = queue.ask(session, JobKind.TRIAGE, shop.project, project_id=shop.project)
        waits = []
        for _ in range(3):
            lease = queue.lease(job)
            lease.fail(TryAgain("not up"), code="try_again")
            row = shop.job(job)
            waits.append(round((row.not_before - row.started_at).total_seconds(), -1))
            _make_due(shop, job)
        assert waits == [10, 20, 40]

    def test_a_refusal_is_not_tried_again(self, shop, monkeypatch):
        def refuse(_runtime: Runtime, _lease: Lease) -> dict[str, object]:
            raise WrongState("no tool is connected")

        monkeypatch.setattr(jobs, "performer", lambda kind: refuse)
        lease = shop.leased()
        jobs.perform(shop.runtime, lease)
        row = shop.job(lease.job_id)
        assert (row.state, row.attempts, row.failure_code) == (JobState.DEAD, 1, "wrong_state")

    def test_a_dead_job_can_be_tried_again(self, shop):
        lease = shop.leased()
        lease.bury(WrongState("no"), code="wrong_state")
        shop.queue.redis.flushall()
        shop.queue.retry(lease.job_id, actor="test")
        assert shop.rung() == [f"{lease.job_id}_{lease.fence}"]
        assert (shop.queue.lease(lease.job_id).fence, shop.job(lease.job_id).attempts) == (lease.fence + 1, 1)

    def test_only_dead_and_cancelled_jobs_can_be_tried_again(self, shop):
        with pytest.raises(WrongState, match="only dead and cancelled"):
            shop.queue.retry(shop.ask(), actor="test")
        with pytest.raises(NotFound):
            shop.queue.retry(uuid4(), actor="test")

    def test_a_dead_job_that_was_asked_for_again_is_not_tried_beside_the_other(self, shop):
        lease = shop.leased(key=KEY)
        lease.bury(WrongState("no"), code="wrong_state")
        other = shop.ask(key=KEY)
        with pytest.raises(WrongState, match=str(other)):
            shop.queue.retry(lease.job_id, actor="test")


class TestCancelling:
    def test_cancelling_voids_the_lease(self, shop):
        lease = shop.leased()
        shop.queue.cancel(lease.job_id, actor="test")
        with pytest.raises(LeaseLost):
            lease.finish({})
        assert not lease.is_ended()
        assert shop.job(lease.job_id).state == JobState.CANCELLED

    def test_a_cancelled_job_is_not_leased_although_its_message_waits(self, shop):
        job = shop.ask()
        shop.queue.cancel(job, actor="test")
        assert (shop.queue.lease(job), shop.rung()) == (None, [f"{job}_0"])

    def test_a_job_that_ended_cannot_be_cancelled(self, shop):
        lease = shop.leased()
        lease.finish({"asked": 1})
        with pytest.raises(WrongState, match="done already"):
            shop.queue.cancel(lease.job_id, actor="test")
        with pytest.raises(NotFound):
            shop.queue.cancel(uuid4(), actor="test")

    @pytest.mark.parametrize("end", ["finish", "cancel"])
    def test_a_job_that_is_finished_and_cancelled_at_once_ends_one_way(self, shop, end):
        for _ in range(CHOSEN.racing_threads):
            lease = shop.leased()
            both = [partial(lease.finish, {}), partial(shop.queue.cancel, lease.job_id, actor="test")]
            outcomes = _at_once(both if end == "finish" else both[::-1])
            assert sum(error is None for error in outcomes) == 1
            assert shop.job(lease.job_id).state in (JobState.DONE, JobState.CANCELLED)


class TestRowsOfJobs:
    def test_a_training_run_ends_with_its_job(self, shop):
        run = _training_run(shop)
        lease = shop.leased(kind=JobKind.TRAIN, row_id=run)
        lease.bury(WrongState("no criteria"), code="wrong_state")
        assert _run_of(shop, run) == (RunState.FAILED, "no criteria")
        shop.queue.retry(lease.job_id, actor="test")
        assert _run_of(shop, run) == (RunState.REQUESTED, None)
        shop.queue.cancel(lease.job_id, actor="test")
        assert _run_of(shop, run) == (RunState.CANCELLED, "cancelled")

    def test_a_finished_run_stays_finished_when_its_job_is_cancelled(self, shop):
        run = _training_run(shop)
        lease = shop.leased(kind=JobKind.TRAIN, row_id=run)
        with lease.transaction() as session:
            session.get_one(TrainingRun, run).state = RunState.FINISHED
        shop.queue.cancel(lease.job_id, actor="test")
        assert _run_of(shop, run) == (RunState.FINISHED, None)

    def test_an_evaluation_ends_with_its_job_and_a_judged_one_stays(self, shop):
        judged, running, version = _evaluations(shop)
        lease = shop.leased(kind=JobKind.EVALUATE, row_id=version)
        lease.bury(WrongState("no suite"), code="wrong_state")
        with shop.db.reading() as session:
            states = [session.get_one(Evaluation, each).state for each in (judged, running)]
        assert states == [EvaluationState.REFUSED, EvaluationState.FAILED]


class TestAllowList:
    """Whoever can write to Redis can only ask for our own jobs, by their id."""

    @pytest.fixture
    def perform(self, settings, any_redis_url, tmp_path) -> Callable[[type[RqJob]], None]:
        # Without tables, so that even a job of ours fails and its callback is due.
        environment = {"ERRATA_DATA_DIR": str(settings.data_dir)}

        def drained(message: type[RqJob]) -> None:
            process = fork(drain, any_redis_url, message, environment)
            process.join(60)
            assert process.exitcode == 0

        return drained

    @pytest.fixture
    def intruder(self, any_redis_url) -> Queue:
        with Redis.from_url(any_redis_url) as redis:
            yield Queue("errata-light", connection=redis, serializer=JSONSerializer)

    @pytest.mark.parametrize(("message", "is_run"), [(AllowedJob, False), (RqJob, True)])
    def test_a_foreign_function_or_callback_runs_only_without_the_allow_list(
        self, intruder, perform, tmp_path, message, is_run
    ):
        by_function, by_callback = tmp_path / "function", tmp_path / "callback"
        foreign = intruder.enqueue("os.mkdir", str(by_function))
        mark = Callback("tests.marks.make_folder")
        ours = intruder.enqueue(ENTRY, str(uuid7()), on_failure=mark, meta={"folder": str(by_callback)})
        by_pickle = tmp_path / "pickle"
        Queue("errata-light", connection=intruder.connection).enqueue(
            "os.mkdir", str(by_pickle)
        )  # as RQ's default is
        perform(message)
        assert not by_pickle.exists()
        assert (by_function.exists(), by_callback.exists()) == (is_run, is_run)
        failed = intruder.failed_job_registry.get_job_ids()
        assert (ours.id in failed, foreign.id in failed) == (True, not is_run)


def _race(call: Callable[[], object]) -> list[object]:
    barrier = threading.Barrier(CHOSEN.racing_threads)

    def run(_: int) -> object:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(CHOSEN.racing_threads) as pool:
        return list(pool.map(run, range(CHOSEN.racing_threads)))


def _at_once(calls: list[Callable[[], object]]) -> list[Exception | None]:
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        barrier.wait()
        call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [pending.exception() for pending in [pool.submit(run, call) for call in calls]]


def _make_due(shop: Shop, job_id: UUID) -> None:
    with shop.db.transaction() as session:
        session.get_one(Job, job_id).not_before = shop.db.now(session)


def _document(shop: Shop, session: Session, kind: DocumentKind) -> UUID:
    document = Document(
        project_id=shop.project, kind=kind, version=1, content={}, sha256="sha256:0", author="ann"
    )
    session.add(document)
    session.flush()
    return document.id


def _training_set(shop: Shop, session: Session) -> UUID:
    made = TrainingSet(
        project_id=shop.project, version=1, fingerprint="sha256:1", artifact="sha256:2", recipe={}, counts={}
    )
    session.add(made)
    session.flush()
    return made.id


def _training_run(shop: Shop) -> UUID:
    with shop.db.transaction() as session:
        run = TrainingRun(
            project_id=shop.project,
            training_set_id=_training_set(shop, session),
            criteria_id=_document(shop, session, DocumentKind.CRITERIA),
            spec={},
            seed=1,
        )
        session.add(run)
    return run.id


def _run_of(shop: Shop, run_id: UUID) -> tuple[RunState, str | None]:
    with shop.db.reading() as session:
        run = session.get_one(TrainingRun, run_id)
    return run.state, run.failure


def _evaluations(shop: Shop) -> tuple[UUID, UUID, UUID]:
    """Make a judged and a running evaluation of one model version."""
    with shop.db.transaction() as session:
        version = ModelVersion(
            project_id=shop.project, number=0, base_model="bundled:tiny", state=ModelState.CHAMPION
        )
        session.add(version)
        session.flush()
        facts = {
            "project_id": shop.project,
            "model_version_id": version.id,
            "champion_id": version.id,
            "training_set_id": _training_set(shop, session),
            "criteria_id": _document(shop, session, DocumentKind.CRITERIA),
            "rules_id": _document(shop, session, DocumentKind.GATE_RULES),
            "suite_id": _document(shop, session, DocumentKind.SUITE),
        }
        judged = Evaluation(**facts, state=EvaluationState.REFUSED)
        running = Evaluation(**facts)
        session.add_all([judged, running])
    return judged.id, running.id, version.id
