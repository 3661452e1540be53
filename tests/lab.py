"""A project whose sets follow each other and whose models count, so that a search of them takes no time."""

import copy
import json
import random
import shutil
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
from sqlmodel import col, select

from annotation.types import Cause, Verdict
from retrain import archive
from retrain.types import Split, TrainedAdapter, TrainingSpec
from service import bisections
from service.answers.examples import examples_of
from service.clock import utcnow
from service.learning import learn
from service.runtime import build
from service.stages import bisecting
from service.tables import (
    AnnotationTask,
    Annotator,
    Bisection,
    Job,
    JobKind,
    ModelState,
    ModelVersion,
    ProjectKind,
    RunState,
    Settlement,
    SettlementAnnotation,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
)
from tests import builders
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

    @contextmanager
    def refuses(self, error: type[Exception], match: str | None = None):
        """What is asked for in the block is refused before anything trains, and leaves no job that would."""
        with pytest.raises(error, match=match):
            yield
        assert (self.bench.trained, self.jobs()) == (0, 0)

    def answered_by(self, account: str, keys: list[str]) -> None:
        """Have one annotator be who gave the answers that rows were settled by."""
        with self.runtime.db.transaction() as session:
            annotator = session.exec(select(Annotator).where(Annotator.account == account)).first()
            annotator = annotator or Annotator(connector=self.project.connector, account=account)
            session.add(annotator)
            session.flush()
            for key in keys:
                task = session.get_one(AnnotationTask, session.get_one(Settlement, UUID(key)).task_id)
                answer = builders.add_annotation(session, task, annotator)
                session.add(SettlementAnnotation(settlement_id=UUID(key), annotation_id=answer.id))

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


def archived(source: str, lock: str = "torch==2\n") -> bytes:
    return archive.zipped({archive.LOCK: lock.encode(), "retrain/lora.py": source.encode()})
