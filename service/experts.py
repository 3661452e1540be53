"""A project's experts: invited, joined with their consent, asked for no more than they can do, and let go."""

import re
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from sqlalchemy import delete, or_, update
from sqlmodel import Session, col, exists, select

from service import held_tasks, ledger, notices, people, routing, standing, tokens, tool_state, tools
from service.clock import utcnow
from service.errors import AlreadyExists, Forbidden, Invalid, WrongState
from service.projects import current
from service.secrets import Secrets
from service.settings import Settings
from service.settlements import is_asked, of_persons
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    ConnectorKind,
    DocumentKind,
    Job,
    JobKind,
    PoolMember,
    Project,
    ProjectKind,
    Response,
    Role,
    Settlement,
    TaskState,
    ToolProject,
    User,
    UserToken,
)

NAME = re.compile("[a-z0-9][a-z0-9._-]{1,39}")
NAME_RULE = "2 to 40 lower-case letters, digits, '.', '_' and '-'; it is your account's name, too."
PSEUDONYM_CHARS = 12
SHOWN = 50
JOINED = col(UserToken.joins_id).is_not(None) & col(UserToken.used_at).is_not(None)


def invite(session: Session, project: Project, name: str, *, actor: str) -> str:
    """Return the secret of the one link by which an expert joins a project; an earlier one opens nothing any more.

    Raises:
        AlreadyExists: somebody of that name is here who is no expert of any project, or has joined this one already.
    """
    user = session.exec(select(User).where(User.name == name)).first()
    if user is None:
        people.invite(session, name, Role.ANNOTATOR, project=project, actor=actor)
        user = people.find(session, name)
    else:
        links = select(UserToken).where(UserToken.user_id == user.id)
        sent = session.exec(links.where(UserToken.joins_id == project.id)).all()
        elsewhere = (
            projects_joined(session, user) if people.roles_of(session, user) == {Role.ANNOTATOR} else []
        )
        if user.disabled_at or not (sent or elsewhere) or any(link.used_at for link in sent):
            raise AlreadyExists(f"there is a user {name!r} already")
        people.set_role(session, user, Role.ANNOTATOR, project=project, actor=actor)
    return people.invite_again(session, user, joins=project, actor=actor)


def invitation(session: Session, secret: str) -> tuple[User, Project] | None:
    """Return who is invited to which project by a link that was not used yet."""
    user = people.user_of(session, secret, is_sign_in_link=True, is_to_join=True)
    joins = select(UserToken.joins_id).where(UserToken.sha256 == tokens.hashed(secret))
    return (user, session.get_one(Project, session.exec(joins).one())) if user else None


def join(
    session: Session, chosen: Settings, secret: str, *, name: str, password: str, consents: bool
) -> tuple[User, Project] | None:
    """Use an invitation up: the person takes a name and a password, and their accounts in tools are known from now on.

    Using it is their consent to be measured; the ledger keeps by which guidelines. None if the link opens nothing.

    Raises:
        Invalid: they do not consent, or the name or the password cannot be used.
        AlreadyExists: the name is somebody's here or in a tool.
    """
    known = invitation(session, secret)
    is_expert = known is not None and bool(projects_joined(session, known[0]))
    if known and is_expert and not people.is_password(known[0], password):
        raise Invalid(
            "password: you are an expert here already, so that it takes the one that you sign in with"
        )
    user = people.use_link(session, secret, is_to_join=True)
    if known is None or user is None:
        return None
    if not consents:
        raise Invalid("consent: without it nobody can be asked here")
    name, project = user.name if is_expert else name, known[1]
    kinds = tool_state.tools_of(session, project.id) or [ConnectorKind.NONE]
    logins = {kind: login for kind in kinds if (login := tools.login_of(chosen, kind, name))}
    if not is_expert:
        _check_name(session, chosen, user, name, logins.values())
    user.name = name
    people.set_password(session, user, password)
    for kind, login in logins.items():
        link(session, kind, login, user)
    facts = {"guidelines": current(session, project.id, DocumentKind.GUIDELINES).sha256}
    ledger.append(
        session, actor=name, action="expert_joined", subject=name, project_id=project.id, facts=facts
    )
    return user, project


def link(session: Session, kind: ConnectorKind, account: str, user: User) -> None:
    """Write down whose account in a tool this is, unless that is known."""
    of_tool = select(Annotator).where(Annotator.connector == kind, Annotator.account == account)
    found = session.exec(of_tool).first() or Annotator(connector=kind, account=account)
    found.user_id = found.user_id or user.id
    session.add(found)


def name_person(session: Session, annotator: Annotator, user: User, *, actor: str) -> None:
    """Say whose account this is."""
    annotator.user_id = user.id
    facts, subject = {"user": user.name}, str(annotator.id)
    ledger.append(session, actor=actor, action="annotator_named", subject=subject, facts=facts)


def joined(session: Session, project_id: UUID) -> Sequence[User]:
    """Return the experts who joined a project by an invitation and were not kept out since."""
    own = select(UserToken.user_id).where(JOINED, UserToken.joins_id == project_id)
    return session.exec(select(User).where(col(User.id).in_(own), col(User.disabled_at).is_(None))).all()


def projects_joined(session: Session, user: User) -> Sequence[Project]:
    """Return the projects whose experts a person joined."""
    own = select(UserToken.joins_id).where(JOINED, UserToken.user_id == user.id)
    return session.exec(select(Project).where(col(Project.id).in_(own)).order_by(Project.slug)).all()


def experts(session: Session, project: Project) -> Sequence[Annotator]:
    """Return who is asked in a project: who answered there, joined or is in a pool, without those who left."""
    given = exists().where(
        col(Annotation.annotator_id) == Annotator.id,
        col(Annotation.task_id) == AnnotationTask.id,
        col(Annotation.reason).is_(None),
        col(AnnotationTask.project_id) == project.id,
    )
    pooled = select(PoolMember.annotator_id).where(PoolMember.project_id == project.id)
    own = select(UserToken.user_id).where(JOINED, UserToken.joins_id == project.id)
    is_one = or_(given, col(Annotator.id).in_(pooled), col(Annotator.user_id).in_(own))
    found = select(Annotator).where(is_one, col(Annotator.left_at).is_(None))
    return session.exec(found.order_by(col(Annotator.account), col(Annotator.id))).all()


def shown_to(session: Session, project: Project, user: User, *, only: UUID | None = None) -> dict[UUID, str]:
    """Return what was asked in the newest tasks that wait for a person's answer or could be answered anew, by task.

    Of several about one response it is the newest, for a hidden one that asks it once more must not stand out.
    """
    mine = session.exec(
        select(Annotator).where(Annotator.user_id == user.id, col(Annotator.left_at).is_(None))
    ).all()
    pools = {pool for each in standing.pools_of(session, project.id, mine).values() for pool in each}
    pool = col(AnnotationTask.pool)
    may_answer = is_asked() | (col(AnnotationTask.state) == TaskState.CONTESTED)
    shown = (
        select(AnnotationTask.id, Response)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .where(AnnotationTask.project_id == project.id, pool.is_(None) | pool.in_(pools))
        .where(col(AnnotationTask.connector).in_({each.connector for each in mine}))
        .where(may_answer, col(Response.erased_at).is_(None))
    )
    if only:
        shown = shown.where(AnnotationTask.id == only)
    rows = session.exec(shown.order_by(col(AnnotationTask.id).desc()).limit(SHOWN)).all()
    newest = {response.id: (task_id, response) for task_id, response in reversed(rows)}
    return {task_id: response.messages[-1]["content"] for task_id, response in reversed(newest.values())}


def add_case(
    session: Session, project: Project, user: User, *, prompt: str, answer: str, context: str
) -> AnnotationTask:
    """Have experts asked about a case that one of them brings, as triage would.

    Raises:
        Forbidden: this person did not join the project's experts.
        WrongState: people compare two models in this project.
        Invalid: something is missing, or it is too long.
    """
    if project not in projects_joined(session, user):
        raise Forbidden("only who joined the project's experts adds a case here")
    if project.kind is ProjectKind.COMPARISON:
        raise WrongState("people compare two models here: a case of one answer fits no question")
    place = routing.routing_of(session, project).place()
    task = held_tasks.add_case(
        session, project, "here", prompt=prompt, answer=answer, context=context, **place
    )
    ledger.append(session, actor=user.name, action="case_added", subject=str(task.id), project_id=project.id)
    return task


def pseudonym(secrets: Secrets, connector: ConnectorKind, account: str) -> str:
    """Return by what an annotator is known who has left; only with our secrets is it the account's."""
    return f"annotator-{secrets.salted(f'{connector}:{account}')[:PSEUDONYM_CHARS]}"


def alias(session: Session, secrets: Secrets, connector: ConnectorKind) -> Callable[[str], str]:
    """Return what tells by which name an account is known here: who has left stays a pseudonym."""
    left = select(Annotator.account).where(
        Annotator.connector == connector, col(Annotator.left_at).is_not(None)
    )
    gone = set(session.exec(left))

    def known_as(account: str) -> str:
        name = pseudonym(secrets, connector, account)
        return name if name in gone else account

    return known_as if gone else str


def off_board(
    session: Session, secrets: Secrets, annotators: Sequence[Annotator], *, actor: str
) -> dict[str, list[str]]:
    """Let people go: pseudonyms for all their accounts, no pool, nothing counts from now on; what they did stays.

    Returns what they are called from now on, and the accounts that somebody has to lock in tools of the team's own.
    """
    theirs = select(Annotator).where(of_persons(annotators), col(Annotator.left_at).is_(None))
    found = session.exec(theirs).all()
    remaining = [
        f"{each.account} in {each.connector}" for each in found if each.connector is not ConnectorKind.NONE
    ]
    for each in found:
        new = pseudonym(secrets, each.connector, each.account)
        _rename(session, each.account, new)
        each.account, each.left_at = new, utcnow()
        session.execute(delete(PoolMember).where(col(PoolMember.annotator_id) == each.id))
        notices.forget(session, [each.id], "off-boarded")
        ledger.append(session, actor=actor, action="annotator_off_boarded", subject=str(each.id))
    # A look at a bundled tool locks them there.
    theirs_in = col(ToolProject.connector).in_({each.connector for each in found})
    session.execute(update(ToolProject).where(theirs_in).values(look_due_at=utcnow()))
    for user_id in {each.user_id for each in found if each.user_id}:
        _keep_out(session, session.get_one(User, user_id), secrets)
    return {"known_as": [each.account for each in found], "remaining": remaining}


def _check_name(session: Session, chosen: Settings, user: User, name: str, logins: Iterable[str]) -> None:
    if not NAME.fullmatch(name):
        raise Invalid(f"name: {NAME_RULE}")
    taken = select(User.id).where(User.name == name, User.id != user.id)
    known = select(Annotator.id).where(col(Annotator.account).in_({name, *logins}))
    # Whoever takes the name of an account would be shown its password.
    if session.exec(taken).first() or session.exec(known).first() or tools.is_taken(chosen, name):
        raise AlreadyExists(f"name: {name} is taken")


def _rename(session: Session, old: str, new: str) -> None:
    """Put a pseudonym where else an account is written: in files that were imported, and in what admissions rest on."""
    for job in session.exec(select(Job).where(Job.kind == JobKind.IMPORT)):
        answers = job.options.get("answers", [])
        renamed = [one | {"annotator": new} if str(one.get("annotator")) == old else one for one in answers]
        if renamed != answers:
            job.options = job.options | {"answers": renamed}
    told = col(Settlement.explanation)
    admitted = (
        select(told).distinct().where(col(Settlement.admission_id).is_not(None), told.contains(old[:60]))
    )
    for text in session.exec(admitted).all():
        head, by, names = text.rpartition("judged by ")
        whole = rf"(?<![^ ]){re.escape(old[:60])}(?=,| and |$)"
        session.execute(
            update(Settlement).where(told == text).values(explanation=head + by + re.sub(whole, new, names))
        )


def _keep_out(session: Session, user: User, secrets: Secrets) -> None:
    """Take the name of somebody who did nothing here but annotate, and let them in no more."""
    if people.roles_of(session, user) == {Role.ANNOTATOR}:
        user.name = f"expert-{secrets.salted(f'user:{user.name}')[:PSEUDONYM_CHARS]}"
        user.disabled_at, user.password = user.disabled_at or utcnow(), None
        session.add(user)
