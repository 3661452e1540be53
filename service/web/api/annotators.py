"""Who is asked: experts, what waits for each, their pools and invitations, and what they ask about the guidelines."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from flask import Blueprint
from pydantic import Field
from sqlmodel import Session

from service import experts, guideline_questions, standing
from service.answers.annotators import describe_experts
from service.clock import utcnow
from service.tables import GuidelineQuestion
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
    """One expert's account: its pools, how its gold answers were, and how many tasks wait, new since a day ago.

    `room_today` is for how many more answers they have room, if there is a limit, their own or the project's.
    """

    id: str
    account: str
    tool: str
    pools: list[str]
    is_qualified: bool
    gold_right: int
    gold_answered: int
    waiting: int
    new: int
    daily_capacity: int | None
    room_today: int | None


class AnnotatorPage(Schema):
    """All who are asked."""

    items: list[AnnotatorOut]
    next_cursor: None = None


class AnswerIn(Schema):
    """What they are answered."""

    answer: str = Field(min_length=1, max_length=guideline_questions.MAX_CHARS)


class QuestionRef(Schema):
    """The question's id."""

    id: str


class QuestionOut(QuestionRef):
    """One question, and what it was answered, if it was."""

    by: str
    asked_at: datetime
    guidelines_version: int
    task: str | None
    about: str | None
    text: str
    answer: str | None
    answered_by: str | None
    answered_at: datetime | None


class QuestionPage(Schema):
    """The newest questions, those that wait first, and how many wait in all."""

    waiting: int
    items: list[QuestionOut]
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


@bp.get("/questions")
@endpoint(access=Access.READER, query=ListQuery, returns=QuestionPage, shows_text=True)
def questions(session: Session, caller: Caller, query: ListQuery) -> dict[str, Any]:
    """List what experts ask about the guidelines."""
    project = caller.of_project(session, query.project)
    items = guideline_questions.told(session, project)
    return {"waiting": guideline_questions.waiting(session, project), "items": items}


@bp.post("/questions/<uuid:question_id>/answer")
@endpoint(access=Access.OPERATOR, body=AnswerIn, returns=QuestionRef)
def answer(session: Session, caller: Caller, body: AnswerIn, question_id: UUID) -> dict[str, Any]:
    """Answer what an expert asked about the guidelines."""
    asked = caller.row(session, GuidelineQuestion, question_id)
    guideline_questions.answer(session, asked, body.answer, user=caller.person, actor=caller.name)
    return {"id": str(asked.id)}
