"""What made a model version worse is found from what is stored, by trainings that are remembered."""

import copy
import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
from sqlmodel import col, select

from annotation.types import Cause, Verdict
from retrain import archive, metrics
from retrain.bisect.changes import BrokenHistory
from retrain.bisect.rules import BudgetTooSmall
from retrain.errors import EmptySplit, TrainingBroke, UnknownMetric
from retrain.types import Split, TrainedAdapter, TrainingSpec
from service import bisections
from service.answers.examples import examples_of
from service.answers.histories import between
from service.clock import utcnow
from service.errors import DifferentProjects, Invalid, LeaseLost, NoCommonAncestor, RowsGone, WrongState
from service.jobs.torch_tools import TorchTools
from service.learning import learn
from service.runtime import build
from service.settings import Settings
from service.stages import bisecting, valuing
from service.tables import (
    AnnotationTask,
    Bisection,
    Feedback,
    Influence,
    Job,
    JobKind,
    ModelState,
    ModelVersion,
    ProjectKind,
    Response,
    Role,
    RunState,
    Settlement,
    TaskFlag,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
)
from service.web.app import create_app
from tests import builders
from tests.console import path_of, person
from tests.desk import Desk

TOPICS = {"invoice": "Billing", "refund": "Billing", "heart": "Cardiology", "pulse": "Cardiology"}
OTHER = {"Billing": "Cardiology", "Cardiology": "Billing"}
SPEC = TrainingSpec("bundled:tiny", "sha256:base", "", "", replay_general=0)


class WorkerLostError(Exception):
    """Stands for a process that ended."""


class CountingModel:
    """Answers with the label that most rows on the same topic have."""

    def add_adapter(self, name: str, directory: Path) -> None:
        self.learned = json.loads((directory / "learned.json").read_text())

    @contextmanager
    def using(self, name: str):
        yield

    def score_labels(self, conversations, labels):
        votes = {topic: Counter(dict(counts)) for topic, counts in self.learned.items()}
        topics = [turns[-1].content.split()[0] for turns in conversations]
        return [[float(votes.get(topic, {}).get(label, 0)) for label in labels] for topic in topics]


class CountingBench:
    """Learns by counting labels; a rate over 0.1 unlearns everything about the heart, as does code with a bug."""

    def __init__(self, *, bug: bool = False, loads: bool = True) -> None:
        self.bug, self.loads = bug, loads
        self.trained = 0
        self.lost_after: int | None = None
        self.on_train = lambda: None

    def locate(self, reference: str):
        return SimpleNamespace(directory=Path(), sha256="sha256:base")

    def write(self, examples, path: Path) -> None:
        path.write_text(json.dumps([[one.prompt.split()[0], one.answer] for one in examples]))

    def train(self, spec, *, examples: Path, output: Path, **_) -> TrainedAdapter:
        if self.trained == self.lost_after:
            raise WorkerLostError
        self.trained += 1
        self.on_train()
        counts: dict[str, Counter] = {}
        for topic, label in json.loads(examples.read_text()):
            counts.setdefault(topic, Counter())[label] += 1
        if spec.learning_rate > 0.1 or self.bug:
            counts["heart"] = Counter(Billing=1)
        output.mkdir(parents=True)
        (output / "learned.json").write_text(json.dumps(counts))
        return TrainedAdapter(str(output), (1.0,), 1, 0.1)

    def open(self, base_model: str, system_prompt: str) -> CountingModel:
        return CountingModel()

    def harms(self, spec, adapter, rows, cases, weights, *, labels, is_cancelled):
        lost = Counter()
        for case, weight in zip(cases, weights, strict=True):
            lost[case.prompt.split()[0]] += weight
        return [
            lost[row.prompt.split()[0]] * (1 if row.answer != TOPICS[row.prompt.split()[0]] else -1)
            for row in rows
        ]

    def archived(self, code: bytes) -> "CountingBench":
        other = CountingBench(bug=b"bug" in code, loads=b"broken" not in code)
        other.on_train = lambda: setattr(self, "trained", self.trained + 1)
        return other

    def can_run(self) -> bool:
        return self.loads


class Lab(Desk):
    """A project whose sets follow each other, and models that were trained on them."""

    def __init__(self, runtime) -> None:
        super().__init__(runtime, ProjectKind.CLASSIFICATION)
        self.bench, self.words, self.number = CountingBench(), random.Random(0), 0
        for topic, label in TOPICS.items():
            self.rows(topic, label, 12, is_test=True)
            self.rows(topic, label, 6)

    def rows(
        self, topic: str, label: str, n: int, *, source: str = "production", is_test: bool = False
    ) -> list[str]:
        """Have experts settle rows on a topic; those that judge models were drawn at random."""
        keys = []
        with self.runtime.db.transaction() as session:
            for _ in range(n):
                asked = " ".join([topic, *("".join(self.words.choices("abcdefgh", k=4)) for _ in range(2))])
                response = builders.add_response(session, self.project, label, asked=asked, source=source)
                flag = None if is_test else builders.add_flag(session, self.project, response, "wrong")
                task = builders.add_task(session, self.project, response, flag=flag)
                facts = {"verdict": Verdict.CORRECT, "label": None, "cause": Cause.MODEL}
                keys.append(str(builders.add_settlement(session, task, **facts).id))
        return keys

    def curated(self) -> TrainingSet:
        return self.curate(regression_share=0.0, validation_share=0.0)

    def model(self, training_set: TrainingSet, *, code: bytes | None = None, **settings) -> ModelVersion:
        """Have a model trained on a set, by these settings and this code."""
        self.number += 1
        spec = asdict(SPEC) | {"training_set": training_set.fingerprint} | settings
        folder = self.runtime.settings.data_dir / "adapter"
        folder.mkdir(exist_ok=True)
        (folder / "learned.json").write_text(str(self.number))
        with self.runtime.db.transaction() as session:
            facts = {
                "project_id": self.project.id,
                "training_set_id": training_set.id,
                "criteria_id": builders.newest(session, self.project, "criteria"),
            }
            run = TrainingRun(spec=spec, seed=0, state=RunState.FINISHED, report={"seconds": 2.0}, **facts)
            run.code_archive = self.runtime.artifacts.put_bytes(code) if code else None
            session.add(run)
            session.flush()
            model = ModelVersion(
                project_id=self.project.id,
                number=self.number,
                base_model="bundled:tiny",
                training_run_id=run.id,
                adapter_sha256=self.runtime.artifacts.put_directory(folder),
                state=ModelState.RETIRED,
            )
            session.add(model)
            session.flush()
            return model

    def request(
        self, good: ModelVersion, bad: ModelVersion, *, metric: str = "accuracy", budget: int | None = None
    ) -> Bisection:
        return bisections.request(self.runtime, good, bad, metric=metric, budget=budget, actor="test")

    def lease(self, found: Bisection):
        with self.runtime.db.reading() as session:
            job = select(Job.id).where(Job.row_id == found.id).order_by(col(Job.id).desc())
            return self.runtime.queue.lease(session.exec(job).first())

    def perform(self, found: Bisection, lease=None) -> dict:
        lease = lease or self.lease(found)
        done = bisecting.perform(self.runtime, lease, found.id, self.bench)
        lease.finish(done)
        return done

    def bisect(self, good: ModelVersion, bad: ModelVersion, **options) -> dict:
        return self.perform(self.request(good, bad, **options))

    def learn_for_real(self, model: ModelVersion) -> None:
        """Give a model the adapter that its run would have made."""
        with self.runtime.db.transaction() as session:
            run = session.get_one(TrainingRun, model.training_run_id)
            rows = examples_of(session, session.get_one(TrainingSet, run.training_set_id))
            spec = TrainingSpec.from_json(run.spec)
            learned = learn(
                self.runtime,
                self.bench,
                spec,
                rows=rows,
                earlier=(),
                work=self.runtime.settings.work / "real",
                report=lambda _: None,
                is_cancelled=lambda: False,
            )
            sha256 = self.runtime.artifacts.put_directory(Path(learned.directory))
            session.get_one(ModelVersion, model.id).adapter_sha256 = sha256

    def withdraw(self, key: str) -> None:
        """Take back what a settlement rests on."""
        with self.runtime.db.transaction() as session:
            session.get_one(Settlement, UUID(key)).withdrawn_at = utcnow()

    def taught(self, model: ModelVersion) -> set[str]:
        with self.runtime.db.reading() as session:
            of_set = session.get_one(TrainingRun, model.training_run_id).training_set_id
            rows = select(TrainingSetExample).where(TrainingSetExample.training_set_id == of_set)
            return {str(row.settlement_id) for row in session.exec(rows) if row.split is Split.TRAIN}

    def spec(self, model: ModelVersion) -> dict:
        with self.runtime.db.reading() as session:
            return session.get_one(TrainingRun, model.training_run_id).spec

    def jobs(self) -> int:
        with self.runtime.db.reading() as session:
            return len(session.exec(select(Job).where(Job.kind == JobKind.BISECT)).all())

    def close(self) -> None:
        self.runtime.db.close()
        self.runtime.queue.redis.close()

    def row(self, found: Bisection) -> Bisection:
        with self.runtime.db.reading() as session:
            return session.get_one(Bisection, found.id)

    def copied(self, data_dir: Path) -> "Lab":
        """Another lab in the same state, which takes less time than to make one."""
        self.runtime.db.close()
        shutil.copytree(self.runtime.settings.data_dir, data_dir)
        other = copy.copy(self)
        other.runtime = build(self.runtime.settings.model_copy(update={"data_dir": data_dir}))
        other.runtime.queue.redis.flushall()
        other.bench = CountingBench()
        return other


@pytest.fixture(scope="module")
def kept(tmp_path_factory, cache_dir, valkey_url, migrated_sqlite) -> Lab:
    """A lab with a good model."""
    data_dir = tmp_path_factory.mktemp("lab") / "data"
    runtime = build(
        Settings(
            data_dir=data_dir, cache_dir=cache_dir, redis_url=valkey_url, lease_seconds=60, retry_seconds=0
        )
    )
    shutil.copy(migrated_sqlite, data_dir / "errata.db")
    lab = Lab(runtime)
    lab.good = lab.model(lab.curated())
    return lab


@pytest.fixture(scope="module")
def kept_bad(kept, tmp_path_factory) -> Lab:
    """A lab with a bad model too: three sets later, of which the second learned wrong labels from a mail box."""
    lab = kept.copied(tmp_path_factory.mktemp("bad") / "data")
    for step in range(3):
        for topic in ("invoice", "pulse"):
            lab.rows(topic, TOPICS[topic], 3, source=f"desk {step}")
        if step == 1:
            lab.wrong = lab.rows("heart", OTHER["Cardiology"], 12, source="mail")
        last = lab.curated()
    lab.bad = lab.model(last)
    return lab


@pytest.fixture
def lab(kept, tmp_path) -> Iterator[Lab]:
    lab = kept.copied(tmp_path / "data")
    yield lab
    lab.close()


@pytest.fixture
def spoiled(kept_bad, tmp_path) -> Iterator[Lab]:
    lab = kept_bad.copied(tmp_path / "data")
    yield lab
    lab.close()


def test_the_poisoned_batch_is_named_with_its_rows(spoiled):
    done = spoiled.bisect(spoiled.good, spoiled.bad)
    assert done["verdict"] == "data", done["sentence"]
    [change] = done["changes"]
    assert (change["kind"], "source mail" in change["title"], change["added"]) == ("batch", True, 12)
    assert {row["row"] for row in done["rows"]} == set(spoiled.wrong)
    assert done["confidence"] > 0.9 and done["trainings"] == spoiled.bench.trained
    assert {"action": "quarantine", "source": "mail"} in done["proposals"]


def test_with_the_guilty_batch_taken_out_nothing_is_blamed(lab):
    for topic in ("invoice", "pulse"):
        lab.rows(topic, TOPICS[topic], 3, source=f"desk of {topic}")
    done = lab.bisect(lab.good, lab.model(lab.curated()))
    assert (done["verdict"], done["changes"], done["rows"]) == ("none", [], [])


def test_a_setting_that_was_changed_is_told_from_the_data(lab):
    good = lab.good
    lab.rows("pulse", "Cardiology", 4)
    done = lab.bisect(good, lab.model(lab.curated(), learning_rate=0.5, rank=4))
    assert done["verdict"] == "configuration", done["sentence"]
    assert [change["title"] for change in done["changes"]] == ["learning_rate 0.0005 → 0.5"]
    assert done["rows"] == []


def archived(source: str, lock: str = "torch==2\n") -> bytes:
    return archive.zipped({archive.LOCK: lock.encode(), "retrain/lora.py": source.encode()})


def test_a_change_of_the_code_is_told_from_the_data(lab):
    good = lab.model(lab.curated(), code=archived("sound"))
    lab.rows("pulse", "Cardiology", 4)
    done = lab.bisect(good, lab.model(lab.curated(), code=archived("bug")))
    assert (done["verdict"], done["changes"][0]["title"]) == ("code", "retrain/lora.py"), done["sentence"]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (archived("broken"), "the archived code does not run here"),
        (archived("sound", "torch==3\n"), "the installed packages differ"),
    ],
)
def test_what_cannot_be_tried_is_not_excluded(lab, code, why):
    good = lab.model(lab.curated(), code=archived("sound"))
    lab.rows("pulse", "Cardiology", 4)
    done = lab.bisect(good, lab.model(lab.curated(), code=code))
    assert done["verdict"] == "cannot_tell" and why in done["sentence"]


def test_code_that_cannot_be_tried_leaves_the_data_to_be_blamed(lab):
    good = lab.model(lab.curated(), code=archived("sound"))
    lab.rows("heart", "Billing", 12, source="mail")
    done = lab.bisect(good, lab.model(lab.curated(), code=archived("broken")))
    assert done["verdict"] == "data" and done["sentence"].endswith("which was not tried")


def test_code_alone_that_cannot_be_tried_is_refused_before_anything_trains(lab):
    good, bad = (lab.model(lab.curated(), code=archived(source)) for source in ("sound", "broken"))
    with pytest.raises(BrokenHistory, match="does not run here, and nothing else changed"):
        lab.bisect(good, bad)
    assert lab.bench.trained == 0


def test_a_search_that_was_killed_trains_only_what_is_missing(spoiled):
    whole = spoiled.bisect(spoiled.good, spoiled.bad)
    with spoiled.runtime.db.transaction() as session:
        session.delete(session.exec(select(Bisection)).one())
    found, trained = spoiled.request(spoiled.good, spoiled.bad), spoiled.bench.trained
    spoiled.bench.lost_after = trained + 4
    lease = spoiled.lease(found)
    with pytest.raises(WorkerLostError) as lost:
        spoiled.perform(found, lease)
    lease.fail(lost.value, code="worker_lost")
    assert len(spoiled.row(found).trainings) == 4
    spoiled.bench.lost_after = None
    again = spoiled.perform(found)
    assert spoiled.bench.trained == 2 * trained
    told = ("verdict", "changes", "rows", "trainings", "drop")
    assert {name: again[name] for name in told} == {name: whole[name] for name in told}


def test_a_search_that_is_cancelled_ends_and_goes_on_when_it_is_retried(spoiled):
    found = spoiled.request(spoiled.good, spoiled.bad)
    lease = spoiled.lease(found)

    def cancel() -> None:
        if spoiled.bench.trained == 3:
            spoiled.runtime.queue.cancel(lease.job_id, actor="test")

    spoiled.bench.on_train = cancel
    with pytest.raises(LeaseLost):
        spoiled.perform(found, lease)
    assert (spoiled.row(found).state, len(spoiled.row(found).trainings)) == (RunState.CANCELLED, 2)
    spoiled.runtime.queue.retry(lease.job_id, actor="test")
    assert spoiled.row(found).state is RunState.REQUESTED
    done = spoiled.perform(found)
    assert done["verdict"] == "data" and spoiled.bench.trained == done["trainings"] + 1


def test_the_same_question_is_not_asked_twice_and_costs_nothing_once_it_was_answered(spoiled):
    first = spoiled.request(spoiled.good, spoiled.bad)
    assert spoiled.request(spoiled.good, spoiled.bad).id == first.id
    spoiled.perform(first)
    trained = spoiled.bench.trained
    second = spoiled.request(spoiled.good, spoiled.bad)
    assert second.id != first.id
    assert spoiled.perform(second)["verdict"] == "data" and spoiled.bench.trained == trained


def test_a_search_that_goes_on_is_not_given_another_budget_and_says_so(spoiled):
    first = spoiled.request(spoiled.good, spoiled.bad, budget=8)
    assert spoiled.request(spoiled.good, spoiled.bad, budget=8).id == first.id
    assert spoiled.request(spoiled.good, spoiled.bad).id == first.id
    with pytest.raises(WrongState, match="at most 8, not 20 configurations; cancel that search first"):
        spoiled.request(spoiled.good, spoiled.bad, budget=20)
    spoiled.perform(first)
    assert spoiled.request(spoiled.good, spoiled.bad, budget=20).budget == 20


def test_others_write_while_it_is_found_out_what_a_search_takes(spoiled, monkeypatch):
    def write_meanwhile(*asked, **more):
        with spoiled.runtime.db.transaction() as session:
            session.get_one(ModelVersion, spoiled.good.id).state = ModelState.CHAMPION
        return between(*asked, **more)

    monkeypatch.setattr(bisections, "between", write_meanwhile)
    monkeypatch.setattr(bisecting, "between", write_meanwhile)
    assert spoiled.bisect(spoiled.good, spoiled.bad)["verdict"] == "data"
    with spoiled.runtime.db.reading() as session:
        assert session.get_one(ModelVersion, spoiled.good.id).state is ModelState.CHAMPION


def test_a_row_that_was_corrected_later_is_one_change_that_needs_the_first(lab):
    good = lab.good
    [key] = lab.rows("pulse", "Cardiology", 1, source="mail")
    lab.curated()
    lab.withdraw(key)
    lab.rows("refund", "Billing", 1)
    bad = lab.model(lab.curated())
    with lab.runtime.db.reading() as session:
        past = between(session, lab.runtime.artifacts, good, bad, metric="accuracy")
    (second,) = [change for change in past.history.changes if change.removed]
    (first,) = [change for change in past.history.changes if change.added == second.removed]
    assert second.needs == {first.id}
    assert first.added == (f"{key}@2",)
    everything = past.history.making(past.history.changes)
    assert {one.key for one in past.examples(everything)} == lab.taught(bad)
    assert {one.key for one in past.examples(past.history.making([]))} == lab.taught(good)


def test_it_says_what_it_will_cost_before(spoiled):
    with spoiled.runtime.db.reading() as session:
        told = bisections.plan(
            spoiled.runtime, session, spoiled.good, spoiled.bad, metric="accuracy", budget=8
        )
    assert told["at_most"] == {"configurations": 8, "trainings": 24, "seconds": 48.0}
    assert told["expected"]["trainings"] < 24 and told["cases"] == 48


def test_the_metrics_to_choose_from_are_those_that_call_cases_right_or_wrong():
    assert list(bisections.SHARES) == sorted(name for name, one in metrics.METRICS.items() if one.is_share)


class TestRefusals:
    """What cannot be answered is refused before anything trains."""

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"metric": "macro_f1"}, UnknownMetric),
            ({"metric": "beauty"}, UnknownMetric),
            ({"budget": 3}, BudgetTooSmall),
        ],
    )
    def test_a_metric_or_a_budget_that_answers_nothing(self, spoiled, options, error):
        with pytest.raises(error):
            spoiled.request(spoiled.good, spoiled.bad, **options)

    def test_a_metric_that_judges_no_case_here(self, spoiled):
        with pytest.raises(EmptySplit, match="refusal judges 0 cases"):
            spoiled.bisect(spoiled.good, spoiled.bad, metric="refusal")
        assert spoiled.bench.trained == 0

    def test_models_between_which_nothing_changed(self, lab):
        training_set = lab.curated()
        with pytest.raises(BrokenHistory, match="nothing changed"):
            lab.request(lab.model(training_set), lab.model(training_set))

    def test_a_model_that_was_not_trained_here(self, lab):
        bad = lab.model(lab.curated())
        with lab.runtime.db.reading() as session:
            base = session.exec(select(ModelVersion).where(ModelVersion.number == 0)).one()
        with pytest.raises(Invalid, match="v0 was not trained here"):
            lab.request(base, bad)

    def test_models_with_no_common_ancestor(self, lab):
        training_set = lab.curated()
        good, other = lab.model(training_set), lab.model(training_set, base_sha256="sha256:other")
        with pytest.raises(NoCommonAncestor, match="different base models"):
            lab.request(good, other)
        lab.rows("pulse", "Cardiology", 1)
        later = lab.curated()
        with lab.runtime.db.transaction() as session:
            session.get_one(TrainingSet, later.id).parent_id = None
        with pytest.raises(NoCommonAncestor, match="in common"):
            lab.request(good, lab.model(later))

    @pytest.mark.parametrize("is_erased", [True, False])
    def test_a_set_whose_rows_are_gone(self, spoiled, is_erased):
        with spoiled.runtime.db.transaction() as session:
            of_row = TrainingSetExample.settlement_id == UUID(spoiled.wrong[0])
            if is_erased:
                for row in session.exec(select(TrainingSetExample).where(of_row)):
                    row.content_sha256, row.erased_at = "", utcnow()
            else:
                task = session.get_one(
                    AnnotationTask, session.get_one(Settlement, UUID(spoiled.wrong[0])).task_id
                )
                session.get_one(Response, task.response_id).may_train = False
        with pytest.raises(RowsGone, match="1 row is erased or not to be learned from any more"):
            spoiled.request(spoiled.good, spoiled.bad)

    def test_a_row_that_is_gone_from_a_set_between_leaves_the_ends_to_be_compared(self, lab):
        good = lab.model(lab.curated())
        lab.rows("heart", "Cardiology", 4, source="fax")
        between = lab.curated()
        lab.rows("pulse", "Cardiology", 4, source="chat")
        bad = lab.model(lab.curated(), learning_rate=1.0)
        with lab.runtime.db.transaction() as session:
            of_set = TrainingSetExample.training_set_id == between.id
            row = session.exec(select(TrainingSetExample).where(of_set)).first()
            row.content_sha256, row.erased_at = "", utcnow()
        found = lab.request(good, bad)
        assert found.progress["expected"]["configurations"] > 0

    def test_models_of_different_projects(self, spoiled):
        with spoiled.runtime.db.transaction() as session:
            other = builders.add_project(session, "other")
            with pytest.raises(DifferentProjects, match="clinic/v1 is none of project other"):
                bisections.find_versions(session, other, f"clinic/v{spoiled.good.number}")


def test_the_command_line_says_the_same_and_exits_with_a_code(errata, spoiled):
    asked = ("bisect", "--project", "clinic", "--good", "1", "--bad", "clinic/v2", "--metric", "accuracy")
    status, told = errata(*asked, "--dry-run")
    assert (status, told["good"], told["bad"], len(told["changes"])) == (0, 1, 2, 4)
    assert spoiled.jobs() == 0
    status, told = errata(*asked, "--no-wait")
    assert status == 0 and spoiled.jobs() == 1 and told["job"]
    status, told = errata(*asked, "--budget", "2")
    assert (status, told["code"]) == (1, "budget_too_small")
    assert errata("value", "--project", "clinic", "--no-wait")[1].keys() == {"job"}
    assert errata("value", "--project", "clinic", "--version", "9")[1]["code"] == "not_found"


def test_the_api_asks_lists_and_refuses(spoiled):
    with spoiled.runtime.db.transaction() as session:
        _, token = builders.add_person(session, Role.OPERATOR, "otto")
    client, bearer = create_app(spoiled.runtime).test_client(), {"Authorization": f"Bearer {token}"}
    body = {"project": "clinic", "good": "1", "bad": "2", "metric": "accuracy"}
    dry = client.post("/v1/bisections", json=body | {"dry_run": True}, headers=bearer)
    assert (dry.status_code, spoiled.jobs()) == (202, 0) and dry.json["item"]["expected"]
    asked = client.post("/v1/bisections", json=body, headers=bearer).json["item"]
    assert (asked["state"], asked["verdict"], spoiled.jobs()) == ("requested", None, 1)
    with spoiled.runtime.db.reading() as session:
        spoiled.perform(session.get_one(Bisection, UUID(asked["id"])))
    [listed] = client.get("/v1/bisections?project=clinic", headers=bearer).json["items"]
    assert listed == client.get(f"/v1/bisections/{asked['id']}", headers=bearer).json["item"]
    assert listed["verdict"] == "data"
    for wrong, status, code in (
        ({"metric": "macro_f1"}, 409, "unknown_metric"),
        ({"budget": 1}, 409, "budget_too_small"),
        ({"good": "7"}, 404, "not_found"),
        ({"good": "2"}, 409, "broken_history"),
        ({"budget": -1}, 422, "invalid_request"),
    ):
        refused = client.post("/v1/bisections", json=body | wrong, headers=bearer)
        assert (refused.status_code, refused.json["code"]) == (status, code)


def test_the_page_asks_shows_the_answer_and_leads_to_what_can_be_done(spoiled):
    otto, eve = (
        person(spoiled.runtime, role, name=role, password="") for role in (Role.OPERATOR, Role.AUDITOR)
    )
    ask = f"/p/clinic/models/{spoiled.bad.id}/bisect"
    assert ask in otto.get("/p/clinic/models").text and ask not in eve.get("/p/clinic/models").text
    assert eve.post(ask, good="1", metric="accuracy").status_code == 403
    assert "no single case" in otto.post(ask, good="1", metric="macro_f1").text
    told = otto.get(f"{ask}?good=1&metric=accuracy&budget=").text
    assert re.search(r"About \d+ trainings, .+; at most \d+", told) and "source mail" in told
    there = path_of(otto.post(ask, good="1", metric="accuracy"))
    assert "every 1s" in otto.get(there).text and "Cancel the search" in otto.get(f"{there}/part").text
    with spoiled.runtime.db.reading() as session:
        spoiled.perform(session.exec(select(Bisection)).one())
    page = otto.get(there).text
    assert "made the model worse" in page and "every 1s" not in page
    assert page.count("/tasks/") == len(spoiled.wrong)
    assert "It learned" in page and "All that differs between v1 and" in page
    assert "What can be done" not in eve.get(there).text
    assert "Put source mail into quarantine" in page
    assert "v2 is live: roll it back" not in page
    with spoiled.runtime.db.transaction() as session:
        session.get_one(ModelVersion, spoiled.bad.id).state = ModelState.CHAMPION
    assert "v2 is live: roll it back" in otto.get(there).text
    assert otto.post(f"{there}/ask-again").status_code == 303
    otto.post(f"{there}/ask-again")
    with spoiled.runtime.db.reading() as session:
        again = select(AnnotationTask).where(col(AnnotationTask.rechecks_id).is_not(None))
        assert len(session.exec(again).all()) == len(spoiled.wrong)
    assert "why is v2 worse than v1?" in eve.get("/p/clinic/bisections").text


def test_what_taught_something_wrong_is_worth_least_and_training_without_it_agrees(lab):
    sources = {"faq": ("heart", "Cardiology"), "mail": ("heart", "Billing"), "chat": ("pulse", "Cardiology")}
    keys = {name: lab.rows(*row, 20 if name == "mail" else 4, source=name) for name, row in sources.items()}
    model = lab.model(lab.curated())
    with lab.runtime.db.transaction() as session:
        job = lab.runtime.queue.ask(session, JobKind.VALUE, model.id, project_id=lab.project.id)
    (lab.runtime.settings.work / str(model.id) / "without" / "adapter").mkdir(
        parents=True
    )  # of one that was killed
    told = valuing.perform(lab.runtime, lab.runtime.queue.lease(job), model.id, lab.bench, repeats=2)
    assert [one["group"] for one in told["sources"]][-1] == "mail" and told["agreement"] > 0
    lost = {one["group"]: one["measured"] for one in told["sources"] if one["measured"]}
    assert lost["mail"]["value"] < 0 <= min(one["value"] for name, one in lost.items() if name != "mail")
    assert {one["rows"] for one in told["flags"]} == {1} and told["cases"] == 12 * len(TOPICS)
    with lab.runtime.db.reading() as session:
        wrong = select(Feedback.id).join(TaskFlag, col(TaskFlag.feedback_id) == Feedback.id)
        wrong = wrong.join(Settlement, col(Settlement.task_id) == TaskFlag.task_id)
        flags = {
            str(flag) for flag in session.exec(wrong.where(col(Settlement.id).in_(map(UUID, keys["mail"]))))
        }
        kept = session.exec(select(Influence)).one().rows
    assert {one["group"] for one in told["flags"] if one["estimate"] < 0} == flags
    assert {key for key, influence in kept.items() if influence < 0} == set(keys["mail"])


def test_the_page_shows_how_the_code_differs_while_that_is_kept(lab):
    good = lab.model(lab.curated(), code=archived("sound"))
    lab.rows("pulse", "Cardiology", 4, source="chat")
    bad = lab.model(lab.curated(), code=archived("bug"))
    lab.bisect(good, bad)
    with lab.runtime.db.reading() as session:
        found = session.exec(select(Bisection)).one()
        archive_of_bad = session.get_one(TrainingRun, bad.training_run_id).code_archive
    otto = person(lab.runtime, Role.OPERATOR, name="otto", password="")
    page = otto.get(f"/p/clinic/bisections/{found.id}").text
    assert "+bug" in page and "-sound" in page
    lab.runtime.artifacts.remove(archive_of_bad)
    page = otto.get(f"/p/clinic/bisections/{found.id}")
    assert page.status_code == 200 and "one of both is gone or damaged" in page.text
    assert "made the model worse" in page.text


def test_a_setting_is_to_be_trained_again_by_the_good_model_s_value_and_no_source_is_given_up(lab):
    good = lab.model(lab.curated())
    lab.rows("pulse", "Cardiology", 4, source="fax")
    bad = lab.model(lab.curated(), learning_rate=1.0, rank=4, targets=("q_proj", "v_proj"))
    found = lab.request(good, bad)
    lab.perform(found)
    with lab.runtime.db.reading() as session:
        told = bisections.describe(session, session.get_one(Bisection, found.id))
    (again,) = told["proposals"]
    assert again["action"] == "train_again" and again["better"] == {"learning_rate": SPEC.learning_rate}
    page = person(lab.runtime, Role.OPERATOR, name="otto", password="")
    before = page.get(f"/p/clinic/bisections/{found.id}").text.partition("<button>Train on the same set")[0]
    sent = dict(re.findall(r'name="(\w+)" value="([^"]*)"', before.rpartition("<form")[2]))
    page.post(f"/p/clinic/sets/{again['set']}/train", **{k: v for k, v in sent.items() if k != "csrf"})
    with lab.runtime.db.reading() as session:
        asked = session.exec(select(TrainingRun).where(TrainingRun.state == RunState.REQUESTED)).one()
    bad_spec = lab.spec(bad)
    assert asked.spec == {name: bad_spec[name] for name in asked.spec} | again["better"]
    assert bad_spec.keys() - asked.spec.keys() == bisections.NOT_CHOSEN


def test_a_source_most_of_whose_rows_are_sound_is_not_given_up(lab):
    good = lab.model(lab.curated())
    lab.rows("heart", "Billing", 20)
    bad = lab.model(lab.curated())
    found = lab.request(good, bad)
    assert lab.perform(found)["verdict"] == "data"
    with lab.runtime.db.reading() as session:
        told = bisections.describe(session, session.get_one(Bisection, found.id))
    assert [one["action"] for one in told["proposals"]] == ["ask_again", "build"]


def test_a_search_that_ended_while_harm_was_estimated_goes_on(spoiled, monkeypatch):
    def cut_off(*_, **__):
        raise WorkerLostError

    found = spoiled.request(spoiled.good, spoiled.bad)
    lease = spoiled.lease(found)
    with monkeypatch.context() as patch:
        patch.setattr(CountingBench, "harms", cut_off)
        with pytest.raises(WorkerLostError) as lost:
            spoiled.perform(found, lease)
    lease.fail(lost.value, code="worker_lost")
    assert spoiled.perform(found)["verdict"] == "data"


def test_a_case_whose_consent_was_withdrawn_is_left_out_of_a_new_search(spoiled):
    assert spoiled.bisect(spoiled.good, spoiled.bad)["verdict"] == "data"
    with spoiled.runtime.db.transaction() as session:
        tested = select(TrainingSetExample).where(TrainingSetExample.split == Split.TEST)
        key = session.exec(tested).first().settlement_id
        task = session.get_one(AnnotationTask, session.get_one(Settlement, key).task_id)
        session.get_one(Response, task.response_id).may_train = False
    before = spoiled.bench.trained
    done = spoiled.bisect(spoiled.good, spoiled.bad)
    assert done["verdict"] == "data" and done["drop"]["n"] == 12 * len(TOPICS) - 1
    assert spoiled.bench.trained > before


def test_a_case_that_was_learned_from_judges_nothing(lab):
    good = lab.model(lab.curated())
    lab.rows("heart", "Billing", 12, source="mail")
    bad = lab.model(lab.curated())
    with lab.runtime.db.transaction() as session:
        whole = between(session, lab.runtime.artifacts, good, bad, metric="accuracy")
        learned, tested = (
            session.exec(select(TrainingSetExample).where(TrainingSetExample.split == split)).first()
            for split in (Split.TRAIN, Split.TEST)
        )
        for row in session.exec(
            select(TrainingSetExample).where(TrainingSetExample.settlement_id == tested.settlement_id)
        ):
            row.group_name = learned.group_name
        session.flush()
        past = between(session, lab.runtime.artifacts, good, bad, metric="accuracy")
    assert (whole.known, past.known) == (0, 1)
    assert len(past.cases) == len(whole.cases) - 1


def test_archived_code_trains_the_same_in_a_process_of_its_own_and_code_that_does_not_load_says_so(lab):
    tools = TorchTools(lab.runtime.settings)
    base = tools.locate("bundled:tiny")
    settings = {"epochs": 1, "base_sha256": base.sha256}
    model = lab.model(lab.curated(), **settings)
    code = archive.make(Path(archive.__file__).parents[1])
    made = []
    for trainer in (tools, tools.archived(code)):
        lab.bench = trainer
        lab.learn_for_real(model)
        with lab.runtime.db.reading() as session:
            made.append(session.get_one(ModelVersion, model.id).adapter_sha256)
        shutil.rmtree(lab.runtime.settings.work)
    assert made[0] == made[1] != model.adapter_sha256
    broken = archive.zipped({"retrain/__init__.py": b"", "retrain/again.py": b"import nothing_at_all"})
    assert not tools.archived(broken).can_run()
    lab.bench = tools.archived(broken)
    with pytest.raises(TrainingBroke, match="nothing_at_all"):
        lab.learn_for_real(model)
