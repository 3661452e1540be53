"""Who may call what: every route declares it, and nothing is open by default."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

import structlog
from flask import g, request
from sqlmodel import Session, SQLModel, col, select

from service import people, projects, tokens
from service.errors import Forbidden, NotFound, Unauthenticated
from service.tables import ApiKey, KeyKind, Project, Role, User

log = structlog.get_logger()
T = TypeVar("T", bound=SQLModel)


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
    secret = body_key or _bearer()
    if secret is None:
        raise Unauthenticated("send a key or token: Authorization: Bearer …")
    if access in PEOPLE and (user := people.user_of(session, secret)):
        if not people.roles_of(session, user) & PEOPLE[access]:
            raise Forbidden(f"role {user.role} may not do this")
        return Caller(access, user=user)
    return _program(session, access, secret)


def is_page_of_any_key(session: Session, origin: str) -> bool:
    """Say whether some public key is for this origin: a preflight does not tell which one is meant."""
    live = select(ApiKey.origins).where(ApiKey.kind == KeyKind.PUBLIC, col(ApiKey.revoked_at).is_(None))
    return any(not origins or origin in origins for origins in session.exec(live))


def _program(session: Session, access: Access, secret: str) -> Caller:
    found = session.exec(
        select(ApiKey, Project)
        .join(Project, col(ApiKey.project_id) == Project.id)
        .where(ApiKey.sha256 == tokens.hashed(secret), col(ApiKey.revoked_at).is_(None))
    ).first()
    if found is None:
        raise Unauthenticated("the key or token is unknown or revoked")
    key, project = found
    if key.kind not in KEYS.get(access, frozenset()):
        raise Forbidden(f"a {key.kind} key may not do this")
    _check_origin(key, request.headers.get("Origin"))
    return Caller(access, project=project, key=key.kind)


def _check_origin(key: ApiKey, origin: str | None) -> None:
    if key.kind is KeyKind.SECRET and origin:
        log.warning("secret_key_used_from_page", project_id=str(key.project_id), key_id=str(key.id))
        raise Forbidden("a secret key that a page knows is none: revoke it, and give the page a public one")
    if key.origins and origin not in key.origins:
        raise Forbidden(f"key: not for pages of {origin}")
    g.origin = origin


def _bearer() -> str | None:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" and secret.strip() else None
