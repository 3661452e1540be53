"""Training runs: their loss as it falls, how long they will take, and the button that ends them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import Response, url_for
from sqlalchemy import select as select_columns
from sqlmodel import col, select

from service.answers import describe_run, made_by
from service.errors import NotFound
from service.tables import JobKind, ModelVersion, RunState, TrainingRun, TrainingSet, User
from service.web.auth import Access
from service.web.console.listing import Badge, Cell, Filter, Link, Listing
from service.web.console.page import Desk, bp, page
from service.web.console.sets import TrainForm

GOES_ON = (RunState.REQUESTED, RunState.RUNNING)


def _cells(desk: Desk, rows: Sequence[Any]) -> list[dict[str, Cell]]:
    return [
        {
            "asked for": Link(
                run.created_at.strftime("%Y-%m-%d %H:%M"),
                url_for(".run", slug=desk.project.slug, row_id=run.id),
            ),
            "by": name,
            "set": f"v{version}",
            "mode": run.spec.get("mode", "fresh"),
            "method": run.spec.get("method", "sft"),
            "learning rate": run.spec.get("learning_rate"),
            "seconds": round(run.report["seconds"], 1) if run.report else None,
            "made": f"v{number}" if number else None,
            "state": Badge(run.state.value),
        }
        for run, version, number, name in rows
    ]


RUNS = Listing(
    title="Runs",
    rows=lambda: (
        select_columns(TrainingRun, col(TrainingSet.version), col(ModelVersion.number), col(User.name))
        .join(TrainingSet, col(TrainingRun.training_set_id) == TrainingSet.id)
        .join(ModelVersion, col(ModelVersion.training_run_id) == TrainingRun.id, isouter=True)
        .join(User, col(TrainingRun.requested_by) == User.id, isouter=True)
    ),
    key=col(TrainingRun.id),
    of_project=col(TrainingRun.project_id),
    cells=_cells,
    empty="Nothing has been trained yet. Open a training set and train on it.",
    filters={"state": Filter("state", lambda text: TrainingRun.state == text, lambda _: list(RunState))},
)


@bp.get("/p/<slug>/runs")
@page(Access.READER)
def runs(desk: Desk) -> str | Response:
    """List the runs."""
    return RUNS.answer(desk)


@bp.get("/p/<slug>/runs/<uuid:row_id>")
@page(Access.READER)
def run(desk: Desk, row_id: UUID) -> str:
    """Show a run."""
    return desk.show("run.html", **_facts(desk, row_id))


@bp.get("/p/<slug>/runs/<uuid:row_id>/part")
@page(Access.READER)
def run_part(desk: Desk, row_id: UUID) -> str:
    """Show the part of a run that changes while it goes on."""
    return desk.show("_run.html", **_facts(desk, row_id))


@bp.post("/p/<slug>/runs/<uuid:row_id>/cancel")
@page(Access.OPERATOR)
def cancel_run(desk: Desk, row_id: UUID) -> Response:
    """End a run; its row and its checkpoint stay."""
    found = describe_run(desk.session, desk.row(TrainingRun, row_id))
    if found["job"] is None:
        raise NotFound("no job is at work on this run")
    desk.queue().cancel(UUID(found["job"]), actor=desk.user.name)
    return desk.done("The run is cancelled.", "console.run", row_id=row_id)


@bp.post("/p/<slug>/runs/<uuid:row_id>/reproduce")
@page(Access.OPERATOR)
def reproduce_run(desk: Desk, row_id: UUID) -> Response:
    """Train a finished run again, to see whether the same adapter comes of it."""
    made_by(desk.session, desk.row(TrainingRun, row_id))
    job_id = desk.ask(JobKind.REPRODUCE, row_id)
    return desk.done("The run is trained again.", "console.job", row_id=job_id)


def _facts(desk: Desk, row_id: UUID) -> dict[str, Any]:
    found = desk.row(TrainingRun, row_id)
    facts = describe_run(desk.session, found)
    progress = facts["progress"]
    told = found.report or progress
    losses = told.get("losses", [])
    last = len(losses) if found.report else progress.get("step", len(losses))
    made = select(ModelVersion).where(ModelVersion.training_run_id == found.id)
    parent = select(ModelVersion).where(
        ModelVersion.project_id == found.project_id,
        col(ModelVersion.adapter_sha256) == found.spec.get("parent_adapter"),
    )
    return {
        "run": found,
        "facts": facts,
        "told": told,
        "losses": losses,
        "first_step": last - len(losses) + 1,
        "goes_on": found.state in GOES_ON,
        "set": desk.session.get_one(TrainingSet, found.training_set_id),
        "model": desk.session.exec(made).first(),
        "parent": desk.session.exec(parent).first(),
        "again": _again(found, told.get("health")),
    }


def _again(run: TrainingRun, health: dict[str, Any] | None) -> dict[str, Any]:
    """Return what the form for the next run is filled with: what was chosen of this one, but for the learning rate."""
    if not health or not health["learning_rate"]:
        return {}
    chosen = {name: run.spec[name] for name in TrainForm.model_fields if name in run.spec}
    return chosen | {"learning_rate": health["learning_rate"]}
