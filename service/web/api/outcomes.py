"""What answers came to in the host's business, known later; and how model versions compare by that."""

from dataclasses import asdict
from typing import Any, Self
from uuid import UUID

from flask import Blueprint
from pydantic import Field, model_validator
from sqlmodel import Session

from retrain.types import sha256_of
from service.answers.outcomes import outcomes_of
from service.stages import intake
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint

bp = Blueprint("outcomes", __name__, url_prefix="/v1/outcomes")


class OutcomeIn(Schema):
    """A result such as `handling_minutes` or `rerouted`, 0 or 1, of an answer or of a conversation."""

    event_id: UUID
    response_id: str | None = Field(default=None, min_length=1, max_length=200)
    conversation_id: str | None = Field(default=None, min_length=1, max_length=200)
    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    value: float = Field(ge=-1e12, le=1e12)
    unit: str = Field(default="", pattern=r"^[\w%/€$£ .-]{0,32}$")

    @model_validator(mode="after")
    def names_one(self) -> Self:
        if (self.response_id is None) == (self.conversation_id is None):
            raise ValueError("name the answer by response_id, or the conversation by conversation_id")
        return self


class OutcomeOut(Schema):
    """The outcome's id, and the answer that it is kept with."""

    id: UUID
    response_id: UUID


class OutcomeQuery(Schema):
    """The project meant; a secret key's own project need not be named."""

    project: str | None = Field(default=None, max_length=64)


class OutcomeFigure(Schema):
    """The mean of an outcome over a version's newest answers, with its 95 % interval."""

    model_version: int
    name: str
    unit: str
    value: float
    low: float
    high: float
    n: int


class OutcomePage(Schema):
    """The newest versions' figures, all at once."""

    items: list[OutcomeFigure]
    next_cursor: None = None


@bp.post("")
@endpoint(access=Access.HOST, body=OutcomeIn, returns=OutcomeOut, status=201)
def report(session: Session, caller: Caller, body: OutcomeIn) -> tuple[OutcomeOut, int]:
    """Report what came of an answer.

    The same `event_id` with the same body returns the first answer with status 200, with another body 409.
    """
    project = caller.of_project(session, None)
    new = intake.NewOutcome(**body.model_dump())
    found, is_new = intake.record_outcome(
        session, project, new, sha256=sha256_of(body.model_dump(mode="json"))
    )
    return OutcomeOut(id=found.id, response_id=found.response_id), 201 if is_new else 200


@bp.get("")
@endpoint(access=Access.READER, query=OutcomeQuery, returns=OutcomePage)
def figures(session: Session, caller: Caller, query: OutcomeQuery) -> dict[str, Any]:
    """Tell what came of each version's answers; fewer than five values are not told."""
    found = outcomes_of(session, caller.of_project(session, query.project))
    return {
        "items": [
            asdict(each.mean) | {name: getattr(each, name) for name in ("model_version", "name", "unit")}
            for each in found
        ]
    }
