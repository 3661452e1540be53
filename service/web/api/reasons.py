"""The reasons that a project's users choose from."""

from typing import Any

from flask import Blueprint
from pydantic import Field
from sqlmodel import Session

from service import projects
from service import reasons as taxonomy
from service.tables import DocumentKind
from service.web.api import feedback
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint

bp = Blueprint("reasons", __name__, url_prefix="/v1/reasons")
bp.after_request(feedback.share)


class ReasonsQuery(feedback.Credential):
    """The language of the page, such as `de` or `de-AT`."""

    language: str = Field(default="en", max_length=35)


class ReasonOut(Schema):
    """One reason: what a feedback names, and what its user reads."""

    code: str
    label: str


class ReasonsOut(Schema):
    """The newest version of a project's reasons."""

    version: int
    reasons: list[ReasonOut]


@bp.get("")
@endpoint(access=Access.WIDGET, query=ReasonsQuery, returns=ReasonsOut)
def reasons(session: Session, caller: Caller, query: ReasonsQuery) -> dict[str, Any]:
    """List the reasons, each with its label in the language asked for, or else in English."""
    project = caller.of_project(session, None)
    document = projects.current(session, project.id, DocumentKind.REASONS)
    listed = [
        {"code": code, "label": taxonomy.label(document.content, code, query.language)}
        for code in document.content
    ]
    return {"version": document.version, "reasons": listed}
