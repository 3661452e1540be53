"""Who else hears of what happens here: targets, what became of each notice, and tickets of what was handed over."""

from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from flask import Response
from pydantic import Field
from sqlalchemy import select as select_columns
from sqlmodel import col

from service import notice_targets
from service.settlements import link_ticket
from service.tables import Notice, NoticeKind, NoticeState, NoticeTarget, Settlement
from service.web.auth import Access
from service.web.console.listing import Badge, Cell, Filter, Listing
from service.web.console.page import Desk, Form, bp, page
from service.web.state import runtime

DEAD_SHOWN = 20


class TargetForm(Form):
    """A target to be added, and the kinds that were ticked, one a line."""

    url: str = Field(min_length=1, max_length=500)
    kinds: str = ""


class TicketForm(Form):
    """Where what was handed over is followed."""

    ticket_url: str = Field(default="", max_length=500)


def _place(desk: Desk, url: str) -> str | None:
    """Return where a target is: of an address that whoever knows it may write to, readers learn the host alone."""
    return url if desk.may(Access.OPERATOR) else urlsplit(url).hostname


def _cells(desk: Desk, rows: Sequence[Any]) -> list[dict[str, Cell]]:
    return [
        {
            "when": notice.created_at,
            "what": notice.kind.value.replace("_", " "),
            "to": _place(desk, url),
            "attempts": notice.attempts,
            "failure": notice.failure,
            "state": Badge(notice.state.value),
        }
        for notice, url in rows
    ]


NOTICES = Listing(
    title="Notices",
    rows=lambda: select_columns(Notice, col(NoticeTarget.url)).join(
        NoticeTarget, col(Notice.target_id) == NoticeTarget.id
    ),
    key=col(Notice.id),
    of_project=col(Notice.project_id),
    cells=_cells,
    empty="Nobody was to hear of anything yet.",
    filters={
        "state": Filter("state", lambda text: Notice.state == text, lambda _: list(NoticeState)),
        "kind": Filter("kind", lambda text: Notice.kind == text, lambda _: list(NoticeKind)),
    },
)


@bp.get("/p/<slug>/notices")
@page(Access.READER)
def notices(desk: Desk) -> str | Response:
    """List who hears of what, and what became of each notice."""
    return NOTICES.answer(
        desk,
        "notices.html",
        targets=notice_targets.targets_of(desk.session, desk.project.id),
        dead=notice_targets.newest(desk.session, desk.project.id, DEAD_SHOWN, NoticeState.DEAD),
        kinds=notice_targets.CHOICES,
        place=partial(_place, desk),
    )


@bp.post("/p/<slug>/notices")
@page(Access.ADMIN, form=TargetForm)
def add_target(desk: Desk, form: TargetForm) -> Response:
    """Add a target and show its secret, once."""
    added = notice_targets.add(
        desk.session,
        desk.project,
        form.url,
        form.kinds.split(),
        runtime=runtime(),
        actor=desk.user.name,
    )
    title = "What signs the notices for this target"
    return Response(desk.show("secret.html", title=title, secret=added["secret"], kind="notices"))


@bp.post("/p/<slug>/notices/targets/<uuid:row_id>/test")
@page(Access.OPERATOR)
def send_test(desk: Desk, row_id: UUID) -> Response:
    """Send a target a notice that means nothing."""
    notice_targets.send_test(desk.session, desk.row(NoticeTarget, row_id))
    return desk.done("A test is on its way: look below in a few seconds.", "console.notices")


@bp.post("/p/<slug>/notices/targets/<uuid:row_id>/remove")
@page(Access.ADMIN)
def remove_target(desk: Desk, row_id: UUID) -> Response:
    """Send a target nothing any more."""
    notice_targets.remove(desk.session, desk.row(NoticeTarget, row_id), actor=desk.user.name)
    return desk.done("Nothing is sent there any more.", "console.notices")


@bp.post("/p/<slug>/notices/<uuid:row_id>/again")
@page(Access.OPERATOR)
def send_again(desk: Desk, row_id: UUID) -> Response:
    """Give a dead notice a fresh set of attempts."""
    notice_targets.send_again(desk.session, desk.row(Notice, row_id), actor=desk.user.name)
    return desk.done("It is sent again.", "console.notices")


@bp.post("/p/<slug>/settlements/<uuid:row_id>/ticket")
@page(Access.OPERATOR, form=TicketForm)
def set_ticket(desk: Desk, form: TicketForm, row_id: UUID) -> Response:
    """Say where what was handed over is followed."""
    settlement = desk.row(Settlement, row_id)
    link_ticket(desk.session, settlement, form.ticket_url or None, actor=desk.user.name)
    return desk.done("Whoever flagged it is shown that link.", "console.task", row_id=settlement.task_id)
