"""A training run that was cut off goes on as it began, whatever became of the champion meanwhile."""

from pathlib import Path
from uuid import UUID

import pytest
from sqlmodel import select

from retrain import parquet
from retrain.types import Example, Kind, Message, TrainingSpec
from service.jobs.torch_tools import TorchTools
from service.queue import Lease
from service.runtime import Runtime
from service.stages import training
from service.tables import Job, JobKind, ModelState, ModelVersion, RunState, TrainingRun, TrainingSet
from tests import builders

SAID = {"Billing": "my bill is wrong", "Cardiology": "my heart hurts"}
ROWS = [
    Example(
        key=f"{label} {number}",
        group=f"{label} {number}",
        messages=(Message("user", f"{text} {number}"),),
        answer=label,
        label=label,
        kind=Kind.CLASSIFICATION,
    )
    for label, text in SAID.items()
    for number in range(4)
]
QUICK = {"epochs": 1, "replay_general": 0}


class WorkerLostError(Exception):
    """Stands for a process that ended."""


class Tools:
    """The real tools; told to, a worker is lost as soon as training begins."""

    def __init__(self, real: TorchTools) -> None:
        self.real = real
        self.seen: list[TrainingSpec] = []
        self.is_doomed = False

    def __getattr__(self, name: str):
        return getattr(self.real, name)

    def train(self, spec: TrainingSpec, **given):
        self.seen.append(spec)
        if self.is_doomed:
            raise WorkerLostError
        return self.real.train(spec, **given)


class Workshop:
    """One project with a training set, and a worker that trains on it."""

    def __init__(self, runtime: Runtime, folder: Path) -> None:
        self.runtime, self.tools = runtime, Tools(TorchTools(runtime.settings))
        parquet.write(ROWS, folder / "set.parquet")
        with runtime.db.transaction() as session:
            self.project = builders.add_project(session)
            builders.add_criteria(session, self.project)
            self.set = builders.add_set(session, self.project)
            self.set.artifact = runtime.artifacts.put_bytes((folder / "set.parquet").read_bytes())

    def request(self, **options: object) -> UUID:
        with self.runtime.db.transaction() as session:
            training_set = session.get_one(TrainingSet, self.set.id)
            return training.request(self.runtime, session, training_set, QUICK | options).id

    def lease(self, run_id: UUID) -> Lease:
        with self.runtime.db.reading() as session:
            job = session.exec(select(Job.id).where(Job.kind == JobKind.TRAIN, Job.row_id == run_id)).one()
        lease = self.runtime.queue.lease(job)
        assert lease is not None
        return lease

    def perform(self, run_id: UUID) -> dict:
        lease = self.lease(run_id)
        return training.perform(self.runtime, lease, run_id, self.tools)

    def is_cut_off(self, run_id: UUID) -> None:
        lease, self.tools.is_doomed = self.lease(run_id), True
        with pytest.raises(WorkerLostError) as lost:
            training.perform(self.runtime, lease, run_id, self.tools)
        lease.fail(lost.value, code="worker_lost")
        self.tools.is_doomed = False

    def make_champion(self, number: int) -> None:
        with self.runtime.db.transaction() as session:
            of_project = select(ModelVersion).where(ModelVersion.project_id == self.project.id)
            for model in session.exec(of_project):
                model.state = ModelState.CHAMPION if model.number == number else ModelState.RETIRED

    def run(self, run_id: UUID) -> TrainingRun:
        with self.runtime.db.reading() as session:
            return session.get_one(TrainingRun, run_id)


@pytest.fixture
def workshop(runtime, tmp_path) -> Workshop:
    return Workshop(runtime, tmp_path)


def test_a_run_from_the_champion_that_was_cut_off_goes_on_from_the_same_parent(workshop):
    first = workshop.perform(workshop.request())
    workshop.make_champion(first["model_version"])
    run_id = workshop.request(mode="continue")
    workshop.is_cut_off(run_id)
    workshop.make_champion(0)

    second = workshop.perform(run_id)

    begun, resumed = workshop.tools.seen[1:]
    assert begun == resumed
    assert resumed.parent_adapter == first["adapter"]
    assert workshop.run(run_id).state is RunState.FINISHED
    with workshop.runtime.db.reading() as session:
        numbered = {model.number: model for model in session.exec(select(ModelVersion))}
    assert numbered[second["model_version"]].parent_id == numbered[first["model_version"]].id


def test_a_run_that_finished_stays_so_when_its_job_is_tried_again(workshop):
    run_id = workshop.request()
    lease = workshop.lease(run_id)
    training.perform(workshop.runtime, lease, run_id, workshop.tools)
    workshop.runtime.queue.cancel(lease.job_id, actor="test")
    workshop.runtime.queue.retry(lease.job_id, actor="test")
    assert workshop.run(run_id).state is RunState.FINISHED
    assert workshop.perform(run_id) == {"state": RunState.FINISHED}


def test_what_a_lost_lease_says_of_its_failure_changes_nothing(workshop):
    lease = workshop.lease(workshop.request())
    workshop.runtime.queue.cancel(lease.job_id, actor="test")
    for tell in (lease.fail, lease.bury):
        tell(WorkerLostError("late"), code="worker_lost")
    with workshop.runtime.db.reading() as session:
        assert session.get_one(Job, lease.job_id).failure == "cancelled"
