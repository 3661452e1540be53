"""What whoever holds a flag's signed link is told, as a page or as JSON; and how they take it back."""

from dataclasses import asdict
from datetime import datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID

from flask import Blueprint, abort, redirect, render_template, request, url_for
from flask import Response as WebResponse
from pydantic import Field
from sqlmodel import Session

from annotation.types import Cause
from retrain.types import Mending
from service import taking_back, tokens
from service.answers import states
from service.settlements import is_handed_over
from service.tables import Feedback
from service.web.api.feedback import share
from service.web.auth import Access
from service.web.endpoint import Schema, declared
from service.web.state import runtime

bp = Blueprint("status", __name__, url_prefix="/v1/feedback")
bp.after_request(share)
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
STEPS = {
    "received": "Received",
    "grouped": "Grouped",
    "checking": "Checked by experts",
    "corrected": "Corrected",
    "trained": "Learned by a new version",
    "live": "Fixed and live",
}
ERRS = {
    Mending.AS_BEFORE: "it answered as before",
    Mending.OTHERWISE: "it answered otherwise, but not as experts corrected it",
}


class StepOut(Schema):
    """A state on the way of a feedback: when it was reached, with how many others, and by which version."""

    state: str
    at: datetime | None
    others: int
    version: int | None


class StatusOut(Schema):
    """What became of a feedback; `ticket_url` is where it can be followed that something else is mended.

    `model_version` is the one that was asked again last: `live_since` is told once it, or an earlier one, passed.
    """

    state: str
    told: str
    given_at: datetime
    cause: str | None = None
    ticket_url: str | None = None
    model_version: int | None = None
    live_since: datetime | None = None
    steps: list[StepOut] = Field(default=[])


@bp.get("/<uuid:feedback_id>/status/<signature>")
@declared(Access.ANYONE)
def status(feedback_id: UUID, signature: str) -> WebResponse:
    """Tell whoever holds the signed link what became of a feedback, as JSON or as a page."""
    if not tokens.is_status_link(str(feedback_id), signature, runtime().secrets):
        abort(404)
    with runtime().db.reading() as session:
        feedback = session.get(Feedback, feedback_id) or abort(404)
        answer = _status(session, feedback)
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        response = WebResponse(render_template("status.html", status=answer, titles=STEPS))
    else:
        response = WebResponse(answer.model_dump_json(), content_type="application/json")
    response.vary.add("Accept")
    return response


@bp.post("/<uuid:feedback_id>/status/<signature>/withdraw")
@declared(Access.ANYONE)
def withdraw_by_link(feedback_id: UUID, signature: str) -> Any:
    """Ask whoever holds the signed link whether they are sure, and then take their feedback back."""
    if not tokens.is_status_link(str(feedback_id), signature, runtime().secrets):
        abort(404)
    if request.form.get("sure") != "yes":
        return render_template(
            "withdraw.html", back=url_for(".status", feedback_id=feedback_id, signature=signature)
        )
    with runtime().db.transaction() as session:
        taking_back.withdraw(session, session.get(Feedback, feedback_id) or abort(404))
    return redirect(url_for(".status", feedback_id=feedback_id, signature=signature), HTTPStatus.SEE_OTHER)


def _status(session: Session, feedback: Feedback) -> StatusOut:
    state = states.state_of(session, feedback)
    settled = states.settlement_of(session, feedback)
    answer = StatusOut(state=state, told=TOLD[state], given_at=feedback.created_at)
    if state not in ("declined", "withdrawn"):
        answer.steps = [StepOut(**asdict(step)) for step in states.steps_of(session, feedback)]
    if state == "declined" and settled and settled.cause and is_handed_over(settled):
        at, fault = settled.created_at.date(), FAULTS[settled.cause]
        answer.told = f"This was not the model's fault: {fault}. It was handed over to the team on {at}."
        answer.cause, answer.ticket_url = settled.cause.value, settled.ticket_url
    asked = states.recheck_of(session, settled) if settled else None
    if asked and state == "live" and asked.live_since:
        answer.model_version, answer.live_since = asked.version, asked.live_since
        answer.told = f"Fixed in version {asked.version}, live since {asked.live_since.date()}."
    elif asked and state in ("checking", "corrected") and not asked.passed:
        answer.model_version = asked.version
        answer.told = f"Version {asked.version} learned from it and still errs: {ERRS[asked.outcome]}. " + (
            "Experts look at it again." if state == "checking" else "A later version has to learn it better."
        )
    return answer
