"""Tracking: MLflow shows each run once, with the set it learned from."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow import MlflowClient

from retrain.errors import TrackerRefused
from retrain.tracking import TrackedRun, log_run, set_aliases
from tests.mlflow_server import running_mlflow
from tests.storage import running_storage

# MLflow asks SQLAlchemy for a loader strategy that is going to leave it.
FINGERPRINT = f"sha256:{'ab' * 32}"
RUN = TrackedRun(
    run="run-1",
    project="support-qa",
    params={"rank": 8, "learning_rate": 5e-4},
    metrics={"accuracy": 0.75},
    losses=[2.5, 1.25],
    tags={"tag": "support-qa/run-1", "code": "sha256:code", "adapter": "sha256:adapter"},
    training_set=FINGERPRINT,
    repository="https://example.org/data.git",
    commit="0" * 40,
    started=datetime(2026, 1, 1, 12, tzinfo=UTC),
    ended=datetime(2026, 1, 1, 13, tzinfo=UTC),
)


@pytest.fixture(scope="module", params=["a database", "a server"])
def uri(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    if request.param == "a database":
        yield f"sqlite:///{folder}/runs.db"
    else:
        with running_mlflow(folder) as (url, _):
            yield url


@pytest.fixture(scope="module")
def logged(uri):
    return MlflowClient(uri).get_run(log_run(uri, RUN))


def test_a_run_shows_its_params_metrics_and_tags(logged):
    assert logged.data.params == {"rank": "8", "learning_rate": "0.0005"}
    assert logged.data.metrics == {"accuracy": 0.75, "loss": 1.25}
    assert RUN.tags.items() <= logged.data.tags.items()
    assert logged.info.status == "FINISHED"
    assert logged.info.end_time - logged.info.start_time == 3_600_000


def test_a_run_shows_the_set_that_it_learned_from(logged):
    (shown,) = logged.inputs.dataset_inputs
    assert shown.dataset.name == "support-qa"
    assert FINGERPRINT.removeprefix("sha256:").startswith(shown.dataset.digest)
    assert RUN.commit in shown.dataset.source
    assert {tag.key: tag.value for tag in shown.tags}["fingerprint"] == FINGERPRINT


def test_a_run_shows_its_loss_over_time(uri, logged):
    history = MlflowClient(uri).get_metric_history(logged.info.run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(1, 2.5), (2, 1.25)]


def test_its_adapter_is_a_version_that_carries_what_the_model_is_now(uri, tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    first, second = (
        replace(RUN, run=f"with-adapter-{number}", project="registered", adapter=tmp_path)
        for number in (1, 2)
    )
    client = MlflowClient(uri)

    def aliases():
        held = client.get_registered_model("registered").aliases
        return {alias: str(version) for alias, version in held.items()}

    set_aliases(uri, "registered", {"champion": first.run})
    log_run(uri, first)
    set_aliases(uri, "registered", {"challenger": first.run})
    assert aliases() == {"challenger": "1"}
    logged = log_run(uri, second)
    set_aliases(uri, "registered", {"champion": first.run, "challenger": second.run})
    assert aliases() == {"champion": "1", "challenger": "2"}
    set_aliases(uri, "registered", {"champion": second.run, "challenger": "never shown"})
    assert aliases() == {"champion": "2"}
    kept = Path(client.download_artifacts(logged, "adapter", tmp_path))
    assert (kept / "adapter_model.safetensors").read_bytes() == b"weights"


def test_a_run_logged_twice_is_shown_once(uri, logged):
    assert log_run(uri, RUN) == logged.info.run_id
    assert len(MlflowClient(uri).search_runs([logged.info.experiment_id])) == 1


def test_runs_are_told_apart(uri, logged):
    assert log_run(uri, replace(RUN, run="run-2")) != logged.info.run_id


def test_a_tracker_that_refuses_is_named():
    with running_storage() as server:
        server.is_refusing = True
        with pytest.raises(TrackerRefused, match=f"{server.url}.*403"):
            log_run(server.url, RUN)


def test_a_tracker_without_a_place_for_its_file_is_named():
    with pytest.raises(TrackerRefused, match=r"/nowhere/runs\.db"):
        log_run("sqlite:////proc/nowhere/runs.db", RUN)
