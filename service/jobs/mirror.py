"""The job that mirrors training sets to Git, DVC and MLflow; the libraries for these are loaded here alone."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlmodel import col, select

from retrain import parquet, tracking, wandb_runs
from retrain.remotes import Remote
from retrain.versions import DataRepository
from service.queue import Lease
from service.runtime import Runtime
from service.settings import Settings
from service.stages import mirroring
from service.tables import ModelState, ModelVersion, Project

# MLflow would try a dead server for a quarter of an hour; the job itself is tried again.
for name, value in (("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")):
    os.environ.setdefault(name, value)


def mirror(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Publish a training set and its judged runs."""
    chosen = runtime.settings
    return mirroring.run(runtime, lease, lease.row_id, repository(chosen), parquet, track=tracker(runtime))


def collect(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Free the room of sets that no model needs."""
    return mirroring.collect(lease, repository(runtime.settings))


def repository(settings: Settings) -> DataRepository:
    """Return the repository that the settings name."""
    options = json.loads(settings.dvc_remote_options.get_secret_value() or "{}")
    remote = Remote(settings.dvc_remote_url, options) if settings.dvc_remote_url else None
    return DataRepository(settings.mirror, remote)


def tracker(runtime: Runtime) -> Callable[[mirroring.Judged, str], None] | None:
    """Return what shows a run, with its set as input, where the settings and the environment say."""
    if runtime.settings.mlflow_url or wandb_runs.is_wanted():
        return partial(_track, runtime)
    return None


def _track(runtime: Runtime, judged: mirroring.Judged, commit: str) -> None:
    if runtime.settings.mlflow_url:
        _to_mlflow(runtime, judged, commit)
    if wandb_runs.is_wanted():
        wandb_runs.show([_shown(judged)], runtime.settings.data_dir)


def _to_mlflow(runtime: Runtime, judged: mirroring.Judged, commit: str) -> None:
    run, model, evaluation = judged.run, judged.model, judged.evaluation
    runtime.settings.work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=runtime.settings.work) as folder:
        if model.adapter_sha256:
            runtime.artifacts.fetch_directory(model.adapter_sha256, Path(folder) / "adapter")
        tracking.log_run(
            runtime.settings.mlflow_url,
            tracking.TrackedRun(
                run=str(run.id),
                project=judged.project.slug,
                params=run.spec,
                metrics=judged.metrics,
                tags=_tags(judged) | {name: str(value) for name, value in run.environment.items()},
                training_set=judged.training_set.fingerprint,
                repository=str(runtime.settings.mirror),
                commit=commit,
                started=run.started_at or run.created_at,
                ended=run.finished_at or run.created_at,
                judged=evaluation.finished_at or evaluation.created_at,
                losses=run.report.get("losses", ()),
                adapter=Path(folder) / "adapter" if model.adapter_sha256 else None,
            ),
        )
    _set_aliases(runtime, judged.project)


def _set_aliases(runtime: Runtime, project: Project) -> None:
    """Have MLflow's aliases say what our tables do, looked at again after each writing.

    So that of several at it the last to write knows of every promotion before.
    """
    written = None
    while (holders := _holders(runtime, project)) != written:
        tracking.set_aliases(runtime.settings.mlflow_url, project.slug, holders)
        written = holders


def _holders(runtime: Runtime, project: Project) -> dict[str, str]:
    """Return the run that champion and newest challenger came of, by alias."""
    states = [ModelState(alias) for alias in tracking.ALIASES]
    models = select(ModelVersion).where(
        ModelVersion.project_id == project.id,
        col(ModelVersion.state).in_(states),
        col(ModelVersion.training_run_id).is_not(None),
    )
    with runtime.db.reading() as session:
        found = session.exec(models.order_by(col(ModelVersion.number))).all()
    return {one.state.value: str(one.training_run_id) for one in found}


def _shown(judged: mirroring.Judged) -> wandb_runs.Shown:
    run = judged.run
    return wandb_runs.Shown(
        id=f"{run.id}-{judged.name}",
        project=judged.project.slug,
        name=judged.name,
        group=f"set v{judged.training_set.version}",
        settings=run.spec,
        summary={**judged.metrics, **_tags(judged), "training_set": judged.training_set.fingerprint},
        curve=list(enumerate(run.report.get("losses", ()), start=1)),
    )


def _tags(judged: mirroring.Judged) -> dict[str, str]:
    return {
        "model_version": f"v{judged.model.number}",
        "adapter": judged.model.adapter_sha256 or "",
        "code": judged.run.code_archive or "",
        "packages": judged.run.package_lock or "",
        "verdict": judged.evaluation.state.value,
    }
