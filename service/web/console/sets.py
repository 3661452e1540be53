"""Training sets: what is in them, by which recipe, what their audit found, and how one differs from another."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from flask import Response, request, url_for
from sqlalchemy import select as select_columns
from sqlmodel import col, select

from retrain.recipe import BrokenRecipe, Recipe
from retrain.triggers import CONDITIONS
from retrain.types import Split, version_tag
from service import triggers
from service.answers import newest_set
from service.answers.audits import blocked, blocking, repairs_of, tell_proposal
from service.answers.changes import compare
from service.answers.erasures import erased_rows, revision_of
from service.clock import utcnow
from service.errors import NotFound
from service.stages import training
from service.tables import JobKind, Mirror, Settlement, TrainingRun, TrainingSet
from service.waivers import in_force
from service.web.auth import Access
from service.web.console.audits import ROWS_NAMED, asked_in, findings_in, sources_of, tally_of
from service.web.console.listing import Badge, Cell, Link, Listing
from service.web.console.page import OURS, Desk, Form, bp, page
from service.web.console.text import word_diff
from service.web.state import runtime

ROWS_SHOWN = 200
# The audit's checks load heavy libraries, so their names stand here once more.
CHECKS = (
    *("leakage", "contradictions", "duplicates", "large_groups"),
    *("personal", "poison", "bias", "mislabelled", "imbalance", "representativeness"),
    *("outdated", "terminology", "off_topic", "tone", "boilerplate", "noise"),
)
# A recipe's fields as people read them; `checks` stands beside them, and `version` is not theirs to choose.
NUMBERS = {
    "test_share": (
        "Share for the test",
        "Of the groups that nothing else places; the test part is frozen for ever. 0 is none.",
    ),
    "validation_share": ("Share for validation", "By which a training notices that it has learned enough."),
    "regression_share": (
        "Share of the flags kept for regression",
        "Corrected and never trained on: later models must still get them right.",
    ),
    "near_threshold": (
        "How alike near-duplicates are",
        "Above 0, at most 1: the share of word pieces that two texts must have in common.",
    ),
    "source_cap": (
        "Most that one source may give",
        "Above 0, at most 1: of the training rows, where there are several sources.",
    ),
    "subject_cap": (
        "Most that one person may give",
        "Above 0, at most 1: of the training rows that came of their conversations and flags.",
    ),
    "replay_earlier": (
        "Share of earlier rows that a training repeats",
        "From 0 to 1: what the set before held already, mixed in against forgetting.",
    ),
    "replay_general": (
        "General answers that a training repeats",
        "How many of the base model's own, mixed in against forgetting.",
    ),
    "seed": ("Seed", "Of the draw; the same recipe and rows give the same set."),
}
WHOLE = ("seed", "replay_general")
BOXES = {
    "test_from_random": "Answers drawn at random are the test, so that it looks like what users ask",
    "group_by_subject": "All rows of one person stand in one part",
}
CHANGES = ("changed", "added", "removed", "moved")  # what people look for first


class TrainForm(Form):
    """What a person may choose of a training run; each left out is the spec's own."""

    mode: str | None = None
    method: str | None = None
    targets: str | None = None
    learning_rate: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    max_tokens: int | None = None
    base_bits: int | None = None
    rank: int | None = None
    alpha: int | None = None
    dropout: float | None = None
    replay_earlier: float | None = None
    replay_general: int | None = None
    seed: int | None = None
    only_watch: bool = False


def _cells(desk: Desk, rows: Sequence[Any]) -> list[dict[str, Cell]]:
    forbidden = blocked(desk.session, desk.project.id, rows, utcnow().date())
    return [
        {
            "set": Link(f"v{row.version}", url_for(".training_set", slug=desk.project.slug, row_id=row.id)),
            "built": row.created_at,
            "fingerprint": row.fingerprint,
            **{split.value: row.counts.get(split.value, 0) for split in Split},
            "audit": Badge("blocked" if row.id in forbidden else "waived" if row.is_blocked else "clear"),
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
    """List the sets, and offer to build the next one by the newest one's recipe or another."""
    return _sets(desk, _newest_recipe(desk).to_json())


@bp.post("/p/<slug>/sets")
@page(Access.OPERATOR)
def build_set(desk: Desk) -> Response | tuple[str | Response, int]:
    """Ask for the next set; a recipe that cannot be used is shown again where it was typed."""
    newest = _newest_recipe(desk)
    sent = {name: text for name, text in desk.sent.items() if name not in OURS}
    try:
        recipe = _read(sent, newest) if sent else newest
    except BrokenRecipe as error:
        return _sets(desk, {"checks": ()} | sent, refused=str(error)), 422
    options = None if recipe == newest else recipe.to_json()
    job_id = desk.ask(JobKind.CURATE, desk.project.id, options=options)
    return desk.done("A set is being built of what experts have settled.", "console.job", row_id=job_id)


@bp.get("/p/<slug>/sets/<uuid:row_id>")
@page(Access.READER, shows_text=True)
def training_set(desk: Desk, row_id: UUID) -> str | Response:
    """Show what a set holds, what its audit found, and what was trained on it."""
    found, today = desk.row(TrainingSet, row_id), utcnow().date()
    return findings_in(found).answer(
        desk,
        "set.html",
        anchor="#audit",
        set=found,
        waivers=in_force(desk.session, found.project_id, today),
        blocking=blocking(desk.session, found, today),
        repairs=repairs_of(desk.session, found),
        asked_in=partial(asked_in, desk),
        rows_named=ROWS_NAMED,
        tell_proposal=tell_proposal,
        left_out=_left_out(found),
        tally=tally_of(desk, found),
        sources=sources_of(found),
        erased=erased_rows(desk.session, found),
        tag=f"{desk.project.slug}/{version_tag(found.version, revision_of(desk.session, found))}",
        mirror=desk.session.exec(select(Mirror).where(Mirror.training_set_id == found.id)).first(),
        has_others=bool(_others(desk, found)),
        runs=desk.session.exec(select(TrainingRun).where(TrainingRun.training_set_id == found.id)).all(),
    )


@bp.get("/p/<slug>/sets/<uuid:row_id>/diff")
@page(Access.READER, shows_text=True)
def set_diff(desk: Desk, row_id: UUID) -> str:
    """Show how a set differs from another, the one before by default."""
    found = desk.row(TrainingSet, row_id)
    others = _others(desk, found)
    against = request.args.get("against", type=int)
    wanted = [each for each in others if against in (None, each.version)]
    if not wanted:
        raise NotFound(f"no set v{against} here" if others else "there is no other set")
    chosen = next((each for each in wanted if each.id == found.parent_id), wanted[0])
    other = desk.session.get_one(TrainingSet, chosen.id)
    return desk.show(
        "diff.html",
        set=found,
        others=others,
        other=other,
        changes=compare(desk.session, other, found),
        kinds=CHANGES,
        rows_shown=ROWS_SHOWN,
        word_diff=word_diff,
    )


@bp.post("/p/<slug>/sets/<uuid:row_id>/train")
@page(Access.OPERATOR, form=TrainForm)
def train(desk: Desk, form: TrainForm, row_id: UUID) -> Response:
    """Ask for a run on this set."""
    found = desk.row(TrainingSet, row_id)
    chosen = form.model_dump(exclude={"only_watch"}, exclude_none=True)
    run = training.request(
        runtime(), desk.session, found, chosen, is_only_watched=form.only_watch, user=desk.user
    )
    return desk.done("The run is asked for; its evaluation follows by itself.", "console.run", row_id=run.id)


def _sets(desk: Desk, recipe: Mapping[str, Any], refused: str = "") -> str | Response:
    settled = select(Settlement.id).where(Settlement.project_id == desk.project.id).limit(1)
    for name, (label, _) in NUMBERS.items():
        refused = refused.replace(name, f"“{label}”")
    return SETS.answer(
        desk,
        "sets.html",
        recipe=recipe,
        refused=refused,
        numbers=NUMBERS,
        whole=WHOLE,
        boxes=BOXES,
        checks=CHECKS,
        is_settled=desk.session.exec(settled).first() is not None,
        outlook=triggers.outlook(desk.session, desk.project, now=utcnow()),
        conditions=CONDITIONS,
    )


def _newest_recipe(desk: Desk) -> Recipe:
    newest = newest_set(desk.session, desk.project.id)
    return Recipe.from_json(newest.recipe if newest else {})


def _read(sent: Mapping[str, str], newest: Recipe) -> Recipe:
    """Read a recipe from its form, where an unticked box is not sent, and all checks mean the same as none.

    The same checks in another order are no other recipe.

    Raises:
        BrokenRecipe: a field is unknown, no number or impossible.
    """
    ticked = sent.get("checks", "").split()
    checks = newest.checks if set(ticked) == set(newest.checks) else ticked
    document: dict[str, Any] = {"checks": [] if len(checks) == len(CHECKS) else checks}
    document |= {name: name in sent for name in BOXES}
    for name in sent.keys() - document.keys():
        text = sent[name]
        try:
            document[name] = int(text) if name in WHOLE else float(text)
        except ValueError as error:
            raise BrokenRecipe(f"{name}: {text!r} is no number") from error
    return Recipe.from_json(document)


def _left_out(found: TrainingSet) -> list[tuple[str, int]]:
    """Return why settlements are not in a set, and how many, the most frequent reason first."""
    # What follows names a row, a source, a repair: "duplicate of …", "source cap: …", "repair …".
    reasons = (
        re.split(r": | of |(?<=repair) |(?<=annotation) ", reason)[0] for reason in found.dropped.values()
    )
    return Counter(reasons).most_common()


def _others(desk: Desk, found: TrainingSet) -> Sequence[Any]:
    """Return id and version of the project's other sets, the newest first; a whole set is large."""
    others = select_columns(col(TrainingSet.id), col(TrainingSet.version)).where(
        col(TrainingSet.project_id) == desk.project.id, col(TrainingSet.id) != found.id
    )
    return desk.session.execute(others.order_by(col(TrainingSet.version).desc())).all()
