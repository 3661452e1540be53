"""What keeps the service running asks: is it alive, is it ready, how is it doing."""

import shutil

import structlog
from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from service import migrations
from service.answers import gauges
from service.clock import utcnow
from service.tables import ScheduleTurn
from service.web.auth import Access
from service.web.endpoint import declared
from service.web.state import runtime
from service.web.watching import watch

bp = Blueprint("operation", __name__)
MIN_FREE_BYTES = 100_000_000

log = structlog.get_logger()


@bp.get("/livez")
@declared(Access.ANYONE)
def livez() -> tuple[dict[str, str], int]:
    """Say whether this process gets on: it answers, and no request holds a thread for ever. If not, start it again."""
    return ({"status": "stuck"}, 503) if watch().is_stuck() else ({"status": "ok"}, 200)


@bp.get("/readyz")
@declared(Access.ANYONE)
def readyz() -> tuple[dict[str, str], int]:
    """Say whether flags can be taken: a row can be written, in this code's schema, and the disk has room.

    Without Redis they can, so that is no reason to take this process out of service.
    """
    checks = {
        "database": _database(),
        "disk": "ok" if _free_bytes() > MIN_FREE_BYTES else "full",
        "redis": "ok" if _redis_answers() else "degraded",
    }
    is_ready = checks["database"] == checks["disk"] == "ok"
    return checks, 200 if is_ready else 503


@bp.get("/metrics")
@declared(Access.ANYONE)
def metrics() -> Response:
    """Say how the installation is, for Prometheus; flags, webhooks and seconds are those of this process alone."""
    registry = CollectorRegistry()
    shown: dict[str, Gauge | Counter] = {}
    db = runtime().db
    with db.reading() as session:
        for reading in gauges.read(session, now=db.now(session)):
            _show(registry, shown, reading)
    free = Gauge("disk_free_bytes", "Room on the disk of the data directory", registry=registry)
    free.set(_free_bytes())
    own = generate_latest(watch().registry)
    return Response(own + generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _show(registry: CollectorRegistry, shown: dict[str, Gauge | Counter], reading: gauges.Reading) -> None:
    if reading.name not in shown:
        kind = Counter if reading.name.endswith("_total") else Gauge
        meaning = gauges.MEANING[reading.name]
        shown[reading.name] = kind(reading.name, meaning, list(reading.labels), registry=registry)
    found = shown[reading.name]
    found = found.labels(**reading.labels) if reading.labels else found
    if isinstance(found, Counter):
        found.inc(reading.value)
    else:
        found.set(reading.value)


def _database() -> str:
    """Write a row and take it back."""
    db = runtime().db
    try:
        if migrations.is_behind(db):
            return "schema"
        with db.transaction() as session:
            session.add(ScheduleTurn(name="readyz", due_at=utcnow()))
            session.flush()
            session.rollback()
    except DBAPIError as error:
        log.warning("write_test_failed", error=str(error.orig))
        return "away"
    return "ok"


def _free_bytes() -> int:
    return shutil.disk_usage(runtime().settings.data_dir).free


def _redis_answers() -> bool:
    try:
        return bool(runtime().queue.redis.ping())
    except (RedisError, OSError):
        return False
