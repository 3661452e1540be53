"""Shows training runs in MLflow, each with the version of the training set that it learned from."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mlflow import MlflowClient, MlflowException
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag

from retrain.errors import TrackerRefused

_DIGEST_CHARS = 36  # as long as MLflow lets a digest be; the whole fingerprint is a tag beside it
_OURS = "errata.run"


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A finished training run; `tags` say what identifies it: tag, code, adapter. `training_set` is a fingerprint."""

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


def log_run(uri: str, run: TrackedRun) -> str:
    """Log a run to the tracker (`http…` or `sqlite:…`) and return its id there; a second time, the first one's.

    Raises:
        TrackerRefused: the tracker said no, or nothing; another try completes what this one began.
    """
    try:
        client = MlflowClient(tracking_uri=uri)
        logged = _begun(client, run)
        seen = _milliseconds(run.ended)
        client.log_batch(
            logged,
            metrics=[Metric(key, value, seen, 0) for key, value in run.metrics.items()],
            params=[Param(key, str(value)) for key, value in run.params.items()],
            tags=[RunTag(key, value) for key, value in run.tags.items()],
        )
        client.log_inputs(logged, [_input(run)])
        client.set_terminated(logged, RunStatus.to_string(RunStatus.FINISHED), seen)
    except (MlflowException, OSError) as error:
        raise TrackerRefused(f"{uri}: {error}") from error
    return logged


def _begun(client: MlflowClient, run: TrackedRun) -> str:
    """Return the id of the run, begun if need be, in its project's experiment."""
    found = client.get_experiment_by_name(run.project)
    experiment = found.experiment_id if found else client.create_experiment(run.project)
    if runs := client.search_runs([experiment], f"tags.`{_OURS}` = '{run.run}'"):
        return str(runs[0].info.run_id)
    begun = client.create_run(experiment, _milliseconds(run.started), {_OURS: run.run}, run_name=run.run)
    return str(begun.info.run_id)


def _input(run: TrackedRun) -> DatasetInput:
    where = {"mlflow.source.git.repoURL": run.repository, "mlflow.source.git.commit": run.commit}
    digest = run.training_set.removeprefix("sha256:")[:_DIGEST_CHARS]
    dataset = Dataset(run.project, digest, "code", CodeDatasetSource(where).to_json())
    tags = {"mlflow.data.context": "training", "fingerprint": run.training_set}
    return DatasetInput(dataset, [InputTag(key, value) for key, value in tags.items()])


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)
