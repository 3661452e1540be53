"""What people decide about audits: waivers, and repairs that later sets are built with."""

from datetime import date
from uuid import UUID

from flask import Blueprint
from pydantic import Field
from sqlmodel import Session

from service.errors import NotFound
from service.stages import auditing
from service.tables import AcceptedRepair, AuditFinding, Project, TrainingSet
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint

bp = Blueprint("audits", __name__, url_prefix="/v1")


class WaiverIn(Schema):
    """Why a finding may stand, and the last day on which it may."""

    reason: str = Field(min_length=1, max_length=2000)
    until: date


class RepairIn(Schema):
    """Which of a finding's proposals is accepted, counted from 0, and why."""

    place: int = Field(ge=0, lt=2**31)
    reason: str = Field(default="", max_length=2000)


class WaiverOut(Schema):
    """A waiver: what it names, who gave it, and until when it holds."""

    finding: str
    author: str
    reason: str
    until: date


class RepairOut(Schema):
    """An accepted repair."""

    id: UUID
    finding: UUID
    place: int
    is_in_force: bool


@bp.post("/findings/<uuid:finding_id>/waivers")
@endpoint(access=Access.APPROVER, body=WaiverIn, returns=WaiverOut, status=201)
def waive(session: Session, caller: Caller, body: WaiverIn, finding_id: UUID) -> WaiverOut:
    """Let sets with these rows be trained on although their audit blocks it."""
    project, finding = _meant(session, caller, finding_id)
    waiver = auditing.waive(
        session, project, finding, user=caller.person, reason=body.reason, until=body.until
    )
    return WaiverOut(finding=waiver.name, author=waiver.author, reason=body.reason, until=body.until)


@bp.post("/findings/<uuid:finding_id>/repairs")
@endpoint(access=Access.OPERATOR, body=RepairIn, returns=RepairOut, status=201)
def accept_repair(session: Session, caller: Caller, body: RepairIn, finding_id: UUID) -> RepairOut:
    """Accept a proposal: later sets are built with it."""
    project, finding = _meant(session, caller, finding_id)
    accepted = auditing.accept(session, project, finding, body.place, user=caller.person, reason=body.reason)
    return _told(accepted)


@bp.delete("/repairs/<uuid:repair_id>")
@endpoint(access=Access.OPERATOR, returns=RepairOut)
def undo_repair(session: Session, caller: Caller, repair_id: UUID) -> RepairOut:
    """Take an accepted repair back."""
    accepted = session.get(AcceptedRepair, repair_id)
    if accepted is None:
        raise NotFound(f"no repair {repair_id} here")
    project, _ = _meant(session, caller, accepted.finding_id)
    auditing.undo(session, project, accepted, user=caller.person)
    return _told(accepted)


def _meant(session: Session, caller: Caller, finding_id: UUID) -> tuple[Project, AuditFinding]:
    """Return a finding and its project, if the caller may see it."""
    finding = session.get(AuditFinding, finding_id)
    found = session.get(TrainingSet, finding.training_set_id) if finding else None
    of_set = session.get_one(Project, found.project_id).slug if found else None
    project = caller.of_project(session, of_set)
    return project, auditing.find(session, project, finding_id)


def _told(accepted: AcceptedRepair) -> RepairOut:
    return RepairOut(
        id=accepted.id,
        finding=accepted.finding_id,
        place=accepted.place,
        is_in_force=accepted.undone_at is None,
    )
