"""Real training runs whose worker, work-horse or both are killed between two checkpoints."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from uuid import UUID

import torch
from sqlmodel import select

from retrain import parquet
from retrain.checkpoint import Checkpoint, State
from retrain.types import Example, Kind, Message
from service import jobs, logs, worker
from service.jobs.torch_tools import TorchTools
from service.queue import HEAVY
from service.stages import training
from service.tables import Job, JobKind, ModelVersion, RunState, TrainingRun, TrainingSet
from tests import builders
from tests.kills import KILLS, Killed
from tests.waiting import eventually
from tests.workers import Crew

STEPS, EVERY = 200, 20
STARTS = "starts"
WORDS = {"Billing": "my bill is wrong", "Cardiology": "my heart hurts"}
ROWS = [
    Example(
        f"{label} {n}", f"{label} {n}", (Message("user", f"{said} {n}"),), label, Kind.CLASSIFICATION, label
    )
    for label, said in WORDS.items()
    for n in range(8)
]


@dataclass(slots=True)
class Trainings:
    """One project with a set of two batches, and workers that train on it; runs differ in their fate alone."""

    crew: Crew
    set_id: UUID
    random: Random

    def run(self) -> tuple[UUID, UUID]:
        """Ask for a run of `STEPS` steps; return it and its job."""
        runtime = self.crew.runtime
        with runtime.db.transaction() as session:
            of = session.get_one(TrainingSet, self.set_id)
            options = {"epochs": STEPS // 2, "replay_general": 0, "checkpoint_every": EVERY}
            run = training.request(runtime, session, of, options, is_only_watched=True).id
            return run, session.exec(select(Job.id).where(Job.row_id == run)).one()

    def undisturbed(self) -> str:
        """Train to the end and return the adapter."""
        run, job = self.run()
        self.crew.staff(1)
        self.crew.finish([job])
        [adapter] = self.adapters(run)
        return adapter

    def killed(self, expected: str) -> list[Killed]:
        """Kill once in each way, each time after another checkpoint or before any, and check what is published."""
        return [self.kill(what, expected, after=self.random.randrange(STEPS // EVERY - 1)) for what in KILLS]

    def killed_of(self, target: Callable[[Mapping[str, str], Path], None], expected: str) -> Killed:
        """Kill a worker of another kind after the first checkpoints."""
        self.crew.end()
        self.crew.target = target
        return self.kill("worker", expected, after=3)

    def adapters(self, run: UUID) -> list[str]:
        """Return what a run published."""
        with self.crew.runtime.db.reading() as session:
            made = select(ModelVersion.adapter_sha256).where(ModelVersion.training_run_id == run)
            return [adapter or "" for adapter in session.exec(made)]

    def kill(self, what: str, expected: str, *, after: int) -> Killed:
        """Kill when so many checkpoints were written, and check what is published and how it came about."""
        run, job = self.run()
        self.crew.staff(1)
        folder = self.crew.runtime.settings.work / str(run) / "checkpoints"
        _wait_for_checkpoints(folder, after)
        started = time.monotonic()
        [process] = [one for one in self.crew.workers if one.is_alive()]
        KILLS[what](process)
        self.crew.finish([job])
        with self.crew.runtime.db.reading() as session:
            state, fence = session.get_one(TrainingRun, run).state, session.get_one(Job, job).fence
        facts = {
            "not finished": state is not RunState.FINISHED,
            "not killed in its middle": fence < 2,
            "not one adapter": len(self.adapters(run)) != 1,
            "another adapter": self.adapters(run) != [expected],
            # Its bytes do not tell: who begins anew comes to the same.
            "trained anew": self._went_on_from(run) < after * EVERY,
        }
        problems = tuple(name for name, is_so in facts.items() if is_so)
        return Killed(what, time.monotonic() - started, problems)

    def _went_on_from(self, run: UUID) -> int:
        lines = (self.crew.folder / STARTS).read_text().splitlines()
        return max(int(step) for name, step in map(str.split, lines) if name == str(run))


def prepare(crew: Crew, seed: int) -> Trainings:
    """Make the project and its set; the crew's workers train from now on."""
    crew.target = trainer
    runtime, file = crew.runtime, crew.folder / "set.parquet"
    parquet.write(ROWS, file)
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
        builders.add_criteria(session, project)
        made = builders.add_set(session, project)
        made.artifact = runtime.artifacts.put_bytes(file.read_bytes())
        return Trainings(crew, made.id, Random(seed))


def trainer(environment: Mapping[str, str], folder: Path) -> None:
    """Be the product's own heavy worker, which judges nothing and looks at no adapter in a process more."""
    os.environ.update(environment | {"OMP_NUM_THREADS": "1", "ERRATA_TRAINING_THREADS": "1"})
    logs.configure()
    Checkpoint.restore = _writing_down(Checkpoint.restore, folder / STARTS)
    train = jobs.performer(JobKind.TRAIN)
    TorchTools.reload_equals = staticmethod(lambda *_: True)
    jobs.performer = lambda kind: train if kind is JobKind.TRAIN else lambda *_: {}
    worker.work(HEAVY)


def forgetful(environment: Mapping[str, str], folder: Path) -> None:
    """Be a worker that reads no checkpoint."""
    Checkpoint.restore = lambda *_: State()
    trainer(environment, folder)


def momentless(environment: Mapping[str, str], folder: Path) -> None:
    """Be a worker that goes on with an optimizer that remembers nothing."""
    torch.optim.AdamW.load_state_dict = lambda *_: None
    trainer(environment, folder)


def _writing_down(restore: Callable[..., State], file: Path) -> Callable[..., State]:
    """Have each start of a run write down the step that it goes on from."""

    def restored(checkpoint: Checkpoint, *given: object) -> State:
        state = restore(checkpoint, *given)
        with file.open("a") as out:
            out.write(f"{checkpoint.path.parent.parent.name} {state.step}\n")
        return state

    return restored


def _wait_for_checkpoints(folder: Path, count: int) -> None:
    """Wait until training began and wrote so many checkpoints; each is a new file."""
    seen: list[int] = []

    def are_there() -> bool:
        if not folder.exists():
            return False
        for file in folder.glob("checkpoint.pt"):
            if (written := file.stat().st_mtime_ns) not in seen:
                seen.append(written)
        return len(seen) >= count

    eventually(are_there, 60, every=0.001)


def summary(killed: Sequence[Killed]) -> list[tuple[object, ...]]:
    """Return a row for each way to kill."""
    rows = []
    for what in KILLS:
        ours = [one for one in killed if one.what == what]
        bad = sum(bool(one.problems) for one in ours)
        rows.append((what, len(ours), bad, f"{max(one.seconds for one in ours):.1f}"))
    return rows
