"""What users said and what experts answered: feedback, tasks, annotators."""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

from flask import Response as WebResponse
from flask import url_for
from pydantic import Field
from sqlalchemy import String, cast, exists, func, or_
from sqlalchemy import select as select_columns
from sqlmodel import col, select

from annotation.questions import verdicts
from annotation.types import Abstention
from service import projects, reasons, tool_state, waves
from service.answers.annotators import is_left_alone
from service.answers.states import joined_to_state, told_state
from service.answers.story import story
from service.answers.tools import in_tools
from service.clock import utcnow
from service.settlements import IN_FORCE, is_handed_over, schema_of
from service.stages import intake
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    Document,
    DocumentKind,
    Feedback,
    ModelVersion,
    Rating,
    Response,
    Settlement,
    SettlementAnnotation,
    TaskFlag,
    TaskPurpose,
    TaskState,
)
from service.web.auth import Access
from service.web.console.listing import NEWEST, Badge, Cell, Filter, Link, Listing, Sort
from service.web.console.page import Desk, Form, bp, page

TOLD = ("received", "grouped", "checking", "corrected", "trained", "live", "declined", "withdrawn")
FLAGS_SHOWN = 100


def _reasons(desk: Desk) -> list[str]:
    return list(projects.current(desk.session, desk.project.id, DocumentKind.REASONS).content)


def _versions(desk: Desk) -> list[str]:
    numbers = select(ModelVersion.number).where(ModelVersion.project_id == desk.project.id)
    return [f"v{number}" for number in desk.session.exec(numbers.order_by(col(ModelVersion.number).desc()))]


def _has_reason(code: str) -> Any:
    return cast(Feedback.reasons, String).contains(f'"{code}"', autoescape=True)


def answer_says(text: str) -> Any:
    """Say whether a response's question or answer holds a text."""
    written = json.dumps(text, ensure_ascii=False)[1:-1]  # as it stands in JSON
    asked = cast(Response.messages, String).icontains(written, autoescape=True)
    return or_(asked, col(Response.text).icontains(text, autoescape=True))


def _says(text: str) -> Any:
    told = (col(Feedback.comment), col(Feedback.correction))
    return or_(answer_says(text), *(each.icontains(text, autoescape=True) for each in told))


def _given(desk: Desk, rows: Sequence[Feedback]) -> dict[UUID, str]:
    """Return each feedback's reasons by the version of its time, which may not know all of them."""
    versions = select(Document.id, Document.content).where(
        col(Document.id).in_({row.reasons_id for row in rows})
    )
    known: dict[UUID | None, Any] = dict(desk.session.exec(versions).all())
    return {
        row.id: ", ".join(reasons.told(known.get(row.reasons_id, row.reasons), row.reasons)) for row in rows
    }


def _feedback_cells(desk: Desk, rows: Sequence[Any]) -> list[dict[str, Cell]]:
    given = _given(desk, [feedback for feedback, _, _ in rows])
    return [
        {
            "given": feedback.created_at,
            "asked": Link(_asked(response), url_for(".story_of", slug=desk.project.slug, row_id=feedback.id)),
            "answer": response.text if response else None,
            "rating": Badge(feedback.rating.value),
            "reasons": given[feedback.id],
            "comment": feedback.comment,
            "correction": feedback.correction,
            "version": response.model_version if response else None,
            "language": response.language if response else None,
            "state": Badge(state),
        }
        for feedback, response, state in rows
    ]


_ORPHANED = timedelta(days=1)
_CAME: dict[str, Callable[[], Any]] = {
    "with a token": lambda: col(Feedback.is_trusted),
    "without a token": lambda: ~col(Feedback.is_trusted),
    "in a wave, which is held back": lambda: (
        col(Feedback.held_for).is_not(None) & (col(Feedback.id) == col(Feedback.case_id))
    ),
    "by phone, mail or ticket": lambda: col(Response.channel).is_not(None),
    "for another text": lambda: col(Feedback.is_mismatched),
    "for an answer that never came": lambda: (
        col(Feedback.response_id).is_(None) & (col(Feedback.created_at) < utcnow() - _ORPHANED)
    ),
}


FEEDBACK = Listing(
    title="Feedback",
    rows=lambda: joined_to_state(
        select_columns(Feedback, Response, told_state()).join(
            Response, col(Feedback.response_id) == Response.id, isouter=True
        )
    ),
    key=col(Feedback.id),
    of_project=col(Feedback.project_id),
    cells=_feedback_cells,
    empty="Nobody has said anything yet. Put the widget under your model's answers, or flag one in the playground.",
    filters={
        "q": Filter("search", _says),
        "rating": Filter("rating", lambda text: Feedback.rating == text, lambda _: list(Rating)),
        "reason": Filter("reason", _has_reason, _reasons),
        "version": Filter("version", lambda text: Response.model_version == text, _versions),
        "language": Filter("language", lambda text: Response.language == text),
        "state": Filter("state", lambda text: told_state() == text, lambda _: TOLD),
        "came": Filter("came", lambda text: _CAME[text](), lambda _: list(_CAME)),
    },
)


class ReportForm(Form):
    """A complaint that came by another way than the widget; `event` is the form's own, so that it counts once."""

    event: UUID
    question: str = Field(min_length=1, max_length=100_000)
    answer: str = Field(default="", max_length=100_000)
    complaint: str = Field(min_length=1, max_length=4000)
    channel: Literal["phone", "mail", "ticket", "other"]


@bp.get("/p/<slug>/feedback")
@page(Access.READER, shows_text=True)
def feedback(desk: Desk) -> str | WebResponse:
    """List what users said."""
    return FEEDBACK.answer(desk, "feedback.html", event=uuid4())


@bp.post("/p/<slug>/complaints")
@page(Access.OPERATOR, form=ReportForm)
def report(desk: Desk, form: ReportForm) -> WebResponse:
    """Take a complaint in that came by another way than the widget."""
    new = intake.NewReport(form.event, form.question, form.complaint, form.channel, form.answer or None)
    flag, _ = intake.record_report(desk.session, desk.project, new)
    return desk.done("It is taken in, and looked at as every flag is.", "console.story_of", row_id=flag.id)


@bp.post("/p/<slug>/feedback/<uuid:row_id>/take-in")
@page(Access.OPERATOR)
def take_in(desk: Desk, row_id: UUID) -> WebResponse:
    """Let experts be asked about what came without a token."""
    found = intake.take_in(desk.session, desk.project, row_id, actor=desk.user.name)
    return desk.done("It is looked at as every flag is.", "console.story_of", row_id=found.id)


@bp.post("/p/<slug>/feedback/<uuid:row_id>/release")
@page(Access.OPERATOR)
def release(desk: Desk, row_id: UUID) -> WebResponse:
    """Let the whole case of a flag that is held back go."""
    case_id = desk.row(Feedback, row_id).case_id or row_id
    count = waves.release(desk.session, desk.project, case_id, actor=desk.user.name)
    return desk.done(f"{count} flags are looked at as every flag is.", "console.story_of", row_id=row_id)


@bp.get("/p/<slug>/feedback/<uuid:row_id>")
@page(Access.READER, shows_text=True)
def story_of(desk: Desk, row_id: UUID) -> str:
    """Tell one feedback's whole story."""
    found = desk.row(Feedback, row_id)
    response = desk.session.get(Response, found.response_id) if found.response_id else None
    statement = joined_to_state(select_columns(told_state()).select_from(Feedback))
    state = desk.session.execute(statement.where(col(Feedback.id) == found.id)).scalar_one()
    return desk.show(
        "story.html",
        feedback=found,
        reasons=_given(desk, [found])[found.id],
        response=response,
        state=state,
        events=story(desk.session, found),
    )


def _task_cells(desk: Desk, rows: Sequence[Any]) -> list[dict[str, Cell]]:
    return [
        {
            "made": task.created_at,
            "asked": Link(_asked(response), url_for(".task", slug=desk.project.slug, row_id=task.id)),
            "answer": response.text,
            "why": task.purpose.value.replace("_", " "),
            "priority": round(task.priority, 2),
            "flags": flags,
            "state": Badge(task.state.value),
        }
        for task, response, flags in rows
    ]


_FLAGS = (
    select_columns(func.count())
    .where(col(TaskFlag.task_id) == col(AnnotationTask.id))
    .correlate(AnnotationTask)
    .scalar_subquery()
)


def _has_abstention(text: str) -> Any:
    return exists().where(col(Annotation.task_id) == AnnotationTask.id, col(Annotation.abstention) == text)


TASKS = Listing(
    title="Tasks",
    rows=lambda: select_columns(AnnotationTask, Response, _FLAGS).join(
        Response, col(AnnotationTask.response_id) == Response.id
    ),
    key=col(AnnotationTask.id),
    of_project=col(AnnotationTask.project_id),
    cells=_task_cells,
    empty="No expert has been asked anything yet. Triage turns flags into tasks by itself, every few seconds.",
    sorts=NEWEST | {"urgent": Sort("most urgent first", col(AnnotationTask.priority))},
    filters={
        "state": Filter("state", lambda text: AnnotationTask.state == text, lambda _: list(TaskState)),
        "abstained": Filter("abstained", _has_abstention, lambda _: list(Abstention)),
        "why": Filter("why", lambda text: AnnotationTask.purpose == text, lambda _: list(TaskPurpose)),
    },
)


@bp.get("/p/<slug>/tasks")
@page(Access.READER, shows_text=True)
def tasks(desk: Desk) -> str | WebResponse:
    """List what experts are asked."""
    return TASKS.answer(desk, "tasks.html", tools=in_tools(desk.session, desk.project, now=utcnow()))


@bp.get("/p/<slug>/tasks/<uuid:row_id>")
@page(Access.READER, shows_text=True)
def task(desk: Desk, row_id: UUID) -> str:
    """Show one task, each answer to it, and what they come to."""
    found = desk.row(AnnotationTask, row_id)
    answers = (
        select(Annotation, Annotator)
        .join(Annotator, col(Annotation.annotator_id) == Annotator.id)
        .where(Annotation.task_id == found.id)
        .order_by(col(Annotation.revised_at))
    )
    flags = (
        select(Feedback)
        .join(TaskFlag, col(TaskFlag.feedback_id) == Feedback.id)
        .where(TaskFlag.task_id == found.id)
    )
    settlement = desk.session.exec(select(Settlement).where(Settlement.task_id == found.id, IN_FORCE)).first()
    counted = select(SettlementAnnotation).where(
        SettlementAnnotation.settlement_id == (settlement.id if settlement else None)
    )
    schema = schema_of(desk.session, found)
    flagged = desk.session.exec(flags.limit(FLAGS_SHOWN)).all()
    return desk.show(
        "task.html",
        task=found,
        reasons=_given(desk, flagged),
        tool=tool_state.find(desk.session, desk.project.id, found.connector),
        schema_document=desk.session.get_one(Document, found.schema_id),
        guidelines=desk.session.get_one(Document, found.guidelines_id),
        schema=schema,
        response=desk.session.get_one(Response, found.response_id),
        rival=desk.session.get(Response, found.rival_id) if found.rival_id else None,
        is_left_alone=is_left_alone(desk.session, desk.project, found),
        verdicts=verdicts(schema),
        answers=desk.session.exec(answers).all(),
        flags=flagged,
        settlement=settlement,
        handed_over=settlement and is_handed_over(settlement),
        trusted={each.annotation_id: each.accuracy for each in desk.session.exec(counted) if each.accuracy},
    )


def _asked(response: Response | None) -> str:
    return response.messages[-1]["content"] if response else "an answer that has not arrived yet"
