"""Signing in and out, one's own account, and, for administrators, everybody's."""

from uuid import UUID

from flask import Response, abort, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import Field
from sqlmodel import Session, col, select

from service import people, projects
from service.errors import Forbidden, NotFound
from service.tables import Membership, Project, Role, User, UserSession
from service.web.auth import Access
from service.web.console.page import (
    Desk,
    Form,
    bp,
    cookie_name,
    inside,
    let_in,
    page,
    read_form,
    refuse_strangers,
    see_other,
    shown_again,
)
from service.web.endpoint import declared
from service.web.limits import guesses, guesses_again, guesses_of_all
from service.web.state import runtime

TYPED = "typed."  # what a form held when its session was found to be over


class PasswordForm(Form):
    """One's own new password."""

    new_password: str = Field(max_length=1000)


class UserForm(Form):
    """A person to be invited; with a project, the role is for that one."""

    name: str = Field(min_length=1, max_length=100)
    role: Role
    project: str = Field(default="", max_length=64)


@bp.get("/sign-in")
@declared(Access.ANYONE)
def sign_in() -> str:
    """Ask for name and password, and say how to get in without."""
    with runtime().db.reading() as session:
        is_empty = session.exec(select(User.id).limit(1)).first() is None
    return render_template("sign_in.html", next=inside(request.args.get("next")), typed={}, is_empty=is_empty)


@bp.post("/sign-in")
@guesses
@guesses_of_all
@declared(Access.ANYONE)
def use_password() -> ResponseReturnValue:
    """Let in who knows their password, and show again what they had typed before their session was over."""
    sent = read_form()
    typed = {name.removeprefix(TYPED): text for name, text in sent.items() if name.startswith(TYPED)}
    to = inside(sent.get("next"))
    try:
        # Apart, for a password takes long to check, and nobody's words wait for that.
        with runtime().db.reading() as session:
            user = people.with_password(session, sent.get("name", ""), sent.get("password", ""))
        with runtime().db.transaction() as session:
            response = let_in(user, session, to)
    except Forbidden as error:
        shown = render_template(
            "sign_in.html", next=to, typed=typed, name=sent.get("name", ""), refused=str(error)
        )
        return Response(shown, 403)
    if typed:
        again = shown_again("You are signed in again. This is what you had typed.", 200, typed, action=to)
        again.headers.add("Set-Cookie", response.headers["Set-Cookie"])
        return again
    return response


@bp.post("/sign-out")
@page(Access.PERSON)
def sign_out(desk: Desk) -> Response:
    """Forget this browser."""
    people.sign_out(desk.session, desk.session.merge(desk.browser), actor=desk.user.name)
    response = see_other(url_for("console.sign_in"))
    response.delete_cookie(cookie_name(), path="/", secure=cookie_name().startswith("__Host-"), httponly=True)
    return response


@bp.get("/sign-in/<secret>")
@declared(Access.ANYONE)
def link(secret: str) -> str:
    """Show the page behind a one-time link; only its button uses the link up, so that previews do not."""
    with runtime().db.reading() as session:
        user = people.user_of(session, secret, is_sign_in_link=True) or abort(404)
    return render_template("link.html", name=user.name)


@bp.post("/sign-in/<secret>")
@declared(Access.ANYONE)
def use_sign_in_link(secret: str) -> ResponseReturnValue:
    """Use the link up and remember who came; they choose a password next."""
    refuse_strangers()
    with runtime().db.transaction() as session:
        user = people.use_link(session, secret) or abort(404)
        return let_in(user, session, url_for("console.account"))


@bp.get("/account")
@page(Access.PERSON)
def account(desk: Desk) -> str:
    """Show a person their roles, and where they are signed in."""
    roles = desk.session.exec(
        select(Project.slug, Membership.role)
        .join(Membership, col(Membership.project_id) == Project.id)
        .where(Membership.user_id == desk.user.id)
        .order_by(Project.slug)
    ).all()
    browsers = people.open_sessions(desk.session, desk.user)
    return desk.show("account.html", roles=roles, browsers=browsers, password_rule=people.PASSWORD_RULE)


@bp.post("/account/password")
@page(Access.PERSON, form=PasswordForm)
@guesses_again
def set_password(desk: Desk, form: PasswordForm) -> Response:
    """Choose a password; who has one already says it first."""
    user = desk.session.get_one(User, desk.user.id)
    if user.password:
        people.confirm(user, desk.sent.get("password", ""))
    people.set_password(desk.session, user, desk.sent["new_password"], here=desk.browser)
    return desk.done("Your password is set; your other browsers are signed out.", "console.account")


@bp.post("/account/sessions/<uuid:row_id>/revoke")
@page(Access.PERSON)
def revoke(desk: Desk, row_id: UUID) -> Response:
    """Sign another of one's browsers out."""
    browser = desk.session.get(UserSession, row_id)
    if browser is None or browser.user_id != desk.user.id:
        raise NotFound("no such browser of yours")
    people.sign_out(desk.session, browser, actor=desk.user.name)
    return desk.done("That browser is signed out.", "console.account")


@bp.get("/users")
@page(Access.ADMIN)
def users(desk: Desk) -> str:
    """Show everybody and what they may do where."""
    everybody = desk.session.exec(select(User).order_by(User.name)).all()
    members = desk.session.exec(
        select(Membership, Project).join(Project, col(Membership.project_id) == Project.id)
    ).all()
    slugs = desk.session.exec(select(Project.slug).order_by(Project.slug)).all()
    return desk.show("users.html", people=everybody, members=members, slugs=slugs, roles=list(Role))


@bp.post("/users")
@page(Access.ADMIN, form=UserForm)
def add_user(desk: Desk, form: UserForm) -> Response:
    """Add a person and show their invitation."""
    project = _project(desk.session, form.project)
    secret = people.invite(desk.session, form.name, form.role, project=project, actor=desk.user.name)
    return _invited(desk, form.name, secret)


@bp.post("/users/role")
@page(Access.ADMIN, form=UserForm)
def set_role(desk: Desk, form: UserForm) -> Response:
    """Say what a person may do."""
    user = people.find(desk.session, form.name)
    project = _project(desk.session, form.project)
    people.set_role(desk.session, user, form.role, project=project, actor=desk.user.name)
    where = f"in {project.slug}" if project else "wherever nothing else is said"
    return desk.done(f"{user.name} is {form.role} {where}.", "console.users")


@bp.post("/users/<uuid:row_id>/invite")
@page(Access.ADMIN)
def invite(desk: Desk, row_id: UUID) -> Response:
    """Make a fresh one-time link for somebody."""
    user = _user(desk.session, row_id)
    return _invited(desk, user.name, people.invite_again(desk.session, user, actor=desk.user.name))


@bp.post("/users/<uuid:row_id>/disable")
@page(Access.ADMIN)
def disable(desk: Desk, row_id: UUID) -> Response:
    """Keep a person out from now on."""
    user = _user(desk.session, row_id)
    people.disable(desk.session, user, actor=desk.user.name)
    return desk.done(f"{user.name} cannot sign in any more.", "console.users")


def _invited(desk: Desk, name: str, secret: str) -> Response:
    url = f"{runtime().settings.own_url}/sign-in/{secret}"
    return Response(
        desk.show("secret.html", title=f"An invitation for {name}", secret=url, back="console.users")
    )


def _user(session: Session, row_id: UUID) -> User:
    user = session.get(User, row_id)
    if user is None:
        raise NotFound("no such user")
    return user


def _project(session: Session, slug: str) -> Project | None:
    return projects.find(session, slug) if slug else None
