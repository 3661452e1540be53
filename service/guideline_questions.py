"""What experts ask whoever owns the guidelines, of one task or of all, and what they are answered."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, Select, func
from sqlalchemy import select as select_columns
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from service import experts, ledger, notices, projects
from service.clock import utcnow
from service.errors import Forbidden, Invalid, NotFound, WrongState
from service.tables import (
    AnnotationTask,
    Document,
    DocumentKind,
    GuidelineQuestion,
    NoticeKind,
    Project,
    Response,
    User,
)

MAX_CHARS = 4000
MAX_WAITING = 20  # of one expert, so that nobody's drown the others'
SHOWN = 20


def ask(
    session: Session, project: Project, user: User, text: str, *, task_id: UUID | None = None
) -> GuidelineQuestion:
    """Ask the guidelines' owner, of one task or of all; operators are told by a notice, without a word of it.

    Raises:
        Forbidden: this person did not join the project's experts.
        NotFound: the task is none that they are shown.
        Invalid: there is no text, or it is too long.
        WrongState: too many of theirs wait for an answer.
    """
    if project not in experts.projects_joined(session, user):
        raise Forbidden("only who joined the project's experts asks here")
    if task_id and task_id not in experts.shown_to(session, project, user, only=task_id):
        raise NotFound("task: you are not asked about it")
    mine = select_columns(func.count()).where(col(GuidelineQuestion.user_id) == user.id, *_waits(project))
    if session.execute(mine).scalar_one() >= MAX_WAITING:
        raise WrongState(f"{MAX_WAITING} of your questions wait for an answer")
    guidelines = projects.current(session, project.id, DocumentKind.GUIDELINES)
    asked = GuidelineQuestion(
        project_id=project.id,
        guidelines_id=guidelines.id,
        task_id=task_id,
        user_id=user.id,
        text=_checked("text", text),
    )
    session.add(asked)
    session.flush()
    told = {"event": "guideline_question", "question": str(asked.id), "owner": guidelines.author}
    about = {"task": str(task_id)} if task_id else {}
    notices.tell(session, project.id, NoticeKind.ALARM, [told | about])
    return asked


def answer(
    session: Session, question: GuidelineQuestion, text: str, *, user: User | None, actor: str
) -> None:
    """Answer a question, or correct an earlier answer; who asked sees it on the page of their work.

    Raises:
        Invalid: there is no text, or it is too long.
        WrongState: it was erased with the task that it was about.
    """
    if not question.text:
        raise WrongState("the question was erased with the task that it was about")
    question.answer, question.answered_at = _checked("answer", text), utcnow()
    question.answered_by = user.id if user else None
    session.add(question)
    ledger.append(
        session,
        actor=actor,
        action="guideline_question_answered",
        subject=str(question.id),
        project_id=question.project_id,
    )


def waiting(session: Session, project: Project) -> int:
    """Count the questions that nobody has answered."""
    return int(session.execute(select_columns(func.count()).where(*_waits(project))).scalar_one())


def told(session: Session, project: Project, *, only: User | None = None) -> list[dict[str, Any]]:
    """Tell of the newest questions, those without an answer first; of one expert, or of all."""
    by = [col(GuidelineQuestion.user_id) == only.id] if only else []
    is_answered = col(GuidelineQuestion.answer).is_not(None)
    rows = session.execute(
        _rows()
        .where(col(GuidelineQuestion.project_id) == project.id, *by)
        .where(col(GuidelineQuestion.text) != "")
        .order_by(is_answered, col(GuidelineQuestion.id).desc())
        .limit(SHOWN)
    )
    return [_told(row) for row in rows.mappings()]


def _rows() -> Select[Any]:
    answering = aliased(User)
    columns: tuple[Any, ...] = (
        GuidelineQuestion,
        col(User.name).label("by"),
        col(answering.name).label("answered_by"),
        col(Document.version).label("guidelines_version"),
        Response,
    )
    return (
        select_columns(*columns)
        .select_from(GuidelineQuestion)
        .join(User, col(GuidelineQuestion.user_id) == User.id)
        .join(Document, col(GuidelineQuestion.guidelines_id) == Document.id)
        .join(answering, col(GuidelineQuestion.answered_by) == answering.id, isouter=True)
        .join(AnnotationTask, col(GuidelineQuestion.task_id) == AnnotationTask.id, isouter=True)
        .join(Response, col(AnnotationTask.response_id) == Response.id, isouter=True)
    )


def _told(row: RowMapping) -> dict[str, Any]:
    asked, response = row["GuidelineQuestion"], row["Response"]
    return {
        "id": str(asked.id),
        "by": row["by"],
        "asked_at": asked.created_at,
        "guidelines_version": row["guidelines_version"],
        "task": str(asked.task_id) if asked.task_id else None,
        "about": response.messages[-1]["content"] if response else None,
        "text": asked.text,
        "answer": asked.answer,
        "answered_by": row["answered_by"],
        "answered_at": asked.answered_at,
    }


def _waits(project: Project) -> Sequence[Any]:
    question = GuidelineQuestion
    return (
        col(question.project_id) == project.id,
        col(question.answer).is_(None),
        col(question.text) != "",
    )


def _checked(name: str, text: str) -> str:
    if not text.strip():
        raise Invalid(f"{name}: write something")
    if len(text) > MAX_CHARS:
        raise Invalid(f"{name}: {len(text)} characters, {MAX_CHARS} are allowed")
    return text
