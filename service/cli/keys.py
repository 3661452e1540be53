"""API keys of a project, and the key by which its host signs feedback tokens."""

from datetime import timedelta
from typing import Annotated

import typer
from sqlmodel import col, select

from service import api_keys, projects
from service.cli.console import ACTOR, AsJson, connect, show
from service.clock import utcnow
from service.errors import NotFound
from service.tables import ApiKey, KeyKind

app = typer.Typer()
key_app = typer.Typer(no_args_is_help=True)
app.add_typer(key_app, name="keys", help="API keys, and the key that signs feedback tokens.")


@key_app.command("add")
def add_key(
    project: str,
    kind: Annotated[KeyKind, typer.Option(help="secret for your backend, public for the widget.")],
    origin: Annotated[
        list[str] | None,
        typer.Option(help="A page's origin that may use a public key; without one only Errata's own may."),
    ] = None,
    name: Annotated[str, typer.Option(help="What it is for; numbered by default.", show_default=False)] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What a secret key may: feedback, host, read, supply; everything by default."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key; it is shown once."""
    with connect().db.transaction() as session:
        row = projects.find(session, project)
        key = api_keys.add(session, row, kind, origin or [], actor=ACTOR, name=name, scopes=scope or [])
    show({"key": key}, as_json=as_json)


@key_app.command("list")
def list_keys(project: str, as_json: AsJson = False) -> None:
    """List a project's keys, oldest first; the keys themselves are not kept."""
    with connect().db.reading() as session:
        row = projects.find(session, project)
        found = session.exec(select(ApiKey).where(ApiKey.project_id == row.id).order_by(col(ApiKey.id))).all()
    items = [
        {
            "name": key.name,
            "kind": key.kind.value,
            "origins": key.origins,
            "scopes": key.scopes,
            "last_used_at": key.last_used_at and key.last_used_at.isoformat(),
            "revoked_at": key.revoked_at and key.revoked_at.isoformat(),
        }
        for key in found
    ]
    show({"items": items, "next_cursor": None}, as_json=as_json)


@key_app.command("revoke")
def revoke_key(project: str, name: str, as_json: AsJson = False) -> None:
    """Let the keys of this name open nothing from now on."""
    with connect().db.transaction() as session:
        row = projects.find(session, project)
        named = select(ApiKey).where(ApiKey.project_id == row.id, ApiKey.name == name)
        found = session.exec(named.where(col(ApiKey.revoked_at).is_(None))).all()
        if not found:
            raise NotFound(f"no key {name!r} in project {project!r} that opens anything")
        for key in found:
            api_keys.revoke(session, key, actor=ACTOR)
    show({"revoked": len(found)}, as_json=as_json)


@key_app.command("rotate")
def rotate_key(
    project: str,
    overlap_days: Annotated[
        float, typer.Option(min=0, max=3650, help="For how long earlier keys' tokens hold.")
    ] = 30,
    as_json: AsJson = False,
) -> None:
    """Sign feedback tokens with a fresh key; it is shown once, for a backend that signs without asking us."""
    runtime = connect()
    with runtime.db.transaction() as session:
        row = projects.find(session, project)
        overlap = timedelta(days=overlap_days)
        key = api_keys.rotate(session, row, runtime.secrets, overlap=overlap, now=utcnow(), actor=ACTOR)
    show({"project": row.slug, "key": key}, as_json=as_json)
