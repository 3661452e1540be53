"""Fixtures every suite shares: a real database, a real Valkey, and the work that jobs would do."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from redis import Redis

from service import logs, migrations, valkey
from service.db import Database
from service.runtime import Runtime, build
from service.settings import Settings
from service.tools import ARGILLA, LABEL_STUDIO, bundled
from service.web.app import create_app
from tests.due import do_all_due
from tests.postgres import Cluster, running_postgres
from tests.servers import RunningTool, running_tool, start_valkey

logs.configure()


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models are built once for the whole run."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bundled Valkey, as `errata up` starts it."""
    home = tmp_path_factory.mktemp("valkey")
    server = start_valkey(home)
    yield valkey.url(home)
    server.terminate()
    server.wait()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A real PostgreSQL; it lasts for the whole run."""
    with running_postgres() as cluster:
        if cluster is None:
            pytest.fail("no PostgreSQL: set TEST_DATABASE_URL or install its binaries")
        yield cluster


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Cluster) -> str:
    """The database that others are copied from."""
    return postgres.migrated()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request, tmp_path) -> Iterator[str]:
    """A database without tables, of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    cluster = request.getfixturevalue("postgres")
    url = cluster.database()
    yield url
    cluster.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database(request, tmp_path) -> Iterator[str]:
    """A database with the newest schema, of each kind."""
    if request.param == "sqlite":
        copy = shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "errata.db")
        yield f"sqlite:///{copy}"
        return
    cluster = request.getfixturevalue("postgres")
    url = cluster.database(template=request.getfixturevalue("migrated_postgres"))
    yield url
    cluster.drop(url)


@pytest.fixture
def any_runtime(settings: Settings, any_database: str) -> Iterator[Runtime]:
    """A runtime on each kind of database, with an empty queue."""
    runtime = build(settings.model_copy(update={"database_url": any_database}))
    runtime.queue.redis.flushall()
    yield runtime
    runtime.db.close()
    runtime.queue.redis.close()


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTool]:
    """A real Label Studio with the accounts ann, ben and cleo; it lasts for the whole run."""
    home, names = tmp_path_factory.mktemp("label-studio"), ["ann", "ben", "cleo"]
    with running_tool(bundled(LABEL_STUDIO), home, names) as running:
        yield running


@pytest.fixture(scope="session")
def argilla(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTool]:
    """A real Argilla with the accounts ann, ben and cleo, and a Valkey of its own; it lasts for the whole run."""
    home = tmp_path_factory.mktemp("argilla")
    queue = start_valkey(home)
    names = ["ann", "ben", "cleo"]
    with running_tool(bundled(ARGILLA), home, names, redis_url=valkey.url(home)) as running:
        yield running
    queue.terminate()
    queue.wait()


@pytest.fixture
def settings(tmp_path: Path, cache_dir: Path, valkey_url: str) -> Settings:
    """Settings of an installation of its own, with intervals of a second."""
    return Settings(
        data_dir=tmp_path / "data",
        cache_dir=cache_dir,
        redis_url=valkey_url,
        lease_seconds=1,
        sweep_seconds=1,
        sync_seconds=1,
        triage_seconds=1,
        retry_seconds=0,
        training_threads=1,
    )


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that others are copied from."""
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    db = Database(f"sqlite:///{path}")
    migrations.upgrade(db)
    db.close()
    return path


@pytest.fixture
def runtime(settings: Settings, migrated_sqlite: Path) -> Iterator[Runtime]:
    """A runtime on a migrated SQLite file and an empty queue."""
    runtime = build(settings)
    shutil.copy(migrated_sqlite, settings.data_dir / "errata.db")
    Redis.from_url(settings.redis_url).flushall()
    yield runtime
    runtime.db.close()
    runtime.queue.redis.close()


@pytest.fixture
def client(runtime: Runtime) -> FlaskClient:
    """The web application's own client."""
    return create_app(runtime).test_client()


@pytest.fixture
def work(runtime: Runtime) -> Callable[[], None]:
    """Do all jobs that are due here and now, those that they ask for included."""
    return partial(do_all_due, runtime)
