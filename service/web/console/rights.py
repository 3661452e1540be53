"""Who asked to be forgotten; forgetting somebody, what forbids it, and handing out what is kept of them."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import Any

from flask import Response
from pydantic import Field
from sqlalchemy import select as select_columns
from sqlmodel import col

from service import rights, text_reads
from service.tables import Erasure
from service.web.auth import Access
from service.web.console.listing import Badge, Cell, Listing
from service.web.console.page import Desk, Form, bp, page
from service.web.state import runtime


class PersonForm(Form):
    """A person as responses name them; with `confirm`, what was shown of them is erased."""

    subject: str = Field(max_length=200)
    confirm: str = Field(default="", max_length=200)


class HoldForm(Form):
    """Whose words must be kept, why, and until which day (UTC)."""

    subject: str = Field(max_length=200)
    reason: str = Field(min_length=1, max_length=2000)
    until: date | None = None


class LiftForm(Form):
    """Whose words need not be kept any more, or are to be handed out."""

    subject: str = Field(max_length=200)


def _cells(desk: Desk, rows: Sequence[Any]) -> list[dict[str, Cell]]:
    return [
        {
            "asked": wish.created_at,
            "by": wish.actor,
            "person, as a digest": wish.salted,
            "erased": ", ".join(f"{count} {name}" for name, count in wish.counts.items()),
            "certificate": wish.certificate.get("signature"),
            "state": Badge("certified" if wish.certificate else "going on"),
        }
        for wish in rows
    ]


ERASURES = Listing(
    title="Erasures",
    rows=lambda: select_columns(Erasure),
    key=col(Erasure.id),
    of_project=col(Erasure.project_id),
    cells=_cells,
    empty="Nobody has asked to be forgotten.",
)


@bp.get("/p/<slug>/erasures")
@page(Access.READER)
def erasures(desk: Desk) -> str | Response:
    """List who was forgotten, by digest."""
    held = rights.holds(desk.session, desk.project) if desk.may(Access.APPROVER) else []
    reads = text_reads.newest(desk.session, desk.project) if desk.may(Access.APPROVER) else []
    return ERASURES.answer(desk, "erasures.html", held=held, reads=reads)


@bp.post("/p/<slug>/erasures")
@page(Access.APPROVER, form=PersonForm)
def erase(desk: Desk, form: PersonForm) -> str | Response:
    """Show what an erasure would take, and ask for it once that is confirmed."""
    asked, secrets = (form.subject, desk.project), runtime().secrets
    if not form.confirm:
        told = rights.preview(desk.session, secrets, *asked)
        return desk.show("erase.html", subject=form.subject, told=told)
    queue, actor = runtime().queue, desk.user.name
    _, job = rights.ask_erasure(desk.session, queue, secrets, *asked, confirm=form.confirm, actor=actor)
    return desk.done("It is being erased.", "console.job", row_id=job)


@bp.post("/p/<slug>/holds")
@page(Access.APPROVER, form=HoldForm)
def hold(desk: Desk, form: HoldForm) -> Response:
    """Keep a person's words from being erased."""
    until = datetime.combine(form.until, time(), UTC) if form.until else None
    rights.hold(
        desk.session,
        runtime().secrets,
        form.subject,
        desk.project,
        reason=form.reason,
        until=until,
        actor=desk.user.name,
    )
    return desk.done("Nothing of that person is erased meanwhile.", "console.erasures", _anchor="holds")


@bp.post("/p/<slug>/holds/lift")
@page(Access.APPROVER, form=LiftForm)
def lift_hold(desk: Desk, form: LiftForm) -> Response:
    """Let a person's words be erased again."""
    rights.lift(desk.session, runtime().secrets, form.subject, desk.project, actor=desk.user.name)
    return desk.done("The hold is lifted.", "console.erasures", _anchor="holds")


@bp.post("/p/<slug>/subjects/export")
@page(Access.OPERATOR, form=LiftForm, shows_text=True)
def export_subject(desk: Desk, form: LiftForm) -> Response:
    """Hand out everything that is kept of a person, as one JSON document; the ledger notes it."""
    told = rights.export(desk.session, runtime().secrets, form.subject, desk.project, actor=desk.user.name)
    named = {"Content-Disposition": "attachment; filename=subject.json"}
    return Response(json.dumps(told, ensure_ascii=False), mimetype="application/json", headers=named)
