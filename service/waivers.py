"""Waivers: a person's leave, with a reason and until a day, to go on in spite of what was found."""

from collections.abc import Mapping
from datetime import date, timedelta
from uuid import UUID

from sqlmodel import Session, col, select

from retrain.types import sha256_of
from service.clock import utcnow
from service.errors import Invalid
from service.tables import Document, DocumentKind, Evaluation, EvaluationState, Project, User

MAX_DAYS = 366
EFFORT = "effort"  # the gate's rule on the share of time that people spent on validation


def waive(
    session: Session,
    project: Project,
    name: str,
    about: Mapping[str, str],
    *,
    user: User,
    reason: str,
    until: date,
) -> Document:
    """Give leave under the name of what is waived; it holds until a day, and a later one takes its place.

    Raises:
        Invalid: there is no reason, or the day is past or more than a year away.
    """
    today = utcnow().date()
    if not reason.strip():
        raise Invalid("reason: say why")
    if not today <= until <= today + timedelta(days=MAX_DAYS):
        raise Invalid(f"until: a day between {today} and {today + timedelta(days=MAX_DAYS)}")
    content = {**about, "reason": reason, "until": until.isoformat()}
    earlier = select(Document).where(
        Document.project_id == project.id, Document.kind == DocumentKind.WAIVER, Document.name == name
    )
    newest = session.exec(earlier.order_by(col(Document.version).desc())).first()
    waiver = Document(
        project_id=project.id,
        kind=DocumentKind.WAIVER,
        name=name,
        version=newest.version + 1 if newest else 1,
        content=content,
        sha256=sha256_of(content),
        author=user.name,
    )
    session.add(waiver)
    return waiver


def in_force(session: Session, project_id: UUID, today: date) -> dict[str, Document]:
    """Return the waivers that hold on a day, by the name of what is waived; the newest one of a name counts."""
    of_project = select(Document).where(
        Document.project_id == project_id, Document.kind == DocumentKind.WAIVER
    )
    newest = {row.name: row for row in session.exec(of_project.order_by(col(Document.version)))}
    return {name: row for name, row in newest.items() if date.fromisoformat(row.content["until"]) >= today}


def lacks_effort_alone(evaluation: Evaluation) -> bool:
    """Tell whether the gate could not tell for no other reason than how people spent their time."""
    unmet = {reason["rule"] for reason in evaluation.reasons if not reason["met"]}
    return evaluation.state is EvaluationState.CANNOT_TELL and unmet == {EFFORT}


def effort_name(evaluation: Evaluation) -> str:
    """Return what a waiver of the time on validation names: also that of the same, judged again by the same."""
    return f"{EFFORT} {sha256_of([str(evaluation.model_version_id), evaluation.hashes])}"


def of_effort(session: Session, evaluation: Evaluation) -> Document | None:
    """Return the waiver that holds today of the time that people should have spent on validation."""
    if not lacks_effort_alone(evaluation):
        return None
    return in_force(session, evaluation.project_id, utcnow().date()).get(effort_name(evaluation))
