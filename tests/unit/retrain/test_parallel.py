"""One run in several processes: the curve of one, and an end in every case."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from retrain import parallel
from retrain.base_models import BaseModel
from retrain.errors import Cancelled, TrainingBroke, WrongTargets
from retrain.types import Message, Method, Progress, TrainedAdapter, TrainingSpec
from tests.unit.retrain.conftest import toy_rows, write_rows
from tests.unit.retrain.test_lora import all_bytes
from tests.unit.retrain.test_methods import OTHER
from tests.waiting import eventually

Run = Callable[..., TrainedAdapter]
REPLAY = [([Message("user", "What is two plus three?")], "Five.")]


@pytest.fixture
def in_two(tmp_path: Path, tiny: BaseModel) -> Run:
    """Train on the toy rows in two processes."""

    def run(spec: TrainingSpec, *, name: str = "two", **asked: Any):
        return train_in_two(spec, tiny, tmp_path / name, **asked)

    return run


def train_in_two(
    spec: TrainingSpec,
    tiny: BaseModel,
    folder: Path,
    *,
    report=lambda _: None,
    is_cancelled=lambda: False,
    **rows: Sequence[object],
) -> TrainedAdapter:
    """Train in two processes below this one, on rows in a folder."""
    folder.mkdir(exist_ok=True)
    return parallel.train(
        spec,
        processes=2,
        base=tiny,
        examples=write_rows(folder / "rows.parquet", toy_rows(84), **rows),
        replay=REPLAY,
        probe=[([Message("user", text)], label) for text, label in toy_rows(12, seed=2)],
        output=folder / "adapter",
        checkpoints=folder / "checkpoints",
        parent=None,
        report=report,
        is_cancelled=is_cancelled,
    )


@contextmanager
def held_open(pid: int) -> Iterator[None]:
    """Hold the pipes that a process hears and tells by, as if whoever has their other ends were still there."""
    ends = [
        os.open(f"/proc/{pid}/fd/{number}", flags) for number, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY))
    ]
    try:
        yield
    finally:
        for end in ends:
            os.close(end)


class Seen:
    """The processes that a run was seen to have, which leave this test's family where their launcher dies."""

    def __init__(self) -> None:
        self.others = family()
        self.pids: set[int] = set()

    def look(self) -> set[int]:
        found = family() - self.others
        self.pids |= found
        return found

    def are_gone(self) -> bool:
        return not any(map(is_alive, self.pids))


def family() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_two_processes_learn_what_one_does(quick_run: Run, in_two: Run, spec: TrainingSpec):
    plain = replace(spec, dropout=0.0)
    steps: list[Progress] = []
    together = in_two(plain, report=steps.append)
    alone = quick_run(
        plain,
        rows=toy_rows(84),
        replay=REPLAY,
        probe=toy_rows(12, seed=2),
        report=(told := []).append,
    )
    assert together.losses == pytest.approx(alone.losses, rel=0.02)
    assert together.tokens == alone.tokens
    assert [one.step for one in steps] == list(range(1, 12))
    assert steps[-1].norms == pytest.approx(told[-1].norms, rel=0.1)
    assert steps[-1].probes == pytest.approx(told[-1].probes, rel=0.02)
    assert all_bytes(together).keys() == all_bytes(alone).keys()


@pytest.mark.parametrize("method", [Method.DPO, Method.KTO])
def test_pairs_and_verdicts_are_learned_alike_in_two_processes(
    quick_run: Run, in_two: Run, spec: TrainingSpec, method: Method
):
    plain, rows = replace(spec, method=method, dropout=0.0), toy_rows(84)
    given = {
        Method.DPO: {"rejected": [OTHER[label] for _, label in rows]},
        Method.KTO: {"wanted": [label != "Billing" for _, label in rows]},
    }[method]
    alone = quick_run(plain, rows=rows, replay=REPLAY, **given)
    assert in_two(plain, **given).losses == pytest.approx(alone.losses, rel=0.02)


def test_a_killed_process_ends_the_run_and_another_goes_on_from_its_checkpoint(
    in_two: Run, spec: TrainingSpec
):
    seen, long = Seen(), replace(spec, epochs=6)

    def kill_one(progress: Progress) -> None:
        if progress.step == 6:
            os.kill(max(seen.look()), signal.SIGKILL)

    undisturbed = in_two(long, name="undisturbed")
    with pytest.raises(TrainingBroke, match="a training process ended with status 1: "):
        in_two(long, report=kill_one)
    eventually(seen.are_gone, 10)
    steps: list[Progress] = []
    assert all_bytes(in_two(long, report=steps.append)) == all_bytes(undisturbed)
    assert steps[0].step > 4


def test_processes_end_with_who_started_them_and_leave_nothing(
    tiny: BaseModel, spec: TrainingSpec, tmp_path: Path, monkeypatch
):
    (scratch := tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    context, folder = multiprocessing.get_context("spawn"), tmp_path / "run"
    starter = context.Process(target=train_in_two, args=(replace(spec, epochs=1000), tiny, folder))
    starter.start()
    checkpoint = folder / "checkpoints" / "checkpoint.pt"
    eventually(checkpoint.exists, 60)
    [launcher] = psutil.Process(starter.pid).children()
    pids = [launcher.pid, *(child.pid for child in launcher.children(recursive=True))]
    with held_open(launcher.pid):
        starter.kill()
        starter.join()
        written = checkpoint.stat().st_mtime_ns
        # The control: only the pipes tell them, and without that they go on.
        eventually(lambda: checkpoint.stat().st_mtime_ns > written + 10**9, 60)
        assert len(pids) > 2 and all(map(is_alive, pids))
    eventually(lambda: not any(map(is_alive, pids)), 20)
    assert not list(scratch.iterdir())


def test_what_is_refused_has_its_name_and_a_cancelled_run_leaves_no_process(in_two: Run, spec: TrainingSpec):
    with pytest.raises(WrongTargets, match="the base has no layer wrong"):
        in_two(replace(spec, targets=("wrong",)))
    seen = Seen()
    with pytest.raises(Cancelled):
        in_two(spec, is_cancelled=lambda: len(seen.look()) > 2)
    assert len(seen.pids) > 2
    eventually(seen.are_gone, 10)
