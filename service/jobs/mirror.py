"""The job that mirrors training sets to Git, DVC and MLflow; the libraries for these are loaded here alone."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from retrain import tracking
from retrain.remotes import Remote
from retrain.versions import Contents, DataRepository
from service.queue import Lease
from service.runtime import Runtime
from service.settings import Settings
from service.stages import mirroring

# MLflow would try a dead server for a quarter of an hour; the job itself is tried again.
for name, value in (("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")):
    os.environ.setdefault(name, value)


@dataclass(frozen=True, slots=True)
class Repository:
    """The data repository and the tracker that the settings name."""

    data: DataRepository
    mlflow_url: str

    def publish(
        self, name: str, version: int, files: Mapping[str, Path], facts: Mapping[str, bytes], at: datetime
    ) -> str:
        return self.data.publish(name, version, Contents(files, facts, at))

    def add_run(
        self,
        *,
        name: str,
        version: int,
        run: str,
        files: Mapping[str, Path],
        facts: Mapping[str, bytes],
        at: datetime,
    ) -> str:
        return self.data.add_run(name, version, run, Contents(files, facts, at))

    def commit_of(self, tag: str) -> str | None:
        return self.data.commit_of(tag)

    def push(self) -> int:
        return self.data.push() if self.data.remote else 0

    def collect(self, keep: Sequence[str]) -> int:
        return self.data.collect(keep)

    def track(self, judged: mirroring.Judged, commit: str) -> str | None:
        """Log a run with its set as input, if there is a tracker."""
        if not self.mlflow_url:
            return None
        run = judged.run
        return tracking.log_run(
            self.mlflow_url,
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
                repository=str(self.data.directory),
                commit=commit,
                started=run.started_at or run.created_at,
                ended=run.finished_at or run.created_at,
            ),
        )


def mirror(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Publish a training set and its judged runs."""
    return mirroring.run(runtime, lease, lease.row_id, repository(runtime.settings))


def collect(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Free the room of sets that no model needs."""
    return mirroring.collect(lease, repository(runtime.settings))


def repository(settings: Settings) -> Repository:
    """Return the repository that the settings name."""
    options = json.loads(settings.dvc_remote_options.get_secret_value() or "{}")
    remote = Remote(settings.dvc_remote_url, options) if settings.dvc_remote_url else None
    return Repository(DataRepository(settings.mirror, remote), settings.mlflow_url)
