"""The playground: ask the champion, a challenger beside it, flag what is wrong, and try to break it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID, uuid4

from flask import Response as WebResponse
from flask import request
from pydantic import Field
from sqlmodel import col, select

from service import api_keys, projects, reasons
from service.playground import TURNS, attack_of, messages_of, remember, turns_of
from service.playground import attack as break_it
from service.stages import intake
from service.tables import (
    AttackSession,
    DocumentKind,
    ModelState,
    ModelVersion,
    Response,
    Source,
    SuiteCandidate,
)
from service.web.answering import ask
from service.web.auth import Access
from service.web.console.page import Desk, Form, bp, page
from service.web.state import runtime

CASES = 20


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
    attack = attack_of(desk.session, desk.project, desk.user)
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
    turns = turns_of(desk.session, desk.project, form.conversation) if form.conversation else []
    messages = messages_of(turns, form.message)
    slug = desk.project.slug
    desk.let_go()
    numbers = dict.fromkeys((None, form.beside))
    answers = [ask(slug, messages, number=number) for number in numbers]
    conversation = form.conversation or uuid4()
    with runtime().db.transaction() as session:
        project = projects.find(session, slug)
        api_keys.ensure_of_playground(session, project, runtime().secrets)
        remember(session, project, messages, answers, conversation=conversation, user=desk.user)
    return desk.done("", "console.playground", conversation=conversation, beside=form.beside, _anchor="last")


@bp.post("/p/<slug>/playground/attack")
@page(Access.OPERATOR, form=AttackForm)
def attack(desk: Desk, form: AttackForm) -> WebResponse:
    """Begin or end a session of trying to break the model."""
    found = break_it(desk.session, desk.project, desk.user, begins=form.action == "begin")
    told = (
        "Each question is kept as a candidate case." if found.ended_at is None else "The session has ended."
    )
    return desk.done(told, "console.playground")


def _turns(desk: Desk, conversation: UUID) -> list[Turn]:
    days = runtime().settings.feedback_token_days
    return [
        Turn(
            answers[0].messages[-1]["content"],
            [
                (row, intake.feedback_token(desk.project, row, runtime().secrets, days=days))
                for row in answers
            ],
        )
        for answers in turns_of(desk.session, desk.project, conversation)
    ]


def _last_conversation(desk: Desk) -> str | None:
    source = select(Source.id).where(Source.project_id == desk.project.id, Source.name == projects.PLAYGROUND)
    answered_here = select(Response.conversation_id).where(
        Response.source_id == source.scalar_subquery(), col(Response.conversation_id).is_not(None)
    )
    return desk.session.exec(answered_here.order_by(col(Response.id).desc()).limit(1)).first()


def _cases(desk: Desk, found: AttackSession) -> Sequence[Response]:
    cases = (
        select(Response)
        .join(SuiteCandidate, col(SuiteCandidate.response_id) == Response.id)
        .where(SuiteCandidate.attack_session_id == found.id)
        .order_by(col(Response.id).desc())
    )
    return desk.session.exec(cases.limit(CASES)).all()
