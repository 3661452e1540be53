"""Who signs in, what they may do, and how they come back in."""

from typing import Annotated
from uuid import UUID

import typer
from sqlmodel import col, select

from service import people, projects
from service.cli.console import ACTOR, AsJson, connect, show
from service.cli.people import user_app
from service.errors import NotFound
from service.tables import Membership, Role, User
from service.tables import Project as ProjectRow

app = typer.Typer()
In = Annotated[str, typer.Option("--project", "-p", help="In this project only.", show_default=False)]


@user_app.command("list")
def list_users(as_json: AsJson = False) -> None:
    """List who signs in, with their roles."""
    with connect().db.reading() as session:
        users = session.exec(select(User).order_by(col(User.name))).all()
        own = session.exec(
            select(Membership, ProjectRow).join(ProjectRow, col(Membership.project_id) == ProjectRow.id)
        ).all()
    roles: dict[UUID, dict[str, str]] = {}
    for membership, project in own:
        roles.setdefault(membership.user_id, {})[project.slug] = membership.role.value
    items = [
        {
            "name": user.name,
            "role": user.role.value,
            "projects": roles.get(user.id, {}),
            "disabled_at": user.disabled_at,
        }
        for user in users
    ]
    show({"items": items, "next_cursor": None}, as_json=as_json)


@user_app.command("role")
def set_role(
    name: str,
    role: Annotated[Role, typer.Option(help="What this person may do from now on.")],
    project: In = "",
    as_json: AsJson = False,
) -> None:
    """Say what a person may do, everywhere or in one project."""
    with connect().db.transaction() as session:
        row = projects.find(session, project) if project else None
        people.set_role(session, people.find(session, name), role, project=row, actor=ACTOR)
    show({"name": name, "role": role.value, "project": project or None}, as_json=as_json)


@user_app.command("disable")
def disable(name: str, as_json: AsJson = False) -> None:
    """Keep a person out from now on; what they did stays under their name."""
    with connect().db.transaction() as session:
        people.disable(session, people.find(session, name), actor=ACTOR)
    show({"name": name, "disabled": True}, as_json=as_json)


@user_app.command("link")
def invite_again(name: str, as_json: AsJson = False) -> None:
    """Print a fresh one-time sign-in link; those made before open nothing any more."""
    runtime = connect()
    with runtime.db.transaction() as session:
        secret = people.invite_again(session, people.find(session, name), actor=ACTOR)
    show({"sign_in_url": f"{runtime.settings.own_url}/sign-in/{secret}"}, as_json=as_json)


@user_app.command("sessions")
def sessions(name: str, as_json: AsJson = False) -> None:
    """List the browsers in which a person is signed in."""
    with connect().db.reading() as session:
        found = people.open_sessions(session, people.find(session, name))
    items = [each.model_dump(include={"id", "browser", "created_at", "expires_at"}) for each in found]
    show({"items": items, "next_cursor": None}, as_json=as_json)


@user_app.command("sign-out")
def sign_out(
    name: str,
    browser: Annotated[UUID | None, typer.Option("--session", help="Of this browser only.")] = None,
    as_json: AsJson = False,
) -> None:
    """Sign a person out of a browser, or of all."""
    with connect().db.transaction() as session:
        found = people.open_sessions(session, people.find(session, name))
        chosen = [each for each in found if browser in (None, each.id)]
        if browser and not chosen:
            raise NotFound(f"{name} has no open session {browser}")
        for each in chosen:
            people.sign_out(session, each, actor=ACTOR)
    show({"name": name, "signed_out": len(chosen)}, as_json=as_json)
