"""Searches for better training settings: ask for one, and read what its trials came to."""

from functools import partial
from typing import Annotated
from uuid import UUID

from flask import Blueprint
from pydantic import Field
from sqlmodel import Session

from service import answers, tunings
from service.stages import training
from service.tables import Tuning
from service.web.api.loop import Document, ListQuery, Number, Page, SetIn, page_of
from service.web.auth import Access, Caller
from service.web.endpoint import endpoint
from service.web.state import runtime

bp = Blueprint("tunings", __name__, url_prefix="/v1/tunings")
Name = Annotated[str, Field(pattern="^[a-z_-]{1,40}$")]
Amount = Annotated[float, Field(gt=-1e9, lt=1e9)]


class TuningIn(SetIn):
    """Search on a set, starting from a training's options; `search` names what may change, all by default.

    The budget is a number of trials, seconds of all trials together, watt hours by an estimate, and what the machine
    may cost by the project's rates. With `dry_run` nothing is asked for: the answer says what would be searched.
    """

    sampler: Name = "tpe"
    pruner: Name = "median"
    trials: Number = 12
    seconds: Amount | None = None
    watt_hours: Amount | None = None
    cost: Amount | None = None
    search: list[Name] = Field(default=[], max_length=50)
    workers: Number = 1
    seed: Number = 0
    dry_run: bool = False


@bp.post("")
@endpoint(access=Access.OPERATOR, body=TuningIn, returns=Document, status=202)
def tune(session: Session, caller: Caller, body: TuningIn) -> Document:
    """Ask for better training settings, judged by the validation split alone."""
    project = caller.of_project(session, body.project)
    found = answers.set_of(session, project, body.training_set)
    start = training.check_options(body.options)
    wish = tunings.Wish(**body.model_dump(exclude={"project", "training_set", "options", "dry_run"}))
    if body.dry_run:
        return Document(item=tunings.plan(session, found, start, wish))
    row = tunings.request(runtime(), session, found, start, wish, actor=caller.name, user=caller.user)
    return Document(item=tunings.describe(session, row))


@bp.get("")
@endpoint(access=Access.READER, query=ListQuery, returns=Page)
def page(session: Session, caller: Caller, query: ListQuery) -> Page:
    """List the project's searches."""
    return page_of(session, caller, query, Tuning, partial(tunings.describe, session))


@bp.get("/<uuid:tuning_id>")
@endpoint(access=Access.READER, returns=Document)
def one(session: Session, caller: Caller, tuning_id: UUID) -> Document:
    """Show one search, with its trials while it goes on."""
    return Document(item=tunings.describe(session, caller.row(session, Tuning, tuning_id)))
