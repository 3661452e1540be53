"""People's rights about their own words: erasure in two steps, what stands against it, and export."""

from datetime import UTC, date, datetime, time
from typing import Any, Literal
from uuid import UUID

from flask import Blueprint
from pydantic import Field
from sqlmodel import Session

from service import rights
from service.errors import NotFound
from service.tables import Erasure, LegalHold
from service.web.api.loop import Document, ListQuery
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint
from service.web.state import runtime

bp = Blueprint("rights", __name__, url_prefix="/v1")


class SubjectIn(Schema):
    """A person, as responses name them."""

    project: str = Field(max_length=64)
    subject: str = Field(min_length=1, max_length=200)


class ErasureIn(SubjectIn):
    """Without `confirm` nothing is erased: the answer shows what would be, and the `confirm` to send with it."""

    confirm: str | None = Field(default=None, max_length=200)


class HoldIn(SubjectIn):
    """Whose words must be kept, why, and until which day (UTC); without one until it is lifted."""

    reason: str = Field(min_length=1, max_length=2000)
    until: date | None = Field(default=None, strict=False)


class HoldOut(Schema):
    """A legal hold."""

    id: UUID
    subject: str
    reason: str
    until: datetime | None
    actor: str


class HoldPage(Schema):
    """All holds in force."""

    items: list[HoldOut]
    next_cursor: None = None


class LiftedOut(Schema):
    """How many holds on the person there were."""

    lifted: int


class ErasureOut(Schema):
    """What would be erased; or the erasure that was asked for, and its certificate once every step is done."""

    state: Literal["preview", "asked", "done"]
    would_erase: dict[str, Any] = Field(default={})
    confirm: str | None = None
    id: str | None = None
    job: str | None = None
    certificate: dict[str, Any] = Field(default={})


@bp.post("/erasures")
@endpoint(access=Access.APPROVER, body=ErasureIn, returns=ErasureOut)
def erase(session: Session, caller: Caller, body: ErasureIn) -> tuple[ErasureOut, int]:
    """Show what an erasure of a person would take, or, with `confirm`, ask for it.

    What has changed since it was shown is 409 `preview_stale`; a legal hold is 409 `legal_hold`.
    """
    project = caller.of_project(session, body.project)
    secrets = runtime().secrets
    if body.confirm is None:
        told = rights.preview(session, secrets, body.subject, project)
        return ErasureOut(state="preview", confirm=told.pop("confirm"), would_erase=told), 200
    wish, job = rights.ask_erasure(
        session,
        runtime().queue,
        secrets,
        body.subject,
        project,
        confirm=body.confirm,
        actor=caller.person.name,
    )
    return ErasureOut(state="asked", id=str(wish.id), job=str(job)), 202


@bp.get("/erasures/<uuid:erasure_id>")
@endpoint(access=Access.APPROVER, returns=ErasureOut)
def erasure(session: Session, caller: Caller, erasure_id: UUID) -> ErasureOut:
    """Show how far an erasure is, with its certificate."""
    wish = session.get(Erasure, erasure_id)
    if wish is None:
        raise NotFound(f"no erasure {erasure_id} here")
    caller.check(session, wish.project_id)
    state: Literal["asked", "done"] = "done" if wish.certificate else "asked"
    return ErasureOut(state=state, id=str(wish.id), certificate=wish.certificate)


@bp.post("/subjects/export")
@endpoint(access=Access.OPERATOR, body=SubjectIn, returns=Document, shows_text=True)
def export(session: Session, caller: Caller, body: SubjectIn) -> dict[str, Any]:
    """Return everything that is kept of a person; the ledger notes that it was handed out."""
    project = caller.of_project(session, body.project)
    actor = caller.person.name
    return {"item": rights.export(session, runtime().secrets, body.subject, project, actor=actor)}


@bp.post("/holds")
@endpoint(access=Access.APPROVER, body=HoldIn, returns=HoldOut, status=201)
def hold(session: Session, caller: Caller, body: HoldIn) -> dict[str, Any]:
    """Keep a person's words from being erased, by anybody and by any deadline."""
    project = caller.of_project(session, body.project)
    row = rights.hold(
        session,
        runtime().secrets,
        body.subject,
        project,
        reason=body.reason,
        until=datetime.combine(body.until, time(), UTC) if body.until else None,
        actor=caller.person.name,
    )
    return _told(row)


@bp.get("/holds")
@endpoint(access=Access.APPROVER, query=ListQuery, returns=HoldPage)
def holds(session: Session, caller: Caller, query: ListQuery) -> dict[str, Any]:
    """List the holds in force."""
    project = caller.of_project(session, query.project)
    return {"items": [_told(row) for row in rights.holds(session, project)]}


@bp.post("/holds/lift")
@endpoint(access=Access.APPROVER, body=SubjectIn, returns=LiftedOut)
def lift(session: Session, caller: Caller, body: SubjectIn) -> dict[str, Any]:
    """Lift every hold on a person."""
    project = caller.of_project(session, body.project)
    return {
        "lifted": rights.lift(session, runtime().secrets, body.subject, project, actor=caller.person.name)
    }


def _told(row: LegalHold) -> dict[str, Any]:
    return row.model_dump(include={"id", "subject", "reason", "until", "actor"})
