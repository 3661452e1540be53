"""What people decide about audits: waivers, and repairs that later sets are built with."""

from datetime import date
from uuid import UUID

from flask import Blueprint
from pydantic import Field
from sqlmodel import Session, col, select

from service.errors import NotFound
from service.stages import auditing
from service.tables import AcceptedRepair, AuditFinding, Project, TrainingSet
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint

bp = Blueprint("audits", __name__, url_prefix="/v1")


class WaiverIn(Schema):
    """Why what was found may stand, and the last day on which it may."""

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
    project = _project(session, caller, finding_id)
    waiver = auditing.waive(session, project, finding_id, user=caller.person, **body.model_dump())
    return WaiverOut(finding=waiver.name, author=waiver.author, reason=body.reason, until=body.until)


@bp.post("/findings/<uuid:finding_id>/repairs")
@endpoint(access=Access.OPERATOR, body=RepairIn, returns=RepairOut, status=201)
def accept_repair(session: Session, caller: Caller, body: RepairIn, finding_id: UUID) -> RepairOut:
    """Accept a proposal: later sets are built with it."""
    project = _project(session, caller, finding_id)
    return _told(auditing.accept(session, project, finding_id, user=caller.person, **body.model_dump()))


@bp.delete("/repairs/<uuid:repair_id>")
@endpoint(access=Access.OPERATOR, returns=RepairOut)
def undo_repair(session: Session, caller: Caller, repair_id: UUID) -> RepairOut:
    """Take an accepted repair back."""
    accepted = session.get(AcceptedRepair, repair_id)
    project = _project(session, caller, accepted.finding_id if accepted else repair_id)
    return _told(auditing.undo(session, project, repair_id, user=caller.person))


def _project(session: Session, caller: Caller, finding_id: UUID) -> Project:
    """Return a finding's project, if the caller may decide there."""
    of_finding = (
        select(Project.slug)
        .join(TrainingSet, col(TrainingSet.project_id) == Project.id)
        .join(AuditFinding, col(AuditFinding.training_set_id) == TrainingSet.id)
    )
    slug = session.exec(of_finding.where(AuditFinding.id == finding_id)).first()
    if slug is None:
        raise NotFound(f"no finding {finding_id} here")
    return caller.of_project(session, slug)


def _told(accepted: AcceptedRepair) -> RepairOut:
    return RepairOut(
        id=accepted.id,
        finding=accepted.finding_id,
        place=accepted.place,
        is_in_force=accepted.undone_at is None,
    )
