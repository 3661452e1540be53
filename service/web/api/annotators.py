"""Who is asked: experts, what waits for each, their pools and their invitations."""

from typing import Annotated, Any

from flask import Blueprint
from pydantic import Field
from sqlmodel import Session

from service import experts, standing
from service.answers.annotators import describe_experts
from service.clock import utcnow
from service.web.api.loop import ListQuery
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint
from service.web.state import runtime

bp = Blueprint("annotators", __name__, url_prefix="/v1/annotators")
Name = Annotated[str, Field(min_length=1, max_length=200)]


class ProjectIn(Schema):
    """The project meant."""

    project: str = Field(max_length=64)


class InvitationIn(ProjectIn):
    """What an expert is called until they choose a name."""

    name: str = Field(min_length=1, max_length=100)


class InvitationOut(Schema):
    """The one link by which they join, for a week; it is told once."""

    join_url: str


class PoolIn(ProjectIn):
    """A pool, and the accounts, or names of people, that come into it or leave it."""

    pool: str = Field(min_length=1, max_length=100)
    add: list[Name] = Field(default=[], max_length=200)
    remove: list[Name] = Field(default=[], max_length=200)


class PoolOut(Schema):
    """The accounts in a pool."""

    pool: str
    accounts: list[str]


class AnnotatorOut(Schema):
    """One expert's account: its pools, how its gold answers were, and how many tasks wait, new since a day ago."""

    id: str
    account: str
    tool: str
    pools: list[str]
    is_qualified: bool
    gold_right: int
    gold_answered: int
    waiting: int
    new: int


class AnnotatorPage(Schema):
    """All who are asked."""

    items: list[AnnotatorOut]
    next_cursor: None = None


@bp.get("")
@endpoint(access=Access.READER, query=ListQuery, returns=AnnotatorPage)
def page(session: Session, caller: Caller, query: ListQuery) -> dict[str, Any]:
    """List a project's experts, with what a host needs to tell each of what waits for them."""
    project = caller.of_project(session, query.project)
    asked = experts.experts(session, project)
    return {"items": describe_experts(session, project, asked, now=utcnow())}


@bp.post("/invitations")
@endpoint(access=Access.OPERATOR, body=InvitationIn, returns=InvitationOut, status=201)
def invite(session: Session, caller: Caller, body: InvitationIn) -> dict[str, Any]:
    """Invite an expert to a project."""
    project = caller.of_project(session, body.project)
    secret = experts.invite(session, project, body.name, actor=caller.person.name)
    return {"join_url": f"{runtime().settings.own_url}/join/{secret}"}


@bp.post("/pools")
@endpoint(access=Access.OPERATOR, body=PoolIn, returns=PoolOut)
def change_pool(session: Session, caller: Caller, body: PoolIn) -> dict[str, Any]:
    """Say who is in a pool: of its tasks, others' answers count for nobody."""
    project = caller.of_project(session, body.project)
    accounts = standing.change_pool(
        session, project, body.pool, add=body.add, remove=body.remove, actor=caller.person.name
    )
    return {"pool": body.pool, "accounts": accounts}
