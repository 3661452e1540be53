"""Pages go along indexes and stop at a bound: what one costs does not grow with what a project has gathered."""

import re
import shutil
from collections.abc import Iterator
from itertools import count

import pytest
from sqlalchemy import event, text

from service.answers import fixes, flagged, monitors, overview, worth
from service.runtime import Runtime, build
from service.settings import Settings
from service.tables import Role
from service.web.console import listing
from tests.benchmarks.console import LISTED, of_one_row
from tests.console import person
from tests.crowded import Crowd, fill

FEW, MANY = Crowd(feedback=1000, jobs=300, entries=300), Crowd(feedback=8000, jobs=2400, entries=2400)
BOUND = 10
SLACK = 1.5  # what stays below its bound, and deeper trees; a page that goes through a table costs eight times as much
ONE_ROW = ("story", "task", "training set", "run", "evaluation")
GROWING = "response|feedback|annotation_task|annotation|task_flag|settlement|job|ledger_entry"
WHOLE_TABLE = re.compile(rf"Seq Scan on ({GROWING})\b")


@pytest.fixture(scope="module")
def steps(migrated_sqlite, tmp_path_factory) -> dict[Crowd, dict[str, int]]:
    """How many steps SQLite's machine takes to read what each page of a project with each crowd shows."""
    counted = {}
    for crowd in (FEW, MANY):
        home = tmp_path_factory.mktemp("crowded")
        shutil.copy(migrated_sqlite, home / "errata.db")
        runtime = build(Settings(data_dir=home, cache_dir=home / "cache"))
        with pytest.MonkeyPatch.context() as patch:
            # Every figure and filter stops early enough for so few rows.
            patch.setattr(listing, "SCAN", 4 * BOUND)
            patch.setattr(overview, "COUNTED", BOUND)
            patch.setattr(monitors, "NEWEST_RESPONSES", BOUND)
            patch.setattr(fixes, "TAUGHT", BOUND)
            patch.setattr(worth, "ANSWERS", BOUND)
            patch.setattr(flagged, "LOOKED_AT", BOUND)
            counted[crowd] = _counted(runtime, crowd)
        runtime.db.close()
        runtime.queue.redis.close()
    return counted


@pytest.mark.parametrize("page", [*LISTED, *ONE_ROW, "monitoring"])
def test_a_page_costs_the_same_with_eight_times_the_rows(steps, page):
    assert steps[MANY][page] <= SLACK * steps[FEW][page]


def test_no_page_reads_a_whole_table_of_postgresql(any_postgres):
    with any_postgres.db.transaction() as session:
        fill(session, FEW)
    operator, said = person(any_postgres, Role.ADMIN, password=""), []

    @event.listens_for(any_postgres.db.engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, parameters, _context, _many):
        said.append((statement, parameters))

    for path in _paths(any_postgres).values():
        assert operator.get(path).status_code == 200
    event.remove(any_postgres.db.engine, "before_cursor_execute", note)
    asked = {statement: parameters for statement, parameters in said if statement.startswith("SELECT")}
    with any_postgres.db.engine.connect() as connection:
        connection.execute(text("SET enable_seqscan = off"))  # so few rows would be read whole in any case
        plans = {one: _plan(connection, one, parameters) for one, parameters in asked.items()}
    assert {one: plan for one, plan in plans.items() if WHOLE_TABLE.search(plan)} == {}


@pytest.fixture
def any_postgres(settings, postgres, migrated_postgres) -> Iterator[Runtime]:
    url = postgres.database(template=migrated_postgres)
    runtime = build(settings.model_copy(update={"database_url": url}))
    yield runtime
    runtime.db.close()
    runtime.queue.redis.close()
    postgres.drop(url)


def _counted(runtime: Runtime, crowd: Crowd) -> dict[str, int]:
    with runtime.db.transaction() as session:
        fill(session, crowd)
    operator, taken = person(runtime, Role.ADMIN, password=""), count()

    @event.listens_for(runtime.db.reader, "connect")
    def watch(connection, _record):
        connection.set_progress_handler(lambda: next(taken) and None, 1)

    runtime.db.reader.dispose()

    def counted(path: str) -> int:
        assert operator.get(path).status_code == 200
        before = next(taken)
        operator.get(path)
        return next(taken) - before

    return {page: counted(path) for page, path in _paths(runtime).items()}


def _paths(runtime: Runtime) -> dict[str, str]:
    pages = {page: f"/p/crowded/{path}" for page, path in {**LISTED, **of_one_row(runtime)}.items()}
    return {**pages, "monitoring": "/metrics"}


def _plan(connection, statement: str, parameters) -> str:
    return "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())
