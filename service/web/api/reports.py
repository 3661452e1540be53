"""Complaints that came by phone, mail or ticket: an answer that nobody logged, and a flag of it."""

from uuid import UUID, uuid4

from flask import Blueprint
from pydantic import Field
from sqlmodel import Session

from service.stages import intake
from service.web.api import feedback
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint

bp = Blueprint("reports", __name__, url_prefix="/v1/reports")


class ReportIn(Schema):
    """What was asked, what was answered as far as it is known, and what was wrong; a person names the project."""

    question: str = Field(min_length=1, max_length=100_000)
    answer: str | None = Field(default=None, min_length=1, max_length=100_000)
    complaint: str = Field(min_length=1, max_length=4000)
    channel: str = Field(pattern="^[a-z][a-z_-]{0,31}$")
    reasons: list[feedback.Reason] = Field(default=[], max_length=20)
    subject: str | None = Field(default=None, min_length=1, max_length=200)
    event_id: UUID | None = None
    project: str | None = Field(default=None, max_length=64)


@bp.post("")
@endpoint(access=Access.SUPPLIER, body=ReportIn, returns=feedback.FeedbackOut, status=201)
def report(session: Session, caller: Caller, body: ReportIn) -> tuple[feedback.FeedbackOut, int]:
    """Report a complaint; its answer is unverified, and it is looked at as every flag is.

    The same `event_id` with the same body returns the first answer with status 200.
    """
    project = caller.of_project(session, body.project)
    said = body.model_dump(exclude={"project", "event_id"})
    new = intake.NewReport(**said, event_id=body.event_id or uuid4())
    recorded, is_new = intake.record_report(session, project, new)
    return feedback.told(session, recorded), 201 if is_new else 200
