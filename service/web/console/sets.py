"""Training sets: what is in them, what their audit found, and how one differs from another."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

from flask import Response, request, url_for
from pydantic import Field
from sqlalchemy import select as select_columns
from sqlmodel import col, select

from retrain.errors import RetrainError
from retrain.types import Split
from service.answers.audits import blocking, findings_of, repairs_of, waivers
from service.answers.changes import compare
from service.answers.erasures import erased_rows
from service.clock import utcnow
from service.errors import NotFound
from service.stages import auditing, training
from service.tables import AuditFinding, JobKind, Mirror, TrainingRun, TrainingSet
from service.web.auth import Access
from service.web.console.listing import Badge, Cell, Link, Listing
from service.web.console.page import Desk, Form, bp, page
from service.web.console.text import word_diff
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


class WaiverForm(Form):
    """Why a finding may stand, and until when."""

    reason: str = Field(min_length=1, max_length=2000)
    until: date


class RepairForm(Form):
    """Which of a finding's proposals is accepted, and why."""

    place: int
    reason: str = Field(default="", max_length=2000)


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
    today = utcnow().date()
    findings = findings_of(desk.session, found)
    return desk.show(
        "set.html",
        set=found,
        findings=findings,
        waivers=waivers(desk.session, found, today),
        blocking=blocking(desk.session, found, today),
        repairs=repairs_of(desk.session, found),
        sources=_sources(found),
        erased=erased_rows(desk.session, found),
        mirror=desk.session.exec(select(Mirror).where(Mirror.training_set_id == found.id)).first(),
        tally=_tally(findings),
        most=max((counts.total() for _, counts in _tally(findings)), default=1),
        word_diff=word_diff,
        others=others,
        other=other,
        changes=compare(desk.session, other, found) if other else None,
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


@bp.post("/p/<slug>/findings/<uuid:row_id>/waive")
@page(Access.APPROVER, form=WaiverForm)
def waive(desk: Desk, form: WaiverForm, row_id: UUID) -> Response:
    """Let a set be trained on although its audit found something."""
    auditing.waive(desk.session, desk.project, row_id, user=desk.user, **form.model_dump())
    return _back(desk, row_id, f"It is waived until {form.until}.")


@bp.post("/p/<slug>/findings/<uuid:row_id>/repair")
@page(Access.OPERATOR, form=RepairForm)
def accept_repair(desk: Desk, form: RepairForm, row_id: UUID) -> Response:
    """Accept a proposal: the next set is built with it."""
    auditing.accept(desk.session, desk.project, row_id, user=desk.user, **form.model_dump())
    return _back(desk, row_id, "The repair is accepted; the next set is built with it.")


@bp.post("/p/<slug>/repairs/<uuid:row_id>/undo")
@page(Access.OPERATOR)
def undo_repair(desk: Desk, row_id: UUID) -> Response:
    """Take an accepted repair back."""
    undone = auditing.undo(desk.session, desk.project, row_id, user=desk.user)
    return _back(desk, undone.finding_id, "The repair is taken back; the next set is built without it.")


def _sources(found: TrainingSet) -> list[dict[str, Any]]:
    """Return what the audit's report says of each source; an old set has none."""
    try:
        kept = runtime().artifacts.get_bytes(found.audit_report) if found.audit_report else b"{}"
    except RetrainError:
        return []
    sources: list[dict[str, Any]] = json.loads(kept).get("sources", [])
    return sources


def _back(desk: Desk, finding_id: UUID, sentence: str) -> Response:
    finding = desk.session.get_one(AuditFinding, finding_id)
    return desk.done(sentence, "console.training_set", row_id=finding.training_set_id, _anchor="audit")


def _tally(findings: Sequence[AuditFinding]) -> list[tuple[str, Counter[str]]]:
    """Return how many findings of each severity each check has, those with most first."""
    tally: dict[str, Counter[str]] = {}
    for finding in findings:
        tally.setdefault(finding.check, Counter())[finding.severity] += 1
    return sorted(tally.items(), key=lambda item: (-item[1].total(), item[0]))
