"""How long it takes to say how two large versions of a set differ, row by row and with each cause."""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from sqlalchemy import event
from sqlmodel import SQLModel, select

from annotation.types import Cause, Verdict
from retrain.types import Split, sha256_of
from service import migrations
from service.answers.changes import compare
from service.clock import utcnow
from service.db import Database
from service.tables import (
    AnnotationTask,
    DocumentKind,
    Response,
    Settlement,
    Source,
    TaskPurpose,
    TaskState,
    TrainingSet,
    TrainingSetExample,
)
from tests import builders
from tests.benchmarks.report import Aim, Report
from tests.crowded import BATCH, SENTENCES, Crowd, Filling, defaults
from tests.repetitions import Repetitions

CHANGED = 100  # one row in so many differs


def measure(repetitions: Repetitions) -> Report:
    """Compare two versions of several sizes, of which one row in a hundred differs, on SQLite."""
    took = {rows: _compared(rows) for rows in repetitions.settled[:2]}
    rows = max(took)
    return Report(
        columns=("rows a version", "rows that differ", "CPU s", "s"),
        rows=[
            (f"{each:,}", f"{told:,}", f"{cpu:.2f}", f"{wall:.2f}")
            for each, (told, cpu, wall) in took.items()
        ],
        figures={"rows": rows, "differing": took[rows][0]},
        aims={"diff_s_a_million": Aim(aim=10, got=round(took[rows][2] * 1e6 / rows, 1))},
    )


def _compared(rows: int) -> tuple[int, float, float]:
    with TemporaryDirectory(prefix="errata-bench-") as folder:
        db = Database(f"sqlite:///{Path(folder) / 'errata.db'}")
        # The rows that no comparison reads go back to nothing.
        event.listen(
            db.engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=OFF")
        )
        migrations.upgrade(db)
        a, b = _two_versions(db, rows)
        with db.reading() as session:
            sets = [session.get_one(TrainingSet, each) for each in (a, b)]
            cpu, wall = time.process_time(), time.perf_counter()
            told = compare(session, *sets)
            spent = time.process_time() - cpu, time.perf_counter() - wall
        db.close()
    return len(told["added"]) + len(told["removed"]) + len(told["changed"]), *spent


def _two_versions(db: Database, rows: int) -> Sequence[UUID]:
    """Make two sets; only what differs has settlements, since nothing is ever read of the rest."""
    own = rows // CHANGED
    with db.transaction() as session:
        on = Filling(session, builders.add_project(session), Crowd(0), utcnow())
        settled = _settlements(on, 2 * own)
        shared = [UUID(int=1 << 127 | n) for n in range(rows - own)]
        return [
            _version(on, number, (*ids, *shared))
            for number, ids in enumerate((settled[:own], settled[own:]), start=1)
        ]


def _settlements(on: Filling, count: int) -> list[UUID]:
    """Make responses that experts corrected."""
    of_project = {"project_id": on.project.id}
    source = on.session.exec(select(Source.id).where(Source.project_id == on.project.id)).one()
    response = defaults(Response, source_id=source, body_sha256=sha256_of("a body"), **of_project)
    asked = {
        "purpose": TaskPurpose.RANDOM,
        "priority": 1.0,
        "connector": on.project.connector,
        "state": TaskState.SETTLED,
    }
    asked |= {
        "schema_id": on.document(DocumentKind.LABEL_SCHEMA),
        "guidelines_id": on.document(DocumentKind.GUIDELINES),
    }
    task = defaults(AnnotationTask, **asked, **of_project)
    said = {"verdict": Verdict.INCORRECT, "label": "Billing", "cause": Cause.MODEL}
    said |= {"agreeing": 2, "asked": 2, "explanation": "2 of 2 agree"}
    settlement = defaults(Settlement, **said, **of_project)
    rows: dict[type[SQLModel], list[dict[str, Any]]] = {Response: [], AnnotationTask: [], Settlement: []}
    for number in range(count):
        prompt = [{"role": "user", "content": f"{SENTENCES[number % len(SENTENCES)]} {number}"}]
        rows[Response].append(response | on.born(on.since) | {"messages": prompt, "text": "Dermatology"})
        of_response = {"response_id": rows[Response][-1]["id"]}
        rows[AnnotationTask].append(task | on.born(on.since) | of_response)
        rows[Settlement].append(settlement | on.born(on.since) | {"task_id": rows[AnnotationTask][-1]["id"]})
    for table, each in rows.items():
        on.insert(table, each)
    return [row["id"] for row in rows[Settlement]]


def _version(on: Filling, number: int, settlements: Sequence[UUID]) -> UUID:
    """Make a set with a row of each settlement."""
    facts = {"project_id": on.project.id, "artifact": sha256_of("a file"), "recipe": {}, "counts": {}}
    made = TrainingSet(version=number, fingerprint=sha256_of(number), **facts)
    on.session.add(made)
    on.session.flush()
    row = defaults(TrainingSetExample, training_set_id=made.id, settlement_id=made.id, split=Split.TRAIN)
    for start in range(0, len(settlements), BATCH):
        on.insert(
            TrainingSetExample,
            [
                row
                | on.born(on.since)
                | {"settlement_id": key, "content_sha256": sha256_of(key.hex), "group_name": f"g{key.int}"}
                for key in settlements[start : start + BATCH]
            ],
        )
    return made.id
