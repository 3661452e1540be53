"""Searches for better training settings: each trial, what mattered, and the button that trains with the best."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from flask import Response, url_for
from sqlalchemy import select as select_columns
from sqlmodel import col

from retrain.tuning.plan import SPACE, Pruner, Sampler
from service import tunings
from service.stages import training
from service.tables import RunState, TrainingSet, Tuning
from service.web.auth import Access
from service.web.console.listing import Badge, Cell, Filter, Link, Listing
from service.web.console.page import Desk, Form, bp, page
from service.web.state import runtime

Point = tuple[float, float]


class TuneForm(Form):
    """Who chooses trials, who ends them early, within what budget; and where the search starts."""

    sampler: str = "tpe"
    pruner: str = "median"
    trials: int = 12
    seconds: float | None = None
    watt_hours: float | None = None
    cost: float | None = None
    workers: int = 1
    learning_rate: float | None = None


def _cells(desk: Desk, rows: Sequence[Any]) -> list[dict[str, Cell]]:
    return [
        {
            "asked for": Link(
                row.created_at.strftime("%Y-%m-%d %H:%M"),
                url_for(".tuning", slug=desk.project.slug, row_id=row.id),
            ),
            "set": f"v{version}",
            "sampler": row.plan["sampler"],
            "trials": len(row.trials),
            "found": row.result.get("sentence"),
            "state": Badge(row.state.value),
        }
        for row, version in rows
    ]


TUNINGS = Listing(
    title="Searches for settings",
    rows=lambda: select_columns(Tuning, col(TrainingSet.version)).join(
        TrainingSet, col(Tuning.training_set_id) == TrainingSet.id
    ),
    key=col(Tuning.id),
    of_project=col(Tuning.project_id),
    cells=_cells,
    empty="Nobody has searched for better settings. Ask for it on a training set's page.",
    filters={"state": Filter("state", lambda text: Tuning.state == text, lambda _: list(RunState))},
)


@bp.get("/p/<slug>/tunings")
@page(Access.READER)
def tuning_list(desk: Desk) -> str | Response:
    """List the searches."""
    return TUNINGS.answer(desk)


@bp.get("/p/<slug>/sets/<uuid:row_id>/tune")
@page(Access.OPERATOR)
def ask_tuning(desk: Desk, row_id: UUID) -> str:
    """Ask how to search, and for how long."""
    found = desk.row(TrainingSet, row_id)
    metric = tunings.metric_of(desk.session, desk.project)
    return desk.show(
        "tune.html",
        set=found,
        metric=metric,
        searched=SPACE,
        samplers=list(Sampler),
        pruners=list(Pruner),
        usual=TuneForm(),
    )


@bp.post("/p/<slug>/sets/<uuid:row_id>/tune")
@page(Access.OPERATOR, form=TuneForm)
def tune(desk: Desk, form: TuneForm, row_id: UUID) -> Response:
    """Search for better settings on a set."""
    said = form.model_dump(exclude_none=True)
    start = {name: said.pop(name) for name in ("learning_rate",) if name in said}
    row = tunings.request(
        runtime(),
        desk.session,
        desk.row(TrainingSet, row_id),
        training.check_options(start),
        tunings.Wish(**said),
        actor=desk.user.name,
        user=desk.user,
    )
    return desk.done("Better settings are being searched.", "console.tuning", row_id=row.id)


@bp.get("/p/<slug>/tunings/<uuid:row_id>")
@page(Access.READER)
def tuning(desk: Desk, row_id: UUID) -> str:
    """Show a search: its trials, what mattered, how each learned, and the best settings."""
    return desk.show("tuning.html", **_facts(desk, row_id))


@bp.get("/p/<slug>/tunings/<uuid:row_id>/part")
@page(Access.READER)
def tuning_part(desk: Desk, row_id: UUID) -> str:
    """Show the part of a search that changes while it goes on."""
    return desk.show("_tuning.html", **_facts(desk, row_id))


def _facts(desk: Desk, row_id: UUID) -> dict[str, Any]:
    found = desk.row(Tuning, row_id)
    told = tunings.describe(desk.session, found)
    losses = [loss for one in found.trials for _, loss in one["curve"]]
    return {
        "told": told,
        "set": desk.session.get_one(TrainingSet, found.training_set_id),
        "goes_on": found.state in tunings.GOES_ON,
        "varied": _varied(found),
        "scores": _scores(found.trials),
        "losses": (min(losses), max(losses)) if losses else None,
    }


def _varied(found: Tuning) -> list[str]:
    """Return the settings in which trials differ."""
    searched: list[str] = found.plan["searched"]
    return [name for name in searched if len({one["settings"][name] for one in found.trials}) > 1]


def _scores(trials: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Return number and score of the trials that have one."""
    return [(one["number"], one["score"]["value"]) for one in trials if one["score"]]
