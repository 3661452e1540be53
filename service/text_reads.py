"""Who read what end users said: noted once a day for each person and row, before the page is sent."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from service.answers.erasures import is_of, of_subject
from service.db import Database
from service.tables import (
    AnnotationTask,
    Feedback,
    Project,
    Response,
    Settlement,
    TextRead,
    TrainingSetExample,
    User,
)

SHOWN = 50


def note(
    db: Database, *, user_id: UUID, project_id: UUID, page: str, row_id: UUID | None, now: datetime
) -> None:
    """Note that somebody reads a page, in a transaction of its own, for pages are read in one that cannot write."""
    facts: dict[str, Any] = {
        "user_id": user_id,
        "page": page,
        "row_id": row_id or project_id,
        "day": now.date(),
    }
    with db.reading() as session:
        if session.exec(select(TextRead.id).filter_by(**facts)).first():
            return
    try:
        with db.transaction() as session:
            session.add(TextRead(project_id=project_id, **facts))
    except IntegrityError:  # in another tab at the same moment
        return


def newest(session: Session, project: Project) -> list[dict[str, Any]]:
    """Return who read what of late, newest first."""
    of_project = _told().where(TextRead.project_id == project.id)
    return _described(session, of_project.order_by(col(TextRead.id).desc()).limit(SHOWN))


def of_person(session: Session, subject: str, project: Project | None) -> list[dict[str, Any]]:
    """Return who read pages about a person's own words, oldest first; lists are not among these.

    They are pages about what they asked or said, about the tasks that came of it, and about sets that hold it.
    """
    project_id = project.id if project else None
    asked = select(Response.id).where(is_of(subject, project_id))
    said = select(Feedback.id).where(
        of_subject(Feedback, subject, project_id) | col(Feedback.response_id).in_(asked)
    )
    tasks = select(AnnotationTask.id).where(col(AnnotationTask.response_id).in_(asked))
    sets = (
        select(TrainingSetExample.training_set_id)
        .join(Settlement, col(Settlement.id) == TrainingSetExample.settlement_id)
        .where(col(Settlement.task_id).in_(tasks))
    )
    about = [col(TextRead.row_id).in_(ids) for ids in (asked, said, tasks, sets)]
    found = _told().where(about[0] | about[1] | about[2] | about[3])
    return _described(session, found.order_by(col(TextRead.id)))


def _told() -> Any:
    return select(TextRead, User.name).join(User, col(User.id) == TextRead.user_id)


def _described(session: Session, found: Any) -> list[dict[str, Any]]:
    return [
        {
            "who": name,
            "page": read.page,
            "row": None if read.row_id == read.project_id else str(read.row_id),
            "day": read.day.isoformat(),
        }
        for read, name in session.exec(found)
    ]
