"""By which behavioural suites models are judged, and what a project says of itself for metrics that ask."""

from typing import Any

from flask import Blueprint
from pydantic import Field
from sqlmodel import Session

from retrain.suites.document import bundled_suites
from service import goalposts, projects
from service.tables import DocumentKind, Project
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint

bp = Blueprint("suites", __name__, url_prefix="/v1/suites")


class SuitesQuery(Schema):
    """The project meant."""

    project: str | None = Field(default=None, max_length=64)


class SuitesIn(SuitesQuery):
    """The next version; while a scored challenger waits, a reason and a second person's token go with it."""

    suites: dict[str, Any]
    reason: str = Field(default="", max_length=2000)
    second_token: str = Field(default="", max_length=200)


class BundledSuite(Schema):
    """A suite that comes with Errata."""

    name: str
    type: str
    about: str


class SuitesOut(Schema):
    """The document of today, as it may be sent back, and the suites that it may name."""

    suites: dict[str, Any]
    version: int
    sha256: str
    bundled: list[BundledSuite]


@bp.get("")
@endpoint(access=Access.READER, query=SuitesQuery, returns=SuitesOut)
def show(session: Session, caller: Caller, query: SuitesQuery) -> dict[str, Any]:
    """Tell by which suites models are judged besides the test split."""
    return _described(session, caller.of_project(session, query.project))


@bp.post("")
@endpoint(access=Access.OPERATOR, body=SuitesIn, returns=SuitesOut, status=201)
def put(session: Session, caller: Caller, body: SuitesIn) -> dict[str, Any]:
    """Say by which suites models are judged from now on."""
    project = caller.of_project(session, body.project)
    why = {"reason": body.reason, "second_token": body.second_token}
    goalposts.set_suites(session, project, body.suites, actor=caller.person.name, **why)
    return _described(session, project)


def _described(session: Session, project: Project) -> dict[str, Any]:
    found = projects.current(session, project.id, DocumentKind.SUITE)
    bundled = [{"name": one.name, "type": one.type, "about": one.about} for one in bundled_suites().values()]
    told = {name: value for name, value in found.content.items() if name in goalposts.SUITE_FIELDS}
    return {"suites": told, "version": found.version, "sha256": found.sha256, "bundled": bundled}
