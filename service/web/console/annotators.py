"""Who answers tasks and how far they can be trusted; what one's own answers achieved; deciding what is contested."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import Response
from pydantic import Field
from sqlalchemy import func
from sqlalchemy import select as select_columns
from sqlmodel import col, select

from annotation.types import Answer, Cause, Verdict
from service import capacity, experts, guideline_questions, people, settlements, standing
from service.answers import annotators as answers
from service.answers.anchoring import anchoring_of
from service.answers.overview import effort, newest_tasks
from service.clock import utcnow
from service.errors import Forbidden, NotFound
from service.stages import gold
from service.tables import Annotation, AnnotationTask, Annotator, GuidelineQuestion, JobKind, Role
from service.web.auth import Access
from service.web.console.page import Desk, Form, bp, page
from service.web.state import runtime

LEFT_ALONE_SHOWN = 10


class DecisionForm(Form):
    """An adjudicator's answer, and why it holds."""

    verdict: Verdict
    label: str | None = Field(default=None, max_length=200)
    labels: str = Field(default="", max_length=100_000)  # those that are ticked, one a line
    correction: str | None = Field(default=None, max_length=100_000)
    cause: Cause | None = None
    reason: str = Field(min_length=1, max_length=2000)


class GoldForm(Form):
    """Whether annotators may be judged by what a task came to."""

    is_gold: bool


class InvitationForm(Form):
    """What an expert is called until they choose a name."""

    name: str = Field(min_length=1, max_length=100)


class PoolForm(Form):
    """An account, or a person's name, that comes into a pool or is taken out of it."""

    pool: str = Field(min_length=1, max_length=100)
    account: str = Field(min_length=1, max_length=200)
    leaves: bool = False


class PersonForm(Form):
    """The name by which an annotator signs in here."""

    name: str = Field(min_length=1, max_length=100)


class CapacityForm(Form):
    """For how many answers a day somebody has room, if not for as many as the project asks of everybody."""

    daily_capacity: int | None = Field(default=None, ge=0, le=capacity.MOST)


class AnswerForm(Form):
    """What an expert is answered who asked about the guidelines."""

    answer: str = Field(max_length=guideline_questions.MAX_CHARS)


@bp.get("/p/<slug>/annotators")
@page(Access.READER, shows_text=True)
def annotators(desk: Desk) -> str:
    """Show who answers, how far they agree and can be trusted, what waits, and how much effort goes into data."""
    report = answers.report_of(desk.session, desk.project)
    accounts = {str(row.id): row.account for row in desk.session.exec(select(Annotator))} if report else {}
    asked, now = experts.experts(desk.session, desk.project), utcnow()
    return desk.show(
        "annotators.html",
        rows=answers.everybody(desk.session, desk.project),
        report=report,
        accounts=accounts,
        backlog=answers.backlog(desk.session, desk.project),
        effort=effort(desk.session, desk.project, now=now),
        abstained=_abstained(desk),
        anchoring=anchoring_of(desk.session, desk.project),
        experts=answers.describe_experts(desk.session, desk.project, asked, now=now),
        rooms=capacity.rooms(desk.session, desk.project, asked, now=now),
        empty_pools=answers.empty_pools(desk.session, desk.project),
        left_alone=answers.left_alone(desk.session, desk.project, asked),
        left_alone_shown=LEFT_ALONE_SHOWN,
        questions=guideline_questions.told(desk.session, desk.project),
        questions_waiting=guideline_questions.waiting(desk.session, desk.project),
    )


@bp.post("/p/<slug>/annotators/questions/<uuid:row_id>")
@page(Access.OPERATOR, form=AnswerForm)
def answer_question(desk: Desk, form: AnswerForm, row_id: UUID) -> Response:
    """Answer what an expert asked about the guidelines."""
    asked = desk.row(GuidelineQuestion, row_id)
    guideline_questions.answer(desk.session, asked, form.answer, user=desk.user, actor=desk.user.name)
    return desk.done(
        "Who asked sees your answer beside their work.", "console.annotators", _anchor="questions"
    )


@bp.post("/p/<slug>/annotators/invitations")
@page(Access.OPERATOR, form=InvitationForm)
def invite_expert(desk: Desk, form: InvitationForm) -> Response:
    """Invite an expert and show the link by which they join."""
    secret = experts.invite(desk.session, desk.project, form.name, actor=desk.user.name)
    url = f"{runtime().settings.own_url}/join/{secret}"
    return Response(desk.show("secret.html", title=f"An invitation for {form.name}, for a week", secret=url))


@bp.post("/p/<slug>/annotators/pools")
@page(Access.OPERATOR, form=PoolForm)
def change_pool(desk: Desk, form: PoolForm) -> Response:
    """Put somebody into a pool, or take them out of it."""
    changed = {"remove" if form.leaves else "add": [form.account]}
    names = standing.change_pool(
        desk.session, desk.project, form.pool, actor=desk.user.name, **{"add": [], "remove": []} | changed
    )
    said = f"In {form.pool}: {', '.join(names) or 'nobody'}."
    return desk.done(said, "console.annotators", _anchor="experts")


@bp.post("/p/<slug>/annotators/<uuid:row_id>/off-board")
@page(Access.ADMIN)
def off_board(desk: Desk, row_id: UUID) -> Response:
    """Let a person go, and say which accounts are left to lock."""
    found = desk.session.get(Annotator, row_id)
    if found is None:
        raise NotFound(f"no annotator {row_id}")
    if desk.user.role is not Role.ADMIN:
        raise Forbidden("they may be asked in other projects: who administers all of them lets them go")
    told = experts.off_board(desk.session, runtime().secrets, [found], actor=desk.user.name)
    left = "; ".join(told["remaining"])
    lock = f" In a tool of your own, lock {left}: to delete it would delete its answers." if left else ""
    return desk.done(
        f"They are called {', '.join(told['known_as'])} from now on.{lock}", "console.annotators"
    )


def _abstained(desk: Desk) -> Sequence[Any]:
    """Return why experts gave no verdict, and on how many of the newest tasks."""
    tasks = newest_tasks(desk.project)
    statement = (
        select_columns(col(Annotation.abstention), func.count(func.distinct(col(Annotation.task_id))))
        .join(tasks, col(Annotation.task_id) == tasks.c.id)
        .where(col(Annotation.abstention).is_not(None))
        .group_by(col(Annotation.abstention))
    )
    return desk.session.execute(statement).all()


@bp.post("/p/<slug>/annotators/report")
@page(Access.OPERATOR)
def report_on_annotators(desk: Desk) -> Response:
    """Ask for a fresh report."""
    job_id = desk.ask(JobKind.QUALITY, desk.project.id)
    return desk.done("The report is being computed.", "console.job", row_id=job_id)


@bp.get("/p/<slug>/annotators/<uuid:row_id>")
@page(Access.PERSON, shows_text=True)
def annotator(desk: Desk, row_id: UUID) -> str:
    """Show one annotator what their answers achieved; who only annotates sees their own page alone."""
    found = desk.session.get(Annotator, row_id)
    is_own = found is not None and settlements.is_of(found, desk.user, runtime().settings)
    # Who may not read this page does not learn either whose it would be.
    is_shown = is_own or desk.may(Access.READER)
    if found is None or not is_shown or not answers.is_here(desk.session, desk.project, found):
        raise NotFound("there is no page here about your answers")
    report = answers.report_of(desk.session, desk.project)
    waits = answers.digests(desk.session, desk.project, [found], now=utcnow())
    return desk.show(
        "annotator.html",
        annotator=found,
        is_own=is_own,
        known=report.content["annotators"].get(str(found.id)) if report else None,
        report=report,
        achieved=answers.achieved(desk.session, desk.project, found.id),
        digest=waits[found.id] if is_own else None,
    )


@bp.post("/p/<slug>/annotators/<uuid:row_id>/capacity")
@page(Access.ADMIN, form=CapacityForm)
def set_capacity(desk: Desk, form: CapacityForm, row_id: UUID) -> Response:
    """Say how much of a day a person has room for."""
    found = _to_change(desk, row_id)
    capacity.set_own(desk.session, [found], form.daily_capacity, actor=desk.user.name)
    return desk.done("Tasks are sent by it from now on.", "console.annotator", row_id=found.id)


@bp.post("/p/<slug>/annotators/<uuid:row_id>/person")
@page(Access.ADMIN, form=PersonForm)
def set_person(desk: Desk, form: PersonForm, row_id: UUID) -> Response:
    """Say whose account this is, so that they see their page when they sign in."""
    found = _to_change(desk, row_id)
    user = people.find(desk.session, form.name)
    experts.name_person(desk.session, found, user, actor=desk.user.name)
    return desk.done(f"{found.account} is {user.name}.", "console.annotator", row_id=found.id)


def _to_change(desk: Desk, row_id: UUID) -> Annotator:
    """Return somebody of this project, whom other projects may ask as well."""
    found = desk.session.get(Annotator, row_id)
    if found is None or not answers.is_here(desk.session, desk.project, found):
        raise NotFound(f"no annotator {row_id}")
    if desk.user.role is not Role.ADMIN:
        raise Forbidden("they may be asked in other projects: who administers all of them says this")
    return found


@bp.post("/p/<slug>/tasks/<uuid:row_id>/gold")
@page(Access.OPERATOR, form=GoldForm)
def name_gold(desk: Desk, form: GoldForm, row_id: UUID) -> Response:
    """Say whether annotators may be judged by what a task came to."""
    task = desk.row(AnnotationTask, row_id)
    gold.name(desk.session, desk.project, task, is_gold=form.is_gold, actor=desk.user.name)
    told = "may be judged by it from now on" if form.is_gold else "are not judged by it any more"
    return desk.done(f"Annotators {told}.", "console.task", row_id=row_id)


@bp.post("/p/<slug>/tasks/<uuid:row_id>/adjudicate")
@page(Access.OPERATOR, form=DecisionForm)
def adjudicate(desk: Desk, form: DecisionForm, row_id: UUID) -> Response:
    """Decide a contested task, or one that nobody is left to answer, as somebody who did not answer it."""
    task = desk.row(AnnotationTask, row_id)
    if answers.is_left_alone(desk.session, desk.project, task):
        settlements.contest(desk.session, task, actor=desk.user.name)
    answer = Answer(
        form.verdict,
        label=form.label,
        labels=tuple(form.labels.splitlines()),
        correction=form.correction,
        cause=form.cause,
    )
    settlements.adjudicate(
        desk.session,
        desk.project,
        task,
        answer,
        reason=form.reason,
        user=desk.user,
        chosen=runtime().settings,
    )
    return desk.done("The task is settled as you decided.", "console.task", row_id=row_id)
