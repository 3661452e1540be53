"""What there is: a project's models, runs, evaluations and tasks, as lists that go on at a cursor."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

import typer
from sqlmodel import SQLModel, col, select

from service.answers import describe_today
from service.cli.console import AsJson, Project, connect, find_project, show
from service.cli.loop import runs_app
from service.cli.models import model_app
from service.cli.operation import ledger_app
from service.errors import NotFound
from service.tables import AnnotationTask, Evaluation, LedgerEntry, ModelVersion, Promotion, TrainingRun

PAGE = 50
Cursor = Annotated[
    UUID | None, typer.Option(help="Go on where `next_cursor` says that the list before ended.")
]

app = typer.Typer()
evaluations_app, tasks_app = (typer.Typer(no_args_is_help=True) for _ in range(2))
app.add_typer(evaluations_app, name="evaluations", help="How challengers were judged.")
app.add_typer(tasks_app, name="tasks", help="What experts are asked.")


@model_app.command("list")
def list_models(project: Project, cursor: Cursor = None, as_json: AsJson = False) -> None:
    """List a project's model versions, the newest first."""
    fields = ("id", "number", "state", "base_model", "adapter_sha256", "created_at")
    _list(ModelVersion, fields, project, cursor, as_json=as_json)


@runs_app.command("list")
def list_runs(project: Project, cursor: Cursor = None, as_json: AsJson = False) -> None:
    """List a project's trainings, the newest first."""
    fields = ("id", "state", "training_set_id", "failure", "created_at", "finished_at")
    _list(TrainingRun, fields, project, cursor, as_json=as_json)


@evaluations_app.command("list")
def list_evaluations(project: Project, cursor: Cursor = None, as_json: AsJson = False) -> None:
    """List a project's evaluations, the newest first."""
    fields = ("id", "model_version_id", "state", "sentence", "created_at")
    _list(Evaluation, fields, project, cursor, as_json=as_json)


@evaluations_app.command("show")
def show_evaluation(evaluation: UUID, as_json: AsJson = False) -> None:
    """Show one evaluation: verdict, reasons and scores."""
    with connect().db.reading() as session:
        found = session.get(Evaluation, evaluation)
        if found is None:
            raise NotFound(f"no evaluation {evaluation}")
        document = describe_today(session, found)
    show(document, as_json=as_json)


@model_app.command("history")
def list_switches(project: Project, cursor: Cursor = None, as_json: AsJson = False) -> None:
    """List what was live when, by whom and why, the newest first."""
    fields = ("id", "seq", "kind", "model_version_id", "user_id", "reason", "created_at")
    _list(Promotion, fields, project, cursor, as_json=as_json)


@ledger_app.command("list")
def list_entries(project: Project, cursor: Cursor = None, as_json: AsJson = False) -> None:
    """List who decided or changed what in a project, the newest first."""
    fields = ("id", "seq", "actor", "action", "subject", "facts", "created_at")
    _list(LedgerEntry, fields, project, cursor, as_json=as_json)


@tasks_app.command("list")
def list_tasks(project: Project, cursor: Cursor = None, as_json: AsJson = False) -> None:
    """List what experts are asked, the newest first."""
    fields = ("id", "purpose", "state", "response_id", "priority", "created_at")
    _list(AnnotationTask, fields, project, cursor, as_json=as_json)


def _list(
    table: type[SQLModel], fields: Sequence[str], slug: str, cursor: UUID | None, *, as_json: bool
) -> None:
    rows: Any = table
    runtime, project = find_project(slug)
    asked = select(rows).where(rows.project_id == project.id).order_by(col(rows.id).desc()).limit(PAGE + 1)
    if cursor:
        asked = asked.where(col(rows.id) < cursor)
    with runtime.db.reading() as session:
        found = session.exec(asked).all()
    shown = [row.model_dump(mode="json", include=set(fields)) for row in found[:PAGE]]
    items = [{name: each[name] for name in fields} for each in shown]
    show({"items": items, "next_cursor": items[-1]["id"] if len(found) > PAGE else None}, as_json=as_json)
