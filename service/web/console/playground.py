"""The playground: ask the champion, a challenger beside it, flag what is wrong, and try to break it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid4

from flask import Response as WebResponse
from flask import request
from pydantic import Field
from sqlmodel import Session, col, select

from retrain.types import sha256_of
from service import api_keys, ledger, projects, reasons
from service.clock import utcnow
from service.errors import WrongState
from service.stages import intake
from service.tables import (
    AttackSession,
    DocumentKind,
    ModelState,
    ModelVersion,
    Project,
    Response,
    Source,
    SuiteCandidate,
)
from service.web.answering import Said, ask
from service.web.auth import Access
from service.web.console.page import Desk, Form, bp, page
from service.web.state import runtime

PAUSE_SECONDS = 300.0  # whoever does nothing for longer has gone
TURNS, CASES = 50, 20


class QuestionForm(Form):
    """What to ask: in a new conversation, or on in one; with a version of which number beside the champion."""

    message: str = Field(min_length=1, max_length=20_000)
    conversation: UUID | None = None
    beside: int | None = None


class AttackForm(Form):
    """Whether to begin or to end trying to break the model."""

    action: Literal["begin", "end"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and who answered what, the champion first; each answer has the token that lets it be flagged."""

    asked: str
    answers: Sequence[tuple[Response, str]]


@bp.get("/p/<slug>/playground")
@page(Access.READER, shows_text=True)
def playground(desk: Desk) -> str:
    """Show the conversation, and what may be asked next."""
    conversation = request.args.get("conversation", type=UUID)
    versions = (
        select(ModelVersion)
        .where(ModelVersion.project_id == desk.project.id, ModelVersion.state != ModelState.CHAMPION)
        .order_by(col(ModelVersion.number).desc())
    )
    chosen = projects.current(desk.session, desk.project.id, DocumentKind.REASONS).content
    attack = _attack(desk.session, desk)
    return desk.show(
        "playground.html",
        conversation=conversation,
        turns=_turns(desk, conversation) if conversation else [],
        last=None if conversation else _last_conversation(desk),
        versions=desk.session.exec(versions.limit(TURNS)).all(),
        beside=request.args.get("beside", type=int),
        reasons={code: reasons.label(chosen, code) for code in chosen},
        key=api_keys.of_playground(runtime().secrets, desk.project.id),
        attack=attack,
        cases=_cases(desk, attack) if attack else [],
    )


@bp.post("/p/<slug>/playground")
@page(Access.OPERATOR, form=QuestionForm)
def question(desk: Desk, form: QuestionForm) -> WebResponse:
    """Ask, and remember what was answered like any other response."""
    history = [
        message
        for turn in (_turns(desk, form.conversation) if form.conversation else [])
        for message in (_said("user", turn.asked), _said("assistant", turn.answers[0][0].text))
    ]
    messages = [*history, _said("user", form.message)]
    slug = desk.project.slug
    desk.let_go()
    numbers = dict.fromkeys((None, form.beside))
    answers = [ask(slug, messages, number=number) for number in numbers]
    conversation = form.conversation or uuid4()
    with runtime().db.transaction() as session:
        project = projects.find(session, slug)
        api_keys.ensure_of_playground(session, project, runtime().secrets)
        responses = [_log(session, project, messages, said, conversation) for said in answers]
        _note_attack(session, desk, responses)
    return desk.done("", "console.playground", conversation=conversation, beside=form.beside, _anchor="last")


@bp.post("/p/<slug>/playground/attack")
@page(Access.OPERATOR, form=AttackForm)
def attack(desk: Desk, form: AttackForm) -> WebResponse:
    """Begin or end a session of trying to break the model."""
    found, now = _attack(desk.session, desk), utcnow()
    if (found is None) != (form.action == "begin"):
        raise WrongState("that session has ended already" if found is None else "a session goes on already")
    if found is None:
        found = AttackSession(project_id=desk.project.id, user_id=desk.user.id, last_at=now)
    else:
        _spend(found, now)
        found.ended_at = now
    desk.session.add(found)
    desk.session.flush()
    ledger.append(
        desk.session,
        actor=desk.user.name,
        action=f"attack_session_{form.action}",
        subject=str(found.id),
        project_id=desk.project.id,
        facts={"seconds": round(found.seconds_spent)},
    )
    told = (
        "Each question is kept as a candidate case." if found.ended_at is None else "The session has ended."
    )
    return desk.done(told, "console.playground")


def _turns(desk: Desk, conversation: UUID) -> list[Turn]:
    days = runtime().settings.feedback_token_days
    rows = desk.session.exec(
        select(Response)
        .join(Source, col(Response.source_id) == Source.id)
        .where(Response.project_id == desk.project.id, Response.conversation_id == str(conversation))
        .where(Source.name == projects.PLAYGROUND)
        .order_by(col(Response.id))
        .limit(2 * TURNS)
    ).all()
    turns: dict[int, list[Response]] = {}
    for row in rows:
        turns.setdefault(len(row.messages), []).append(row)
    return [
        Turn(
            answers[0].messages[-1]["content"],
            [
                (row, intake.feedback_token(desk.project, row, runtime().secrets, days=days))
                for row in answers
            ],
        )
        for answers in turns.values()
    ]


def _last_conversation(desk: Desk) -> str | None:
    source = select(Source.id).where(Source.project_id == desk.project.id, Source.name == projects.PLAYGROUND)
    answered_here = select(Response.conversation_id).where(
        Response.source_id == source.scalar_subquery(), col(Response.conversation_id).is_not(None)
    )
    return desk.session.exec(answered_here.order_by(col(Response.id).desc()).limit(1)).first()


def _log(
    session: Session, project: Project, messages: Sequence[dict[str, str]], said: Said, conversation: UUID
) -> Response:
    """Remember an answer; it is no user's, so it is never drawn at random to be judged."""
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
    return response


def _note_attack(session: Session, desk: Desk, responses: Sequence[Response]) -> None:
    found = _attack(session, desk)
    if found:
        _spend(found, utcnow())
        session.add_all(
            [SuiteCandidate(attack_session_id=found.id, response_id=response.id) for response in responses]
        )


def _attack(session: Session, desk: Desk) -> AttackSession | None:
    mine = select(AttackSession).where(
        AttackSession.project_id == desk.project.id,
        AttackSession.user_id == desk.user.id,
        col(AttackSession.ended_at).is_(None),
    )
    return session.exec(mine).first()


def _spend(found: AttackSession, now: datetime) -> None:
    found.seconds_spent += min((now - found.last_at).total_seconds(), PAUSE_SECONDS)
    found.last_at = now


def _cases(desk: Desk, found: AttackSession) -> Sequence[Response]:
    cases = (
        select(Response)
        .join(SuiteCandidate, col(SuiteCandidate.response_id) == Response.id)
        .where(SuiteCandidate.attack_session_id == found.id)
        .order_by(col(Response.id).desc())
    )
    return desk.session.exec(cases.limit(CASES)).all()


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
