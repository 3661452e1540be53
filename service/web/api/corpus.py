"""Teams hand over data that they already have, as rows that nobody has approved yet."""

from datetime import UTC, date, datetime, time
from typing import Annotated, Any

from flask import Blueprint
from pydantic import Field, model_validator
from sqlmodel import Session

from retrain.corpus import MAX_ATTRIBUTES, MAX_LANGUAGE, MAX_SHORT, MAX_TEXT, MAX_TURNS, CorpusRow
from retrain.types import Message
from service import sources, tools
from service.answers.corpora import corpora
from service.stages import corpus
from service.tables import JobKind, Project, Source
from service.web.api.loop import JobOut, ListQuery, ask
from service.web.api.responses import Turn
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint

bp = Blueprint("corpus", __name__, url_prefix="/v1/corpus")
MAX_ROWS, MAX_PLACE, MAX_COLUMNS = 1000, 500, 20
Short = Annotated[str, Field(max_length=MAX_SHORT)]


class CorpusRowIn(Schema):
    """One row: a question, or a conversation that ends in the user's turn, with its answer or its label."""

    question: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT)
    messages: list[Turn] | None = Field(default=None, min_length=1, max_length=MAX_TURNS)
    answer: str = Field(default="", max_length=MAX_TEXT)
    label: Short | None = None
    author: Short = ""
    written: date | None = None
    language: str | None = Field(default=None, max_length=MAX_LANGUAGE)
    attributes: dict[str, Short] = Field(default={}, max_length=MAX_ATTRIBUTES)

    @model_validator(mode="after")
    def is_whole(self) -> "CorpusRowIn":
        if (self.question is None) == (self.messages is None):
            raise ValueError("give a question, or messages")
        if self.messages and self.messages[-1].role != "user":
            raise ValueError("messages: the last turn must be the user's")
        if not self.answer and not self.label:
            raise ValueError("give an answer, or a label")
        return self


class SourceIn(Schema):
    """What is known of a source; rows under the name of an earlier one are more of it."""

    project: str | None = Field(default=None, max_length=64)
    source: str = Field(min_length=1, max_length=100)
    licence: str = Field(min_length=1, max_length=200)
    author: Short | None = None
    valid_from: date | None = None
    valid_to: date | None = None


class CorpusIn(SourceIn):
    """Rows of one source."""

    rows: list[CorpusRowIn] = Field(min_length=1, max_length=MAX_ROWS)


class ImportIn(SourceIn):
    """A project inside Label Studio or Argilla, and which of its columns has which role."""

    place: str = Field(max_length=MAX_PLACE)
    columns: dict[str, Short] = Field(default={}, max_length=MAX_COLUMNS)


class CorpusOut(Schema):
    """How many rows were added, how many the source had already, and why how many of all are set aside."""

    source: str
    added: int
    known: int
    set_aside: dict[str, int]


class CorpusState(Schema):
    """A corpus, and how far it is."""

    source: str
    rows: int
    set_aside: dict[str, int]
    licence: str
    author: str
    valid_from: str | None
    valid_to: str | None
    state: str


class CorpusPage(Schema):
    """All of a project's corpora."""

    items: list[CorpusState]
    next_cursor: None = None


@bp.post("")
@endpoint(access=Access.SUPPLIER, body=CorpusIn, returns=CorpusOut, status=201)
def add(session: Session, caller: Caller, body: CorpusIn) -> dict[str, Any]:
    """Take rows that nobody has approved yet; the same content again adds nothing."""
    source = _source(session, caller.of_project(session, body.project), body)
    rows = [_row(row) for row in body.rows]
    return {"source": source.name, **corpus.import_rows(session, source, rows, actor=caller.name)}


@bp.post("/imports")
@endpoint(access=Access.OPERATOR, body=ImportIn, returns=JobOut, status=202)
def import_corpus(session: Session, caller: Caller, body: ImportIn) -> JobOut:
    """Ask for an import of label-studio:ID or argilla:WORKSPACE/DATASET, as rows that nobody has approved yet."""
    project = caller.of_project(session, body.project)
    options = sources.import_options(session, tools.inside(body.place), body.columns, actor=caller.name)
    source = _source(session, project, body)
    return ask(session, caller, JobKind.CORPUS, source.id, project=project, options=options)


@bp.get("")
@endpoint(access=Access.READER, query=ListQuery, returns=CorpusPage)
def page(session: Session, caller: Caller, query: ListQuery) -> dict[str, Any]:
    """List the project's corpora, each with its state."""
    return {"items": corpora(session, caller.of_project(session, query.project))}


def _source(session: Session, project: Project, body: SourceIn) -> Source:
    days = [_moment(day) for day in (body.valid_from, body.valid_to)]
    new = sources.NewSource(body.source, body.licence, body.author, valid_from=days[0], valid_to=days[1])
    return sources.ensure_source(session, project, new)


def _row(row: CorpusRowIn) -> CorpusRow:
    turns = [Message(turn.role, turn.content) for turn in row.messages or []]
    return CorpusRow(
        messages=tuple(turns) or (Message("user", row.question or ""),),
        answer=row.answer.strip(),
        label=row.label,
        author=row.author,
        written=row.written,
        language=row.language,
        attributes=row.attributes,
    )


def _moment(day: date | None) -> datetime | None:
    return datetime.combine(day, time(), UTC) if day else None
