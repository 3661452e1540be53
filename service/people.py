"""People: their names, roles, passwords, tokens, one-time links, and the browsers they are signed in with.

A single sign-on ends where a password does: with `sign_in`, for a `User` whose identity somebody vouches for.
"""

from datetime import timedelta
from functools import cache
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlmodel import Session, col, select

from retrain.amounts import how_many
from service import ledger, tokens
from service.clock import utcnow
from service.errors import AlreadyExists, Forbidden, Invalid, NotFound, WrongState
from service.tables import Membership, Project, Role, User, UserSession, UserToken

LINK_HOURS, JOIN_HOURS = 24, 24 * 7
MIN_PASSWORD, MAX_PASSWORD, MIN_DIFFERENT = 12, 200, 6
PASSWORD_RULE = (
    f"At least {MIN_PASSWORD} characters, {MIN_DIFFERENT} of them different, and your name not among them; a few words"
    " that you can remember do best."
)
APPROVERS = (Role.APPROVER, Role.ADMIN)
SEEN_EVERY_SECONDS = 60  # a page does not write each time that it is looked at

_hasher = PasswordHasher()


def add_user(session: Session, name: str, role: Role, *, actor: str) -> tuple[User, str]:
    """Add a person and return them with the secret of their one-time sign-in link.

    Raises:
        AlreadyExists: the name is taken.
    """
    if session.exec(select(User).where(User.name == name)).first():
        raise AlreadyExists(f"there is a user {name!r} already")
    user = User(name=name, role=role)
    session.add(user)
    session.flush()
    ledger.append(session, actor=actor, action="user_added", subject=name, facts={"role": role.value})
    return user, _new_link(session, user)


def invite(session: Session, name: str, role: Role, *, project: Project | None, actor: str) -> str:
    """Add a person with a role everywhere, or in one project only, and return the secret of their link.

    Raises:
        AlreadyExists: the name is taken.
    """
    user, secret = add_user(session, name, Role.ANNOTATOR if project else role, actor=actor)
    if project:
        set_role(session, user, role, project=project, actor=actor)
    return secret


def find(session: Session, name: str) -> User:
    """Return the person of this name.

    Raises:
        NotFound: there is none.
    """
    user = session.exec(select(User).where(User.name == name)).first()
    if user is None:
        raise NotFound(f"no user {name!r}")
    return user


def invite_again(session: Session, user: User, *, joins: Project | None = None, actor: str) -> str:
    """Return the secret of a fresh link, for someone whose link ran out or who forgot their password.

    Links made for them before open nothing any more. With it they sign in, or first join a project's experts.
    """
    for earlier in session.exec(
        select(UserToken).where(UserToken.user_id == user.id, col(UserToken.is_sign_in_link).is_(True))
    ):
        earlier.revoked_at = earlier.revoked_at or utcnow()
    ledger.append(session, actor=actor, action="link_added", subject=user.name)
    return _new_link(session, user, joins=joins)


def add_token(session: Session, name: str, *, actor: str) -> str:
    """Make a bearer token for a person and return it; only its hash is kept.

    Raises:
        NotFound: there is no such person.
    """
    user = find(session, name)
    secret = tokens.new_secret("eut")
    session.add(UserToken(user_id=user.id, sha256=tokens.hashed(secret)))
    ledger.append(session, actor=actor, action="token_added", subject=name)
    return secret


def user_of(
    session: Session, secret: str, *, is_sign_in_link: bool = False, is_to_join: bool = False
) -> User | None:
    """Return whom a live token, an unused sign-in link or an unused link to join a project belongs to."""
    joins = col(UserToken.joins_id)
    found = session.exec(
        select(User, UserToken)
        .where(UserToken.user_id == User.id, UserToken.sha256 == tokens.hashed(secret))
        .where(UserToken.is_sign_in_link == is_sign_in_link, col(UserToken.revoked_at).is_(None))
        .where(joins.is_not(None) if is_to_join else joins.is_(None))
        .where(col(UserToken.used_at).is_(None), col(User.disabled_at).is_(None))
    ).first()
    if found is None or (found[1].expires_at and found[1].expires_at < utcnow()):
        return None
    return found[0]


def use_link(session: Session, secret: str, *, is_to_join: bool = False) -> User | None:
    """Use up a one-time link and return whose it was; a password that they forgot is gone with it."""
    user = user_of(session, secret, is_sign_in_link=True, is_to_join=is_to_join)
    if user:
        # Locked, so that of two who hold it one comes in.
        link = select(UserToken).where(
            UserToken.sha256 == tokens.hashed(secret), col(UserToken.used_at).is_(None)
        )
        found = session.exec(link.with_for_update()).first()
        if found is None:
            return None
        found.used_at = utcnow()
        session.get_one(User, user.id).password = None
    return user


def role_in(session: Session, user: User, project_id: UUID) -> Role:
    """Return what a person may do in a project."""
    own = select(Membership.role).where(Membership.user_id == user.id, Membership.project_id == project_id)
    return Role(session.exec(own).first() or user.role)


def second_approver(session: Session, project_id: UUID, first: User | None, token: str) -> User | None:
    """Return whose token that is, if they may approve in the project and are another person than `first`."""
    second = user_of(session, token) if first and token else None
    if first is None or second is None or second.id == first.id:
        return None
    return second if role_in(session, second, project_id) in APPROVERS else None


def roles_of(session: Session, user: User) -> set[Role]:
    """Return every role that a person has anywhere."""
    return {user.role, *session.exec(select(Membership.role).where(Membership.user_id == user.id))}


def set_role(session: Session, user: User, role: Role, *, project: Project | None, actor: str) -> None:
    """Say what a person may do: in one project, or in all that give them no other role.

    Raises:
        WrongState: nobody would be left who may do everything.
    """
    if project is None:
        _keep_an_admin(session, user, stays=role is Role.ADMIN)
        user.role = role
        session.add(user)
    else:
        own = select(Membership).where(Membership.user_id == user.id, Membership.project_id == project.id)
        membership = session.exec(own).first() or Membership(
            user_id=user.id, project_id=project.id, role=role
        )
        membership.role = role
        session.add(membership)
    ledger.append(
        session,
        actor=actor,
        action="role_set",
        subject=user.name,
        project_id=project.id if project else None,
        facts={"role": role.value},
    )


def disable(session: Session, user: User, *, actor: str) -> None:
    """Keep a person out from now on; what they did stays under their name.

    Raises:
        WrongState: nobody would be left who may do everything.
    """
    _keep_an_admin(session, user, stays=False)
    user.disabled_at = user.disabled_at or utcnow()
    session.add(user)
    ledger.append(session, actor=actor, action="user_disabled", subject=user.name)


def set_password(session: Session, user: User, password: str, *, here: UserSession | None = None) -> None:
    """Let a person sign in with a password from now on; all their browsers but this one are signed out.

    Raises:
        Invalid: it breaks `PASSWORD_RULE`, or is too long.
    """
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise Invalid(
            f"password: it has {how_many(len(password), 'character')}, not {MIN_PASSWORD} to {MAX_PASSWORD}"
        )
    if user.name.casefold() in password.casefold():
        raise Invalid("password: your name is in it, which anybody would try")
    if (different := len(set(password))) < MIN_DIFFERENT:
        raise Invalid(f"password: it has {how_many(different, 'different character')}, not {MIN_DIFFERENT}")
    user.password = _hasher.hash(password)
    session.add(user)
    for browser in open_sessions(session, user):
        if here is None or browser.id != here.id:
            sign_out(session, browser, actor=user.name)
    ledger.append(session, actor=user.name, action="password_set", subject=user.name)


def is_password(user: User | None, password: str) -> bool:
    """Say whether this is the person's password; it takes as long when there is no such person."""
    try:
        return _hasher.verify((user.password if user else None) or _nobodys_hash(), password)
    except VerificationError:
        return False


def with_password(session: Session, name: str, password: str) -> User:
    """Return who signs in with a name and a password.

    Raises:
        Forbidden: they do not belong together; it is not said which of the two is wrong.
    """
    user = session.exec(select(User).where(User.name == name, col(User.disabled_at).is_(None))).first()
    if not is_password(user, password) or user is None:
        raise Forbidden("password: name and password do not belong together")
    return user


def confirm(user: User, password: str) -> None:
    """Make sure that it is still the person themselves who sits there.

    Raises:
        WrongState: they have no password yet.
        Forbidden: it is not their password.
    """
    if user.password is None:
        raise WrongState("password: choose one first, under your name at the top")
    if not is_password(user, password):
        raise Forbidden("password: this is not yours")


def sign_in(session: Session, user: User, *, browser: str, hours: float) -> str:
    """Remember a browser for some hours and return the secret that it keeps in its cookie."""
    secret = tokens.new_secret("ess")
    now = utcnow()
    session.add(
        UserSession(
            user_id=user.id,
            sha256=tokens.hashed(secret),
            browser=browser[:200],
            last_seen_at=now,
            expires_at=now + timedelta(hours=hours),
        )
    )
    ledger.append(session, actor=user.name, action="signed_in", subject=user.name)
    return secret


def signed_in(session: Session, secret: str, *, idle_minutes: float) -> tuple[User, UserSession] | None:
    """Return who sits before a browser, or None when it is signed out, idle for too long or too old."""
    now = utcnow()
    return session.exec(
        select(User, UserSession)
        .where(UserSession.user_id == User.id, UserSession.sha256 == tokens.hashed(secret))
        .where(col(UserSession.revoked_at).is_(None), UserSession.expires_at > now)
        .where(UserSession.last_seen_at > now - timedelta(minutes=idle_minutes))
        .where(col(User.disabled_at).is_(None))
    ).first()


def is_unseen(browser: UserSession) -> bool:
    """Say whether it is time to note that somebody sits there."""
    return (utcnow() - browser.last_seen_at).total_seconds() > SEEN_EVERY_SECONDS


def seen(session: Session, browser: UserSession) -> None:
    """Note that somebody sits before a browser."""
    session.get_one(UserSession, browser.id).last_seen_at = utcnow()


def sign_out(session: Session, browser: UserSession, *, actor: str) -> None:
    """Forget a browser."""
    browser.revoked_at = browser.revoked_at or utcnow()
    session.add(browser)
    whose = session.get_one(User, browser.user_id)
    ledger.append(session, actor=actor, action="signed_out", subject=whose.name)


def open_sessions(session: Session, user: User) -> list[UserSession]:
    """Return the browsers in which a person is signed in, newest first."""
    mine = select(UserSession).where(
        UserSession.user_id == user.id,
        col(UserSession.revoked_at).is_(None),
        UserSession.expires_at > utcnow(),
    )
    return list(session.exec(mine.order_by(col(UserSession.id).desc())))


def _new_link(session: Session, user: User, *, joins: Project | None = None) -> str:
    secret = tokens.new_secret("esl")
    session.add(
        UserToken(
            user_id=user.id,
            sha256=tokens.hashed(secret),
            is_sign_in_link=True,
            joins_id=joins.id if joins else None,
            expires_at=utcnow() + timedelta(hours=JOIN_HOURS if joins else LINK_HOURS),
        )
    )
    return secret


def _keep_an_admin(session: Session, user: User, *, stays: bool) -> None:
    if user.role is not Role.ADMIN or stays:
        return
    # Locked in one order, so that of the last two who go at once the second sees that the first has gone.
    admins = select(User.id).where(User.role == Role.ADMIN, col(User.disabled_at).is_(None))
    left = session.exec(admins.order_by(col(User.id)).with_for_update()).all()
    if not set(left) - {user.id}:
        raise WrongState(f"{user.name} is the last one who may do everything")


@cache
def _nobodys_hash() -> str:
    """Return a hash that no password fits, made when it is first needed."""
    return _hasher.hash(tokens.new_secret("nobody"))
