"""Beside the loop: keep a source, or a person, from experts and from the next set, until somebody lifts that."""

from uuid import UUID

from sqlmodel import Session, col, select

from service import ledger
from service.answers.quarantines import in_force
from service.clock import utcnow
from service.errors import AlreadyDecided, Invalid, NotFound
from service.secrets import Secrets
from service.tables import Project, Quarantine, Source, User


def impose(
    session: Session,
    project: Project,
    secrets: Secrets,
    *,
    user: User,
    reason: str,
    source: str | None = None,
    subject: str | None = None,
) -> Quarantine:
    """Put a source or a person into quarantine: what they send is kept and waits at intake.

    Raises:
        Invalid: both or neither are named, or there is no reason.
        NotFound: the project has no such source.
        AlreadyDecided: it is in quarantine.
    """
    if not reason.strip():
        raise Invalid("reason: say why")
    session.get_one(Project, project.id, with_for_update=True)
    if found := _find(session, project, source=source, subject=subject):
        by = session.get_one(User, found.user_id).name
        raise AlreadyDecided(f"{_name(session, found)}: {by} has put it into quarantine already")
    row = Quarantine(
        project_id=project.id,
        source_id=_source(session, project, source).id if source else None,
        subject=subject,
        reason=reason,
        user_id=user.id,
    )
    session.add(row)
    session.flush()
    _record(session, secrets, row, user, "quarantined")
    return row


def lift(
    session: Session, project: Project, secrets: Secrets, quarantine_id: UUID, *, user: User
) -> Quarantine:
    """Let a source or a person go: their flags are triaged, and the next set has their rows.

    Raises:
        NotFound: the project has no such quarantine.
        AlreadyDecided: it was lifted before.
    """
    found = session.get(Quarantine, quarantine_id, with_for_update=True)
    if found is None or found.project_id != project.id:
        raise NotFound(f"no quarantine {quarantine_id} here")
    if found.lifted_at:
        raise AlreadyDecided(
            f"{_name(session, found)}: the quarantine was lifted on {found.lifted_at.date()}"
        )
    found.lifted_at, found.lifted_by = utcnow(), user.id
    session.add(found)
    _record(session, secrets, found, user, "quarantine_lifted")
    return found


def find(
    session: Session, project: Project, *, source: str | None = None, subject: str | None = None
) -> Quarantine:
    """Return what keeps a source or a person in quarantine.

    Raises:
        Invalid: both or neither are named.
        NotFound: the project has no such source, or it is in no quarantine.
    """
    found = _find(session, project, source=source, subject=subject)
    if found is None:
        raise NotFound(f"{source or subject}: in no quarantine")
    return found


def _find(
    session: Session, project: Project, *, source: str | None, subject: str | None
) -> Quarantine | None:
    if bool(source) == bool(subject):
        raise Invalid("name a source, or a person as responses name them: one of the two")
    source_id = _source(session, project, source).id if source else None
    same = (
        row for row in in_force(session, project.id) if (row.source_id, row.subject) == (source_id, subject)
    )
    return next(same, None)


def _source(session: Session, project: Project, name: str) -> Source:
    found = session.exec(
        select(Source).where(Source.project_id == project.id, col(Source.name) == name)
    ).first()
    if found is None:
        raise NotFound(f"source: project {project.slug} has no source {name!r}")
    return found


def _name(session: Session, row: Quarantine) -> str:
    return session.get_one(Source, row.source_id).name if row.source_id else str(row.subject)


def _record(session: Session, secrets: Secrets, row: Quarantine, user: User, action: str) -> None:
    """Write it down; a person by digest alone, for the ledger outlives an erasure."""
    named = _name(session, row)
    ledger.append(
        session,
        actor=user.name,
        action=action,
        subject=named if row.source_id else secrets.salted(named),
        project_id=row.project_id,
        facts={"quarantine": str(row.id)},
    )
