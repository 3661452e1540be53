"""Which metrics tell what a project's users complain about, and whether success asks for them."""

from collections import Counter
from dataclasses import dataclass

from sqlmodel import Session, col, select

from service import projects
from service.answers.monitors import is_flag
from service.tables import Document, DocumentKind, Feedback, Project

LOOKED_AT = 1000  # of the newest feedback, for a page's cost must not grow with it


@dataclass(frozen=True, slots=True)
class Complaint:
    """A metric that reasons of users feed, by how many of the newest flags, and whether a criterion names it."""

    metric: str
    flags: int
    is_asked: bool


def complaints(session: Session, project: Project) -> list[Complaint]:
    """Return the metrics that the reasons of the newest flags feed, as their taxonomy said then, the most fed first."""
    newest = select(Feedback.id).where(Feedback.project_id == project.id)
    looked_at = newest.order_by(col(Feedback.id).desc()).limit(LOOKED_AT).subquery()
    flags = select(Document, Feedback.reasons).join(Feedback, col(Feedback.reasons_id) == Document.id)
    given = session.exec(flags.join(looked_at, looked_at.c.id == Feedback.id).where(*is_flag()))
    fed = Counter(
        metric
        for taxonomy, codes in given
        for metric in {taxonomy.content.get(code, {}).get("metric") for code in codes} - {None}
    )
    criteria = projects.document(session, project.id, DocumentKind.CRITERIA)
    asked = {one["metric"] for one in criteria.content["criteria"]} if criteria else set()
    return [
        Complaint(metric, flags, metric in asked)
        for metric, flags in sorted(fed.items(), key=lambda one: (-one[1], one[0]))
    ]
