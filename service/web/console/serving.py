"""Where else the champion is served: what is wanted there, and what answers."""

from uuid import UUID

from flask import Response
from pydantic import Field

from service import champions, serving
from service.tables import JobKind, ServingKind, ServingTarget
from service.web.auth import Access
from service.web.console.page import Desk, Form, bp, page
from service.web.state import runtime


class ServingForm(Form):
    """A place that is to serve the champion."""

    kind: ServingKind
    place: str = Field(min_length=1, max_length=500)
    seen_as: str = Field(default="", max_length=500)
    url: str = Field(default="", max_length=500)
    base_name: str = Field(default="", max_length=200)


@bp.get("/p/<slug>/serving")
@page(Access.READER)
def serving_list(desk: Desk) -> str:
    """Show what is wanted and what is served, place by place."""
    return desk.show(
        "serving.html",
        live=champions.live_at(desk.session, desk.project, None),
        targets=serving.targets_of(desk.session, desk.project.id),
        kinds=list(ServingKind),
    )


@bp.post("/p/<slug>/serving")
@page(Access.ADMIN, form=ServingForm)
def add_serving(desk: Desk, form: ServingForm) -> Response:
    """Add a place; of a webhook the secret is shown, once."""
    said = form.model_dump()
    added = serving.add(desk.session, desk.project, **said, runtime=runtime(), actor=desk.user.name)
    if "secret" not in added:
        return desk.done("It is brought to what is live.", "console.serving_list")
    title = "What signs what this webhook gets"
    return Response(desk.show("secret.html", title=title, secret=added["secret"], kind="notices"))


@bp.post("/p/<slug>/serving/check")
@page(Access.OPERATOR)
def check_serving(desk: Desk) -> Response:
    """Bring every place that is behind to what is live, and ask what answers there."""
    job_id = desk.ask(JobKind.SERVE, desk.project.id)
    return desk.done("Every place is looked at.", "console.job", row_id=job_id)


@bp.post("/p/<slug>/serving/<uuid:row_id>/remove")
@page(Access.ADMIN)
def remove_serving(desk: Desk, row_id: UUID) -> Response:
    """Tell a place nothing any more."""
    serving.remove(desk.session, desk.row(ServingTarget, row_id), actor=desk.user.name)
    return desk.done("It is told nothing any more.", "console.serving_list")
