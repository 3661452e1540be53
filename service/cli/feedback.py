"""Feedback for other programs: every user's word, one JSON document a line."""

import sys

import typer

from annotation.visible import written
from service import ledger
from service.answers import states
from service.cli.console import ACTOR, Project, find_project

app = typer.Typer()
feedback_app = typer.Typer(no_args_is_help=True)
app.add_typer(feedback_app, name="feedback", help="What users said.")
PAGE = 1000


@feedback_app.command("export")
def export(project: Project) -> None:
    """Print a project's feedback as JSON Lines, oldest first."""
    runtime, row = find_project(project)
    # First the ledger: users' words leave this installation, and an erasure must know where to look for them.
    with runtime.db.transaction() as session:
        ledger.append(session, actor=ACTOR, action="feedback_exported", subject=row.slug, project_id=row.id)
    after, is_more = None, True
    while is_more:
        with runtime.db.reading() as session:
            page = states.told(session, row, after=after, size=PAGE)
        for told in page:
            sys.stdout.write(f"{written(told)}\n")
            after = told["id"]
        is_more = len(page) == PAGE
