"""What starts a project's next training by itself."""

from dataclasses import asdict
from pathlib import Path

import typer

from service import triggers
from service.cli.console import AsJson, Project, find_project, show
from service.cli.people import read_json
from service.clock import utcnow
from service.tables import Project as ProjectRow

ACTOR = "operator"

app = typer.Typer()
triggers_app = typer.Typer(no_args_is_help=True)
app.add_typer(triggers_app, name="triggers", help="What starts the next training by itself.")


@triggers_app.command("set")
def set_triggers(project: str, file: Path, as_json: AsJson = False) -> None:
    """Set the rules from a JSON file; an earlier version is kept."""
    content = read_json(file)
    runtime, row = find_project(project)
    with runtime.db.transaction() as session:
        document = triggers.set_triggers(session, session.get_one(ProjectRow, row.id), content, actor=ACTOR)
    show({"version": document.version, "sha256": document.sha256}, as_json=as_json)


@triggers_app.command("show")
def show_triggers(project: Project, as_json: AsJson = False) -> None:
    """Tell how far each rule is, what the next training waits for, and how long it may take."""
    runtime, row = find_project(project)
    with runtime.db.reading() as session:
        found = triggers.outlook(session, session.get_one(ProjectRow, row.id), now=utcnow())
    if found is None:
        show({"rules": []}, as_json=as_json)
        return
    conditions = [
        {"rule": number} | asdict(each) for number, rule in enumerate(found.rules, start=1) for each in rule
    ]
    show(asdict(found) | {"rules": conditions}, as_json=as_json)
