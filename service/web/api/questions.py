"""What experts are asked: the label schema, and what a change of it puts in doubt."""

from typing import Any

from flask import Blueprint
from pydantic import Field
from sqlmodel import Session

from service import projects
from service.answers.outdated import describe
from service.stages.asking import ask_again
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint

bp = Blueprint("questions", __name__, url_prefix="/v1")


class SchemaQuery(Schema):
    """The project meant."""

    project: str | None = Field(default=None, max_length=64)


class SchemaIn(SchemaQuery):
    """The next version of the questions, with guidelines if they change too; `ask_again` makes tasks at once."""

    label_schema: dict[str, Any]
    ask_again: bool = False


class Doubt(Schema):
    """A settled task, what it came to, and why that has to be asked again."""

    task: str
    answer: str
    why: str


class SchemaOut(Schema):
    """The questions by today; `items` are the first of the settled answers `to_ask_again`."""

    label_schema: dict[str, Any]
    version: int
    sha256: str
    guidelines_version: int
    to_ask_again: int
    items: list[Doubt]
    asked_again: int = 0


@bp.get("/label-schema")
@endpoint(access=Access.READER, query=SchemaQuery, returns=SchemaOut)
def label_schema(session: Session, caller: Caller, query: SchemaQuery) -> dict[str, Any]:
    """Tell what experts are asked, and which settled answers that puts in doubt."""
    return describe(session, caller.of_project(session, query.project))


@bp.post("/label-schema")
@endpoint(access=Access.OPERATOR, body=SchemaIn, returns=SchemaOut, status=201)
def set_label_schema(session: Session, caller: Caller, body: SchemaIn) -> dict[str, Any]:
    """Add the next version of the questions, and tell which settled answers it puts in doubt."""
    project = caller.of_project(session, body.project)
    projects.set_schema(session, project, body.label_schema, actor=caller.person.name)
    told = describe(session, project)
    asked = ask_again(session, project, actor=caller.person.name) if body.ask_again else 0
    return told | {"asked_again": asked}
