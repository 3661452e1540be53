"""Trying a project's models: questions in conversations that are remembered, and sessions of trying to break them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import httpx
from sqlmodel import Session, col, select

from retrain.types import sha256_of
from service import ledger, projects
from service.clock import utcnow
from service.errors import NotFound, ResponderUnavailable, WrongState
from service.runtime import Runtime
from service.secrets import RESPONDER
from service.stages import intake
from service.tables import AttackSession, Project, Response, Source, SuiteCandidate, User

ANSWER_SECONDS = 120
PAUSE_SECONDS = 300.0  # whoever does nothing for longer has gone
TURNS = 50


@dataclass(frozen=True, slots=True)
class Said:
    """What a model answered, and which version it was."""

    text: str
    model_version: str
    model_version_id: UUID


def ask(known: Runtime, slug: str, messages: Sequence[dict[str, str]], *, number: int | None = None) -> Said:
    """Let a project's champion, or the version of this number, answer; no transaction is open meanwhile.

    Raises:
        NotFound: there is no such project or version.
        ResponderUnavailable: the responder is not up.
    """
    # httpcore leaves a socket open that found nobody at its path.
    if not known.settings.responder_url and not known.settings.responder_socket.exists():
        raise ResponderUnavailable("the responder is not up; try again in a few seconds")
    question = {"project": slug, "messages": list(messages), "number": number}
    url = known.settings.responder_url.rstrip("/")
    transport = None if url else httpx.HTTPTransport(uds=str(known.settings.responder_socket))
    ours = {"Authorization": f"Bearer {known.secrets.salted(RESPONDER)}"}
    try:
        with httpx.Client(transport=transport, timeout=ANSWER_SECONDS, trust_env=False) as client:
            answer = client.post(f"{url or 'http://responder'}/answer", json=question, headers=ours)
    except httpx.HTTPError as error:
        raise ResponderUnavailable("the responder is not up; try again in a few seconds") from error
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise NotFound(answer.text)
    if answer.is_error:
        raise ResponderUnavailable("the responder cannot answer; its log says why")
    said = answer.json()
    return Said(said["text"], said["model_version"], UUID(said["model_version_id"]))


def turns_of(session: Session, project: Project, conversation: UUID) -> list[list[Response]]:
    """Return a conversation's answers, those to one question together, the champion's first."""
    rows = session.exec(
        select(Response)
        .join(Source, col(Response.source_id) == Source.id)
        .where(Response.project_id == project.id, Response.conversation_id == str(conversation))
        .where(Source.name == projects.PLAYGROUND)
        .order_by(col(Response.id))
        .limit(2 * TURNS)
    ).all()
    turns: dict[int, list[Response]] = {}
    for row in rows:
        turns.setdefault(len(row.messages), []).append(row)
    return list(turns.values())


def messages_of(turns: Sequence[Sequence[Response]], message: str) -> list[dict[str, str]]:
    """Return what a model is asked who goes on in a conversation with a message."""
    said = [
        one
        for answers in turns
        for one in (answers[0].messages[-1], {"role": "assistant", "content": answers[0].text})
    ]
    return [*said, {"role": "user", "content": message}]


def remember(
    session: Session,
    project: Project,
    messages: Sequence[dict[str, str]],
    answers: Sequence[Said],
    *,
    conversation: UUID,
    user: User | None,
) -> list[Response]:
    """Keep what was answered, as candidate cases too while this person tries to break the model.

    It is no user's, so it is never drawn at random to be judged.
    """
    kept = []
    for said in answers:
        new = intake.NewResponse(
            messages=list(messages),
            response=said.text,
            model_version=said.model_version,
            model_version_id=said.model_version_id,
            conversation_id=str(conversation),
            source=projects.PLAYGROUND,
        )
        response, _ = intake.log_response(session, project, new, sha256=sha256_of([*messages, said.text]))
        response.triaged_at = utcnow()
        kept.append(response)
    if user and (found := attack_of(session, project, user)):
        _spend(found, utcnow())
        session.add_all([SuiteCandidate(attack_session_id=found.id, response_id=each.id) for each in kept])
    return kept


def attack_of(session: Session, project: Project, user: User) -> AttackSession | None:
    """Return the session in which a person tries to break a project's model, if one goes on."""
    mine = select(AttackSession).where(
        AttackSession.project_id == project.id,
        AttackSession.user_id == user.id,
        col(AttackSession.ended_at).is_(None),
    )
    return session.exec(mine).first()


def attack(session: Session, project: Project, user: User, *, begins: bool) -> AttackSession:
    """Begin or end a session of trying to break the model.

    Raises:
        WrongState: one goes on already, or none does.
    """
    found, now = attack_of(session, project, user), utcnow()
    if (found is None) != begins:
        raise WrongState("that session has ended already" if found is None else "a session goes on already")
    if found is None:
        found = AttackSession(project_id=project.id, user_id=user.id, last_at=now)
    else:
        _spend(found, now)
        found.ended_at = now
    session.add(found)
    session.flush()
    ledger.append(
        session,
        actor=user.name,
        action=f"attack_session_{'begin' if begins else 'end'}",
        subject=str(found.id),
        project_id=project.id,
        facts={"seconds": round(found.seconds_spent)},
    )
    return found


def _spend(found: AttackSession, now: datetime) -> None:
    found.seconds_spent += min((now - found.last_at).total_seconds(), PAUSE_SECONDS)
    found.last_at = now
