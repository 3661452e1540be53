"""Where a project's notices go and what became of them; and the ticket of what was handed over."""

from typing import Any, Literal
from uuid import UUID

from flask import Blueprint
from pydantic import Field
from sqlmodel import Session

from service import notice_targets
from service.settlements import link_ticket
from service.tables import Notice, NoticeTarget, Settlement
from service.web.api.loop import Document, ListQuery, Page, page_of
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint
from service.web.state import runtime

bp = Blueprint("notices", __name__, url_prefix="/v1")


class TargetIn(Schema):
    """An https address, and which kinds of notice go there."""

    project: str | None = Field(default=None, max_length=64)
    url: str = Field(min_length=1, max_length=500)
    kinds: list[str] = Field(max_length=20)


class TicketIn(Schema):
    """Where what was handed over is followed; null takes it away."""

    ticket_url: str | None = Field(max_length=500)


class NoticeQuery(ListQuery):
    """Which project's notices, and in which state."""

    state: Literal["waiting", "delivered", "dead"] | None = None


@bp.post("/notice-targets")
@endpoint(access=Access.ADMIN, body=TargetIn, returns=Document, status=201)
def add(session: Session, caller: Caller, body: TargetIn) -> dict[str, Any]:
    """Add a target; the secret that signs what it gets is shown here and never again."""
    project = caller.of_project(session, body.project)
    return {
        "item": notice_targets.add(
            session, project, body.url, body.kinds, runtime=runtime(), actor=caller.name
        )
    }


@bp.get("/notice-targets")
@endpoint(access=Access.OPERATOR, query=ListQuery, returns=Page)
def targets(session: Session, caller: Caller, query: ListQuery) -> Page:
    """List a project's targets."""
    return page_of(session, caller, query, NoticeTarget, notice_targets.told, notice_targets.IS_KEPT)


@bp.delete("/notice-targets/<uuid:target_id>")
@endpoint(access=Access.ADMIN, returns=Document)
def remove(session: Session, caller: Caller, target_id: UUID) -> dict[str, Any]:
    """Send a target nothing any more."""
    target = caller.row(session, NoticeTarget, target_id)
    notice_targets.remove(session, target, actor=caller.name)
    return {"item": notice_targets.told(target)}


@bp.post("/notice-targets/<uuid:target_id>/test")
@endpoint(access=Access.OPERATOR, returns=Document, status=202)
def send_test(session: Session, caller: Caller, target_id: UUID) -> dict[str, Any]:
    """Send a target a notice that means nothing."""
    target = caller.row(session, NoticeTarget, target_id)
    notice_targets.send_test(session, target)
    return {"item": notice_targets.told(target)}


@bp.get("/notices")
@endpoint(access=Access.OPERATOR, query=NoticeQuery, returns=Page)
def page(session: Session, caller: Caller, query: NoticeQuery) -> Page:
    """List a project's notices, and what became of each."""
    only = [Notice.state == query.state] if query.state else []
    return page_of(session, caller, query, Notice, notice_targets.told, *only)


@bp.post("/notices/<uuid:notice_id>/again")
@endpoint(access=Access.OPERATOR, returns=Document, status=202)
def send_again(session: Session, caller: Caller, notice_id: UUID) -> dict[str, Any]:
    """Give a dead notice a fresh set of attempts."""
    notice = caller.row(session, Notice, notice_id)
    notice_targets.send_again(session, notice, actor=caller.name)
    return {"item": notice_targets.told(notice)}


@bp.patch("/settlements/<uuid:settlement_id>")
@endpoint(access=Access.SUPPLIER, body=TicketIn, returns=Document)
def set_ticket(session: Session, caller: Caller, body: TicketIn, settlement_id: UUID) -> dict[str, Any]:
    """Say where what was handed over is followed; whoever flagged it is shown the link."""
    found = caller.row(session, Settlement, settlement_id)
    link_ticket(session, found, body.ticket_url, actor=caller.name)
    return {"item": {"id": str(found.id), "cause": found.cause, "ticket_url": found.ticket_url}}
