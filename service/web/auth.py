"""Who may call what: every route declares it, and nothing is open by default."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from flask import Response, g, request
from sqlalchemy import String, bindparam, cast, update
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, SQLModel, col, select

from service import people, projects, tokens
from service.api_keys import ORIGIN
from service.clock import utcnow
from service.errors import Forbidden, NotFound, Unauthenticated
from service.tables import ApiKey, KeyKind, Project, Role, User
from service.web import limits
from service.web.state import runtime

log = structlog.get_logger()
T = TypeVar("T", bound=SQLModel)
EXACT_TO = timedelta(minutes=1)
# Every request asks it, and to build a statement costs more than to ask it.
LIVE_KEY = (
    select(ApiKey, Project)
    .join(Project, col(ApiKey.project_id) == Project.id)
    .where(ApiKey.sha256 == bindparam("sha256"), col(ApiKey.revoked_at).is_(None))
)


class Access(StrEnum):
    """Who may call a route. A `HOST` holds a project's secret key, a `WIDGET` its public key or that.

    `PERSON` is anyone who has signed in, `READER` and what follows are roles, in the project that is meant; a
    `SUPPLIER` holds a secret key or is an operator.
    """

    ANYONE = "anyone"
    TOOL = "tool"
    WIDGET = "widget"
    HOST = "host"
    PERSON = "person"
    READER = "reader"
    SUPPLIER = "supplier"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"


PEOPLE: dict[Access, frozenset[Role]] = {
    Access.PERSON: frozenset(Role),
    Access.READER: frozenset({Role.AUDITOR, Role.OPERATOR, Role.APPROVER, Role.ADMIN}),
    Access.SUPPLIER: frozenset({Role.OPERATOR, Role.APPROVER, Role.ADMIN}),
    Access.OPERATOR: frozenset({Role.OPERATOR, Role.APPROVER, Role.ADMIN}),
    Access.APPROVER: frozenset({Role.APPROVER, Role.ADMIN}),
    Access.ADMIN: frozenset({Role.ADMIN}),
}
SCOPES = {
    Access.WIDGET: "feedback",
    Access.HOST: "host",
    Access.READER: "read",
    Access.SUPPLIER: "supply",
}
KEYS: dict[Access, frozenset[KeyKind]] = {
    Access.WIDGET: frozenset({KeyKind.PUBLIC, KeyKind.SECRET}),
    Access.HOST: frozenset({KeyKind.SECRET}),
    Access.READER: frozenset({KeyKind.SECRET}),
    Access.SUPPLIER: frozenset({KeyKind.SECRET}),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a person, or a program with a key for one project, or nobody in particular."""

    access: Access = Access.ANYONE
    user: User | None = None
    project: Project | None = None
    key: KeyKind | None = None
    key_id: UUID | None = None

    @property
    def name(self) -> str:
        """What the ledger calls them."""
        return self.user.name if self.user else "a secret key"

    @property
    def person(self) -> User:
        """Who calls, where only a person may decide.

        Raises:
            NotFound: it is a program with a key.
        """
        if self.user is None:
            raise NotFound("a key is no person")
        return self.user

    def of_project(self, session: Session, slug: str | None) -> Project:
        """Return the project meant: a key's own, or the one that a person names.

        Raises:
            NotFound: there is no such project.
            Forbidden: the key is for another project, or the person has no such role in it.
        """
        if self.project is None:
            if slug is None:
                raise NotFound("project: name one")
            found = projects.find(session, slug)
            self.check(session, found.id)
            return found
        if slug not in (None, self.project.slug):
            raise Forbidden(f"project: this key is not for {slug!r}")
        return self.project

    def row(self, session: Session, table: type[T], row_id: UUID) -> T:
        """Return a row of a project in which the caller may do this.

        Raises:
            NotFound: there is none, or it is not for this key.
            Forbidden: the person has no such role in its project.
        """
        row = session.get(table, row_id)
        project_id = getattr(row, "project_id", None)
        if row is None or (self.project and project_id != self.project.id):
            raise NotFound(f"no {table.__tablename__} {row_id}")
        self.check(session, project_id)
        return row

    def check(self, session: Session, project_id: UUID | None) -> None:
        """Make sure that a person's role in a project is one that the route is for.

        Raises:
            Forbidden: it is not.
        """
        if self.user:
            role = people.role_in(session, self.user, project_id) if project_id else self.user.role
            if role not in PEOPLE[self.access]:
                raise Forbidden(f"role {role} may not do this")
            g.project_id = project_id


def authenticate(session: Session, access: Access, *, body_key: str | None = None) -> Caller:
    """Find out who calls and whether they may; in which project, `Caller.of_project` and `check` say.

    Raises:
        Unauthenticated: there is no valid credential.
        Forbidden: the credential is valid, but not for this route.
    """
    if access in (Access.ANYONE, Access.TOOL):
        return Caller()
    secret = body_key or _bearer() or _query_key(access)
    if secret is None:
        raise Unauthenticated("send a key or token: Authorization: Bearer …")
    if access in PEOPLE and (user := people.user_of(session, secret)):
        if not people.roles_of(session, user) & PEOPLE[access]:
            raise Forbidden(f"role {user.role} may not do this")
        return Caller(access, user=user)
    return _program(session, access, secret)


def is_page_of_any_key(session: Session, origin: str) -> bool:
    """Say whether some public key is for this origin: a preflight does not tell which one is meant."""
    if not ORIGIN.fullmatch(origin):
        return False
    live = select(ApiKey.id).where(ApiKey.kind == KeyKind.PUBLIC, col(ApiKey.revoked_at).is_(None))
    named = live.where(cast(ApiKey.origins, String).contains(f'"{origin}"', autoescape=True))
    return session.exec(named.limit(1)).first() is not None


def note_use(response: Response) -> Response:
    """Write down, to the minute, when a key was last used; a request never fails by that."""
    key_id, before = g.pop("used_key", (None, None))
    now = utcnow()
    if key_id and (before is None or now - before > EXACT_TO):
        with suppress(OperationalError), runtime().db.transaction() as session:
            session.execute(update(ApiKey).where(col(ApiKey.id) == key_id).values(last_used_at=now))
    return response


def _program(session: Session, access: Access, secret: str) -> Caller:
    found = session.exec(LIVE_KEY, params={"sha256": tokens.hashed(secret)}).first()
    if found is None:
        raise Unauthenticated("the key or token is unknown or revoked")
    key, project = found
    if key.kind not in KEYS.get(access, frozenset()):
        raise Forbidden(f"a {key.kind} key may not do this")
    if key.scopes and SCOPES[access] not in key.scopes:
        raise Forbidden(f"this key is only for {', '.join(key.scopes)}")
    _check_origin(key, request.headers.get("Origin"))
    if key.kind is KeyKind.PUBLIC:
        limits.count_key(key.id)
    g.used_key = key.id, key.last_used_at
    return Caller(access, project=project, key=key.kind, key_id=key.id)


def _check_origin(key: ApiKey, origin: str | None) -> None:
    if key.kind is KeyKind.SECRET and origin:
        log.warning("secret_key_used_from_page", project_id=str(key.project_id), key_id=str(key.id))
        raise Forbidden("a secret key that a page knows is none: revoke it, and give the page a public one")
    is_meant = origin in key.origins if key.origins else origin is None or _is_own(origin)
    if not is_meant:
        raise Forbidden(f"key: not for pages of {origin}; name that origin when you make a key")
    g.origin = origin


def _is_own(origin: str) -> bool:
    """Say whether a page is one of ours: the console's widget needs no origin."""
    return origin == runtime().settings.own_url or urlsplit(origin).netloc == request.host


def _query_key(access: Access) -> str | None:
    """Return the key of who can send no header; a secret one is refused there, since URLs end up in logs."""
    key = request.args.get("key") if access is Access.WIDGET and request.method == "GET" else None
    return key if key and key.startswith("epk_") else None


def _bearer() -> str | None:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" and secret.strip() else None
