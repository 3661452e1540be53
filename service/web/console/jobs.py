"""Background work: what goes on, what gave up and why, with a second chance; and the ledger of all decisions."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import Response, url_for
from sqlalchemy import or_
from sqlalchemy import select as select_columns
from sqlmodel import col

from service.queue import OPEN
from service.tables import Job, JobKind, JobState, LedgerEntry
from service.web.auth import Access
from service.web.console.listing import Badge, Cell, Filter, Link, Listing
from service.web.console.page import Desk, bp, page


def _cells(desk: Desk, rows: Sequence[Any]) -> list[dict[str, Cell]]:
    return [
        {
            "job": Link(job.kind.value, url_for(".job", slug=desk.project.slug, row_id=job.id)),
            "asked for": job.created_at,
            "attempts": f"{job.attempts} of {job.max_attempts}",
            "ended": job.finished_at,
            "failure": job.failure,
            "state": Badge(job.state.value),
        }
        for job in rows
    ]


JOBS = Listing(
    title="Jobs",
    rows=lambda: select_columns(Job),
    key=col(Job.id),
    of_project=col(Job.project_id),
    cells=_cells,
    empty="No background work has been asked for yet.",
    filters={
        "state": Filter("state", lambda text: Job.state == text, lambda _: list(JobState)),
        "kind": Filter("kind", lambda text: Job.kind == text, lambda _: list(JobKind)),
    },
)


@bp.get("/p/<slug>/jobs")
@page(Access.READER)
def jobs(desk: Desk) -> str | Response:
    """List background work; `dead` are those that gave up."""
    return JOBS.answer(desk)


@bp.get("/p/<slug>/jobs/<uuid:row_id>")
@page(Access.READER)
def job(desk: Desk, row_id: UUID) -> str:
    """Show a job."""
    return desk.show("job.html", **_facts(desk, row_id))


@bp.get("/p/<slug>/jobs/<uuid:row_id>/part")
@page(Access.READER)
def job_part(desk: Desk, row_id: UUID) -> str:
    """Show the part of a job that changes while it goes on."""
    return desk.show("_job.html", **_facts(desk, row_id))


@bp.post("/p/<slug>/jobs/<uuid:row_id>/retry")
@page(Access.OPERATOR)
def retry_job(desk: Desk, row_id: UUID) -> Response:
    """Give a job that gave up a fresh set of attempts."""
    desk.row(Job, row_id)
    desk.queue().retry(row_id, actor=desk.user.name)
    return desk.done("The job is tried again.", "console.job", row_id=row_id)


@bp.post("/p/<slug>/jobs/<uuid:row_id>/cancel")
@page(Access.OPERATOR)
def cancel_job(desk: Desk, row_id: UUID) -> Response:
    """End a job."""
    desk.row(Job, row_id)
    desk.queue().cancel(row_id, actor=desk.user.name)
    return desk.done("The job is cancelled.", "console.job", row_id=row_id)


def _facts(desk: Desk, row_id: UUID) -> dict[str, Any]:
    found = desk.row(Job, row_id)
    return {"job": found, "goes_on": found.state in OPEN, "leads_to": _leads_to(desk, found)}


def _leads_to(desk: Desk, job: Job) -> tuple[str, UUID] | None:
    """Return the page of what a job made, once it is there."""
    pages = {JobKind.TRAIN: "run", JobKind.BISECT: "bisection", JobKind.TUNE: "tuning"}
    if job.kind in pages:
        return pages[job.kind], job.row_id
    if job.kind is JobKind.CORPUS and job.state is JobState.DONE:
        return ("audit", job.id) if "audit" in job.options else ("corpus_rows", job.row_id)
    made = {JobKind.CURATE: "training_set", JobKind.EVALUATE: "evaluation"}.get(job.kind)
    return (made, UUID(job.result["id"])) if made and job.result.get("id") else None


def _entries(desk: Desk, rows: Sequence[Any]) -> list[dict[str, Cell]]:
    return [
        {
            "number": entry.seq,
            "when": entry.created_at,
            "who": entry.actor,
            "did": entry.action.replace("_", " "),
            "to": entry.subject,
            "facts": ", ".join(f"{name} {value}" for name, value in entry.facts.items()),
            "hash": entry.sha256,
        }
        for entry in rows
    ]


LEDGER = Listing(
    title="Ledger",
    rows=lambda: select_columns(LedgerEntry),
    key=col(LedgerEntry.id),
    of_project=col(LedgerEntry.project_id),
    cells=_entries,
    empty="Nothing has been decided yet.",
    filters={
        "q": Filter(
            "search",
            lambda text: or_(
                *(
                    col(column).icontains(text, autoescape=True)
                    for column in (LedgerEntry.actor, LedgerEntry.action)
                )
            ),
        )
    },
)


@bp.get("/p/<slug>/ledger")
@page(Access.READER)
def entries(desk: Desk) -> str | Response:
    """List every decision and change in this project; each entry is chained to the one before by its hash."""
    return LEDGER.answer(desk)
