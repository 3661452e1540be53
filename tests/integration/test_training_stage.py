"""A training run that was cut off goes on as it began, whatever became of the champion meanwhile."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import torch
from sqlmodel import select

from retrain import parquet
from retrain.errors import BrokenArtifact, NoQuantization, RetrainError, RowsTooLong, WrongMethod
from retrain.types import Example, Kind, Message, Method, Split, TrainingSpec, content_hash
from service import jobs
from service.answers import consolidation
from service.errors import Invalid, WrongState
from service.jobs.torch_tools import TorchTools
from service.learning import probe_of
from service.queue import Lease
from service.runtime import Runtime
from service.stages import reproducing, training
from service.tables import (
    Job,
    JobKind,
    JobState,
    LedgerEntry,
    ModelState,
    ModelVersion,
    RunState,
    TrainingRun,
    TrainingSet,
)
from tests import builders
from tests.storage import flip_a_bit

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
PROBED = [replace(row, key=f"{row.key} again", split=Split.VALIDATION) for row in ROWS]
QUICK = {"epochs": 1, "replay_general": 0}
SLOW = {"epochs": 40, "learning_rate": 1e-7}  # a step an epoch


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
        self.folder = folder
        with runtime.db.transaction() as session:
            self.project = builders.add_project(session)
            builders.add_criteria(session, self.project)
            self.set = builders.add_set(session, self.project)
        self.fill([*ROWS, *PROBED])

    def fill(self, rows: list[Example]) -> None:
        parquet.write(rows, self.folder / "set.parquet")
        content = self.runtime.artifacts.put_bytes((self.folder / "set.parquet").read_bytes())
        with self.runtime.db.transaction() as session:
            session.get_one(TrainingSet, self.set.id).artifact = content

    def request(self, *, is_only_watched: bool = False, **options: object) -> UUID:
        with self.runtime.db.transaction() as session:
            training_set = session.get_one(TrainingSet, self.set.id)
            return training.request(
                self.runtime, session, training_set, QUICK | options, is_only_watched=is_only_watched
            ).id

    def lease(self, run_id: UUID) -> Lease:
        with self.runtime.db.reading() as session:
            job = session.exec(select(Job.id).where(Job.kind == JobKind.TRAIN, Job.row_id == run_id)).one()
        lease = self.runtime.queue.lease(job)
        assert lease is not None
        return lease

    def perform(self, run_id: UUID) -> dict:
        """Do a run's job to its end, good or bad, as workers do."""
        lease = self.lease(run_id)
        try:
            done = training.perform(self.runtime, lease, run_id, self.tools)
        except RetrainError as error:
            lease.bury(error, code="refused")
            raise
        lease.finish(done)
        return done

    def is_cut_off(self, run_id: UUID) -> None:
        lease, self.tools.is_doomed = self.lease(run_id), True
        with pytest.raises(WorkerLostError) as lost:
            training.perform(self.runtime, lease, run_id, self.tools)
        lease.fail(lost.value, code="worker_lost")
        self.tools.is_doomed = False

    def repeat(self, run_id: UUID) -> dict:
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(session, JobKind.REPRODUCE, run_id, project_id=self.project.id)
        lease = self.runtime.queue.lease(job)
        told = reproducing.perform(self.runtime, lease, run_id, self.tools.real)
        lease.finish(told)
        return told

    def make_champion(self, number: int) -> None:
        with self.runtime.db.transaction() as session:
            of_project = select(ModelVersion).where(ModelVersion.project_id == self.project.id)
            for model in session.exec(of_project):
                model.state = ModelState.CHAMPION if model.number == number else ModelState.RETIRED

    def job(self, lease: Lease) -> Job:
        with self.runtime.db.reading() as session:
            return session.get_one(Job, lease.job_id)

    def run(self, run_id: UUID) -> TrainingRun:
        with self.runtime.db.reading() as session:
            return session.get_one(TrainingRun, run_id)


@pytest.fixture
def workshop(runtime, tmp_path) -> Workshop:
    return Workshop(runtime, tmp_path)


def test_a_run_from_the_champion_that_was_cut_off_goes_on_from_the_same_parent(workshop, monkeypatch):
    monkeypatch.setattr(consolidation, "MOST_CONTINUED", 1)
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
        proposed = select(LedgerEntry.subject).where(LedgerEntry.action == "consolidation_proposed")
        assert session.exec(proposed).all() == [f"v{second['model_version']}"]
    assert numbered[second["model_version"]].parent_id == numbered[first["model_version"]].id


def test_a_run_that_finished_stays_so_when_its_job_is_tried_again(workshop):
    run_id = workshop.request()
    lease = workshop.lease(run_id)
    training.perform(workshop.runtime, lease, run_id, workshop.tools)
    workshop.runtime.queue.cancel(lease.job_id, actor="test")
    workshop.runtime.queue.retry(lease.job_id, actor="test")
    assert workshop.run(run_id).state is RunState.FINISHED
    assert workshop.perform(run_id) == {"state": RunState.FINISHED}


def test_a_run_that_is_repeated_gives_the_same_adapter_and_says_what_is_not_as_it_was(workshop):
    run_id = workshop.request()
    with pytest.raises(WrongState):
        workshop.repeat(run_id)
    made = workshop.perform(run_id)
    told = workshop.repeat(run_id)
    assert (told["is_equal"], told["adapter"], told["differs"]) == (True, made["adapter"], [])

    # As if another seed had been recorded, and another package installed then.
    run = workshop.run(run_id)
    lock = workshop.runtime.artifacts.get_bytes(run.package_lock).decode()
    older = workshop.runtime.artifacts.put_bytes(re.sub("torch==.*", "torch==1.0", lock).encode())
    with workshop.runtime.db.transaction() as session:
        row = session.get_one(TrainingRun, run_id)
        row.spec, row.package_lock = row.spec | {"seed": 99}, older
        row.environment = row.environment | {"cpu": "another"}
    told = workshop.repeat(run_id)
    assert not told["is_equal"]
    assert [each["input"] for each in told["differs"]] == ["cpu", "package torch"]
    assert workshop.run(run_id).report["reproduced"]["is_equal"] is False


PAIRS = [replace(row, kind=Kind.GENERATION, label=None, rejected="No idea.") for row in ROWS]


def test_a_run_learns_by_what_its_rows_can_teach_unless_a_person_says_otherwise(workshop):
    workshop.fill([*PAIRS[1:], replace(PAIRS[0], rejected=None)])
    made = workshop.request()
    workshop.is_cut_off(made)
    assert workshop.run(made).spec["method"] == "dpo"
    chosen = workshop.request(method="sft", targets="q_proj, v_proj")
    workshop.is_cut_off(chosen)
    assert "method" not in workshop.run(chosen).spec
    assert [seen.method for seen in workshop.tools.seen] == [Method.DPO, Method.SFT]
    assert workshop.tools.seen[1].targets == ("q_proj", "v_proj")


def test_verdicts_of_one_kind_are_refused_before_anything_is_asked_or_trained(workshop):
    wrong = [replace(row, rejected=None, is_wanted=False) for row in PAIRS]
    workshop.fill(wrong)
    with pytest.raises(WrongMethod, match="no answer was judged right"):
        workshop.perform(workshop.request(replay_general=40))
    assert workshop.tools.seen == []
    workshop.fill([*wrong, replace(PAIRS[0], answer="Ask the desk.", rejected=None)])
    workshop.is_cut_off(workshop.request())
    assert workshop.tools.seen[0].method is Method.KTO


def test_what_a_lost_lease_says_of_its_failure_changes_nothing(workshop):
    lease = workshop.lease(workshop.request())
    workshop.runtime.queue.cancel(lease.job_id, actor="test")
    for tell in (lease.fail, lease.bury):
        tell(WorkerLostError("late"), code="worker_lost")
    with workshop.runtime.db.reading() as session:
        assert session.get_one(Job, lease.job_id).failure == "cancelled"


def test_an_unhealthy_run_is_stopped_with_its_reason_and_not_tried_again(workshop):
    run_id = workshop.request(**SLOW)
    lease = workshop.lease(run_id)
    jobs.perform(workshop.runtime, lease)
    run, job = workshop.run(run_id), workshop.job(lease)
    assert (run.state, job.state, job.failure_code) == (RunState.FAILED, JobState.DEAD, "unhealthy")
    assert run.failure == job.failure == run.report["health"]["sentence"]
    assert run.failure.startswith("The run is too slow at step 21 of 40: ")
    assert run.report["health"]["learning_rate"] == 1e-6
    assert len(run.report["losses"]) == 21
    assert [step for step, _ in run.report["probes"]] == [0, 5, 10, 15, 20]


def test_a_run_that_is_only_watched_goes_on_and_tells_of_its_health(workshop):
    run_id = workshop.request(is_only_watched=True, **SLOW)
    workshop.perform(run_id)
    run = workshop.run(run_id)
    assert run.state is RunState.FINISHED
    assert (run.report["health"]["name"], run.report["health"]["step"]) == ("too slow", 21)
    assert len(run.report["losses"]) == 40


def test_validation_rows_of_a_few_are_not_asked(workshop):
    assert probe_of(ROWS, 0) == []
    assert len(probe_of(PROBED, 0)) == 8
    assert probe_of(PROBED[1:], 0) == []


def test_rows_that_are_too_long_are_named_before_a_step_is_done(workshop):
    long = replace(ROWS[0], key="long", messages=(Message("user", "my bill " * 300),))
    workshop.fill([*ROWS, long])
    run_id = workshop.request()
    name = re.escape(content_hash(long)[:19])
    with pytest.raises(RowsTooLong, match=f"of 1 rows the tokens are more: {name} .* raise it to"):
        workshop.perform(run_id)
    assert workshop.run(run_id).report == {}


def test_four_bits_a_weight_without_a_gpu_are_refused_with_the_remedy(workshop, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Invalid, match="base_bits: 8 is neither 4 nor 16"):
        workshop.request(base_bits=8)
    with pytest.raises(NoQuantization, match="no GPU that torch can use; train with 16"):
        workshop.perform(workshop.request(base_bits=4))


def test_an_adapter_of_which_a_bit_was_changed_is_not_gone_on_from(workshop):
    first = workshop.perform(workshop.request())
    workshop.make_champion(first["model_version"])
    workshop.runtime.artifacts.fetch_directory(first["adapter"], workshop.folder / "kept")
    weights = (workshop.folder / "kept" / "adapter_model.safetensors").read_bytes()
    flip_a_bit(workshop.runtime.settings.data_dir, hashlib.sha256(weights).hexdigest())
    with pytest.raises(BrokenArtifact):
        workshop.perform(workshop.request(mode="continue"))


def test_the_engine_of_several_processes_makes_a_challenger_too(workshop):
    settings = workshop.runtime.settings.model_copy(update={"engine": "accelerate"})
    workshop.runtime = replace(workshop.runtime, settings=settings)
    workshop.tools = Tools(TorchTools(settings))
    run_id = workshop.request()
    assert workshop.perform(run_id)["model_version"] == 1
    done = workshop.run(run_id)
    assert (len(done.report["losses"]), done.environment["processes"]) == (1, 2)
