"""Beside the loop: a finished run is trained again from what it recorded, to see whether it makes the same adapter."""

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from sqlmodel import Session

from retrain import archive
from retrain.types import Split, TrainingSpec
from service import ledger
from service.answers import made_by
from service.answers.erasures import erased_rows, set_before
from service.answers.examples import contents
from service.clock import utcnow
from service.learning import environment, learn, read_set
from service.queue import Lease
from service.runtime import Runtime
from service.scoring import Bench
from service.tables import TrainingRun, TrainingSet

log = structlog.get_logger()


def perform(runtime: Runtime, lease: Lease, run_id: UUID, bench: Bench) -> dict[str, Any]:
    """Train by the archived code, spec, set and seed, and compare; the run keeps the answer.

    `differs` names each input that is not as it was then, whether or not it changed the adapter.

    Raises:
        WrongState: the run has made no adapter.
        RetrainError: the training failed.
    """
    with lease.transaction() as session:
        run = session.get_one(TrainingRun, run_id)
        was = str(made_by(session, run).adapter_sha256)
        training_set = session.get_one(TrainingSet, run.training_set_id)
        earlier = set(contents(session, set_before(session, training_set), Split.TRAIN))
        differs = list(_differences(runtime, session, run, training_set))
    made = _train(runtime, lease, run, training_set, earlier=earlier, bench=bench)
    if made is None:
        differs.append(_difference("code", run.code_archive, "does not run with these packages"))
    answer = {"is_equal": made == was, "adapter": made, "was": was, "differs": differs}
    with lease.transaction() as session:
        row = session.get_one(TrainingRun, run_id)
        row.report = row.report | {"reproduced": answer | {"at": utcnow().isoformat()}}
        ledger.append(
            session,
            actor="worker",
            action="run_reproduced",
            subject=str(run_id),
            project_id=row.project_id,
            facts={"is_equal": made == was, "adapter": made, "differs": [each["input"] for each in differs]},
        )
    log.info("run_reproduced", is_equal=made == was, differs=len(differs))
    return {"run": str(run_id), **answer}


def _train(
    runtime: Runtime,
    lease: Lease,
    run: TrainingRun,
    training_set: TrainingSet,
    *,
    earlier: Collection[str],
    bench: Bench,
) -> str | None:
    """Return the adapter that the archived code makes now; None if it does not run here."""
    trainer = bench.archived(runtime.artifacts.get_bytes(str(run.code_archive)))
    if not trainer.can_run():
        return None
    work = runtime.settings.work / str(lease.job_id)
    learned = learn(
        runtime,
        trainer,
        TrainingSpec.from_json(run.spec),
        rows=read_set(runtime, training_set, bench.read),
        earlier=earlier,
        work=work,
        report=lambda _: None,
        is_cancelled=lease.is_lost,
    )
    made = runtime.artifacts.put_directory(Path(learned.directory))
    shutil.rmtree(work, ignore_errors=True)
    return made


def _differences(
    runtime: Runtime, session: Session, run: TrainingRun, training_set: TrainingSet
) -> Iterator[dict[str, Any]]:
    """Yield what is not as it was: erased rows, the machine, each package."""
    if gone := erased_rows(session, training_set):
        yield _difference("rows", "as frozen", f"{gone} of them erased")
    now = environment(runtime.settings) | {"processes": 1}  # archived code trains in one, whatever the engine
    for name, value in run.environment.items():
        if name in now and now[name] != value:
            yield _difference(name, value, now[name])
    locks = (runtime.artifacts.get_bytes(str(run.package_lock)).decode(), archive.lock())
    then, today = (dict(line.split("==", 1) for line in lock.splitlines()) for lock in locks)
    for name in sorted(then.keys() | today.keys()):
        if then.get(name) != today.get(name):
            yield _difference(f"package {name}", then.get(name), today.get(name))


def _difference(name: str, was: object, now: object) -> dict[str, Any]:
    return {"input": name, "was": was, "is": now}
