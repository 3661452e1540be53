"""Where else the champion is served."""

from typing import Annotated
from uuid import UUID

import typer

from service import projects, serving
from service.cli.console import ACTOR, AsJson, NoWait, connect, do, find_project, show
from service.errors import NotFound
from service.tables import JobKind, ServingKind, ServingTarget

app = typer.Typer()
serving_app = typer.Typer(no_args_is_help=True)
app.add_typer(serving_app, name="serving", help="Places that are to serve what is live.")


@serving_app.command()
def add(
    project: str,
    kind: Annotated[ServingKind, typer.Argument(help="How it is told.")],
    place: Annotated[str, typer.Argument(help="Where adapters go, by path or URL; or the webhook.")],
    url: Annotated[
        str, typer.Option(help="The OpenAI-compatible server whose answers show what is live.")
    ] = "",
    seen_as: Annotated[str, typer.Option(help="Where that server itself sees PLACE.")] = "",
    base_name: Annotated[str, typer.Option(help="What the base model is called there.")] = "",
    as_json: AsJson = False,
) -> None:
    """Add a place; a webhook's secret is shown once."""
    runtime = connect()
    options = {"url": url, "seen_as": seen_as, "base_name": base_name}
    with runtime.db.transaction() as session:
        row = projects.find(session, project)
        added = serving.add(session, row, kind, place, **options, runtime=runtime, actor=ACTOR)
    show(added, as_json=as_json)


@serving_app.command("list")
def list_targets(project: str, as_json: AsJson = False) -> None:
    """List the places, and how far each follows what is live."""
    runtime, row = find_project(project)
    with runtime.db.reading() as session:
        items = [serving.told(each) for each in serving.targets_of(session, row.id)]
    show({"items": items, "next_cursor": None}, as_json=as_json)


@serving_app.command()
def check(project: str, as_json: AsJson = False, no_wait: NoWait = False) -> None:
    """Bring every place that is behind to what is live, and ask what answers there."""
    runtime, row = find_project(project)
    show(do(runtime, JobKind.SERVE, row.id, project_id=row.id, no_wait=no_wait), as_json=as_json)


@serving_app.command()
def remove(target: UUID, as_json: AsJson = False) -> None:
    """Tell a place nothing any more; what it serves, it goes on serving."""
    with connect().db.transaction() as session:
        found = session.get(ServingTarget, target)
        if found is None:
            raise NotFound(f"no serving target {target}")
        serving.remove(session, found, actor=ACTOR)
    show({"target": str(target)}, as_json=as_json)
