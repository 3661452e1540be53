"""Whatever is killed, frozen or emptied while jobs run, each job is done once in effect."""

import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis

from service.runtime import Runtime, build
from service.settings import Settings
from service.tables import JobState
from tests.killed_runs import forgetful, momentless, prepare
from tests.kills import KILLS, round_of_kills
from tests.repetitions import CHOSEN
from tests.servers import start_valkey
from tests.waiting import eventually
from tests.workers import Crew, beatless, crew, kill_parent, signal_both, unforked, untied


@pytest.fixture
def kill_settings(settings: Settings) -> Settings:
    """A lease that a loaded machine does not lose by accident."""
    return settings.model_copy(update={"lease_seconds": 2})


@pytest.fixture
def kill_runtime(kill_settings: Settings, migrated_sqlite: Path) -> Iterator[Runtime]:
    """A runtime on a SQLite file in the data directory and an empty queue."""
    kill_settings.data_dir.mkdir()
    (kill_settings.data_dir / "errata.db").write_bytes(migrated_sqlite.read_bytes())
    runtime = build(kill_settings)
    runtime.queue.redis.flushall()
    yield runtime
    runtime.db.close()
    runtime.queue.redis.close()


@pytest.fixture
def workers(kill_runtime: Runtime, tmp_path: Path) -> Iterator[Crew]:
    """The installation's workers, none so far."""
    with crew(kill_runtime, tmp_path) as made:
        yield made


def test_a_job_whose_worker_is_killed_is_done_once_in_effect(workers):
    project = workers.project()
    rounds = [round_of_kills(workers, project) for _ in range(CHOSEN.kill_rounds)]
    killed = [kill for one in rounds for kill in one]
    assert len(killed) == CHOSEN.kill_rounds * len(KILLS)
    assert [kill.problems for kill in killed] == [()] * len(killed)


def test_a_run_whose_worker_is_killed_goes_on_and_publishes_one_adapter_of_the_same_bytes(workers):
    trainings = prepare(workers, seed=0)
    expected = trainings.undisturbed()
    killed = [one for _ in range(CHOSEN.killed_trainings) for one in trainings.killed(expected)]
    assert len(killed) == 6
    assert [one.problems for one in killed] == [()] * len(killed)
    # What would not be told by one that finishes: no checkpoint read, or only half of one.
    assert trainings.killed_of(forgetful, expected).problems == ("trained anew",)
    assert trainings.killed_of(momentless, expected).problems == ("another adapter",)


def test_a_work_horse_dies_with_its_worker_at_once(workers):
    workers.target = beatless
    process = workers.start()
    attempt = workers.holding(workers.ask(workers.project(), hold=True))
    kill_parent(process)
    eventually(lambda: not attempt.is_alive, seconds=5)


def test_without_the_tie_a_work_horse_outlives_its_worker_and_only_the_fence_protects(workers):
    workers.target = untied
    project = workers.project()
    process = workers.start()
    job = workers.ask(project, hold=True)
    orphan = workers.holding(job)
    kill_parent(process)
    workers.start()
    workers.finish([job])
    assert orphan.is_alive
    assert [attempt.is_alone for attempt in workers.attempts(job)] == [True, False]
    (workers.folder / "release").touch()
    eventually(lambda: not orphan.is_alive)
    assert workers.steps(job) == [0, 1, 2]


def test_a_worker_that_thaws_after_its_lease_ended_publishes_nothing(workers):
    project = workers.project()
    frozen = workers.start()
    job = workers.ask(project, hold=True)
    first = workers.holding(job)
    signal_both(frozen, signal.SIGSTOP)
    workers.start()
    workers.finish([job])
    done = workers.job(job)
    (workers.folder / "release").touch()
    signal_both(frozen, signal.SIGCONT)
    eventually(lambda: not first.is_alive)
    assert workers.steps(job) == [0, 1, 2]
    assert workers.job(job) == done


def test_a_job_that_hangs_is_ended_when_its_time_is_over_and_tried_again(workers):
    hurried = workers.runtime.settings.model_copy(update={"light_job_seconds": 1})
    workers.runtime = replace(workers.runtime, queue=replace(workers.runtime.queue, settings=hurried))
    workers.start()
    job = workers.ask(workers.project(), hold=True)
    first = workers.holding(job)
    workers.finish([job])
    assert not (workers.folder / "release").exists() and not first.is_alive
    assert workers.job(job).attempts == 2
    assert workers.steps(job) == [0, 1, 2]


def test_a_worker_that_is_told_to_stop_ends_its_job_first_and_takes_no_other(workers):
    worker = workers.start()
    project = workers.project()
    job = workers.ask(project, hold=True)
    attempt = workers.holding(job)
    next_one = workers.ask(project)
    worker.terminate()
    (workers.folder / "release").touch()
    worker.join(20)
    assert (worker.exitcode, attempt.is_alive) == (0, False)
    assert (workers.job(job).state, workers.job(job).attempts) == (JobState.DONE, 1)
    assert (workers.job(next_one).state, workers.job(next_one).attempts) == (JobState.PENDING, 0)


def test_a_cancelled_job_ends_its_process_within_five_seconds(workers):
    workers.start()
    job = workers.ask(workers.project(), hold=True)
    attempt = workers.holding(job)
    workers.runtime.queue.cancel(job, actor="test")
    eventually(lambda: not attempt.is_alive, seconds=5)
    row = workers.job(job)
    assert (row.state, row.failure) == (JobState.CANCELLED, "cancelled")
    assert workers.steps(job) == [0]


def test_a_cancelled_job_ends_without_redis_too(workers):
    workers.start()
    job = workers.ask(workers.project(), hold=True)
    attempt = workers.holding(job)
    deaf = Redis.from_url("unix:///nonexistent")
    type(workers.runtime.queue)(workers.runtime.db, deaf, workers.runtime.settings).cancel(job, actor="test")
    eventually(lambda: not attempt.is_alive, seconds=5)
    assert workers.job(job).state == JobState.CANCELLED


@pytest.fixture
def own_valkey(kill_settings: Settings, migrated_sqlite: Path, tmp_path: Path) -> Iterator["Bell"]:
    """An installation whose Valkey may be killed."""
    settings = kill_settings.model_copy(update={"redis_url": ""})
    settings.data_dir.mkdir()
    (settings.data_dir / "errata.db").write_bytes(migrated_sqlite.read_bytes())
    bell = Bell(settings)
    yield bell
    bell.kill()


class Bell:
    """The bundled Valkey of one installation."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ring()

    def ring(self) -> None:
        self.process = start_valkey(self.settings.data_dir)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def remote(own_valkey: "Bell", tmp_path: Path) -> Iterator[Crew]:
    """The workers of an installation whose Valkey may be killed."""
    runtime = build(own_valkey.settings)
    with crew(runtime, tmp_path) as made:
        yield made
    runtime.db.close()
    runtime.queue.redis.close()


def test_jobs_outlive_a_flushed_and_a_killed_valkey(remote, own_valkey):
    remote.target, release = unforked, remote.folder / "release"
    project, middle = remote.project(), CHOSEN.pending_jobs // 2
    jobs = [remote.ask(project, steps=1, hold=n in (0, middle)) for n in range(CHOSEN.pending_jobs)]
    remote.staff(1)
    remote.holding(jobs[0])
    remote.runtime.queue.redis.flushall()
    release.touch()
    eventually(lambda: remote.job(jobs[0]).state is JobState.DONE)
    release.unlink()
    assert remote.waiting() == 0
    assert remote.count(JobState.PENDING) == len(jobs) - 1, "without a sweep nobody rings again"

    assert remote.runtime.queue.sweep() == len(jobs) - 1
    remote.holding(jobs[middle])
    own_valkey.kill()
    assert remote.runtime.queue.sweep() == 0
    own_valkey.ring()
    release.touch()
    remote.staff(2)
    remote.finish(jobs, seconds=120)
    assert [remote.steps(job) for job in jobs] == [[0]] * len(jobs)
    assert remote.count(JobState.DONE) == len(jobs)


def test_a_running_job_outlives_valkey(remote, own_valkey):
    remote.start()
    job = remote.ask(remote.project(), hold=True)
    attempt = remote.holding(job)
    own_valkey.kill()
    # Longer than RQ waits between two heartbeats to Redis.
    later = remote.job(job).lease_until + timedelta(seconds=2)
    eventually(lambda: remote.job(job).lease_until > later)
    assert attempt.is_alive
    own_valkey.ring()
    (remote.folder / "release").touch()
    remote.finish([job])
    assert remote.job(job).attempts == 1
