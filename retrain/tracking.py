"""Shows training runs in MLflow, each with the version of the training set that it learned from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mlflow import MlflowClient, MlflowException
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag

from retrain.errors import TrackerRefused

ALIASES = ("champion", "challenger")
_DIGEST_CHARS = 36  # as long as MLflow lets a digest be; the whole fingerprint is a tag beside it
_METRICS_AT_ONCE = 1000  # the most that MLflow takes
_OURS, _ADAPTER, _SQLITE = "errata.run", "adapter", "sqlite:///"


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A finished training run; `tags` say what identifies it: tag, code, adapter. `training_set` is a fingerprint.

    `metrics` are of the verdict given when it was `judged`. `losses` has one entry per step. The adapter's files lie in
    `adapter`.
    """

    run: str
    project: str
    params: Mapping[str, object]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    training_set: str
    repository: str
    commit: str
    started: datetime
    ended: datetime
    judged: datetime | None = None
    losses: Sequence[float] = ()
    adapter: Path | None = None


def log_run(uri: str, run: TrackedRun) -> str:
    """Log a run to the tracker (`http…` or `sqlite:…`) and return its id there; a second time, the first one's.

    Its adapter becomes a version of the project's registered model.

    Raises:
        TrackerRefused: the tracker said no, or nothing; another try completes what this one began.
    """
    try:
        client = MlflowClient(tracking_uri=uri)
        logged = _begun(client, uri, run)
        seen, judged = _milliseconds(run.ended), _milliseconds(run.judged or run.ended)
        client.log_batch(
            logged,
            metrics=[Metric(key, value, judged, 0) for key, value in run.metrics.items()],
            params=[Param(key, str(value)) for key, value in run.params.items()],
            tags=[RunTag(key, value) for key, value in run.tags.items()],
        )
        curve = [Metric("loss", loss, seen, step) for step, loss in enumerate(run.losses, start=1)]
        for start in range(0, len(curve), _METRICS_AT_ONCE):
            client.log_batch(logged, metrics=curve[start : start + _METRICS_AT_ONCE])
        client.log_inputs(logged, [_input(run)])
        client.set_terminated(logged, RunStatus.to_string(RunStatus.FINISHED), seen)
        if run.adapter:
            _register(client, logged, run.adapter, run)
    except (MlflowException, OSError) as error:
        raise TrackerRefused(f"{uri}: {error}") from error
    return logged


def _begun(client: MlflowClient, uri: str, run: TrackedRun) -> str:
    """Return the id of the run, begun if need be, in its project's experiment."""
    found = client.get_experiment_by_name(run.project)
    experiment = found.experiment_id if found else client.create_experiment(run.project, _files_of(uri))
    if runs := client.search_runs([experiment], f"tags.`{_OURS}` = '{run.run}'"):
        return str(runs[0].info.run_id)
    begun = client.create_run(experiment, _milliseconds(run.started), {_OURS: run.run}, run_name=run.run)
    return str(begun.info.run_id)


def _files_of(uri: str) -> str | None:
    """Say where runs' files go: a server knows, and a database's lie beside it, not where this process runs."""
    return Path(uri.removeprefix(_SQLITE)).with_suffix(".files").as_uri() if uri.startswith(_SQLITE) else None


def _register(client: MlflowClient, logged: str, adapter: Path, run: TrackedRun) -> None:
    """Keep the adapter with the run, as a version of the project's model."""
    if not client.list_artifacts(logged, _ADAPTER):
        client.log_artifacts(logged, str(adapter), _ADAPTER)
    if not client.search_registered_models(f"name = '{run.project}'"):
        client.create_registered_model(run.project)
    if not client.search_model_versions(f"run_id = '{logged}'"):
        tags = {**run.tags, _OURS: run.run}
        client.create_model_version(run.project, f"runs:/{logged}/{_ADAPTER}", logged, tags=tags)


def set_aliases(uri: str, project: str, holders: Mapping[str, str]) -> None:
    """Let the versions that came of these runs, by alias, carry the project's aliases, and no others.

    Raises:
        TrackerRefused: the tracker said no, or nothing.
    """
    try:
        client = MlflowClient(tracking_uri=uri)
        if not client.search_registered_models(f"name = '{project}'"):
            return
        versions = {
            one.tags.get(_OURS): str(one.version)
            for one in client.search_model_versions(f"name = '{project}'")
        }
        held = {alias: str(at) for alias, at in client.get_registered_model(project).aliases.items()}
        wanted = {alias: versions.get(run) for alias, run in holders.items()}
        for alias in ALIASES:
            version = wanted.get(alias)
            if version and held.get(alias) != version:
                client.set_registered_model_alias(project, alias, version)
            elif not version and alias in held:
                client.delete_registered_model_alias(project, alias)
    except (MlflowException, OSError) as error:
        raise TrackerRefused(f"{uri}: {error}") from error


def _input(run: TrackedRun) -> DatasetInput:
    where = {"mlflow.source.git.repoURL": run.repository, "mlflow.source.git.commit": run.commit}
    digest = run.training_set.removeprefix("sha256:")[:_DIGEST_CHARS]
    dataset = Dataset(run.project, digest, "code", CodeDatasetSource(where).to_json())
    tags = {"mlflow.data.context": "training", "fingerprint": run.training_set}
    return DatasetInput(dataset, [InputTag(key, value) for key, value in tags.items()])


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)
