"""The job that mirrors training sets to Git, DVC and MLflow; the libraries for these are loaded here alone."""

import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from retrain import parquet, tracking
from retrain.remotes import Remote
from retrain.versions import DataRepository
from service.queue import Lease
from service.runtime import Runtime
from service.settings import Settings
from service.stages import mirroring

# MLflow would try a dead server for a quarter of an hour; the job itself is tried again.
for name, value in (("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")):
    os.environ.setdefault(name, value)


def mirror(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Publish a training set and its judged runs."""
    chosen = runtime.settings
    return mirroring.run(runtime, lease, lease.row_id, repository(chosen), parquet, track=tracker(chosen))


def collect(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Free the room of sets that no model needs."""
    return mirroring.collect(lease, repository(runtime.settings))


def repository(settings: Settings) -> DataRepository:
    """Return the repository that the settings name."""
    options = json.loads(settings.dvc_remote_options.get_secret_value() or "{}")
    remote = Remote(settings.dvc_remote_url, options) if settings.dvc_remote_url else None
    return DataRepository(settings.mirror, remote)


def tracker(settings: Settings) -> Callable[[mirroring.Judged, str], str] | None:
    """Return what logs a run, with its set as input, to the tracker that the settings name."""
    return partial(_track, settings) if settings.mlflow_url else None


def _track(settings: Settings, judged: mirroring.Judged, commit: str) -> str:
    run = judged.run
    return tracking.log_run(
        settings.mlflow_url,
        tracking.TrackedRun(
            run=str(run.id),
            project=judged.project.slug,
            params=run.spec,
            metrics=judged.metrics,
            tags={
                "model_version": f"v{judged.model.number}",
                "adapter": judged.model.adapter_sha256 or "",
                "code": run.code_archive or "",
                "verdict": judged.evaluation.state.value,
            },
            training_set=judged.training_set.fingerprint,
            repository=str(settings.mirror),
            commit=commit,
            started=run.started_at or run.created_at,
            ended=run.finished_at or run.created_at,
        ),
    )
