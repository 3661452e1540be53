"""What audits found in sets, what somebody waived of it, and what therefore still stops a training."""

from datetime import date
from typing import Any

from sqlmodel import Session, col, select

from retrain.audit import Severity
from service.tables import AcceptedRepair, AuditFinding, Document, DocumentKind, TrainingSet

ORDER = (Severity.BLOCK, Severity.WARN, Severity.INFO)


def findings_of(session: Session, training_set: TrainingSet) -> list[AuditFinding]:
    """Return a set's findings, those that block first."""
    found = session.exec(
        select(AuditFinding)
        .where(AuditFinding.training_set_id == training_set.id)
        .order_by(col(AuditFinding.id))
    ).all()
    return sorted(found, key=lambda finding: ORDER.index(Severity(finding.severity)))


def waivers(session: Session, training_set: TrainingSet, today: date) -> dict[str, Document]:
    """Return the waivers that hold today, by the finding that each names; the newest one of a finding counts."""
    of_project = select(Document).where(
        Document.project_id == training_set.project_id, Document.kind == DocumentKind.WAIVER
    )
    newest = {row.name: row for row in session.exec(of_project.order_by(col(Document.version)))}
    return {name: row for name, row in newest.items() if date.fromisoformat(row.content["until"]) >= today}


def blocking(session: Session, training_set: TrainingSet, today: date) -> list[AuditFinding]:
    """Return the findings that forbid training on a set, as nobody has waived them."""
    if not training_set.is_blocked:
        return []
    waived = waivers(session, training_set, today)
    found = select(AuditFinding).where(
        AuditFinding.training_set_id == training_set.id, AuditFinding.severity == Severity.BLOCK
    )
    return [
        finding
        for finding in session.exec(found.order_by(col(AuditFinding.id)))
        if finding.name not in waived
    ]


def repairs_of(session: Session, training_set: TrainingSet) -> dict[tuple[str, int], AcceptedRepair]:
    """Return the repairs in force, by the finding and the place of the proposal that was accepted."""
    accepted = session.exec(
        select(AcceptedRepair)
        .join(AuditFinding, col(AcceptedRepair.finding_id) == AuditFinding.id)
        .where(AuditFinding.training_set_id == training_set.id, col(AcceptedRepair.undone_at).is_(None))
    )
    return {(str(row.finding_id), row.place): row for row in accepted}


def describe_finding(finding: AuditFinding, waiver: Document | None) -> dict[str, Any]:
    """Return a finding as the API and the command line show it."""
    return {
        "id": str(finding.id),
        "check": finding.check,
        "severity": finding.severity,
        "rows": len(finding.keys),
        "evidence": finding.evidence,
        "repair": finding.repair,
        "proposals": [
            {name: value for name, value in proposal.items() if name != "keys"}
            | {"rows": len(proposal["keys"])}
            for proposal in finding.proposals
        ],
        "waived": {"by": waiver.author, **waiver.content} if waiver else None,
    }
