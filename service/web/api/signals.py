"""What users do with answers without a word: nobody is asked about it, and nothing learns from it."""

from uuid import UUID

from flask import Blueprint
from pydantic import Field
from sqlmodel import Session

from service.errors import Unauthenticated
from service.stages import intake
from service.tables import SignalKind
from service.web.api import feedback
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint

bp = Blueprint("signals", __name__, url_prefix="/v1/signals")
bp.after_request(feedback.share)


class SignalIn(feedback.Naming):
    """What was done with one answer, named by `feedback_token` or, with a secret key, by `response_id`."""

    event_id: UUID
    kind: SignalKind = Field(strict=False)


class SignalOut(Schema):
    """The signal's id."""

    id: UUID


@bp.post("")
@endpoint(access=Access.WIDGET, body=SignalIn, returns=SignalOut, status=201, limit=feedback.LIMIT)
def give(session: Session, caller: Caller, body: SignalIn) -> tuple[SignalOut, int]:
    """Report that an answer was copied, edited, asked for again or abandoned; the same `event_id` adds nothing."""
    project = caller.of_project(session, None)
    about = feedback.named(body, caller, project)
    if not about.is_trusted:
        raise Unauthenticated("feedback_token: what users do is only believed with one")
    ref = about.response_ref
    signal, is_new = intake.record_signal(session, project, ref, event_id=body.event_id, kind=body.kind)
    return SignalOut(id=signal.id), 201 if is_new else 200
