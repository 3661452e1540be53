"""The operator's pages: plain HTML with forms."""

from flask import Blueprint, abort, render_template, session
from flask.typing import ResponseReturnValue

from service import projects
from service.web.auth import Access
from service.web.endpoint import declared
from service.web.state import runtime

bp = Blueprint("console", __name__, template_folder="templates")


@bp.get("/sign-in/<secret>")
@declared(Access.ANYONE)
def sign_in(secret: str) -> str:
    """Show the page behind a one-time link; only its button uses the link up, so that previews do not."""
    with runtime().db.reading() as db:
        user = projects.user_of(db, secret, is_sign_in_link=True) or abort(404)
    return render_template("sign_in.html", name=user.name)


@bp.post("/sign-in/<secret>")
@declared(Access.ANYONE)
def use_sign_in_link(secret: str) -> ResponseReturnValue:
    """Use the link up and remember who came."""
    with runtime().db.transaction() as db:
        user = projects.use_link(db, secret) or abort(404)
    session.clear()
    session["user"] = str(user.id)
    return render_template("signed_in.html", name=user.name)
