"""What was received so far, found by the names that its senders gave it."""

from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import bindparam, func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from service.client import signing
from service.errors import NotFound
from service.tables import Feedback, Outcome, Project, Response, Signal

T = TypeVar("T", Feedback, Signal, Outcome)
# Built once, for each flag asks them, and to build a statement costs more than to ask it.
OF_EVENT: dict[Any, Any] = {
    table: select(table).where(
        col(table.project_id) == bindparam("project_id"), col(table.event_id) == bindparam("event_id")
    )
    for table in (Feedback, Signal, Outcome)
}
BY_EXTERNAL_ID = select(Response).where(
    Response.project_id == bindparam("project_id"), Response.external_id == bindparam("external_id")
)
STANDING = (
    select(Feedback)
    .where(
        Feedback.project_id == bindparam("project_id"),
        col(Feedback.subject).is_not_distinct_from(bindparam("subject")),
        col(Feedback.withdrawn_at).is_(None),
        col(Feedback.is_trusted),
    )
    .order_by(col(Feedback.id).desc())
)
STANDING_ON = STANDING.where(col(Feedback.response_id) == bindparam("response_id"))
STANDING_PARKED = STANDING.where(
    Feedback.response_ref == bindparam("ref"), col(Feedback.response_id).is_(None)
)


def find_response(session: Session, project: Project, ref: str) -> Response | None:
    """Return the project's response by our id or by the host's external one.

    Raises:
        NotFound: it was erased.
    """
    own_id = _own_id(ref)
    found = session.get(Response, own_id) if own_id else None
    if found and found.project_id == project.id:
        if found.erased_at:
            raise NotFound(f"response_id: response {ref} was erased")
        return found
    return by_external_id(session, project, ref)


def word_of(
    session: Session, project: Project, subject: str | None, ref: str, response: Response | None
) -> Feedback | None:
    """Return the word of a subject, or of nobody in particular, on a response that counts."""
    about = {"response_id": response.id} if response else {"ref": ref}
    said = {"project_id": project.id, "subject": subject, **about}
    return session.exec(STANDING_ON if response else STANDING_PARKED, params=said).first()


def text_sha256_of(response: Response) -> str:
    """Return what feedback tokens say of a response's text, as it was when it was answered."""
    return response.text_sha256 or signing.text_sha256(response.text)


def take_turns(session: Session, *names: str) -> None:
    """Let requests about the same thing wait for each other; on SQLite there is one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        for name in names:
            session.execute(select_columns(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


def of_event(session: Session, table: type[T], project: Project, event_id: UUID) -> T | None:
    """Return what was recorded under an id that its sender made."""
    named = {"project_id": project.id, "event_id": event_id}
    found: T | None = session.exec(OF_EVENT[table], params=named).first()
    return found


def by_external_id(session: Session, project: Project, external_id: str) -> Response | None:
    """Return the project's response by the host's own id."""
    named = {"project_id": project.id, "external_id": external_id}
    return session.exec(BY_EXTERNAL_ID, params=named).first()


def _own_id(ref: str) -> UUID | None:
    try:
        found = UUID(ref)
    except ValueError:
        return None
    return found if str(found) == ref.lower() else None
