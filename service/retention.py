"""How long a project keeps people's words: what is due is erased as a person is, and a legal hold wins."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, exists, select

from service import projects, rights
from service.answers.erasures import is_of
from service.db import Database
from service.errors import Invalid
from service.queue import JobQueue
from service.tables import (
    AnnotationTask,
    Document,
    DocumentKind,
    Erasure,
    Feedback,
    Job,
    JobKind,
    Project,
    ProjectKind,
    Response,
    Settlement,
    Source,
    SuiteCandidate,
    TaskState,
    TrainingSetExample,
)

ACTOR = "retention"
EVERY = timedelta(days=1)
MOST, MAX_DAYS = 1000, 36_500
OPEN = (TaskState.SELECTED, TaskState.SENT, TaskState.CONTESTED)
KINDS: dict[str, str] = {
    "responses": "answers that nobody said anything about and no expert saw",
    "feedback": "answers that somebody flagged or judged, with what was said, and in no set",
    "corpus": "rows of a corpus that are in no set",
    "taught": "whatever a set holds: it loses the rows, and a model that learned them is marked",
}
# Two years for what serves nothing any more; the rest until a project says for how long.
DEFAULT: dict[str, int | None] = {"responses": 730, "feedback": None, "corpus": None, "taught": None}


def set_retention(session: Session, project: Project, content: Any, *, actor: str) -> Document:
    """Say for how many days each kind is kept; null is for ever, and so is a kind left out.

    Raises:
        Invalid: a kind or a number cannot be used.
    """
    if not isinstance(content, dict):
        raise Invalid("retention: an object of days by kind is needed")
    for name, days in content.items():
        if name not in KINDS:
            raise Invalid(f"retention: there is no kind {name!r}, but {', '.join(KINDS)}")
        is_days = isinstance(days, int) and not isinstance(days, bool) and 1 <= days <= MAX_DAYS
        if days is not None and not is_days:
            raise Invalid(f"retention: {name} is kept for 1 to {MAX_DAYS} days or null, not {days!r}")
    told = dict.fromkeys(KINDS) | content
    return projects.add_document(session, project, DocumentKind.RETENTION, told, actor=actor)


def days_of(session: Session, project: Project) -> dict[str, int | None]:
    """Return for how many days each kind is kept, by the newest version or by default."""
    found = projects.document(session, project.id, DocumentKind.RETENTION)
    return found.content if found else DEFAULT


def due(session: Session, project: Project, *, now: datetime) -> list[UUID]:
    """Return responses that are to be kept no longer, oldest first, not all at once.

    What experts are being asked about waits until they are done, and what a person under a legal hold asked or
    judged until it is lifted.
    """
    held = [is_of(str(row.subject), project.id) for row in rights.holds(session, project)]
    of_response = col(Feedback.response_id) == Response.id
    in_use = exists().where(
        col(AnnotationTask.response_id) == Response.id, col(AnnotationTask.state).in_(OPEN)
    )
    kept = [~in_use, *(col(Response.id).not_in(select(Response.id).where(each)) for each in held)]
    kept += [
        ~exists().where(of_response, col(Feedback.subject) == row.subject)
        for row in rights.holds(session, project)
    ]
    found: list[UUID] = []
    for kind, days in days_of(session, project).items():
        if days is None:
            continue
        before = now - timedelta(days=days)
        newer = exists().where(of_response, col(Feedback.created_at) >= before)
        rows = select(Response.id).where(
            Response.project_id == project.id,
            col(Response.erased_at).is_(None),
            col(Response.copy_of_id).is_(None),
            col(Response.created_at) < before,
            ~newer,
            _is(kind),
            *kept,
        )
        found += session.exec(rows.order_by(col(Response.id)).limit(MOST - len(found))).all()
    return found


def ask_due(db: Database, queue: JobQueue, *, now: datetime) -> list[UUID]:
    """Ask for what is due to be erased, once a day in each project, or again at once where more is left."""
    with db.reading() as session:
        asked = session.exec(select(Project).where(Project.kind != ProjectKind.COMPARISON)).all()
        wanted = [each for each in asked if _is_time(session, each, now) and due(session, each, now=now)]
    jobs = []
    for project in wanted:
        with db.transaction() as session:
            wish = Erasure(project_id=project.id, salted=ACTOR, actor=ACTOR)
            session.add(wish)
            session.flush()
            key = f"{JobKind.ERASE}:{wish.id}"
            job = queue.ask(
                session, JobKind.ERASE, wish.id, project_id=project.id, unique_key=key, actor=ACTOR
            )
            session.get_one(Job, job).max_attempts = rights.ATTEMPTS
            jobs.append(job)
    return jobs


def _is_time(session: Session, project: Project, now: datetime) -> bool:
    last = session.exec(
        select(Erasure)
        .where(Erasure.project_id == project.id, Erasure.salted == ACTOR)
        .order_by(col(Erasure.id).desc())
        .limit(1)
    ).first()
    has_more = last is not None and bool(last.certificate) and last.counts.get("responses", 0) >= MOST
    return last is None or last.created_at <= now - EVERY or has_more


def _is(kind: str) -> Any:
    """Say which responses are of a kind; each is of one."""
    in_set = exists().where(
        col(TrainingSetExample.settlement_id) == Settlement.id,
        col(Settlement.task_id) == AnnotationTask.id,
        col(AnnotationTask.response_id) == Response.id,
    )
    of_corpus = col(Response.source_id).in_(select(Source.id).where(col(Source.is_corpus).is_(True)))
    is_said = (
        exists().where(col(Feedback.response_id) == Response.id)
        | exists().where(col(AnnotationTask.response_id) == Response.id)
        | exists().where(col(SuiteCandidate.response_id) == Response.id)
    )
    return {
        "taught": in_set,
        "corpus": ~in_set & of_corpus,
        "feedback": ~in_set & ~of_corpus & is_said,
        "responses": ~of_corpus & ~is_said,
    }[kind]
