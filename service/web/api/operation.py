"""What keeps the service running asks: is it alive, is it ready, how is it doing."""

import shutil

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from redis.exceptions import RedisError
from sqlalchemy import func
from sqlmodel import Session, SQLModel, col, select

from service import migrations
from service.tables import AnnotationTask, Feedback, Job
from service.tables import Response as ModelResponse
from service.web.auth import Access
from service.web.endpoint import declared
from service.web.state import runtime

bp = Blueprint("operation", __name__)
MIN_FREE_BYTES = 100_000_000


@bp.get("/livez")
@declared(Access.ANYONE)
def livez() -> dict[str, str]:
    """Say that this process answers."""
    return {"status": "ok"}


@bp.get("/readyz")
@declared(Access.ANYONE)
def readyz() -> tuple[dict[str, str], int]:
    """Say whether flags can be taken: the database is at this code's schema and the disk has room."""
    checks = {
        "database": "ok" if migrations.revision(runtime().db) == migrations.head() else "schema",
        "disk": "ok" if shutil.disk_usage(runtime().settings.data_dir).free > MIN_FREE_BYTES else "full",
        "redis": "ok" if _redis_answers() else "degraded",
    }
    is_ready = checks["database"] == checks["disk"] == "ok"
    return checks, 200 if is_ready else 503


@bp.get("/metrics")
@declared(Access.ANYONE)
def metrics() -> Response:
    """Count what is where, for Prometheus."""
    registry = CollectorRegistry()
    with runtime().db.reading() as session:
        _count(session, registry, "errata_responses", ModelResponse, None)
        _count(session, registry, "errata_feedback", Feedback, "rating")
        _count(session, registry, "errata_annotation_tasks", AnnotationTask, "state")
        _count(session, registry, "errata_jobs", Job, "state")
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _count(
    session: Session, registry: CollectorRegistry, name: str, table: type[SQLModel], by: str | None
) -> None:
    labels = [by] if by else []
    gauge = Gauge(name, f"Rows in {table.__tablename__}", labels, registry=registry)
    if by is None:
        gauge.set(session.exec(select(func.count()).select_from(table)).one())
        return
    column = col(getattr(table, by))
    for value, count in session.exec(select(column, func.count()).group_by(column)):
        gauge.labels(value).set(count)


def _redis_answers() -> bool:
    try:
        return bool(runtime().queue.redis.ping())
    except (RedisError, OSError):
        return False
