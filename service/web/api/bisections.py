"""What made one model version worse than another: ask for the search, and read what it found."""

from functools import partial
from typing import Annotated, Any
from uuid import UUID

from flask import Blueprint
from pydantic import Field
from sqlmodel import Session

from service import bisections
from service.tables import Bisection
from service.web.api.loop import Document, ListQuery, Page, page_of
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint
from service.web.state import runtime

bp = Blueprint("bisections", __name__, url_prefix="/v1/bisections")
Version = Annotated[str, Field(min_length=1, max_length=100)]


class BisectionIn(Schema):
    """Two model versions (a number, `PROJECT/vN` or an id), a metric, and the most configurations to be trained.

    With `dry_run` nothing is asked for: the answer says what would be searched, and at what cost.
    """

    project: str | None = Field(default=None, max_length=64)
    good: Version
    bad: Version
    metric: str = Field(min_length=1, max_length=64)
    budget: int | None = Field(default=None, ge=0, lt=2**31)
    dry_run: bool = False


@bp.post("")
@endpoint(access=Access.OPERATOR, body=BisectionIn, returns=Document, status=202)
def bisect(caller: Caller, body: BisectionIn) -> Document:
    """Ask which change made a model version worse; the same search is not asked for twice."""
    options: dict[str, Any] = {"metric": body.metric, "budget": body.budget}
    with runtime().db.reading() as session:
        project = caller.of_project(session, body.project)
        good, bad = bisections.find_versions(session, project, body.good, body.bad)
        if body.dry_run:
            return Document(item=bisections.plan(runtime(), session, good, bad, **options))
    row = bisections.request(runtime(), good, bad, actor=caller.name, user=caller.user, **options)
    with runtime().db.reading() as session:
        return Document(item=bisections.describe(session, row))


@bp.get("")
@endpoint(access=Access.READER, query=ListQuery, returns=Page)
def page(session: Session, caller: Caller, query: ListQuery) -> Page:
    """List the project's bisections."""
    return page_of(session, caller, query, Bisection, partial(bisections.describe, session))


@bp.get("/<uuid:bisection_id>")
@endpoint(access=Access.READER, returns=Document)
def one(session: Session, caller: Caller, bisection_id: UUID) -> Document:
    """Show one bisection, with its progress while it goes on."""
    return Document(item=bisections.describe(session, caller.row(session, Bisection, bisection_id)))
