"""End users say what they think of an answer, and hear what became of it."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from flask import Blueprint, g, request
from flask import Response as WebResponse
from pydantic import AfterValidator, Field, field_validator, model_validator
from sqlmodel import Session, select
from werkzeug.datastructures import HeaderSet

from retrain.types import sha256_of
from service import api_keys, received, taking_back, tokens
from service.answers import states
from service.client.signing import FeedbackToken
from service.clock import utcnow
from service.errors import Forbidden, NotFound, ResponseMismatch, TokenInvalid, Unauthenticated
from service.stages import intake
from service.tables import Feedback, KeyKind, Project, Rating, Response
from service.web import limits
from service.web.api import bulk
from service.web.auth import Access, Caller, authenticate, is_page_of_any_key
from service.web.endpoint import Schema, declared, endpoint
from service.web.state import runtime

bp = Blueprint("feedback", __name__, url_prefix="/v1/feedback")
LIMIT = "max_feedback_bytes"
PAGE = 200
EXPOSED = ("Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
TOKEN_HEADER = "Errata-Feedback-Token"  # noqa: S105  where one stands
NAMING = {"key", "feedback_token", "response_id"}


def _is_some(value: str) -> str:
    if not value.strip("0"):
        raise ValueError("all zeros name nothing")
    return value


TraceId = Annotated[str, Field(pattern="^[0-9a-f]{32}$"), AfterValidator(_is_some)]
SpanId = Annotated[str, Field(pattern="^[0-9a-f]{16}$"), AfterValidator(_is_some)]
Reason = Annotated[str, Field(min_length=1, max_length=64)]


class Credential(Schema):
    """A public key and a feedback token, for requests that cannot carry a secret."""

    key: str | None = Field(default=None, max_length=200)
    feedback_token: str | None = Field(default=None, max_length=4000)


class Naming(Credential):
    """One answer, named by `feedback_token` or, with a secret key, by `response_id`."""

    response_id: str | None = Field(default=None, min_length=1, max_length=200)

    @model_validator(mode="after")
    def names_one_response(self) -> Self:
        if (self.feedback_token is None) == (self.response_id is None):
            raise ValueError("name the response by feedback_token or by response_id")
        return self


class Selection(Schema):
    """The part of the answer that the user marked, in characters."""

    start: int = Field(ge=0)
    end: int = Field(ge=0)
    quote: str = Field(max_length=2000)


class Words(Credential):
    """What a user may say, and change."""

    comment: str | None = Field(default=None, max_length=4000)
    correction: str | None = Field(default=None, max_length=8000)
    consent: bool | None = None


class FeedbackIn(Words, Naming):
    """One user's word on one answer, named by `feedback_token` or, with a secret key, by `response_id`."""

    event_id: UUID
    rating: Literal["up", "down"]
    reasons: list[Reason] = Field(default=[], max_length=20)
    selection: Selection | None = None
    session: str | None = Field(default=None, max_length=200)
    trace_id: TraceId | None = None
    span_id: SpanId | None = None


class FeedbackChange(Words):
    """What the user says instead; a field left out stays as it is."""

    rating: Literal["up", "down"] | None = None
    reasons: list[Reason] | None = Field(default=None, max_length=20)
    selection: Selection | None = None

    @field_validator("rating", "reasons")
    @classmethod
    def is_said(cls, value: str | list[str] | None) -> str | list[str]:
        if value is None:
            raise ValueError("leave it out, or say something")
        return value


class FeedbackOut(Schema):
    """The feedback's id, what became of it so far, and where to ask again without signing in."""

    id: UUID
    state: str
    status_url: str


class FeedbackRow(Schema):
    """One feedback as its project sees it."""

    id: UUID
    event_id: UUID
    response_id: UUID | None
    rating: str
    reasons: list[str]
    comment: str | None
    correction: str | None
    state: str
    created_at: datetime
    consent: bool | None
    selection: dict[str, Any] | None
    session: str | None
    trace_id: str | None
    span_id: str | None
    reasons_version: int | None
    is_trusted: bool
    is_mismatched: bool
    masked: dict[str, int]
    withdrawn_at: datetime | None
    status_url: str | None = None


class FeedbackPage(Schema):
    """A page of feedback, oldest first."""

    items: list[FeedbackRow]
    next_cursor: str | None


class PageQuery(Credential):
    """Where the page starts; a public key is told of one token's feedback alone."""

    cursor: UUID | None = None


@bp.post("")
@endpoint(
    access=Access.WIDGET, body=FeedbackIn, returns=FeedbackOut, status=201, limit=LIMIT, known_before=True
)
def give(session: Session, caller: Caller, body: FeedbackIn) -> tuple[FeedbackOut, int]:
    """Give feedback on an answer.

    The same `event_id` with the same body returns the first answer with status 200, with another body 409.
    """
    feedback, is_new = record(session, caller, body)
    return told(session, feedback, state="received" if is_new else None), 201 if is_new else 200


@bp.post("/import")
@declared(Access.HOST)
def import_lines() -> WebResponse:
    """Take feedback as JSON Lines, each as `POST /v1/feedback` takes it; the answer tells each line's fate.

    The same file again adds nothing.
    """
    with runtime().db.reading() as session:
        caller = authenticate(session, Access.HOST)

    def take(session: Session, line: str) -> tuple[dict[str, Any], bool]:
        feedback, is_new = record(session, caller, FeedbackIn.model_validate_json(line, strict=True))
        return {"id": str(feedback.id)}, is_new

    return bulk.answer(bulk.lines(), take)


def record(session: Session, caller: Caller, body: FeedbackIn) -> tuple[Feedback, bool]:
    """Add what a body says, by the credentials in it, and say whether it is new."""
    project = caller.of_project(session, None)
    about = named(body, caller, project)
    said = body.model_dump(exclude=NAMING)
    new = intake.NewFeedback(**said | {"rating": Rating(body.rating)})
    hashed = sha256_of(body.model_dump(mode="json", exclude=NAMING) | {"response": about.response_ref})
    return intake.record_feedback(session, project, new, **asdict(about), sha256=hashed)


@bp.patch("/<uuid:event_id>")
@endpoint(access=Access.WIDGET, body=FeedbackChange, returns=FeedbackOut, limit=LIMIT)
def change(session: Session, caller: Caller, body: FeedbackChange, event_id: UUID) -> FeedbackOut:
    """Change what a feedback says; a field left out stays as it is."""
    feedback = _own(session, caller, body, event_id)
    said = body.model_dump(exclude={"key", "feedback_token"}, exclude_unset=True)
    if body.rating:
        said["rating"] = Rating(body.rating)
    taking_back.change(session, feedback, said)
    return told(session, feedback)


@bp.delete("/<uuid:event_id>")
@endpoint(access=Access.WIDGET, body=Credential, returns=FeedbackOut, limit=LIMIT)
def withdraw(session: Session, caller: Caller, body: Credential, event_id: UUID) -> FeedbackOut:
    """Take a feedback back: its words are erased, and no expert is asked about it."""
    feedback = _own(session, caller, body, event_id)
    taking_back.withdraw(session, feedback)
    return told(session, feedback)


@bp.get("")
@endpoint(access=Access.WIDGET, query=PageQuery, returns=FeedbackPage)
def page(session: Session, caller: Caller, query: PageQuery) -> dict[str, Any]:
    """List the project's feedback, oldest first.

    A public key is told what whoever holds the feedback token said of that answer, and nothing else; the token may
    stand in the header `Errata-Feedback-Token`, and the key in `Authorization`.
    """
    project = caller.of_project(session, None)
    if caller.key is KeyKind.PUBLIC:
        return {"items": _of_token(session, caller, project, query), "next_cursor": None}
    items = states.told(session, project, after=query.cursor, size=PAGE)
    return {"items": items, "next_cursor": str(items[-1]["id"]) if len(items) == PAGE else None}


@bp.after_request
def share(response: WebResponse) -> WebResponse:
    """Let the pages that a public key is for read the answer, and nobody else's."""
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin and (g.get("origin") == origin or _may_ask(origin)):
        response.access_control_allow_origin = origin
        response.access_control_expose_headers = HeaderSet(EXPOSED)
        if request.method == "OPTIONS":
            response.access_control_allow_methods = HeaderSet(["GET", "POST", "PATCH", "DELETE"])
            response.access_control_allow_headers = HeaderSet(["Content-Type", "Authorization", TOKEN_HEADER])
            response.access_control_max_age = 600
    return response


def _may_ask(origin: str) -> bool:
    """Preflights and status links carry no key; all else is shared once its key has been checked."""
    if request.method not in ("OPTIONS", "GET"):
        return False
    with runtime().db.reading() as session:
        return is_page_of_any_key(session, origin)


def _own(session: Session, caller: Caller, body: Credential, event_id: UUID) -> Feedback:
    """Return the feedback that the credentials are for."""
    project = caller.of_project(session, None)
    found = select(Feedback).where(Feedback.project_id == project.id, Feedback.event_id == event_id)
    feedback = session.exec(found).first()
    token = None
    if caller.key is KeyKind.PUBLIC or body.feedback_token is not None:
        token = _token(body.feedback_token, project, caller)
        own = _word_of(session, project, token)
        # An earlier event of the same person's, which a later one has replaced, means the same feedback.
        feedback = feedback or (own if own and str(event_id) in own.earlier_events else None)
    if feedback is None:
        raise NotFound(f"no feedback {event_id}")
    if token and token.response not in (feedback.response_ref, str(feedback.response_id)):
        raise Forbidden("feedback_token: for another response")
    if token and feedback.subject not in (None, token.subject):
        raise Forbidden("feedback_token: for somebody else")
    response = session.get(Response, feedback.response_id) if feedback.response_id else None
    if token and response and token.sha256 != received.text_sha256_of(response):
        raise ResponseMismatch("feedback_token: for another text")
    return feedback


@dataclass(frozen=True, slots=True)
class Named:
    """Which response is meant and who speaks, as far as a credential proves it."""

    response_ref: str
    subject: str | None = None
    text_sha256: str | None = None
    is_trusted: bool = True


def named(body: Naming, caller: Caller, project: Project) -> Named:
    """Return the response meant and who speaks; a public key alone proves nothing about either."""
    if body.feedback_token is not None:
        token = _token(body.feedback_token, project, caller)
        return Named(token.response, token.subject, token.sha256)
    is_secret = caller.key is KeyKind.SECRET
    if body.response_id is None or (project.needs_token and not is_secret):
        raise Unauthenticated("response_id: needs a secret key; a public key needs feedback_token")
    return Named(body.response_id, is_trusted=is_secret)


def _token(text: str | None, project: Project, caller: Caller) -> FeedbackToken:
    now = utcnow().timestamp()
    token = tokens.verify(text or "", api_keys.token_keys(project, runtime().secrets, now=now), now=now)
    if token.project != project.slug:
        raise TokenInvalid("feedback_token: for another project")
    if caller.key is KeyKind.PUBLIC:
        limits.count_token(token.project, token.response, token.subject)
    return token


def _word_of(session: Session, project: Project, token: FeedbackToken) -> Feedback | None:
    response = received.find_response(session, project, token.response)
    return received.word_of(session, project, token.subject, token.response, response)


def _of_token(session: Session, caller: Caller, project: Project, query: PageQuery) -> list[dict[str, Any]]:
    token = _token(request.headers.get(TOKEN_HEADER) or query.feedback_token, project, caller)
    own = _word_of(session, project, token)
    if own is None:
        return []
    (row,) = states.rows(session, [own])
    return [row | {"status_url": told(session, own).status_url}]


def told(session: Session, feedback: Feedback, *, state: str | None = None) -> FeedbackOut:
    """Say what became of a feedback, its `state` if that is known, and where to ask again."""
    signature = tokens.sign_status(str(feedback.id), runtime().secrets)
    url = f"{runtime().settings.own_url}/v1/feedback/{feedback.id}/status/{signature}"
    return FeedbackOut(id=feedback.id, state=state or states.state_of(session, feedback), status_url=url)
