"""The champion: which it is, and its answers in OpenAI's shape."""

import time
from typing import Any
from uuid import UUID

from flask import Blueprint
from pydantic import ConfigDict, Field
from sqlmodel import Session

from retrain.types import sha256_of
from service import champions
from service.answers import describe_promotion
from service.stages import intake
from service.web.answering import ask
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint
from service.web.state import runtime

bp = Blueprint("models", __name__, url_prefix="/v1")


class ProjectQuery(Schema):
    """The project meant; a secret key's own project need not be named."""

    project: str | None = None


class ChampionOut(Schema):
    """What is live; no adapter means the base model alone."""

    seq: int
    kind: str
    model_version: int
    base_model: str
    adapter_uri: str | None
    sha256: str | None
    promoted_at: str


class ChatTurn(Schema):
    """One turn of the conversation."""

    role: str = Field(pattern="^(system|user|assistant)$")
    content: str = Field(max_length=100_000)


class ChatIn(Schema):
    """A chat completion request; `model` names the project, unknown options are ignored as clients expect."""

    model_config = ConfigDict(extra="ignore", strict=True)

    model: str = Field(max_length=64)
    messages: list[ChatTurn] = Field(min_length=1, max_length=200)
    user: str | None = Field(default=None, max_length=200)
    metadata: dict[str, str] = Field(default={}, max_length=50)


class Choice(Schema):
    """The one answer given."""

    index: int
    message: ChatTurn
    finish_reason: str


class ChatOut(Schema):
    """A chat completion, plus the logged response and the token for feedback on it."""

    id: str
    object: str
    created: int
    model: str
    choices: list[Choice]
    response_id: UUID
    feedback_token: str


@bp.get("/models/champion")
@endpoint(access=Access.READER, query=ProjectQuery, returns=ChampionOut)
def champion(session: Session, caller: Caller, query: ProjectQuery) -> dict[str, Any]:
    """Tell which model version is live."""
    project = caller.of_project(session, query.project)
    return describe_promotion(*champions.live_at(session, project, None))


@bp.post("/chat/completions")
@endpoint(access=Access.HOST, body=ChatIn, returns=ChatOut)
def chat(caller: Caller, body: ChatIn) -> ChatOut:
    """Answer with the champion and log the response; `metadata` becomes its attributes."""
    with runtime().db.reading() as session:
        project = caller.of_project(session, body.model)
    messages = [turn.model_dump() for turn in body.messages]
    said = ask(project.slug, messages)
    new = intake.NewResponse(
        messages=messages,
        response=said.text,
        model_version=said.model_version,
        model_version_id=said.model_version_id,
        subject=body.user,
        attributes=body.metadata,
    )
    with runtime().db.transaction() as session:
        response, _ = intake.log_response(
            session, project, new, sha256=sha256_of(body.model_dump(mode="json"))
        )
    token = intake.feedback_token(
        project, response, runtime().secrets, days=runtime().settings.feedback_token_days
    )
    return ChatOut(
        id=f"chatcmpl-{response.id}",
        object="chat.completion",
        created=int(time.time()),
        model=f"{project.slug}/{response.model_version}",
        choices=[
            Choice(index=0, message=ChatTurn(role="assistant", content=response.text), finish_reason="stop")
        ],
        response_id=response.id,
        feedback_token=token,
    )
