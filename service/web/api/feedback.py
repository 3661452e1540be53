"""End users say what they think of an answer, and hear what became of it."""

import json
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from flask import Blueprint, Response, abort, g, render_template_string, request
from pydantic import Field, ValidationError, field_validator, model_validator
from sqlmodel import Session, select
from werkzeug.datastructures import HeaderSet
from werkzeug.exceptions import RequestEntityTooLarge

from annotation.types import Cause
from retrain.types import sha256_of
from service import tokens
from service.answers import states
from service.clock import utcnow
from service.errors import Forbidden, NotFound, ServiceError, TokenInvalid, Unauthenticated, code_of
from service.settlements import is_handed_over
from service.stages import intake
from service.tables import Feedback, KeyKind, Project, Rating
from service.web.auth import Access, Caller, authenticate, is_page_of_any_key
from service.web.body import parse_json, read_bytes
from service.web.endpoint import Schema, declared, endpoint
from service.web.problems import InvalidRequest, Malformed, status_of
from service.web.state import runtime

bp = Blueprint("feedback", __name__, url_prefix="/v1/feedback")
LIMIT = "max_feedback_bytes"
PAGE = 200
NDJSON = "application/x-ndjson"
MAX_IMPORT_BYTES, MAX_LINES, IMPORTED_AT_ONCE = 16_000_000, 10_000, 200
NAMING = {"key", "feedback_token", "response_id"}
TOLD = {
    "received": "We have received what you told us.",
    "grouped": "We have received what you told us, and it is waiting for an expert.",
    "checking": "An expert is looking at it.",
    "corrected": "An expert has corrected the answer; the model has not learned it yet.",
    "trained": "A new version of the model has learned from it and is being tested.",
    "live": "The model that answers now has learned from it.",
    "declined": "An expert has looked at it, and the model's answer stands or something else was the cause.",
    "withdrawn": "You have taken it back.",
}
FAULTS = {
    Cause.CONTEXT: "it was not given what it needed to know",
    Cause.PROMPT: "it was told what to do in a way that led it astray",
    Cause.POLICY: "a rule that it has to follow is the reason",
    Cause.PRODUCT: "what it works in is the reason",
}
STATUS_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Your feedback</title>
<meta name="viewport" content="width=device-width"><main><h1>Your feedback</h1><p>{{ told }}</p>
{% if ticket %}<p><a href="{{ ticket }}" rel="noopener noreferrer">Follow it there</a></p>{% endif %}
<p>Given <time>{{ at }}</time></p></main></html>"""


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
    trace_id: str | None = Field(default=None, max_length=64)
    span_id: str | None = Field(default=None, max_length=32)


class FeedbackChange(Words):
    """What the user says instead; a field left out stays as it is."""

    rating: Literal["up", "down"] | None = None
    reasons: list[Reason] | None = Field(default=None, max_length=20)

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


class StatusOut(Schema):
    """What became of a feedback; `ticket_url` is where it can be followed that something else is mended."""

    state: str
    told: str
    given_at: datetime
    cause: str | None = None
    ticket_url: str | None = None


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


class FeedbackPage(Schema):
    """A page of feedback, oldest first."""

    items: list[FeedbackRow]
    next_cursor: str | None


class PageQuery(Schema):
    """Where the page starts."""

    cursor: UUID | None = None


@bp.post("")
@endpoint(
    access=Access.WIDGET, body=FeedbackIn, returns=FeedbackOut, status=201, limit=LIMIT, known_before=True
)
def give(session: Session, caller: Caller, body: FeedbackIn) -> tuple[FeedbackOut, int]:
    """Give feedback on an answer.

    The same `event_id` with the same body returns the first answer with status 200, with another body 409.
    """
    feedback, is_new = _record(session, caller, body)
    state = "received" if is_new else states.state_of(session, feedback)
    return _told(feedback, state), 201 if is_new else 200


@bp.post("/import")
@declared(Access.HOST)
def import_lines() -> Response:
    """Take feedback as JSON Lines, each as `POST /v1/feedback` takes it; the answer tells each line's fate.

    Lines of one part are committed together before the next part begins, so that others are heard in between; the same
    file again adds nothing.
    """
    with runtime().db.reading() as session:
        caller = authenticate(session, Access.HOST)
    if request.mimetype != NDJSON:
        raise Malformed(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", f"send {NDJSON}")
    lines = [
        (number, line)
        for number, line in enumerate(read_bytes(request, max_bytes=MAX_IMPORT_BYTES).split(b"\n"), start=1)
        if line.strip()
    ]
    if len(lines) > MAX_LINES:
        raise RequestEntityTooLarge(f"more than {MAX_LINES} lines")
    told: list[dict[str, Any]] = []
    for start in range(0, len(lines), IMPORTED_AT_ONCE):
        with runtime().db.transaction() as session:
            told += [_taken(session, caller, *one) for one in lines[start : start + IMPORTED_AT_ONCE]]
    document = "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in told)
    return Response(document, HTTPStatus.MULTI_STATUS, content_type=NDJSON)


def _taken(session: Session, caller: Caller, number: int, line: bytes) -> dict[str, Any]:
    """Take one line; what is wrong with it is told, and hinders no other."""
    try:
        text = line.decode()
        parse_json(text)
        feedback, is_new = _record(session, caller, FeedbackIn.model_validate_json(text, strict=True))
        return {"line": number, "status": 201 if is_new else 200, "id": str(feedback.id)}
    except UnicodeDecodeError as error:
        problem = {"code": "malformed_json", "detail": f"not UTF-8: {error.reason}"}
        return {"line": number, "status": 400, "problem": problem}
    except Malformed as error:
        return {"line": number, "status": error.status, "problem": {"code": error.code, "detail": str(error)}}
    except ValidationError as error:
        fields = [field.model_dump() for field in InvalidRequest(error).errors]
        return {"line": number, "status": 422, "problem": {"code": "invalid_request", "errors": fields}}
    except ServiceError as error:
        problem = {"code": code_of(error), "detail": str(error)}
        return {"line": number, "status": status_of(error), "problem": problem}


def _record(session: Session, caller: Caller, body: FeedbackIn) -> tuple[Feedback, bool]:
    project = caller.of_project(session, None)
    ref, subject = named(body, caller, project)
    said = body.model_dump(exclude=NAMING)
    new = intake.NewFeedback(**said | {"rating": Rating(body.rating)})
    hashed = sha256_of(body.model_dump(mode="json", exclude=NAMING) | {"response": ref})
    return intake.record_feedback(session, project, new, response_ref=ref, subject=subject, sha256=hashed)


@bp.patch("/<uuid:event_id>")
@endpoint(access=Access.WIDGET, body=FeedbackChange, returns=FeedbackOut, limit=LIMIT)
def change(session: Session, caller: Caller, body: FeedbackChange, event_id: UUID) -> FeedbackOut:
    """Change what a feedback says; a field left out stays as it is."""
    feedback = _own(session, caller, body, event_id)
    said = body.model_dump(exclude={"key", "feedback_token"}, exclude_unset=True)
    if body.rating:
        said["rating"] = Rating(body.rating)
    intake.change(session, feedback, said)
    return _told(feedback, states.state_of(session, feedback))


@bp.delete("/<uuid:event_id>")
@endpoint(access=Access.WIDGET, body=Credential, returns=FeedbackOut, limit=LIMIT)
def withdraw(session: Session, caller: Caller, body: Credential, event_id: UUID) -> FeedbackOut:
    """Take a feedback back: its words are erased, and no expert is asked about it."""
    feedback = _own(session, caller, body, event_id)
    intake.withdraw(session, feedback)
    return _told(feedback, states.state_of(session, feedback))


@bp.get("")
@endpoint(access=Access.HOST, query=PageQuery, returns=FeedbackPage)
def page(session: Session, caller: Caller, query: PageQuery) -> dict[str, Any]:
    """List the project's feedback, oldest first."""
    project = caller.of_project(session, None)
    items = states.told(session, project, after=query.cursor, size=PAGE)
    return {"items": items, "next_cursor": str(items[-1]["id"]) if len(items) == PAGE else None}


@bp.get("/<uuid:feedback_id>/status/<signature>")
@declared(Access.ANYONE)
def status(feedback_id: UUID, signature: str) -> Response:
    """Tell whoever holds the signed link what became of a feedback, as JSON or as a page."""
    if not tokens.is_status_link(str(feedback_id), signature, runtime().secrets):
        abort(404)
    with runtime().db.reading() as session:
        feedback = session.get(Feedback, feedback_id) or abort(404)
        answer = _status(session, feedback)
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        page = {"told": answer.told, "at": answer.given_at.date()}
        response = Response(render_template_string(STATUS_PAGE, **page, ticket=answer.ticket_url))
    else:
        response = Response(answer.model_dump_json(), content_type="application/json")
    response.vary.add("Accept")
    return response


@bp.after_request
def share(response: Response) -> Response:
    """Let the pages that a public key is for read the answer, and nobody else's."""
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin and (g.get("origin") == origin or _may_ask(origin)):
        response.access_control_allow_origin = origin
        if request.method == "OPTIONS":
            response.access_control_allow_methods = HeaderSet(["POST", "PATCH", "DELETE"])
            response.access_control_allow_headers = HeaderSet(["Content-Type"])
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
    if feedback is None:
        raise NotFound(f"no feedback {event_id}")
    if caller.key is KeyKind.PUBLIC and _token(body, project).response != feedback.response_ref:
        raise Forbidden("feedback_token: for another response")
    return feedback


def named(body: Naming, caller: Caller, project: Project) -> tuple[str, str | None]:
    """Return the response meant and who speaks; a public key alone proves nothing about either."""
    if body.feedback_token is not None:
        token = _token(body, project)
        return token.response, token.subject
    if caller.key is not KeyKind.SECRET or body.response_id is None:
        raise Unauthenticated("response_id: needs a secret key; a public key needs feedback_token")
    return body.response_id, None


def _token(body: Credential, project: Project) -> tokens.FeedbackToken:
    token = tokens.verify(body.feedback_token or "", runtime().secrets, now=utcnow().timestamp())
    if token.project != project.slug:
        raise TokenInvalid("feedback_token: for another project")
    return token


def _status(session: Session, feedback: Feedback) -> StatusOut:
    state = states.state_of(session, feedback)
    settled = states.settlement_of(session, feedback) if state == "declined" else None
    if settled is None or settled.cause is None or not is_handed_over(settled):
        return StatusOut(state=state, told=TOLD[state], given_at=feedback.created_at)
    at = settled.created_at.date()
    return StatusOut(
        state=state,
        told=f"This was not the model's fault: {FAULTS[settled.cause]}. It was handed over to the team on {at}.",
        given_at=feedback.created_at,
        cause=settled.cause.value,
        ticket_url=settled.ticket_url,
    )


def _told(feedback: Feedback, state: str) -> FeedbackOut:
    signature = tokens.sign_status(str(feedback.id), runtime().secrets)
    url = f"{runtime().settings.own_url}/v1/feedback/{feedback.id}/status/{signature}"
    return FeedbackOut(id=feedback.id, state=state, status_url=url)
