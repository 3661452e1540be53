"""Trials of a search for better settings: a process each, of which nothing is left however it ends."""

import multiprocessing
import os
import resource
import shutil
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from retrain.errors import Cancelled, RetrainError, TrainingBroke
from retrain.metrics import metric_named
from retrain.tuning.plan import GivenUp, Outcome, Watch
from retrain.tuning.task import Task
from retrain.types import Progress, TrainingSpec
from service.jobs.torch_tools import TorchTools
from service.learning import learn, probe_of
from service.runtime import build
from service.settings import Settings

POLL_SECONDS = 0.5


def run(
    settings: Settings,
    spec: TrainingSpec,
    task: Task,
    *,
    folder: Path,
    watch: Watch,
    seconds: float | None,
    is_cancelled: Callable[[], bool],
) -> Outcome:
    """Train and score one spec in a process of its own; `folder` is its own, too, and goes with it.

    Raises:
        GivenUp: `watch` said so, or the seconds are over.
        TrainingBroke: training failed, or the process died.
        Cancelled: `is_cancelled` said so.
    """
    # Forked from a server that has loaded torch and does nothing else: no threads, and no memory of earlier trials.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, settings, spec, task, folder), name="trial")
    shutil.rmtree(folder, ignore_errors=True)
    process.start()
    theirs.close()
    until = None if seconds is None else time.monotonic() + seconds
    try:
        while True:
            if is_cancelled():
                raise Cancelled("the search was cancelled")
            if until is not None and time.monotonic() > until:
                raise GivenUp("the budget of seconds was spent")
            if ours.poll(POLL_SECONDS) and (outcome := _heard(ours, process, watch)):
                process.join(POLL_SECONDS)
                return outcome
    finally:
        process.kill()
        process.join()
        ours.close()
        shutil.rmtree(folder, ignore_errors=True)


def _heard(pipe: Connection, process: BaseProcess, watch: Watch) -> Outcome | None:
    """Take one message of a trial: how far it is, what it came to, or why it failed."""
    try:
        said = pipe.recv()
    except EOFError as error:
        process.join()
        raise TrainingBroke(f"the trial's process ended with status {process.exitcode}") from error
    if isinstance(said, RetrainError):
        raise TrainingBroke(str(said))
    if isinstance(said, Outcome):
        return said
    watch(*said)
    return None


def _work(pipe: Connection, settings: Settings, spec: TrainingSpec, task: Task, folder: Path) -> None:
    """Do one trial in this process, and tell of it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        pipe.send(_outcome(pipe, settings, spec, task, folder))
    except RetrainError as error:
        pipe.send(TrainingBroke(str(error)))


def _outcome(pipe: Connection, settings: Settings, spec: TrainingSpec, task: Task, folder: Path) -> Outcome:
    began = time.monotonic()
    tools = TorchTools(settings)
    told: set[int] = set()

    def tell(progress: Progress) -> None:
        for step in sorted(progress.probes.keys() - told):
            told.add(step)
            pipe.send((step / progress.steps, progress.probes[step]))

    learned = learn(
        build(settings),
        tools,
        spec,
        rows=task.rows,
        earlier=task.earlier,
        work=folder,
        probe=probe_of(task.rows, spec.seed),
        report=tell,
        is_cancelled=lambda: False,
    )
    score, kept, known = task.score(tools.open(spec.base_model, spec.system_prompt), Path(learned.directory))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Outcome(
        score=score,
        is_higher_better=metric_named(task.metric).is_higher_better,
        kept=kept,
        seconds=time.monotonic() - began,
        cpu_seconds=used.ru_utime + used.ru_stime,
        known=known,
    )


def _end_with_parent() -> None:
    """End this process when the one that asked for the trial does, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(os.EX_TEMPFAIL)
