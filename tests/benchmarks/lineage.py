"""How long it takes to say why a model answered so, and where a flag led, in crowded projects on both databases."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from sqlmodel import Session, col, select

from service import migrations
from service.answers import graph
from service.db import Database
from service.tables import Feedback, ModelVersion, Response, Settlement, TaskFlag
from tests.benchmarks.report import Aim, MissingData, Report, percentile
from tests.crowded import Crowd, fill
from tests.postgres import running_postgres
from tests.repetitions import Repetitions

FEEDBACK, AIM_MS = (10_000, 100_000), 1000


def measure(repetitions: Repetitions) -> Report:
    """Fill each database with few and many flags, and ask both questions about rows drawn at random."""
    times = {
        (kind, feedback, question): took
        for feedback in FEEDBACK
        for kind, database in (("SQLite", _sqlite), ("PostgreSQL", _postgresql))
        for question, took in _measured(database, feedback, repetitions.page_views).items()
    }
    p95 = {name: percentile(values, 95) for name, values in times.items()}
    slowest = {
        feedback: max(took for name, took in p95.items() if name[1] == feedback) for feedback in FEEDBACK
    }
    few, many = FEEDBACK
    return Report(
        columns=("database", "flags", "question", "p50 ms", "p95 ms"),
        rows=[(*name, f"{percentile(times[name], 50):.1f}", f"{took:.1f}") for name, took in p95.items()],
        figures={
            f"{question}_{kind.lower()}_{count}_p95_ms": round(took, 1)
            for (kind, count, question), took in p95.items()
        },
        aims={"slowest_p95_ms": Aim(aim=AIM_MS, got=round(slowest[many], 1))},
        ratios={"ten_times_the_flags": round(slowest[many] / slowest[few], 2)},
    )


def _measured(
    database: Callable[..., Iterator[Database]], feedback: int, views: int
) -> dict[str, list[float]]:
    with contextmanager(database)() as db:
        with db.transaction() as session:
            fill(session, Crowd(feedback, jobs=1, entries=1))
        with db.reading() as session:
            answers, flags = _answers(session, views + 1), _flags(session, views + 1)
        return {
            "why": [_milliseconds(db, graph.why, Response, row_id) for row_id in answers][1:],
            "where": [_milliseconds(db, graph.where, Feedback, row_id) for row_id in flags][1:],
        }


def _sqlite() -> Iterator[Database]:
    with TemporaryDirectory(prefix="errata-bench-") as folder:
        db = Database(f"sqlite:///{Path(folder) / 'errata.db'}")
        migrations.upgrade(db)
        yield db
        db.close()


def _postgresql() -> Iterator[Database]:
    with running_postgres() as cluster:
        if cluster is None:
            raise MissingData("no PostgreSQL: set TEST_DATABASE_URL or install its binaries")
        url = cluster.database()
        db = Database(url)
        migrations.upgrade(db)
        yield db
        db.close()
        cluster.drop(url)


def _answers(session: Session, count: int) -> list[object]:
    """Return answers of the newest version, whose set is the largest that taught one."""
    newest = session.exec(select(ModelVersion.id).order_by(col(ModelVersion.number).desc())).first()
    given = session.exec(select(Response.id).where(Response.model_version_id == newest)).all()
    return Random(0).choices(given, k=count)


def _flags(session: Session, count: int) -> list[object]:
    """Return flags that were settled early, which all later sets hold."""
    settled = select(TaskFlag.feedback_id).join(Settlement, col(Settlement.task_id) == TaskFlag.task_id)
    return Random(0).choices(session.exec(settled.order_by(col(Settlement.id)).limit(100)).all(), k=count)


def _milliseconds(db: Database, ask: Callable[..., graph.Graph], table: type, row_id: object) -> float:
    started = time.perf_counter()
    with db.reading() as session:
        ask(session, session.get_one(table, row_id)).to_json()
    return (time.perf_counter() - started) * 1000
