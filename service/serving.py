"""Where else a project's champion is served: targets are added and removed, and it is asked for where one is behind."""

from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from fsspec import available_protocols
from fsspec.utils import get_protocol
from sqlmodel import Session, col, func, select

from service import ledger, outgoing, queue, tokens
from service.clock import utcnow
from service.errors import Invalid
from service.runtime import Runtime
from service.tables import Job, JobKind, Project, Promotion, ServingKind, ServingTarget

IS_KEPT = col(ServingTarget.removed_at).is_(None)


def add(
    session: Session,
    project: Project,
    kind: ServingKind,
    place: str,
    *,
    seen_as: str = "",
    url: str = "",
    base_name: str = "",
    runtime: Runtime,
    actor: str,
) -> dict[str, Any]:
    """Add a target and tell of it; with a webhook, also the secret that signs what it gets.

    Only administrators do: the addresses may be private, as those of serving engines are.

    Raises:
        Invalid: the place, or the URL, cannot be used.
        AddressRefused: the webhook's address is not public.
    """
    _check(kind, place, url, may_loop_back=runtime.settings.notice_to_loopback)
    target = ServingTarget(
        project_id=project.id,
        kind=kind,
        place=place.rstrip("/"),
        seen_as=seen_as.rstrip("/"),
        url=url.rstrip("/"),
        base_name=base_name,
    )
    session.add(target)
    session.flush()
    _note(session, target, "serving_target_added", actor)
    ask(session, project.id)
    signs = kind is ServingKind.WEBHOOK
    secret = {"secret": tokens.webhook_secret(str(target.id), runtime.secrets)} if signs else {}
    return told(target) | secret


def remove(session: Session, target: ServingTarget, *, actor: str) -> None:
    """Tell a target nothing any more; what it serves, it goes on serving."""
    target.removed_at = target.removed_at or utcnow()
    session.add(target)
    _note(session, target, "serving_target_removed", actor)


def targets_of(session: Session, project_id: UUID) -> list[ServingTarget]:
    """Return a project's targets, the oldest first."""
    rows = select(ServingTarget).where(ServingTarget.project_id == project_id, IS_KEPT)
    return list(session.exec(rows.order_by(col(ServingTarget.id))))


def due(session: Session, *, now: datetime) -> list[UUID]:
    """Return the projects of which a target is behind, or is to be looked at again."""
    newest = select(func.max(Promotion.seq)).where(Promotion.project_id == ServingTarget.project_id)
    behind = col(ServingTarget.seq).is_distinct_from(newest.scalar_subquery())
    waiting = select(ServingTarget.project_id).where(IS_KEPT, behind | (col(ServingTarget.not_before) <= now))
    return sorted(session.exec(waiting.distinct()))


def ask(session: Session, project_id: UUID) -> None:
    """Ask for a project's targets, if there are any, to be brought to what is live; once, however often."""
    if not targets_of(session, project_id):
        return
    key = f"{JobKind.SERVE}:{project_id}"
    queue.add(
        session,
        Job(
            kind=JobKind.SERVE, project_id=project_id, row_id=project_id, unique_key=key, not_before=utcnow()
        ),
    )


def told(target: ServingTarget) -> dict[str, Any]:
    """Tell of a target as programs hear it."""
    return target.model_dump(mode="json", exclude={"project_id", "removed_at"})


def _check(kind: ServingKind, place: str, url: str, *, may_loop_back: bool) -> None:
    if kind is ServingKind.WEBHOOK:
        outgoing.check_url(place, may_loop_back=may_loop_back)
    elif get_protocol(place) not in available_protocols():
        raise Invalid(f"place: {place} is no path or URL that files can be written to")
    if kind is ServingKind.VLLM and not url:
        raise Invalid("url: name the server, such as http://vllm:8000")
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise Invalid(f"url: {url} is no http or https address")


def _note(session: Session, target: ServingTarget, action: str, actor: str) -> None:
    facts = {"kind": target.kind.value}
    ledger.append(
        session, actor=actor, action=action, subject=str(target.id), project_id=target.project_id, facts=facts
    )
