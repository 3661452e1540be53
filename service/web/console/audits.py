"""Audits: what was found in a set or in all of a project's data, and what people decide about it."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from flask import Response
from pydantic import Field
from sqlalchemy import case, func
from sqlalchemy import select as select_columns
from sqlmodel import col, select

from retrain.audit import Severity
from retrain.errors import RetrainError
from service.answers.audits import ORDER
from service.errors import NotFound
from service.stages import auditing
from service.tables import AnnotationTask, AuditFinding, Job, JobKind, Settlement, TrainingSet
from service.tables import Response as Row
from service.web.auth import Access
from service.web.console.listing import Badge, Cell, Filter, Listing, Sort
from service.web.console.page import Desk, Form, bp, page
from service.web.state import runtime

ROWS_NAMED = 3
Tally = list[tuple[str, Counter[str]]]


class WaiverForm(Form):
    """Why what was found may stand, and until when."""

    reason: str = Field(min_length=1, max_length=2000)
    until: date


class RepairForm(Form):
    """Which of a finding's proposals is accepted, and why."""

    place: int
    reason: str = Field(default="", max_length=2000)


def findings_in(training_set: TrainingSet) -> Listing:
    """Return the list of what a set's audit found."""
    gravity = case(
        {severity.value: place for place, severity in enumerate(ORDER)}, value=AuditFinding.severity
    )
    of_set = select(AuditFinding.check).where(AuditFinding.training_set_id == training_set.id).distinct()
    return Listing(
        title=f"Findings in v{training_set.version}",
        rows=lambda: select_columns(AuditFinding).where(col(AuditFinding.training_set_id) == training_set.id),
        key=col(AuditFinding.id),
        cells=_cells,
        empty="Nothing was found.",
        sorts={"gravest": Sort("gravest first", gravity, is_descending=False)},
        filters={
            "severity": Filter(
                "severity", lambda text: AuditFinding.severity == text, lambda _: list(Severity)
            ),
            "check": Filter(
                "check",
                lambda text: AuditFinding.check == text,
                lambda desk: sorted(desk.session.exec(of_set)),
            ),
        },
    )


def tally_of(desk: Desk, training_set: TrainingSet) -> Tally:
    """Return how many findings of each severity each check made in a set, those with most first."""
    counted = select_columns(col(AuditFinding.check), col(AuditFinding.severity), func.count()).where(
        col(AuditFinding.training_set_id) == training_set.id
    )
    return _tally(
        tuple(row)
        for row in desk.session.execute(counted.group_by(AuditFinding.check, AuditFinding.severity))
    )


def asked_in(desk: Desk, findings: Sequence[AuditFinding]) -> dict[str, str]:
    """Return what was asked in the first rows that findings of a set name, by settlement, but for what was erased."""
    named = {UUID(key) for finding in findings for key in finding.keys[:ROWS_NAMED]}
    rows = (
        select_columns(col(Settlement.id), col(Row.messages))
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .join(Row, col(AnnotationTask.response_id) == Row.id)
        .where(col(Settlement.id).in_(named), col(Row.erased_at).is_(None))
    )
    return {str(key): messages[-1]["content"] for key, messages in desk.session.execute(rows)}


def sources_of(training_set: TrainingSet) -> list[dict[str, Any]]:
    """Return what the audit's report says of each source; an old set has none."""
    try:
        kept = (
            runtime().artifacts.get_bytes(training_set.audit_report) if training_set.audit_report else b"{}"
        )
    except RetrainError:
        return []
    sources: list[dict[str, Any]] = json.loads(kept).get("sources", [])
    return sources


@bp.post("/p/<slug>/audits")
@page(Access.OPERATOR)
def ask_audit(desk: Desk) -> Response:
    """Ask for an audit of all that the project has."""
    job_id = desk.ask(JobKind.CORPUS, desk.project.id, options={"audit": True})
    return desk.done("All of the project's data is being looked at.", "console.job", row_id=job_id)


@bp.get("/p/<slug>/audits/<uuid:row_id>")
@page(Access.READER, shows_text=True)
def audit(desk: Desk, row_id: UUID) -> str:
    """Show what an audit of all data said."""
    job = desk.row(Job, row_id)
    report = job.result
    if "findings" not in report:
        raise NotFound(f"no audit {row_id} here")
    counts = ((each["check"], each["severity"], each["findings"]) for each in report["checks"])
    facts = {"at": job.finished_at, "report": report, "tally": _tally(counts), "asked": _asked(desk, report)}
    return desk.show("audit.html", rows_named=ROWS_NAMED, **facts)


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


def _cells(desk: Desk, rows: Sequence[AuditFinding]) -> list[dict[str, Cell]]:
    return [
        {
            "check": row.check,
            "severity": Badge(row.severity),
            "rows": len(row.keys),
            "evidence": row.evidence,
            "repair": row.repair,
        }
        for row in rows
    ]


def _tally(counts: Iterable[tuple[str, str, int]]) -> Tally:
    tally: dict[str, Counter[str]] = {}
    for check, severity, count in counts:
        tally.setdefault(check, Counter())[severity] += count
    return sorted(tally.items(), key=lambda item: (-item[1].total(), item[0]))


def _asked(desk: Desk, report: dict[str, Any]) -> dict[str, str]:
    """Return what was asked in the first rows that findings name, where they are rows of a corpus.

    What was set aside may be a secret, so that operators alone read it.
    """
    named = {UUID(key) for finding in report["findings"] for key in finding["keys"][:ROWS_NAMED]}
    rows = select(Row).where(Row.project_id == desk.project.id, col(Row.id).in_(named))
    if not desk.may(Access.OPERATOR):
        rows = rows.where(col(Row.set_aside).is_(None))
    return {str(row.id): row.messages[-1]["content"] for row in desk.session.exec(rows)}


def _back(desk: Desk, finding_id: UUID, sentence: str) -> Response:
    finding = desk.session.get_one(AuditFinding, finding_id)
    return desk.done(sentence, "console.training_set", row_id=finding.training_set_id, _anchor="audit")
