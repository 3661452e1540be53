"""API keys of a project: made, revoked, and the one of the console's own widget."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import func
from sqlmodel import Session, select

from service import ledger, tokens
from service.clock import utcnow
from service.projects import PLAYGROUND
from service.secrets import Secrets
from service.tables import ApiKey, KeyKind, Project


def add(
    session: Session, project: Project, kind: KeyKind, origins: Iterable[str], *, actor: str, name: str = ""
) -> str:
    """Make an API key and return it; only its hash is kept, so it cannot be shown again.

    Without a name it is numbered, for who is to revoke one must tell it from the others.
    """
    secret = tokens.new_secret("esk" if kind is KeyKind.SECRET else "epk")
    made = session.exec(select(func.count()).where(ApiKey.project_id == project.id)).one()
    name = name or f"{kind} key {made + 1}"
    _keep(session, project, secret, kind, origins=origins, actor=actor, name=name)
    return secret


def of_playground(keys: Secrets, project_id: UUID) -> str:
    """Return the public key of the console's own widget, which is made again rather than kept."""
    return tokens.derived("epk", f"playground:{project_id}", keys)


def ensure_of_playground(session: Session, project: Project, keys: Secrets) -> None:
    """Let the console's own widget give feedback; once revoked it stays so."""
    secret = of_playground(keys, project.id)
    known = select(ApiKey.id).where(ApiKey.sha256 == tokens.hashed(secret))
    if session.exec(known).first() is None:
        _keep(session, project, secret, KeyKind.PUBLIC, origins=(), actor="console", name=PLAYGROUND)


def revoke(session: Session, key: ApiKey, *, actor: str) -> None:
    """Let a key open nothing from now on."""
    key.revoked_at = key.revoked_at or utcnow()
    session.add(key)
    ledger.append(
        session,
        actor=actor,
        action="key_revoked",
        subject=key.name,
        project_id=key.project_id,
    )


def _keep(
    session: Session,
    project: Project,
    secret: str,
    kind: KeyKind,
    *,
    origins: Iterable[str],
    actor: str,
    name: str,
) -> None:
    hashed = tokens.hashed(secret)
    session.add(ApiKey(project_id=project.id, kind=kind, name=name, sha256=hashed, origins=list(origins)))
    ledger.append(session, actor=actor, action="key_added", subject=name, project_id=project.id)
