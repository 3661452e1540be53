"""What improvements cost and brought, and whether fixes worked."""

from dataclasses import asdict
from typing import Any

import typer

from service.answers.fixes import fixes_of
from service.answers.worth import worth_of
from service.cli.console import AsJson, find_project, show
from service.clock import utcnow
from service.tables import Project as ProjectRow

app = typer.Typer()


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


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    return told | {"live_since": told["live_since"].isoformat()}
