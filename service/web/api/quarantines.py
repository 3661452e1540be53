"""Operators keep a source or a person from experts and from the next set, and let them go again."""

from typing import Annotated, Any
from uuid import UUID

from flask import Blueprint
from pydantic import Field
from sqlmodel import Session

from service.answers.quarantines import describe_quarantine, in_force
from service.errors import NotFound
from service.stages import quarantine
from service.tables import Project, Quarantine
from service.web.api.loop import ListQuery
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint
from service.web.state import runtime

bp = Blueprint("quarantines", __name__, url_prefix="/v1/quarantines")
Name = Annotated[str, Field(min_length=1, max_length=200)]


class QuarantineIn(Schema):
    """A source, or a person as responses name them, and why."""

    project: str | None = Field(default=None, max_length=64)
    source: Name | None = None
    subject: Name | None = None
    reason: str = Field(min_length=1, max_length=2000)


class QuarantineOut(Schema):
    """Who put what into quarantine, why and when, and which sets and model versions hold rows of it."""

    id: str
    source: str | None
    subject: str | None
    reason: str
    by: str
    at: str
    lifted_by: str | None
    lifted_at: str | None
    sets: list[str]
    models: list[int]


class QuarantinePage(Schema):
    """All that is in quarantine."""

    items: list[QuarantineOut]
    next_cursor: None = None


@bp.post("")
@endpoint(access=Access.OPERATOR, body=QuarantineIn, returns=QuarantineOut, status=201)
def impose(session: Session, caller: Caller, body: QuarantineIn) -> dict[str, Any]:
    """Let flags of a source or a person wait at intake, and their rows stay out of the next set."""
    project = caller.of_project(session, body.project)
    row = quarantine.impose(
        session,
        project,
        runtime().secrets,
        user=caller.person,
        reason=body.reason,
        source=body.source,
        subject=body.subject,
    )
    return describe_quarantine(session, row)


@bp.get("")
@endpoint(access=Access.OPERATOR, query=ListQuery, returns=QuarantinePage)
def page(session: Session, caller: Caller, query: ListQuery) -> dict[str, Any]:
    """List what is in quarantine."""
    project = caller.of_project(session, query.project)
    return {"items": [describe_quarantine(session, row) for row in in_force(session, project.id)]}


@bp.delete("/<uuid:quarantine_id>")
@endpoint(access=Access.OPERATOR, returns=QuarantineOut)
def lift(session: Session, caller: Caller, quarantine_id: UUID) -> dict[str, Any]:
    """Let a source or a person go."""
    found = session.get(Quarantine, quarantine_id)
    if found is None:
        raise NotFound(f"no quarantine {quarantine_id} here")
    project = caller.of_project(session, session.get_one(Project, found.project_id).slug)
    row = quarantine.lift(session, project, runtime().secrets, quarantine_id, user=caller.person)
    return describe_quarantine(session, row)
