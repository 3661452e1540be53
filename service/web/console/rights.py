"""Who asked to be forgotten, and forgetting somebody: first what that would take, then the deed."""

from collections.abc import Sequence
from typing import Any

from flask import Response
from pydantic import Field
from sqlalchemy import select as select_columns
from sqlmodel import col

from service import rights
from service.tables import Erasure
from service.web.auth import Access
from service.web.console.listing import Badge, Cell, Listing
from service.web.console.page import Desk, Form, bp, page
from service.web.state import runtime


class PersonForm(Form):
    """A person as responses name them; with `confirm`, what was shown of them is erased."""

    subject: str = Field(max_length=200)
    confirm: str = Field(default="", max_length=200)


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
    return ERASURES.answer(desk, "erasures.html")


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
