"""Annotation tools tell us that something changed: a hint to read it again, never the truth."""

from typing import Any

import structlog
from flask import Blueprint, Response, request
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from annotation.hooks import HookEvent, is_authentic, is_signed, parse_argilla, parse_label_studio
from retrain.types import sha256_of
from service import tool_state
from service.errors import Unauthenticated
from service.tables import ConnectorKind, InboxEvent, JobKind, ToolProject
from service.web.auth import Access
from service.web.body import read_bytes
from service.web.endpoint import declared
from service.web.state import runtime

bp = Blueprint("hooks", __name__, url_prefix="/hooks")
MAX_BYTES = 4_000_000
GATHER_SECONDS = 1.0  # a busy expert's annotations are read together

log = structlog.get_logger()


@bp.post("/label-studio/<secret>")
@declared(Access.TOOL)
def label_studio(secret: str) -> Response:
    """Store Label Studio's webhook and ask for the change to be read through its API."""
    ours = runtime().secrets
    presented = (secret, request.headers.get("X-Errata-Secret", ""))
    holding = (ours.hook_secret, ours.earlier_hook_secret)
    if not any(all(is_authentic(one, given) for given in presented) for one in holding):
        raise Unauthenticated("X-Errata-Secret: wrong")
    return _store(ConnectorKind.LABEL_STUDIO, parse_label_studio(read_bytes(request, max_bytes=MAX_BYTES)))


@bp.post("/argilla")
@declared(Access.TOOL)
def argilla() -> Response:
    """Store Argilla's webhook and ask for the change to be read through its API."""
    body = read_bytes(request, max_bytes=MAX_BYTES)
    with runtime().db.reading() as session:
        ours = session.exec(
            select(ToolProject.hook_secret)
            .where(ToolProject.connector == ConnectorKind.ARGILLA, col(ToolProject.hook_secret).is_not(None))
            .distinct()
        ).all()
    if not is_signed([secret for secret in ours if secret], body, dict(request.headers)):
        raise Unauthenticated("webhook-signature: wrong")
    return _store(ConnectorKind.ARGILLA, parse_argilla(body))


def _facts(event: HookEvent) -> dict[str, Any]:
    return {
        "action": event.action.value,
        "project": event.project,
        "tasks": list(event.task_keys),
        "task_ids": list(event.task_ids),
        "annotations": list(event.annotation_ids),
        "updated_at": event.updated_at.isoformat() if event.updated_at else None,
    }


def _store(source: ConnectorKind, event: HookEvent) -> Response:
    facts = _facts(event)
    with runtime().db.transaction() as session:
        known = select(ToolProject).where(
            ToolProject.connector == source,
            ToolProject.external_id == event.project,
            col(ToolProject.external_id).is_not(None),
        )
        project = session.exec(known).first()
        if project is None:
            log.warning("hook_of_unknown_project", tool_project=event.project)
            return Response(status=204)
        try:
            with session.begin_nested():
                session.add(
                    InboxEvent(
                        project_id=project.project_id,
                        source=source.value,
                        natural_key=sha256_of(facts),
                        facts=facts,
                    )
                )
        except IntegrityError:
            return Response(status=204)
        tool_state.ask(
            runtime().queue,
            session,
            JobKind.SYNC,
            project.project_id,
            source,
            after_seconds=GATHER_SECONDS,
        )
    return Response(status=204)
