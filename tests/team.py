"""A project whose team brings data along, and what happens to it."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from sqlmodel import col, select

from retrain.corpus_files import read
from service import jobs, sources
from service.answers.corpora import corpora, find_source
from service.clock import utcnow
from service.queue import Lease
from service.runtime import Runtime
from service.stages import corpus, labelling
from service.tables import (
    Admission,
    AnnotationTask,
    Job,
    JobKind,
    Project,
    Response,
    Settlement,
    TaskState,
    TrainingSetExample,
)
from tests import builders

ROWS, SAMPLE = 80, 60
SECRET = "I cannot get in. My password is hunter2x."
RIGHT = {"verdict": "correct"}


def _other_than(label: str) -> dict[str, str]:
    """An expert's answer that the label is wrong."""
    return {
        "verdict": "incorrect",
        "label": next(one for one in builders.LABELS if one != label),
        "cause": "model",
    }


def question(number: int) -> str:
    """A question that is like no other, but for two words."""
    digest = sha256(str(number).encode()).hexdigest()
    return f"what about {' '.join(digest[at : at + 6] for at in range(0, 48, 6))}?"


def write(folder: Path, numbers: Iterable[int], *, more: Sequence[str] = (), name: str = "faq.csv") -> str:
    """A file with a row for each number, and lines that are none."""
    path = folder / name
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "author", "date", "region"])
        for number in numbers:
            label = builders.LABELS[number % 2]
            writer.writerow([question(number), label, "ann", "2014-05-01", "north"])
        file.writelines(f"{line}\n" for line in more)
    return str(path)


@dataclass(frozen=True, slots=True)
class Team:
    """A project whose team has data already."""

    runtime: Runtime
    project: Project
    folder: Path

    def take(self, numbers: Iterable[int], *, more: Sequence[str] = (), source: str = "faq") -> dict:
        file = write(self.folder, numbers, more=more)
        lease = self.lease(source)
        return corpus.take(lease, lease.row_id, read(file, columns={}), actor="olga")

    def lease(self, source: str = "faq") -> Lease:
        with self.runtime.db.transaction() as session:
            new = sources.NewSource(source, "CC-BY-4.0")
            row_id = sources.ensure_source(session, self.project, new).id
            job = self.runtime.queue.ask(session, JobKind.CORPUS, row_id, project_id=self.project.id)
        return self.runtime.queue.lease(job)

    def sample(self, size: int = SAMPLE, *, seed: int = 0) -> int:
        with self.runtime.db.transaction() as session:
            source = find_source(session, self.project, "faq")
            return corpus.draw_sample(session, source, size=size, seed=seed, actor="olga")

    def judge(self, *, wrong: int = 0, of: int | None = None) -> None:
        """Have ann and ben answer the tasks that wait, the first ones with "incorrect"."""
        tasks = [task for task in self.rows(AnnotationTask) if task.state is TaskState.SELECTED][:of]
        texts = {row.id: row.text for row in self.rows(Response)}
        lines = [
            (_other_than(texts[task.response_id]) if place < wrong else RIGHT)
            | {"response_id": str(task.response_id), "annotator": name}
            for place, task in enumerate(tasks)
            for name in ("ann", "ben")
        ]  # fmt: skip
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(session, JobKind.IMPORT, self.project.id, project_id=self.project.id)
        labelling.import_answers(self.runtime.queue.lease(job), self.project.id, lines)

    def decide(self) -> Admission:
        with self.runtime.db.transaction() as session:
            source = find_source(session, self.project, "faq")
            admission = corpus.decide(session, source, now=utcnow(), actor="olga")
        corpus.settle_admitted(self.lease(), source.id)
        return admission

    def curate(self) -> Job:
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(session, JobKind.CURATE, self.project.id, project_id=self.project.id)
        jobs.perform(self.runtime, self.runtime.queue.lease(job))
        with self.runtime.db.reading() as session:
            return session.get_one(Job, job)

    def learned(self) -> list[tuple[Settlement, Response]]:
        """What is in any set, with the response that it comes from."""
        rows = (
            select(Settlement, Response)
            .join(TrainingSetExample, col(TrainingSetExample.settlement_id) == Settlement.id)
            .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
            .join(Response, col(AnnotationTask.response_id) == Response.id)
        )
        with self.runtime.db.reading() as session:
            return list(session.exec(rows))

    def told(self) -> dict:
        with self.runtime.db.reading() as session:
            [told] = corpora(session, self.project)
            return told

    def state(self) -> str:
        return self.told()["state"]

    def rows(self, table: type) -> Sequence:
        with self.runtime.db.reading() as session:
            return session.exec(select(table).order_by(col(table.id))).all()

    def texts(self) -> Counter[str]:
        return Counter(row.messages[0]["content"] for row in self.rows(Response))


def open_team(runtime: Runtime, folder: Path) -> Team:
    with runtime.db.transaction() as session:
        return Team(runtime, builders.add_project(session), folder)
