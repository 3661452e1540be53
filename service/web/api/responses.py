"""Hosts log what their model answered."""

from typing import Any
from uuid import UUID

from flask import Blueprint
from flask import Response as WebResponse
from pydantic import Field, field_validator
from sqlmodel import Session

from retrain.types import sha256_of
from service.stages import intake
from service.web.api import bulk
from service.web.api.feedback import TraceId
from service.web.auth import Access, Caller, authenticate
from service.web.endpoint import Schema, declared, endpoint
from service.web.state import runtime

bp = Blueprint("responses", __name__, url_prefix="/v1/responses")


class Turn(Schema):
    """One turn of the conversation."""

    role: str = Field(pattern="^(system|user|assistant|tool)$")
    content: str = Field(max_length=100_000)


class Passage(Schema):
    """One text that the model was given to answer from."""

    id: str = Field(max_length=200)
    text: str = Field(max_length=100_000)
    uri: str | None = Field(default=None, max_length=2000)


class Purpose(Schema):
    """What the text may be used for, and on which legal basis: one of GDPR's, such as `consent` or `contract`.

    Training sets know any other words as "other".
    """

    training: bool
    basis: str = Field(max_length=200)


class ResponseIn(Schema):
    """One answer of the model; `messages` end with the user's turn.

    `source` is the host's name for one of its systems, never a person's: it outlives erasures. How sure the model was
    may stand in `metadata` as `confidence`, from 0 to 1: of two flags, the one of an unsure answer is looked at first.
    """

    messages: list[Turn] = Field(min_length=1, max_length=200)
    response: str = Field(min_length=1, max_length=100_000)
    model_version: str | None = Field(default=None, max_length=200)
    external_id: str | None = Field(default=None, min_length=1, max_length=200)
    conversation_id: str | None = Field(default=None, min_length=1, max_length=200)
    context: list[Passage] = Field(default=[], max_length=100)
    source: str | None = Field(default=None, min_length=1, max_length=100)
    subject: str | None = Field(default=None, min_length=1, max_length=200)
    attributes: dict[str, str] = Field(default={}, max_length=50)
    language: str | None = Field(default=None, max_length=35)
    purpose: Purpose | None = None
    trace_id: TraceId | None = None
    metadata: dict[str, Any] = Field(default={}, max_length=50)

    @field_validator("messages")
    @classmethod
    def ends_with_the_user(cls, value: list[Turn]) -> list[Turn]:
        if value[-1].role != "user":
            raise ValueError("the last turn must be the user's")
        return value


class ResponseOut(Schema):
    """The response's id, and the token with which its reader gives feedback."""

    id: UUID
    feedback_token: str


@bp.post("")
@endpoint(access=Access.HOST, body=ResponseIn, returns=ResponseOut, status=201)
def log_response(session: Session, caller: Caller, body: ResponseIn) -> tuple[ResponseOut, int]:
    """Log an answer of the model.

    The same `external_id` again changes nothing and returns the first answer with status 200.
    """
    logged, is_new = _logged(session, caller, body)
    return logged, 201 if is_new else 200


@bp.post("/batch")
@declared(Access.HOST)
def log_batch() -> WebResponse:
    """Log many answers, a JSON list or JSON Lines, each as `POST /v1/responses` takes it; each has its own fate."""
    with runtime().db.reading() as session:
        caller = authenticate(session, Access.HOST)

    def take(session: Session, line: str) -> tuple[dict[str, Any], bool]:
        logged, is_new = _logged(session, caller, ResponseIn.model_validate_json(line, strict=True))
        return logged.model_dump(mode="json"), is_new

    return bulk.answer(bulk.listed(), take)


def _logged(session: Session, caller: Caller, body: ResponseIn) -> tuple[ResponseOut, bool]:
    project = caller.of_project(session, None)
    facts = body.model_dump(exclude={"purpose"})
    if body.purpose:
        facts |= {"may_train": body.purpose.training, "legal_basis": body.purpose.basis}
    new = intake.NewResponse(**facts)
    response, is_new = intake.log_response(
        session, project, new, sha256=sha256_of(body.model_dump(mode="json"))
    )
    days = runtime().settings.feedback_token_days
    token = intake.feedback_token(project, response, runtime().secrets, days=days)
    return ResponseOut(id=response.id, feedback_token=token), is_new
