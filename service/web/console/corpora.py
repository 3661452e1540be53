"""Corpora: what a team already had, row by row, and whether experts found it good enough to learn from."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import Response as WebResponse
from flask import url_for
from pydantic import Field
from sqlalchemy import select as select_columns
from sqlmodel import col, select

from retrain.amounts import how_many
from service import sources, tools
from service.answers.corpora import (
    IS_CORPUS_ROW,
    describe,
    set_aside,
    too_few,
    why_no_decision,
    why_no_sample,
)
from service.answers.quarantines import describe_quarantine, in_force
from service.clock import utcnow
from service.errors import NotFound
from service.stages import corpus, quarantine
from service.tables import AnnotationTask, Job, JobKind, JobState, Response, Settlement, Source, TaskPurpose
from service.web.auth import Access
from service.web.console.feedback import answer_says
from service.web.console.listing import Badge, Cell, Filter, Link, Listing
from service.web.console.page import Desk, Form, bp, page
from service.web.state import runtime


class SampleForm(Form):
    """About how many rows experts are asked."""

    size: int = Field(default=corpus.SAMPLE)


class QuarantineForm(Form):
    """What is to be kept from experts and sets: a source, or else a person; and why."""

    source: str | None = None
    subject: str | None = None
    reason: str = Field(max_length=2000)


class ImportForm(Form):
    """A project inside an annotation tool, and what it is to be called here; `columns` are pairs ROLE=NAME."""

    place: str = Field(max_length=500)
    source: str = Field(max_length=100)
    licence: str = Field(max_length=200)
    author: str | None = Field(default=None, max_length=200)
    columns: str = Field(default="", max_length=1000)


def _cells(desk: Desk, rows: Sequence[Any]) -> list[dict[str, Cell]]:
    return [
        {
            "corpus": Link(
                told.pop("source"), url_for(".corpus_rows", slug=desk.project.slug, row_id=source.id)
            ),
            "added": source.created_at,
            "rows": told.pop("rows"),
            "set aside": sum(told.pop("set_aside").values()),
        }
        | {name.replace("_", " "): value for name, value in told.items()}
        for source, told in zip(rows, describe(desk.session, rows), strict=True)
    ]


HIDDEN = "set aside: operators may read it"
CORPORA = Listing(
    title="Corpora",
    rows=lambda: select_columns(Source).where(col(Source.is_corpus)),
    key=col(Source.id),
    of_project=col(Source.project_id),
    cells=_cells,
    empty="No data has been brought along.",
)


@bp.get("/p/<slug>/corpora")
@page(Access.READER)
def corpora(desk: Desk) -> str | WebResponse:
    """List corpora, each with how far it is, and offer to audit them all."""
    row = select(Response.id).join(Source, col(Response.source_id) == Source.id)
    row = row.where(Source.project_id == desk.project.id, col(Source.is_corpus))
    settled = select(Settlement.id).where(Settlement.project_id == desk.project.id)
    audits = select(Job).where(Job.project_id == desk.project.id, Job.kind == JobKind.CORPUS)
    sources = select(Source.name).where(Source.project_id == desk.project.id).order_by(col(Source.name))
    held = [describe_quarantine(desk.session, each) for each in in_force(desk.session, desk.project.id)]
    audits = audits.where(Job.row_id == desk.project.id, Job.state == JobState.DONE)
    return CORPORA.answer(
        desk,
        "corpora.html",
        is_any=any(desk.session.exec(ids.limit(1)).first() for ids in (row, settled)),
        quarantines=held,
        free=[name for name in desk.session.exec(sources) if name not in {one["source"] for one in held}],
        audited=desk.session.exec(audits.order_by(col(Job.id).desc()).limit(1)).first(),
    )


@bp.post("/p/<slug>/quarantines")
@page(Access.OPERATOR, form=QuarantineForm)
def impose_quarantine(desk: Desk, form: QuarantineForm) -> WebResponse:
    """Put a source or a person into quarantine."""
    named = {name: text or None for name, text in form.model_dump(include={"source", "subject"}).items()}
    quarantine.impose(
        desk.session, desk.project, runtime().secrets, user=desk.user, reason=form.reason, **named
    )
    told = "It is in quarantine: flags of it wait at intake, and the next set is without its rows."
    return desk.done(told, "console.corpora", _anchor="quarantine")


@bp.post("/p/<slug>/quarantines/<uuid:row_id>/lift")
@page(Access.OPERATOR)
def lift_quarantine(desk: Desk, row_id: UUID) -> WebResponse:
    """Let a source or a person go."""
    quarantine.lift(desk.session, desk.project, runtime().secrets, row_id, user=desk.user)
    told = "The quarantine is lifted: its flags are triaged, and the next set has its rows again."
    return desk.done(told, "console.corpora", _anchor="quarantine")


@bp.post("/p/<slug>/corpora")
@page(Access.OPERATOR, form=ImportForm)
def import_corpus(desk: Desk, form: ImportForm) -> WebResponse:
    """Ask for an import of what a project inside an annotation tool holds."""
    columns = sources.columns_of(form.columns.split())
    place = tools.inside(form.place)
    options = sources.import_options(desk.session, place, columns, actor=desk.user.name)
    new = sources.NewSource(form.source, form.licence, form.author)
    source = sources.ensure_source(desk.session, desk.project, new)
    job_id = desk.ask(JobKind.CORPUS, source.id, options=options)
    return desk.done(f"{place} is being read.", "console.job", row_id=job_id)


def _row_cells(desk: Desk, rows: Sequence[Any]) -> list[dict[str, Cell]]:
    """Tell of rows; what was set aside may be a secret, so that operators alone read it."""
    is_shown = desk.may(Access.OPERATOR)
    return [
        {
            "asked": row.messages[-1]["content"] if is_shown or not row.set_aside else HIDDEN,
            "answer": row.text if is_shown or not row.set_aside else HIDDEN,
            "author": row.host_metadata.get("author"),
            "written": row.host_metadata.get("written"),
            "language": row.language,
            "state": Badge("set aside" if row.set_aside else state.value if state else "not asked"),
            "why": row.set_aside,
        }
        for row, state in rows
    ]


def _rows_of(source: Source) -> Listing:
    is_asked = (col(AnnotationTask.response_id) == Response.id) & (
        col(AnnotationTask.purpose) == TaskPurpose.CORPUS
    )
    return Listing(
        title=source.name,
        rows=lambda: (
            select_columns(Response, col(AnnotationTask.state))
            .join(AnnotationTask, is_asked, isouter=True)
            .where(col(Response.source_id) == source.id, IS_CORPUS_ROW)
        ),
        key=col(Response.id),
        cells=_row_cells,
        empty="No row has been imported yet.",
        filters={
            "q": Filter("search", answer_says),
            "aside": Filter(
                "set aside",
                lambda text: Response.set_aside == text,
                lambda desk: list(set_aside(desk.session, [source.id]).get(source.id, {})),
            ),
        },
    )


@bp.get("/p/<slug>/corpora/<uuid:row_id>")
@page(Access.READER, shows_text=True)
def corpus_rows(desk: Desk, row_id: UUID) -> str | WebResponse:
    """Show a corpus: how far it is, what may be done with it, and its rows."""
    source = _source(desk, row_id)
    return _rows_of(source).answer(
        desk,
        "corpus.html",
        source=source,
        told=describe(desk.session, [source])[0],
        no_sample=why_no_sample(desk.session, source),
        no_decision=why_no_decision(desk.session, source),
        size=corpus.SAMPLE,
        most=corpus.MAX_SAMPLE,
    )


@bp.post("/p/<slug>/corpora/<uuid:row_id>/sample")
@page(Access.OPERATOR, form=SampleForm)
def sample_corpus(desk: Desk, form: SampleForm, row_id: UUID) -> WebResponse:
    """Ask experts about a random sample."""
    source = _source(desk, row_id)
    drawn = corpus.draw_sample(desk.session, source, size=form.size, actor=desk.user.name)
    why = too_few(drawn, source, desk.session)
    told = f"Experts are asked about {how_many(drawn, 'row')}{'; ' if why else ''}{why}."
    return desk.done(told, "console.corpus_rows", row_id=row_id)


@bp.post("/p/<slug>/corpora/<uuid:row_id>/decide")
@page(Access.OPERATOR)
def decide_corpus(desk: Desk, row_id: UUID) -> WebResponse:
    """Admit or quarantine a corpus by its sample; what is admitted is settled by a job."""
    source = _source(desk, row_id)
    admission = corpus.decide(desk.session, source, now=utcnow(), actor=desk.user.name)
    if not admission.is_admitted:
        told = f"{source.name} is quarantined: it teaches nothing but what experts settled singly."
        return desk.done(told, "console.corpus_rows", row_id=row_id)
    desk.ask(JobKind.CORPUS, source.id)
    told = f"{source.name} is admitted: the next set learns from it."
    return desk.done(told, "console.corpus_rows", row_id=row_id)


def _source(desk: Desk, row_id: UUID) -> Source:
    source = desk.row(Source, row_id)
    if not source.is_corpus:
        raise NotFound(f"no corpus {row_id} here")
    return source
