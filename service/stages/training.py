"""Stage 5: turn a frozen training set into a challenger."""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from math import isfinite
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import func
from sqlmodel import Session, col, select

from retrain import archive
from retrain.errors import TrainingBroke, Unhealthy
from retrain.methods import usual_method
from retrain.recipe import Recipe
from retrain.suites import ask_generally, replay_prompts
from retrain.types import Method, Mode, Progress, Split, TrainingSpec
from service import goalposts, ledger
from service.answers import consolidation
from service.answers.audits import refuse_blocked
from service.answers.erasures import set_before
from service.answers.examples import contents
from service.clock import utcnow
from service.errors import Invalid
from service.learning import Located, Trainer, environment, learn, probe_of, read_set
from service.queue import Lease
from service.runtime import Runtime
from service.tables import (
    JobKind,
    ModelState,
    ModelVersion,
    Project,
    RunState,
    TrainingRun,
    TrainingSet,
    User,
)

# The fields of a spec that a person may choose, and their ranges; the others follow from project and set.
CHOSEN: dict[str, tuple[float, float]] = {
    "rank": (1, 256),
    "alpha": (1, 1024),
    "dropout": (0, 0.9),
    "learning_rate": (1e-7, 1),
    "epochs": (1, 100),
    "batch_size": (1, 512),
    "max_tokens": (8, 32_768),
    "replay_earlier": (0, 1),
    "replay_general": (0, 10_000),
    "checkpoint_every": (1, 10_000),
    "seed": (0, 2**31 - 1),
}
PROBES = 4
LOSSES_SHOWN = 200

log = structlog.get_logger()


def request(
    runtime: Runtime,
    session: Session,
    training_set: TrainingSet,
    chosen: Mapping[str, Any],
    *,
    is_only_watched: bool = False,
    user: User | None = None,
    actor: str = "operator",
) -> TrainingRun:
    """Ask for a run on a set; its evaluation follows by itself. One that is only watched is not stopped as unhealthy.

    Raises:
        CriteriaMissing: the project has not said what success is.
        AuditBlocked: the set's audit forbids training on it.
        Invalid: an option is unknown or of the wrong type.
    """
    project = session.get_one(Project, training_set.project_id)
    criteria = goalposts.criteria_of(session, project)
    refuse_blocked(session, training_set, utcnow().date())
    options = check_options(chosen)
    run = TrainingRun(
        project_id=project.id,
        training_set_id=training_set.id,
        criteria_id=criteria.id,
        requested_by=user.id if user else None,
        spec=options,
        seed=options.get("seed", 0),
        is_only_watched=is_only_watched,
    )
    session.add(run)
    session.flush()
    runtime.queue.ask(session, JobKind.TRAIN, run.id, project_id=project.id)
    ledger.append(
        session,
        actor=user.name if user else actor,
        action="training_requested",
        subject=str(run.id),
        project_id=project.id,
        facts={"training_set": training_set.fingerprint, "criteria": criteria.sha256, "options": options},
    )
    return run


def check_options(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chosen part of a spec.

    Raises:
        Invalid: an option is unknown, of the wrong type or out of range.
    """
    types: dict[str, Any] = {f.name: type(f.default) for f in fields(TrainingSpec)}
    readers = NAMED | {name: types[name] for name in CHOSEN}
    options: dict[str, Any] = {}
    for name, value in chosen.items():
        if name not in readers:
            raise Invalid(f"{name}: no such option; there are {', '.join(readers)}")
        try:
            options[name] = readers[name](value)
        except (TypeError, ValueError, OverflowError) as error:
            raise Invalid(f"{name}: {error}") from error
        if name in CHOSEN and not CHOSEN[name][0] <= options[name] <= CHOSEN[name][1]:
            low, high = CHOSEN[name]
            raise Invalid(f"{name}: {options[name]} does not lie between {low:g} and {high:g}")
    return options


def _layers(named: object) -> list[str]:
    """Read layers' names, parted by commas."""
    return [name.strip() for name in str(named).split(",") if name.strip()]


def _bits(named: object) -> int:
    if (bits := int(str(named))) not in (4, 16):
        raise ValueError(f"{bits} is neither 4 nor 16")
    return bits


# The options that are no plain numbers, and what reads them.
NAMED: dict[str, Callable[[Any], Any]] = {
    "mode": lambda text: Mode(text).value,
    "method": lambda text: Method(text).value,
    "targets": _layers,
    "base_bits": _bits,
}


def perform(runtime: Runtime, lease: Lease, run_id: UUID, trainer: Trainer) -> dict[str, Any]:
    """Train the run's adapter and add the challenger; a run that ended before is left alone.

    No transaction is open while the model trains. A run that was ended half-way goes on from its checkpoint.

    Raises:
        RetrainError: training failed, or its health did; the run says why.
    """
    with lease.transaction() as session:
        run = session.get_one(TrainingRun, run_id)
        if run.state not in (RunState.REQUESTED, RunState.RUNNING):
            return {"state": run.state}
        run.state, run.started_at = RunState.RUNNING, run.started_at or utcnow()
        project = session.get_one(Project, run.project_id)
        training_set = session.get_one(TrainingSet, run.training_set_id)
        earlier = set(contents(session, set_before(session, training_set), Split.TRAIN))
        champion = champion_of(session, project.id)
        watch = Watch(lease, is_only_watched=run.is_only_watched)
    base = trainer.locate(project.base_model)
    work = runtime.settings.work / str(run_id)
    work.mkdir(parents=True, exist_ok=True)
    rows = read_set(runtime, training_set, trainer.read)
    # What an earlier attempt recorded stands, even if the champion changed since.
    spec = (
        TrainingSpec.from_json(run.spec)
        if "base_sha256" in run.spec
        else _spec({"method": usual_method(rows)} | run.spec, project, training_set, base, champion)
    )
    _record_code(runtime, lease, run_id, spec)
    adapter = learn(
        runtime,
        trainer,
        spec,
        rows=rows,
        earlier=earlier,
        work=work,
        # The other methods do not learn to say the answers alone, so that their loss says little of their health.
        probe=probe_of(rows, spec.seed) if spec.method is Method.SFT else (),
        report=watch.see,
        is_cancelled=lease.is_lost,
    )
    probes = [ask_generally(prompt) for prompt in replay_prompts()[:PROBES]]
    if not trainer.reload_equals(base.directory, Path(adapter.directory), probes, spec.system_prompt):
        raise TrainingBroke("a new process that loads the adapter answers differently")
    sha256 = runtime.artifacts.put_directory(Path(adapter.directory))
    model, evaluation_job = _finish(runtime, lease, spec, watch.report(), sha256)
    shutil.rmtree(work, ignore_errors=True)
    log.info(
        "training_finished", adapter=sha256, steps=len(adapter.losses), seconds=round(adapter.seconds, 1)
    )
    return {"run": str(run_id), "model_version": model, "adapter": sha256, "evaluation_job": evaluation_job}


def champion_of(session: Session, project_id: UUID) -> ModelVersion:
    """Return the model version that answers now."""
    live = select(ModelVersion).where(
        ModelVersion.project_id == project_id, ModelVersion.state == ModelState.CHAMPION
    )
    return session.exec(live).one()


def _spec(
    options: Mapping[str, Any],
    project: Project,
    training_set: TrainingSet,
    base: Located,
    champion: ModelVersion,
) -> TrainingSpec:
    chosen = {name: value for name, value in options.items() if name in CHOSEN}
    mode = Mode(options.get("mode", Mode.FRESH))
    recipe = Recipe.from_json(training_set.recipe)
    replay = {"replay_earlier": recipe.replay_earlier, "replay_general": recipe.replay_general}
    return TrainingSpec(
        base_model=project.base_model,
        base_sha256=base.sha256,
        training_set=training_set.fingerprint,
        system_prompt=project.system_prompt,
        mode=mode,
        method=Method(options["method"]),
        targets=tuple(options.get("targets", ())),
        base_bits=options.get("base_bits", 16),
        parent_adapter=champion.adapter_sha256 if mode is Mode.CONTINUE else None,
        **replay | chosen,
    )


def _record_code(runtime: Runtime, lease: Lease, run_id: UUID, spec: TrainingSpec) -> None:
    """Keep the code, packages and machine that this run depends on, so that it can be repeated."""
    code = runtime.artifacts.put_bytes(archive.make(Path(archive.__file__).parents[1]))
    lock = runtime.artifacts.put_bytes(archive.lock().encode())
    with lease.transaction() as session:
        run = session.get_one(TrainingRun, run_id)
        run.code_archive, run.package_lock = code, lock
        run.environment = environment(runtime.settings)
        run.spec = spec.to_json()


class Watch:
    """Shows how a run goes, at most once a second, and stops it where it is not well, unless it is only watched."""

    def __init__(self, lease: Lease, *, is_only_watched: bool) -> None:
        self._lease, self._is_only_watched = lease, is_only_watched
        self._told = 0.0
        self._last = Progress(0, 0, 0.0, 0.0)

    def see(self, progress: Progress) -> None:
        """Take in a step.

        Raises:
            Unhealthy: the run leads nowhere; its report is kept.
        """
        self._last, verdict = progress, progress.verdict
        is_stopped = verdict is not None and not self._is_only_watched
        if is_stopped or time.monotonic() - self._told >= 1 or progress.step == progress.steps:
            self._told = time.monotonic()
            self._lease.report(**_shown(progress))
        if verdict and is_stopped:
            with self._lease.transaction() as session:
                session.get_one(TrainingRun, self._lease.row_id).report = self.report()
            raise Unhealthy(verdict.sentence)

    def report(self) -> dict[str, Any]:
        """Return what stays of the run: its curves, and what the monitor says of them."""
        return {
            "losses": [round(loss, 5) for loss in self._last.losses if isfinite(loss)],
            **_signs(self._last),
            "tokens": round(self._last.tokens_per_second * self._last.seconds),
            "seconds": self._last.seconds,
        }


def _shown(progress: Progress) -> dict[str, Any]:
    return {
        "step": progress.step,
        "steps": progress.steps,
        "loss": progress.loss if isfinite(progress.loss) else None,
        "tokens_per_second": progress.tokens_per_second,
        "seconds_left": progress.seconds_left,
        "losses": [round(loss, 4) for loss in progress.losses[-LOSSES_SHOWN:] if isfinite(loss)],
        **_signs(progress),
    }


def _signs(progress: Progress) -> dict[str, Any]:
    """Return what tells of a run's health."""
    return {
        "probes": [[step, round(loss, 4)] for step, loss in progress.probes.items() if isfinite(loss)],
        "health": asdict(progress.verdict) if progress.verdict else None,
        "out_of_memory": progress.out_of_memory,
    }


def _finish(
    runtime: Runtime, lease: Lease, spec: TrainingSpec, report: dict[str, Any], sha256: str
) -> tuple[int, str]:
    """Publish the challenger and ask for its evaluation, in the one transaction that ends the run."""
    with lease.transaction() as session:
        run = session.get_one(TrainingRun, lease.row_id)
        run.state, run.finished_at, run.report = RunState.FINISHED, utcnow(), report
        parent = select(ModelVersion.id).where(
            ModelVersion.project_id == run.project_id,
            col(ModelVersion.adapter_sha256).is_not(None),
            ModelVersion.adapter_sha256 == spec.parent_adapter,
        )
        numbers = select(func.max(ModelVersion.number)).where(ModelVersion.project_id == run.project_id)
        champion = champion_of(session, run.project_id)
        champion.base_sha256 = champion.base_sha256 or spec.base_sha256
        model = ModelVersion(
            project_id=run.project_id,
            number=(session.exec(numbers).one() or 0) + 1,
            base_model=spec.base_model,
            base_sha256=spec.base_sha256,
            parent_id=session.exec(parent).first(),
            training_run_id=run.id,
            adapter_sha256=sha256,
            state=ModelState.CHALLENGER,
        )
        session.add(model)
        session.flush()
        job_id = runtime.queue.ask(session, JobKind.EVALUATE, model.id, project_id=run.project_id)
        ledger.append(
            session,
            actor="training",
            action="challenger_added",
            subject=f"v{model.number}",
            project_id=run.project_id,
            facts={"run": str(run.id), "adapter": sha256},
        )
        if consolidation.proposal(session, model):
            ledger.append(
                session,
                actor="training",
                action="consolidation_proposed",
                subject=f"v{model.number}",
                project_id=run.project_id,
                facts={"model_version": f"v{model.number}"},
            )
        return model.number, str(job_id)
