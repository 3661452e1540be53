"""Settled answers that a change of the label schema puts in doubt."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select as select_columns
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from annotation.label_schema import doubt, from_json
from annotation.types import Answer
from service import projects
from service.settlements import IN_FORCE
from service.tables import AnnotationTask, Document, DocumentKind, Project, Response, Settlement, TaskState

SHOWN = 100


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A settled task, what it came to, and why that does not hold any more."""

    task: AnnotationTask
    answer: str
    why: str


def doubtful(session: Session, project: Project) -> list[Doubtful]:
    """Return the settled answers that today's label schema has to be asked for again, and that nobody is asked yet."""
    today = projects.current(session, project.id, DocumentKind.LABEL_SCHEMA)
    now = from_json(today.content)
    earlier = select(Document).where(
        Document.project_id == project.id,
        Document.kind == DocumentKind.LABEL_SCHEMA,
        Document.id != today.id,
    )
    found: list[Doubtful] = []
    for document in session.exec(earlier.order_by(col(Document.version))):
        then = from_json(document.content)
        # Most changes put nothing in doubt, and then nothing has to be read.
        gone = [label for label in then.labels if label not in now.labels]
        if gone or then.is_multi_label != now.is_multi_label:
            for settlement, task, text in session.execute(_settled_by(document)):
                answer = Answer(settlement.verdict, label=settlement.label, labels=tuple(settlement.labels))
                if why := doubt(answer, text, then=then, now=now):
                    said = ", ".join(settlement.labels) or settlement.label or text
                    found.append(Doubtful(task, said, why))
    return found


def describe(session: Session, project: Project) -> dict[str, Any]:
    """Return which questions are asked by today, and which settled answers have to be asked for again."""
    schema = projects.current(session, project.id, DocumentKind.LABEL_SCHEMA)
    guidelines = projects.current(session, project.id, DocumentKind.GUIDELINES)
    found = doubtful(session, project)
    return {
        "label_schema": schema.content,
        "version": schema.version,
        "sha256": schema.sha256,
        "guidelines_version": guidelines.version,
        "to_ask_again": len(found),
        "items": [{"task": str(one.task.id), "answer": one.answer, "why": one.why} for one in found[:SHOWN]],
    }


def is_superseded() -> Any:
    """Say of a task in a statement whether it was asked again, for any reason, and settled: the later answer holds."""
    again = aliased(AnnotationTask)
    is_later = again.rechecks_id == AnnotationTask.id
    return select(again.id).where(is_later, again.state == TaskState.SETTLED).exists()


def _settled_by(document: Document) -> Any:
    """Select what was settled by a schema and is not asked again."""
    again = aliased(AnnotationTask)
    is_asked = _asked_again(again).where(again.state != TaskState.WITHDRAWN).exists()
    return (
        select_columns(Settlement, AnnotationTask, col(Response.text))
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .where(
            col(AnnotationTask.schema_id) == document.id,
            ~is_asked,
            col(Response.erased_at).is_(None),
            IN_FORCE,
        )
        .order_by(col(Settlement.id))
    )


def _asked_again(again: Any) -> Any:
    return select(again.id).where(
        again.rechecks_id == AnnotationTask.id, again.schema_id != AnnotationTask.schema_id
    )
