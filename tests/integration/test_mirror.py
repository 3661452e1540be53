"""Each set is a tag of a Git and DVC repository, from which a data team works the way it always does."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlmodel import select

from annotation.types import Verdict
from retrain import export, parquet, tracking
from retrain.audit import Repair, RepairKind, Severity
from retrain.base_models import locate
from retrain.types import Example, Split
from service import champions
from service import settings as service_settings
from service.clock import utcnow
from service.errors import ConfigurationError, TryAgain
from service.jobs import mirror
from service.stages import mirroring
from service.tables import (
    Job,
    JobKind,
    JobState,
    Mirror,
    ModelState,
    ModelVersion,
    Project,
    ProjectKind,
    PromotionKind,
    Role,
    Score,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
)
from tests import builders
from tests.clones import checked_out, dvc, git_objects, holding
from tests.desk import Desk
from tests.s3 import KEYS, running_s3
from tests.storage import LOGIN, key_file, running_ssh, running_storage

MARKER = "xylophone-of-a-patient"


class Team(Desk):
    """A desk whose sets are mirrored to a remote."""

    def __init__(self, runtime, remote: str, options: dict[str, str] | None = None) -> None:
        super().__init__(runtime, ProjectKind.GENERATION)
        settings = runtime.settings.model_copy(
            update={
                "dvc_remote_url": remote,
                "dvc_remote_options": service_settings.SecretStr(json.dumps(options or {})),
                "mlflow_url": f"sqlite:///{runtime.settings.data_dir / 'mlflow.db'}",
            }
        )
        self.repository, self.tracker = (
            mirror.repository(settings),
            mirror.tracker(replace(runtime, settings=settings)),
        )

    def mirror(self, training_set: TrainingSet) -> dict:
        with self.runtime.db.transaction() as session:
            job = session.exec(
                select(Job).where(Job.kind == JobKind.MIRROR, Job.state == JobState.PENDING)
            ).first()
            job_id = (
                job.id
                if job
                else self.runtime.queue.ask(
                    session, JobKind.MIRROR, training_set.id, project_id=self.project.id
                )
            )
        lease = self.runtime.queue.lease(job_id)
        done = mirroring.run(
            self.runtime, lease, training_set.id, self.repository, parquet, track=self.tracker
        )
        lease.finish(done)
        return done

    def mirror_again(self, training_set: TrainingSet) -> dict:
        """Mirror a set whose attempts ended."""
        with self.runtime.db.transaction() as session:
            for job in session.exec(select(Job).where(Job.kind == JobKind.MIRROR)):
                job.state = JobState.DONE
        return self.mirror(training_set)

    def collect(self) -> int:
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(
                session, JobKind.COLLECT, self.project.id, project_id=self.project.id
            )
        return mirroring.collect(self.runtime.queue.lease(job), self.repository)["removed"]

    def judged(self, training_set: TrainingSet, number: int = 7) -> None:
        """Add a run on the set and the gate's verdict on what came of it."""
        adapter = self.runtime.settings.data_dir / "adapter"
        adapter.mkdir(parents=True, exist_ok=True)
        (adapter / "adapter_model.safetensors").write_bytes(b"weights")
        with self.runtime.db.transaction() as session:
            model = builders.add_challenger(session, self.project, number=number)
            run = session.get_one(TrainingRun, model.training_run_id)
            run.training_set_id, run.started_at, run.finished_at = training_set.id, utcnow(), utcnow()
            run.spec, run.code_archive = {"rank": 8}, "sha256:code"
            model.adapter_sha256 = self.runtime.artifacts.put_directory(adapter)
            evaluation = builders.add_evaluation(session, self.project, model)
            evaluation.finished_at = utcnow()
            session.add(
                Score(
                    evaluation_id=evaluation.id,
                    model_version_id=model.id,
                    suite="test",
                    metric="accuracy",
                    slice="",
                    value=0.75,
                    low=0.6,
                    high=0.9,
                    n=40,
                )
            )

    def track_in(self, url: str) -> None:
        """Track runs there from now on."""
        settings = self.runtime.settings.model_copy(update={"mlflow_url": url})
        self.tracker = mirror.tracker(replace(self.runtime, settings=settings))

    def promote(self) -> None:
        """Make the challenger the champion."""
        with self.runtime.db.transaction() as session:
            project = session.get_one(Project, self.project.id)
            model = session.exec(
                select(ModelVersion).where(ModelVersion.state == ModelState.CHALLENGER)
            ).one()
            user, _ = builders.add_person(session, Role.OPERATOR, f"for-v{model.number}")
            more = {"live": champions.newest_promotion(session, project.id), "user": user}
            champions.switch(session, project, model, PromotionKind.PROMOTION, reason="better", **more)

    def pending(self, kind: JobKind) -> int:
        with self.runtime.db.reading() as session:
            return len(session.exec(select(Job).where(Job.kind == kind, Job.state == JobState.PENDING)).all())

    def row(self, training_set: TrainingSet) -> Mirror | None:
        with self.runtime.db.reading() as session:
            return session.exec(select(Mirror).where(Mirror.training_set_id == training_set.id)).first()


def learned_by_trl(rows: Sequence[Example], folder: Path, base: Path) -> dict[str, list[list[object]]]:
    """Train on each format in a process that may not tell the hub of it, as TRL would; return what each row taught."""
    files = []
    for wanted in (export.Format.SFT, export.Format.PREFERENCE, export.Format.KTO):
        files.append(folder / f"{wanted}.jsonl")
        files[-1].write_bytes(export.to_jsonl(export.export(rows, wanted).rows))
    command = [sys.executable, "-m", "tests.trl_trainers", base, *files]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=offline, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name: sorted(said) for name, said in json.loads(done.stdout.splitlines()[-1]).items()}


@pytest.fixture
def team(request, runtime, tmp_path) -> Iterator[Team]:
    """A team whose remote is a directory, or what else a test asks for."""
    (tmp_path / "remote").mkdir()
    kind = getattr(request, "param", "directory")
    if kind == "http":
        with running_storage() as storage:
            yield Team(runtime, storage.url, {"method": "PUT"})
    elif kind == "ssh":
        with running_ssh(tmp_path / "remote") as url:
            yield Team(runtime, url, LOGIN)
    elif kind == "ssh by key":
        login = key_file(tmp_path / "key")
        with running_ssh(tmp_path / "remote", key=tmp_path / "key") as url:
            yield Team(runtime, url, login)
    elif kind == "s3":
        with running_s3() as endpoint:
            yield Team(runtime, "s3://sets/of-a-team", {"endpointurl": endpoint, **KEYS})
    else:
        yield Team(runtime, str(tmp_path / "remote"))


def test_a_set_asks_for_its_mirror_when_it_is_frozen(team):
    team.settle("who?", "Ann")
    training_set = team.curate()
    with team.runtime.db.reading() as session:
        asked = session.exec(select(Job).where(Job.kind == JobKind.MIRROR)).all()
    assert [job.row_id for job in asked] == [training_set.id]


@pytest.mark.parametrize("team", ["directory", "http", "ssh by key", "s3"], indirect=True)
def test_a_clone_at_a_tag_brings_the_very_bytes_that_training_read(team, tmp_path):
    team.settle("who?", MARKER)
    first = team.curate()
    team.mirror(first)
    team.settle("where?", "there")
    team.mirror(team.curate())
    clone = checked_out(team.repository, "clinic/v1", tmp_path / "clone")
    assert dvc(clone, "pull").returncode == 0
    [rows] = (clone / "sets/clinic/rows").glob("*-00000-of-00001.parquet")
    assert rows.read_bytes() == team.runtime.artifacts.get_bytes(first.artifact)
    assert json.loads((clone / "sets/clinic/recipe.json").read_text())["fingerprint"] == first.fingerprint
    assert json.loads((clone / "sets/clinic/audit.json").read_text())["rows"] == 1
    assert first.fingerprint in (clone / "sets/clinic/README.md").read_text()


@pytest.mark.parametrize("team", ["ssh", "s3"], indirect=True)
def test_what_is_forgotten_leaves_the_remote(team):
    team.settle("who?", MARKER)
    team.mirror(team.curate())
    digests = {*team.repository.shards("clinic/v1").values()}
    assert digests and not team.repository.unpushed(["clinic/v1"])
    for _ in range(2):
        team.repository.forget(lambda: digests)
        assert team.repository.unpushed(["clinic/v1"]) == digests


@pytest.mark.parametrize("by", ["password", "another key"])
def test_a_login_that_is_refused_is_told_and_its_password_stands_nowhere(runtime, tmp_path, caplog, by):
    caplog.set_level(0)
    login, key = LOGIN | {"password": "hunter2"}, None
    if by == "another key":
        key, login = tmp_path / "key", key_file(tmp_path / "another") | {"password": "hunter2"}
        key_file(key)
    with running_ssh(tmp_path, key=key) as url:
        team = Team(runtime, url, login)
        team.settle("who?", MARKER)
        training_set = team.curate()
        with pytest.raises(TryAgain, match=f"{url}: PermissionError"):
            team.mirror(training_set)
    assert "hunter2" not in caplog.text + team.row(training_set).failure
    assert holding(MARKER.encode(), tmp_path) and not holding(b"hunter2", tmp_path)


@pytest.mark.parametrize("team", ["http"], indirect=True)
def test_what_a_clone_brings_trains_with_trl_as_it_is_exported(team, tmp_path, cache_dir):
    team.settle("who?", "Ann")
    team.settle("where?", "here", Verdict.INCORRECT, correction="there")
    team.settle("when?", "now", Verdict.INCORRECT)
    team.mirror(team.curate())
    clone = checked_out(team.repository, "clinic/v1", tmp_path / "clone")
    assert dvc(clone, "pull").returncode == 0
    rows = [row for file in (clone / "sets/clinic/rows").glob("*.parquet") for row in parquet.read(file)]
    learned = learned_by_trl(rows, tmp_path, locate("bundled:tiny", cache_dir).directory)
    assert learned["sft"] == [["Ann"], ["there"]]
    assert learned["preference"] == [["there", "here"]]
    assert learned["kto"] == [["Ann", True], ["here", False], ["now", False], ["there", True]]


def test_no_word_of_a_row_is_in_git(team):
    team.settle(f"what of {MARKER}?", f"the {MARKER} plays")
    team.mirror(team.curate())
    assert MARKER.encode() not in git_objects(team.repository)
    assert holding(MARKER.encode(), team.repository.directory)  # in DVC's cache it is


def test_a_judged_run_joins_its_set_under_one_tag(team, tmp_path):
    team.settle("who?", "Ann")
    training_set = team.curate()
    team.mirror(training_set)
    team.judged(training_set)
    assert team.mirror(training_set)["runs"] == 1
    clone = checked_out(team.repository, "clinic/run-v7", tmp_path / "clone")
    run = clone / "runs" / "clinic"
    assert json.loads((run / "metrics.json").read_text()) == {"test.accuracy": 0.75}
    spec = json.loads((run / "spec.json").read_text())
    assert (spec["spec"], spec["code"]["archive"]) == ({"rank": 8}, "sha256:code")
    assert json.loads((run / "evaluation.json").read_text())["verdict"] == "passed"
    assert dvc(clone, "pull").returncode == 0
    assert (run / "adapter" / "adapter_model.safetensors").read_bytes() == b"weights"


def test_trackers_follow_what_a_model_is_and_one_that_was_down_is_caught_up_with(team, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    there = team.tracker.args[0].settings.mlflow_url
    team.track_in("sqlite:////proc/nowhere/mlflow.db")
    team.settle("who?", "Ann")
    training_set = team.curate()
    team.judged(training_set)
    with pytest.raises(TryAgain, match=r"committed here, but sqlite:////proc/nowhere"):
        team.mirror(training_set)
    team.track_in(there)
    team.mirror_again(training_set)
    client = MlflowClient(there)
    assert client.get_model_version_by_alias("clinic", "challenger").tags["verdict"] == "passed"
    assert len(list(team.runtime.settings.data_dir.rglob("*.wandb"))) == 1
    team.promote()
    assert team.pending(JobKind.MIRROR) == 1
    team.mirror(training_set)
    assert client.get_registered_model("clinic").aliases.keys() == {"champion"}


def test_of_two_mirrors_side_by_side_the_one_that_knew_less_leaves_no_older_champion(team, monkeypatch):
    team.settle("who?", "Ann")
    team.judged(first := team.curate(), number=7)
    team.promote()
    team.settle("where?", "there")
    team.judged(second := team.curate(), number=9)
    client, write = MlflowClient(team.tracker.args[0].settings.mlflow_url), tracking.set_aliases
    seen = []

    def champion() -> str:
        return client.get_model_version_by_alias("clinic", "champion").tags["model_version"]

    def write_late(*said) -> None:
        if not seen:
            seen.append("asleep between reading and writing")
            team.promote()
            team.mirror(second)
            seen.append(champion())
            write(*said)
            seen.append(champion())
        else:
            write(*said)

    monkeypatch.setattr(tracking, "set_aliases", write_late)
    team.mirror(first)
    assert seen[1:] == ["v9", "v7"]  # one look alone would have left it there
    assert champion() == "v9"


def test_a_file_that_an_erasure_replaced_meanwhile_is_looked_for_again(team):
    team.settle("who?", "Ann")
    training_set = team.curate()
    content = team.runtime.artifacts.get_bytes(training_set.artifact)
    team.runtime.artifacts.remove(training_set.artifact)
    with pytest.raises(TryAgain, match="no artifact"):
        team.mirror(training_set)
    assert "no artifact" in team.row(training_set).failure
    team.runtime.artifacts.put_bytes(content)
    assert team.mirror_again(training_set)["sent"] == 1


def test_mirroring_twice_changes_nothing(team):
    team.settle("who?", "Ann")
    training_set = team.curate()
    team.judged(training_set)
    first = team.mirror(training_set)
    assert team.mirror(training_set) == first | {"sent": 0}


def test_a_remote_that_refuses_delays_nothing_and_is_served_later(runtime):
    with running_storage() as storage:
        team = Team(runtime, storage.url, {"method": "PUT"})
        storage.is_refusing = True
        team.settle("who?", "Ann")
        training_set = team.curate()
        with pytest.raises(TryAgain, match="committed here"):
            team.mirror(training_set)
        assert team.row(training_set).failure and not team.row(training_set).pushed_at
        team.train(training_set)
        storage.is_refusing = False
        assert team.mirror_again(training_set)["sent"] == 1
        assert team.row(training_set).failure is None and storage.objects


def test_every_row_of_the_lineage_names_its_settlement_and_no_readable_digest(team, tmp_path):
    key = team.settle("who?", "Ann")
    training_set = team.curate()
    team.mirror(training_set)
    clone = checked_out(team.repository, "clinic/v1", tmp_path / "clone")
    [line] = (clone / "sets/clinic/lineage.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert row["settlement"] == key and row["split"] in list(Split)
    with team.runtime.db.reading() as session:
        group = session.exec(select(TrainingSetExample)).one().group_name
    assert group.removeprefix("sha256:") not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ERRATA_DVC_REMOTE_URL", "https://me:hunter2@data.example.org/x"),
        ("ERRATA_DVC_REMOTE_OPTIONS", '["hunter2"]'),
        ("ERRATA_DVC_REMOTE_OPTIONS", "{hunter2"),
    ],
)
def test_a_remote_that_cannot_be_is_named_by_its_setting_and_its_secret_is_not(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name) as refused:
        service_settings.load()
    assert "hunter2" not in str(refused.value)


def test_a_remote_of_the_team_needs_no_repository_here(runtime):
    assert mirror.repository(runtime.settings).directory == Path(runtime.settings.mirror)


def test_collecting_frees_only_what_no_model_needs(team, tmp_path):
    team.settle("who?", "Ann")
    trained = team.curate()
    team.mirror(trained)
    team.judged(trained)
    team.mirror(trained)
    for asked in ("where?", "when?"):
        team.settle(asked, "soon")
        newest = team.curate()
        team.mirror(newest)
    with team.runtime.db.reading() as session:
        assert mirroring.needed_tags(session) == ["clinic/run-v7", "clinic/v1", f"clinic/v{newest.version}"]
    assert team.collect() == 1
    for tag in ("clinic/v1", "clinic/run-v7", f"clinic/v{newest.version}"):
        assert (
            dvc(checked_out(team.repository, tag, tmp_path / tag.replace("/", "-")), "pull").returncode == 0
        )
    team.settle("why?", "soon")
    team.curate()
    assert team.collect() == 1  # the set before, though the newest has no tag yet


def test_what_a_remote_refused_is_not_collected_and_is_sent_once_it_recovers(team, tmp_path):
    (tmp_path / "remote").rmdir()
    (tmp_path / "remote").write_text("no directory")
    sets = []
    for asked in ("who?", "where?"):
        team.settle(asked, "soon")
        sets.append(team.curate())
        with pytest.raises(TryAgain):
            team.mirror(sets[-1])
    with pytest.raises(TryAgain, match="nothing is collected"):
        team.collect()
    (tmp_path / "remote").unlink()
    assert team.collect() == 0
    assert team.mirror_again(sets[0])["sent"] == 2
    assert team.row(sets[0]).pushed_at and team.row(sets[0]).failure is None
    assert team.collect() == 1


def test_a_set_of_which_the_remote_lacks_a_file_is_not_called_complete(runtime):
    with running_storage() as storage:
        team = Team(runtime, storage.url, {"method": "PUT"})
        team.settle("who?", "Ann")
        training_set = team.curate()
        team.mirror(training_set)
        complete = team.row(training_set).pushed_at
        assert complete and team.collect() == 0
        storage.objects.clear()
        team.repository._cache().remove_others([])
        with pytest.raises(TryAgain, match="lacks 1 file of clinic/v1"):
            team.mirror(training_set)
        assert (
            team.row(training_set).pushed_at == complete and "lacks 1 file" in team.row(training_set).failure
        )


def test_the_set_that_is_current_is_needed_though_a_later_one_was_built(team):
    key = team.settle("who?", "Ann, regards")
    team.finds(key, severity=Severity.WARN, proposals=[Repair(RepairKind.REPLACE, (key,), find=", regards")])
    first = team.curate()
    accepted = team.accept(team.finding(first))
    team.curate()
    team.undo(accepted)
    assert team.curate().id == first.id
    with team.runtime.db.reading() as session:
        assert mirroring.needed_tags(session) == ["clinic/v1"]


def test_another_audit_of_a_set_is_published_as_its_next_revision(team, tmp_path):
    key = team.settle("who?", "Ann")
    first = team.curate()
    team.mirror(first)
    assert team.curate().id == first.id
    assert team.mirror_again(first)["tag"] == "clinic/v1"
    team.finds(key, severity=Severity.WARN)
    again = team.curate()
    assert (again.id, again.card == first.card) == (first.id, False)
    assert team.mirror_again(again)["tag"] == "clinic/v1-2"
    clone = checked_out(team.repository, "clinic/v1-2", tmp_path / "clone") / "sets/clinic"
    assert json.loads((clone / "audit.json").read_text())["severities"]["warn"] == 1
    assert (clone / "README.md").read_bytes() == team.runtime.artifacts.get_bytes(again.card)
    assert team.repository.shards("clinic/v1") == team.repository.shards("clinic/v1-2")
