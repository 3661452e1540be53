"""Where else the champion is served, and how far each place follows."""

from typing import Any
from uuid import UUID

from flask import Blueprint
from pydantic import Field
from sqlmodel import Session

from service import serving
from service.tables import ServingKind, ServingTarget
from service.web.api.loop import Document, ListQuery, Page, page_of
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint
from service.web.state import runtime

bp = Blueprint("serving", __name__, url_prefix="/v1/serving-targets")


class ServingIn(Schema):
    """A directory or object store, a vLLM server with the directory that it reads, or a webhook.

    `url` is the OpenAI-compatible server whose answers show what is live there.
    """

    project: str | None = Field(default=None, max_length=64)
    kind: ServingKind = Field(strict=False)
    place: str = Field(min_length=1, max_length=500)
    seen_as: str = Field(default="", max_length=500)
    url: str = Field(default="", max_length=500)
    base_name: str = Field(default="", max_length=200)


@bp.post("")
@endpoint(access=Access.ADMIN, body=ServingIn, returns=Document, status=201)
def add(session: Session, caller: Caller, body: ServingIn) -> dict[str, Any]:
    """Add a place that is to serve the champion; a webhook's secret is shown here and never again."""
    project = caller.of_project(session, body.project)
    said = body.model_dump(exclude={"project"})
    return {"item": serving.add(session, project, **said, runtime=runtime(), actor=caller.name)}


@bp.get("")
@endpoint(access=Access.READER, query=ListQuery, returns=Page)
def targets(session: Session, caller: Caller, query: ListQuery) -> Page:
    """List the places, and how far each follows."""
    return page_of(session, caller, query, ServingTarget, serving.told, serving.IS_KEPT)


@bp.delete("/<uuid:serving_id>")
@endpoint(access=Access.ADMIN, returns=Document)
def remove(session: Session, caller: Caller, serving_id: UUID) -> dict[str, Any]:
    """Tell a place nothing any more."""
    target = caller.row(session, ServingTarget, serving_id)
    serving.remove(session, target, actor=caller.name)
    return {"item": serving.told(target)}
