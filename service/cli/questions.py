"""What operators ask: what changed between two sets, is a set what it was, what is live."""

from datetime import datetime
from typing import Annotated

import typer

from service import answers
from service.answers.changes import compare
from service.cli.console import AsJson, Project, connect, do, find_project, show
from service.errors import Invalid
from service.stages import promotion
from service.tables import JobKind

app = typer.Typer()


@app.command()
def diff(a: str, b: str, as_json: AsJson = False) -> None:
    """Show how training set B differs from A, row by row with its cause."""
    with connect().db.reading() as session:
        document = compare(session, answers.find_set(session, a), answers.find_set(session, b))
    show(document, as_json=as_json)


@app.command()
def rebuild(
    name: Annotated[str, typer.Argument(metavar="SET")],
    verify: Annotated[bool, typer.Option("--verify", help="Compare with what is stored.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build a training set again from its settlements; --verify exits 1 unless all that is not erased is equal."""
    runtime = connect()
    with runtime.db.reading() as session:
        found = answers.find_set(session, name)
    document = do(runtime, JobKind.REBUILD, found.id, project_id=found.project_id, no_wait=False)
    show(document, as_json=as_json)
    if verify and not document["equal"]:
        raise typer.Exit(1)


@app.command()
def live(
    project: Project,
    at: Annotated[str, typer.Option(help="An ISO 8601 time; now by default.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show which model version is live, or was at a time."""
    try:
        moment = datetime.fromisoformat(at).astimezone() if at else None
    except ValueError as error:
        raise Invalid(f"--at {at}: not an ISO 8601 time") from error
    runtime, row = find_project(project)
    with runtime.db.reading() as session:
        found = promotion.live_at(session, row, moment)
    show(answers.describe_promotion(*found), as_json=as_json)
