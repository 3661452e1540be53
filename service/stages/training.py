"""Stage 5: turn a frozen training set into a challenger."""

import os
import platform
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlalchemy import func
from sqlmodel import Session, col, select

from annotation.triage import random_share
from retrain import archive
from retrain.errors import TrainingBroke
from retrain.recipe import Recipe
from retrain.suites import ask_generally, replay_prompts
from retrain.types import Example, Message, Mode, Progress, Split, TrainedAdapter, TrainingSpec, content_hash
from service import ledger, projects
from service.answers.audits import blocking
from service.clock import utcnow
from service.errors import AuditBlocked, CriteriaMissing, Invalid, NotFound
from service.queue import Lease
from service.runtime import Runtime
from service.tables import (
    Document,
    DocumentKind,
    Job,
    JobKind,
    JobState,
    ModelState,
    ModelVersion,
    Project,
    RunState,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
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


class Located(Protocol):
    """A base model on this machine's disk."""

    @property
    def directory(self) -> Path: ...
    @property
    def sha256(self) -> str: ...


class Trainer(Protocol):
    """What a job hands over, so that this module loads without torch."""

    def locate(self, reference: str) -> Located: ...
    def read(self, path: Path) -> list[Example]: ...
    def write(self, examples: Sequence[Example], path: Path) -> None: ...
    def answer_as_base(self, base: Any, conversations: Sequence[Sequence[Message]]) -> list[str]: ...
    def train(
        self,
        spec: TrainingSpec,
        *,
        base: Any,
        examples: Path,
        replay: Sequence[tuple[Sequence[Message], str]],
        output: Path,
        checkpoints: Path,
        parent: Path | None,
        report: Callable[[Progress], None],
        is_cancelled: Callable[[], bool],
    ) -> TrainedAdapter: ...
    def reload_equals(
        self, base_dir: Path, adapter: Path, conversations: Sequence[Sequence[Message]], system_prompt: str
    ) -> bool: ...


def request(
    runtime: Runtime,
    session: Session,
    training_set: TrainingSet,
    chosen: Mapping[str, Any],
    *,
    user: User | None = None,
) -> TrainingRun:
    """Ask for a run on a set; its evaluation follows by itself.

    Raises:
        CriteriaMissing: the project has not said what success is.
        AuditBlocked: the set's audit forbids training on it.
        Invalid: an option is unknown or of the wrong type.
    """
    project = session.get_one(Project, training_set.project_id)
    criteria = _criteria(session, project)
    if found := blocking(session, training_set, utcnow().date()):
        raise AuditBlocked(
            f"training set {training_set.fingerprint}: its audit found what blocks training: {found[0].evidence}"
        )
    options = check_options(chosen)
    run = TrainingRun(
        project_id=project.id,
        training_set_id=training_set.id,
        criteria_id=criteria.id,
        requested_by=user.id if user else None,
        spec=options,
        seed=options.get("seed", 0),
    )
    session.add(run)
    session.flush()
    runtime.queue.ask(session, JobKind.TRAIN, run.id, project_id=project.id)
    ledger.append(
        session,
        actor=user.name if user else "operator",
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
    options: dict[str, Any] = {}
    for name, value in chosen.items():
        if name != "mode" and name not in CHOSEN:
            raise Invalid(f"{name}: no such option; there are {', '.join(['mode', *CHOSEN])}")
        try:
            options[name] = Mode(value).value if name == "mode" else types[name](value)
        except (TypeError, ValueError, OverflowError) as error:
            raise Invalid(f"{name}: {error}") from error
        low, high = CHOSEN.get(name, (0, 0))
        if name != "mode" and not low <= options[name] <= high:
            raise Invalid(f"{name}: {options[name]} does not lie between {low:g} and {high:g}")
    return options


def perform(runtime: Runtime, lease: Lease, run_id: UUID, trainer: Trainer) -> dict[str, Any]:
    """Train the run's adapter and add the challenger; a run that ended before is left alone.

    No transaction is open while the model trains. A run that was ended half-way goes on from its checkpoint.

    Raises:
        RetrainError: training failed; the run says why.
    """
    with lease.transaction() as session:
        run = session.get_one(TrainingRun, run_id)
        if run.state not in (RunState.REQUESTED, RunState.RUNNING):
            return {"state": run.state}
        run.state, run.started_at = RunState.RUNNING, run.started_at or utcnow()
        project = session.get_one(Project, run.project_id)
        training_set = session.get_one(TrainingSet, run.training_set_id)
        earlier = _earlier_hashes(session, training_set)
        champion = champion_of(session, project.id)
    base = trainer.locate(project.base_model)
    # What an earlier attempt recorded stands, even if the champion changed since.
    spec = (
        TrainingSpec(**run.spec | {"mode": Mode(run.spec["mode"])})
        if "base_sha256" in run.spec
        else _spec(run.spec, project, training_set, base, champion)
    )
    work = runtime.settings.work / str(run_id)
    work.mkdir(parents=True, exist_ok=True)
    _record_code(runtime, lease, run_id, spec)
    examples = _chosen_examples(
        runtime=runtime, trainer=trainer, training_set=training_set, spec=spec, earlier=earlier, work=work
    )
    adapter = trainer.train(
        spec,
        base=base,
        examples=examples,
        replay=_replay(trainer, base, spec),
        output=work / "adapter",
        checkpoints=work / "checkpoints",
        parent=_parent(runtime, spec, work),
        report=_reporter(lease),
        is_cancelled=lambda: _is_lost(lease),
    )
    probes = [ask_generally(prompt) for prompt in replay_prompts()[:PROBES]]
    if not trainer.reload_equals(base.directory, Path(adapter.directory), probes, spec.system_prompt):
        raise TrainingBroke("a new process that loads the adapter answers differently")
    sha256 = runtime.artifacts.put_directory(Path(adapter.directory))
    model, evaluation_job = _finish(runtime, lease, spec, adapter, sha256)
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


def _criteria(session: Session, project: Project) -> Document:
    newest = projects.document(session, project.id, DocumentKind.CRITERIA)
    if newest is None:
        raise CriteriaMissing(
            f"project {project.slug}: say what success is first: errata criteria set {project.slug} FILE"
        )
    return newest


def _earlier_hashes(session: Session, training_set: TrainingSet) -> set[str]:
    """Return the content of the set before, by which earlier rows are told from those that are new."""
    rows = select(TrainingSetExample.content_sha256).where(
        TrainingSetExample.training_set_id == training_set.parent_id
    )
    return set(session.exec(rows))


def _spec(
    options: Mapping[str, Any],
    project: Project,
    training_set: TrainingSet,
    base: Located,
    champion: ModelVersion,
) -> TrainingSpec:
    chosen = {name: value for name, value in options.items() if name in (*CHOSEN, "mode")}
    mode = Mode(chosen.pop("mode", Mode.FRESH))
    recipe = Recipe.from_json(training_set.recipe)
    replay = {"replay_earlier": recipe.replay_earlier, "replay_general": recipe.replay_general}
    return TrainingSpec(
        base_model=project.base_model,
        base_sha256=base.sha256,
        training_set=training_set.fingerprint,
        system_prompt=project.system_prompt,
        mode=mode,
        parent_adapter=champion.adapter_sha256 if mode is Mode.CONTINUE else None,
        **replay | chosen,
    )


def _record_code(runtime: Runtime, lease: Lease, run_id: UUID, spec: TrainingSpec) -> None:
    """Keep the code, packages and machine that this run depends on, so that it can be repeated."""
    code = runtime.artifacts.put_bytes(archive.make(Path(archive.__file__).parents[1]))
    lock = runtime.artifacts.put_bytes(archive.lock().encode())
    environment = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        "threads": runtime.settings.training_threads,
    }
    with lease.transaction() as session:
        run = session.get_one(TrainingRun, run_id)
        run.sqlmodel_update({"code_archive": code, "package_lock": lock, "environment": environment})
        run.spec = asdict(spec)


def _chosen_examples(
    *,
    runtime: Runtime,
    trainer: Trainer,
    training_set: TrainingSet,
    spec: TrainingSpec,
    earlier: set[str],
    work: Path,
) -> Path:
    """Write the rows to train on: those new in this set, and the chosen share of the earlier ones."""
    whole = work / "set.parquet"
    whole.write_bytes(runtime.artifacts.get_bytes(training_set.artifact))
    rows = {content_hash(row): row for row in trainer.read(whole) if row.split is Split.TRAIN}
    replayed = set(random_share(sorted(earlier & set(rows)), spec.replay_earlier, seed=str(spec.seed)))
    chosen = work / "train.parquet"
    trainer.write([row for name, row in rows.items() if name not in earlier or name in replayed], chosen)
    return chosen


def _replay(trainer: Trainer, base: Located, spec: TrainingSpec) -> list[tuple[Sequence[Message], str]]:
    """Let the base model answer general prompts: learning its own answers again keeps what it knows."""
    prompts = replay_prompts()
    chosen = random_share(prompts, min(1.0, spec.replay_general / len(prompts)), seed=str(spec.seed))
    conversations = [ask_generally(prompt) for prompt in chosen]
    return (
        list(zip(conversations, trainer.answer_as_base(base, conversations), strict=True)) if chosen else []
    )


def _parent(runtime: Runtime, spec: TrainingSpec, work: Path) -> Path | None:
    if spec.mode is not Mode.CONTINUE:
        return None
    if spec.parent_adapter is None:
        raise NotFound("mode: there is no adapter to continue from; the champion is the base model")
    if not (work / "parent").exists():  # an earlier attempt may have fetched it
        runtime.artifacts.fetch_directory(spec.parent_adapter, work / "parent")
    return work / "parent"


def _reporter(lease: Lease) -> Callable[[Progress], None]:
    """Return what shows progress, at most once a second and with the newest losses only."""
    losses: deque[float] = deque(maxlen=LOSSES_SHOWN)
    told = 0.0

    def report(progress: Progress) -> None:
        nonlocal told
        losses.append(round(progress.loss, 4))
        if time.monotonic() - told >= 1 or progress.step == progress.steps:
            told = time.monotonic()
            lease.report(**asdict(progress), losses=list(losses))

    return report


def _is_lost(lease: Lease) -> bool:
    """Look, without writing: this is asked at every step."""
    with lease.queue.db.reading() as session:
        job = session.get_one(Job, lease.job_id)
        return job.fence != lease.fence or job.state is not JobState.LEASED


def _finish(
    runtime: Runtime, lease: Lease, spec: TrainingSpec, adapter: TrainedAdapter, sha256: str
) -> tuple[int, str]:
    """Publish the challenger and ask for its evaluation, in the one transaction that ends the run."""
    with lease.transaction() as session:
        run = session.get_one(TrainingRun, lease.row_id)
        run.state, run.finished_at = RunState.FINISHED, utcnow()
        run.report = {
            "losses": [round(loss, 5) for loss in adapter.losses],
            "tokens": adapter.tokens,
            "seconds": adapter.seconds,
        }
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
        return model.number, str(job_id)
