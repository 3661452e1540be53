"""API keys of a project, made and revoked, the one of the console's own widget, and the keys that sign its tokens."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func
from sqlmodel import Session, select

from service import ledger, tokens
from service.clock import utcnow
from service.errors import Invalid
from service.projects import PLAYGROUND
from service.secrets import Secrets
from service.tables import ApiKey, KeyKind, Project
from service.tables.project import first_token_key

SCOPES = ("feedback", "host", "read", "supply")
ORIGIN = re.compile(r"https?://[a-z0-9.\[\]:-]+")


def add(
    session: Session,
    project: Project,
    kind: KeyKind,
    origins: Iterable[str],
    *,
    actor: str,
    name: str = "",
    scopes: Sequence[str] = (),
) -> str:
    """Make an API key and return it; only its hash is kept, so it cannot be shown again.

    Without a name it is numbered, for who is to revoke one must tell it from the others. A public key without origins
    is for no page but this installation's own; a secret one without scopes may do all that secret keys may.

    Raises:
        Invalid: an origin or scope is none.
    """
    origins = [origin.strip().rstrip("/") for origin in origins]
    if wrong := next((origin for origin in origins if not ORIGIN.fullmatch(origin)), None):
        raise Invalid(f"origins: {wrong!r} is no origin; write https://host, in small letters")
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise Invalid(f"scopes: {unknown[0]!r} is none of {', '.join(SCOPES)}")
    if scopes and kind is KeyKind.PUBLIC:
        raise Invalid("scopes: a public key gives feedback, and does nothing else")
    secret = tokens.new_secret("esk" if kind is KeyKind.SECRET else "epk")
    made = session.exec(select(func.count()).where(ApiKey.project_id == project.id)).one()
    name = name or f"{kind} key {made + 1}"
    _keep(session, project, secret, kind, origins=origins, scopes=scopes, actor=actor, name=name)
    return secret


def of_playground(keys: Secrets, project_id: UUID) -> str:
    """Return the public key of the console's own widget, which is made again rather than kept."""
    return tokens.derived("epk", f"playground:{project_id}", keys)


def ensure_of_playground(session: Session, project: Project, keys: Secrets) -> None:
    """Let the console's own widget give feedback; once revoked it stays so."""
    secret = of_playground(keys, project.id)
    known = select(ApiKey.id).where(ApiKey.sha256 == tokens.hashed(secret))
    if session.exec(known).first() is None:
        _keep(
            session, project, secret, KeyKind.PUBLIC, origins=(), scopes=(), actor="console", name=PLAYGROUND
        )


def token_keys(project: Project, keys: Secrets, *, now: float) -> dict[str, str]:
    """Return the keys that sign a project's feedback tokens and hold now, by their ids."""
    holding = (each["kid"] for each in project.token_keys if each["until"] is None or each["until"] >= now)
    return {kid: tokens.signing_key(project.slug, kid, keys) for kid in holding}


def rotate(
    session: Session, project: Project, keys: Secrets, *, overlap: timedelta, now: datetime, actor: str
) -> str:
    """Sign with a fresh key from now on and return it, for the host's backend; earlier ones hold for the overlap.

    Raises:
        Invalid: the overlap is negative.
    """
    if overlap < timedelta():
        raise Invalid("overlap: tokens cannot end before now")
    end = (now + overlap).timestamp()
    earlier = [each | {"until": min(end, each["until"] or end)} for each in project.token_keys]
    fresh = first_token_key()
    project.token_keys = fresh + [each for each in earlier if each["until"] > now.timestamp()]
    session.add(project)
    (key,) = fresh
    ledger.append(
        session,
        actor=actor,
        action="token_key_rotated",
        subject=key["kid"],
        project_id=project.id,
        facts={"until": end},
    )
    return tokens.signing_key(project.slug, key["kid"], keys)


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
    scopes: Iterable[str],
    actor: str,
    name: str,
) -> None:
    session.add(
        ApiKey(
            project_id=project.id,
            kind=kind,
            name=name,
            sha256=tokens.hashed(secret),
            origins=list(origins),
            scopes=list(scopes),
        )
    )
    ledger.append(session, actor=actor, action="key_added", subject=name, project_id=project.id)
