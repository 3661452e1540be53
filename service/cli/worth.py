"""What improvements cost and brought, and whether fixes worked."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from service import rates
from service.answers.fixes import fixes_of
from service.answers.worth import worth_of
from service.cli.console import AsJson, find_project, show
from service.clock import utcnow
from service.errors import Invalid
from service.tables import Project as ProjectRow

ACTOR = "operator"

app = typer.Typer()
rates_app = typer.Typer(no_args_is_help=True)
app.add_typer(rates_app, name="rates", help="What an hour costs and an outcome is worth.")


@app.command()
def worth(project: str, as_json: AsJson = False) -> None:
    """Tell what each promotion cost and brought: outcomes, hours, cost per fixed flag, payback."""
    runtime, row = find_project(project)
    with runtime.db.reading() as session:
        found, promotions = worth_of(session, session.get_one(ProjectRow, row.id), now=utcnow())
    items = [_plain(asdict(each)) for each in promotions]
    if not as_json:
        items = [{name: value for name, value in each.items() if name != "changes"} for each in items]
    show({"rates": asdict(found) if found else None, "items": items, "next_cursor": None}, as_json=as_json)


@app.command()
def fixes(project: str, as_json: AsJson = False) -> None:
    """Tell for each reason whether users flag with it less often since a version was taught about it."""
    runtime, row = find_project(project)
    with runtime.db.reading() as session:
        found = fixes_of(session, session.get_one(ProjectRow, row.id))
    items = [asdict(each) for each in found]
    if not as_json:
        told = ("version", "reason", "taught", "passed", "sentence")
        items = [{name: each[name] for name in told} for each in items]
    show({"items": items, "next_cursor": None}, as_json=as_json)


@rates_app.command("set")
def set_rates(project: str, file: Path, as_json: AsJson = False) -> None:
    """Set the rates from a JSON file; an earlier version is kept."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Invalid(f"{file}: {error}") from error
    runtime, row = find_project(project)
    with runtime.db.transaction() as session:
        document = rates.set_rates(session, session.get_one(ProjectRow, row.id), content, actor=ACTOR)
    show({"version": document.version, "sha256": document.sha256}, as_json=as_json)


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    return told | {"live_since": told["live_since"].isoformat()}
