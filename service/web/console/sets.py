"""Training sets: what is in them, what their audit found, and how one differs from another."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import Response, request, url_for
from sqlalchemy import select as select_columns
from sqlmodel import col, select

from retrain.types import Split
from service.answers import describe_set
from service.errors import NotFound
from service.stages import curation, training
from service.tables import JobKind, TrainingRun, TrainingSet
from service.web.auth import Access
from service.web.console.listing import Badge, Cell, Link, Listing
from service.web.console.page import Desk, Form, bp, page
from service.web.state import runtime

ROWS_SHOWN = 200
CHANGES = ("added", "removed", "changed", "moved")


class TrainForm(Form):
    """What a person may choose of a training run; each left out is the spec's own."""

    mode: str | None = None
    learning_rate: float | None = None
    epochs: int | None = None
    rank: int | None = None
    replay_earlier: float | None = None
    replay_general: int | None = None
    seed: int | None = None


def _cells(desk: Desk, rows: Sequence[Any]) -> list[dict[str, Cell]]:
    return [
        {
            "set": Link(f"v{row.version}", url_for(".training_set", slug=desk.project.slug, row_id=row.id)),
            "built": row.created_at,
            "fingerprint": row.fingerprint,
            **{split.value: row.counts.get(split.value, 0) for split in Split},
            "audit": Badge("blocked" if row.is_blocked else "clear"),
        }
        for row in rows
    ]


SETS = Listing(
    title="Training sets",
    rows=lambda: select_columns(TrainingSet),
    key=col(TrainingSet.id),
    of_project=col(TrainingSet.project_id),
    cells=_cells,
    empty="No set has been built yet. One is made of everything that experts have settled.",
)


@bp.get("/p/<slug>/sets")
@page(Access.READER)
def training_sets(desk: Desk) -> str | Response:
    """List the sets."""
    return SETS.answer(desk, "sets.html")


@bp.post("/p/<slug>/sets")
@page(Access.OPERATOR)
def build_set(desk: Desk) -> Response:
    """Ask for the next set."""
    job_id = desk.ask(JobKind.CURATE, desk.project.id)
    return desk.done("A set is being built of what experts have settled.", "console.job", row_id=job_id)


@bp.get("/p/<slug>/sets/<uuid:row_id>")
@page(Access.READER)
def training_set(desk: Desk, row_id: UUID) -> str:
    """Show a set's audit and how it differs from another, the one before by default."""
    found = desk.row(TrainingSet, row_id)
    others = desk.session.exec(
        select(TrainingSet)
        .where(TrainingSet.project_id == desk.project.id, col(TrainingSet.id) != found.id)
        .order_by(col(TrainingSet.version).desc())
    ).all()
    against = request.args.get("against", type=int)
    other = next((each for each in others if each.version == against), None)
    if against is not None and other is None:
        raise NotFound(f"no set v{against} here")
    other = other or next((each for each in others if each.id == found.parent_id), None)
    changes = curation.compare(desk.session, other, found) if other else None
    return desk.show(
        "set.html",
        set=found,
        facts=describe_set(desk.session, found),
        others=others,
        other=other,
        changes=changes,
        kinds=CHANGES,
        rows_shown=ROWS_SHOWN,
        runs=desk.session.exec(select(TrainingRun).where(TrainingRun.training_set_id == found.id)).all(),
    )


@bp.post("/p/<slug>/sets/<uuid:row_id>/train")
@page(Access.OPERATOR, form=TrainForm)
def train(desk: Desk, form: TrainForm, row_id: UUID) -> Response:
    """Ask for a run on this set."""
    found = desk.row(TrainingSet, row_id)
    run = training.request(runtime(), desk.session, found, form.model_dump(exclude_none=True), user=desk.user)
    return desk.done("The run is asked for; its evaluation follows by itself.", "console.run", row_id=run.id)
