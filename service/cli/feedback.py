"""Feedback: for other programs, one JSON document a line; what came by another way, or waits for an operator."""

import sys
from typing import Annotated
from uuid import UUID, uuid4

import typer

from annotation.visible import written
from service import ledger, projects, waves
from service.answers import states
from service.cli.console import ACTOR, AsJson, Project, connect, find_project, show
from service.errors import NotFound
from service.stages import intake
from service.tables import Feedback

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


@feedback_app.command("report")
def report(
    project: Project,
    question: Annotated[str, typer.Option(help="What was asked.")],
    complaint: Annotated[str, typer.Option(help="What was wrong.")],
    channel: Annotated[str, typer.Option(help="How it came: phone, mail, ticket or another.")],
    answer: Annotated[str, typer.Option(help="What was answered, as far as it is known.")] = "",
    as_json: AsJson = False,
) -> None:
    """Take a complaint in that came by another way than the widget."""
    new = intake.NewReport(uuid4(), question, complaint, channel, answer or None)
    with connect().db.transaction() as session:
        flag, _ = intake.record_report(session, projects.find(session, project), new)
    show({"id": flag.id, "response_id": flag.response_id}, as_json=as_json)


@feedback_app.command("take-in")
def take_in(row_id: UUID, project: Project, as_json: AsJson = False) -> None:
    """Let experts be asked about what came without a token."""
    with connect().db.transaction() as session:
        intake.take_in(session, projects.find(session, project), row_id, actor=ACTOR)
    show({"id": row_id, "taken_in": True}, as_json=as_json)


@feedback_app.command("release")
def release(row_id: UUID, project: Project, as_json: AsJson = False) -> None:
    """Let the whole wave of a flag that is held back go."""
    with connect().db.transaction() as session:
        row, found = projects.find(session, project), session.get(Feedback, row_id)
        if found is None or found.project_id != row.id:
            raise NotFound(f"no feedback {row_id}")
        count = waves.release(session, row, found.case_id or row_id, actor=ACTOR)
    show({"id": row_id, "released": count}, as_json=as_json)
