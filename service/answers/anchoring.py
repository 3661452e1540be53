"""How far suggestions sway a project's experts."""

from uuid import UUID

from sqlalchemy import select as select_columns
from sqlmodel import Session, col

from annotation.suggestions import Anchoring, agrees, anchoring
from annotation.types import Answer
from service.answers.overview import newest_tasks
from service.tables import Annotation, AnnotationTask, Project, Response


def anchoring_of(session: Session, project: Project) -> Anchoring | None:
    """Compare the first answer to each of the newest tasks with its suggestion, shown or not shown.

    One answer a task, since those to one task are not independent of each other.
    """
    tasks = newest_tasks(project)
    rows = session.execute(
        select_columns(
            col(AnnotationTask.id),
            col(AnnotationTask.is_blind),
            col(AnnotationTask.suggestion),
            col(Response.text),
            *(
                col(c)
                for c in (Annotation.verdict, Annotation.label, Annotation.labels, Annotation.correction)
            ),
        )
        .join(tasks, col(AnnotationTask.id) == tasks.c.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .join(Annotation, col(Annotation.task_id) == AnnotationTask.id)
        .where(col(AnnotationTask.is_blind).is_not(None), col(Annotation.verdict).is_not(None))
        .where(col(Response.erased_at).is_(None), col(Annotation.withdrawn_at).is_(None))
        .order_by(col(Annotation.revised_at).desc(), col(Annotation.id).desc())
    )
    first: dict[UUID, tuple[bool, bool]] = {}
    for task_id, was_blind, suggestion, text, verdict, label, labels, correction in rows:
        answer = Answer(verdict, label=label, labels=tuple(labels), correction=correction)
        if suggestion and (agreed := agrees(answer, suggestion, text)) is not None:
            first[task_id] = (was_blind, agreed)
    return anchoring(first.values())
