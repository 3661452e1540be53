"""Corpora: what a team already had, and whether experts found it good enough to learn from."""

from collections.abc import Sequence
from typing import Any

from flask import Response
from sqlalchemy import select as select_columns
from sqlmodel import col, select

from service.answers.corpora import describe, find_source
from service.clock import utcnow
from service.stages import corpus
from service.tables import JobKind, Source
from service.web.auth import Access
from service.web.console.listing import NEWEST, Cell, Listing
from service.web.console.page import Desk, Form, bp, page


class SourceForm(Form):
    """Which corpus is meant, and about how many of its rows experts are asked."""

    source: str
    size: int = corpus.SAMPLE


def _cells(desk: Desk, rows: Sequence[Any]) -> list[dict[str, Cell]]:
    return [
        {"corpus": told.pop("source"), "added": source.created_at}
        | {name.replace("_", " "): value for name, value in told.items()}
        for source, told in zip(rows, describe(desk.session, rows), strict=True)
    ]


CORPORA = Listing(
    title="Corpora",
    rows=lambda: select_columns(Source).where(col(Source.is_corpus)),
    key=col(Source.id),
    of_project=col(Source.project_id),
    cells=_cells,
    empty="No data has been brought along. errata corpus import takes what a team already has.",
    sorts=NEWEST,
)


@bp.get("/p/<slug>/corpora")
@page(Access.READER)
def corpora(desk: Desk) -> str | Response:
    """List corpora, each with how far it is."""
    of_project = select(Source.name).where(Source.project_id == desk.project.id, col(Source.is_corpus))
    names = desk.session.exec(of_project.order_by(col(Source.name))).all()
    return CORPORA.answer(desk, "corpora.html", names=names, size=corpus.SAMPLE, most=corpus.MAX_SAMPLE)


@bp.post("/p/<slug>/corpora/sample")
@page(Access.OPERATOR, form=SourceForm)
def sample_corpus(desk: Desk, form: SourceForm) -> Response:
    """Ask experts about a random sample."""
    source = find_source(desk.session, desk.project, form.source)
    drawn = corpus.draw_sample(desk.session, source, size=form.size, actor=desk.user.name)
    return desk.done(f"Experts are asked about {drawn} rows of {source.name}.", "console.corpora")


@bp.post("/p/<slug>/corpora/decide")
@page(Access.OPERATOR, form=SourceForm)
def decide_corpus(desk: Desk, form: SourceForm) -> Response:
    """Admit or quarantine a corpus by its sample; what is admitted is settled by a job."""
    source = find_source(desk.session, desk.project, form.source)
    admission = corpus.decide(desk.session, source, now=utcnow(), actor=desk.user.name)
    if not admission.is_admitted:
        return desk.done(f"{source.name} is quarantined: it teaches nothing.", "console.corpora")
    desk.ask(JobKind.CORPUS, source.id)
    return desk.done(f"{source.name} is admitted: the next set learns from it.", "console.corpora")
