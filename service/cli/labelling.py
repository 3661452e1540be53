"""Labelling by hand: send, sync, accounts, and answers given without a tool."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import typer
from sqlmodel import Session, func, select

from service import tool_server, tools
from service.cli.console import ACTOR, AsJson, DryRun, NoWait, Project, do, find_project, show
from service.errors import Invalid, NotFound, TryAgain
from service.routing import set_routing
from service.runtime import from_environment
from service.stages import gold
from service.tables import AnnotationTask, ConnectorKind, JobKind, TaskState
from service.tables import Project as ProjectRow
from service.tool_server import ToolFailed

EXPERTS = ("expert-1", "expert-2", "expert-3")


app = typer.Typer()
labelling_app = typer.Typer(no_args_is_help=True)
app.add_typer(labelling_app, name="labelling", help="What experts are asked and answer.")


@labelling_app.command()
def send(project: Project, as_json: AsJson = False, no_wait: NoWait = False, dry_run: DryRun = False) -> None:
    """Hand selected tasks to the annotation tool."""
    if dry_run:
        show({"tasks": _selected(project)}, as_json=as_json)
        return
    _do(JobKind.SEND, project, as_json=as_json, no_wait=no_wait)


@labelling_app.command()
def sync(project: Project, as_json: AsJson = False, no_wait: NoWait = False) -> None:
    """Read what experts answered, whatever webhooks said."""
    _do(JobKind.SYNC, project, as_json=as_json, no_wait=no_wait)


@labelling_app.command()
def route(project: str, file: Path, as_json: AsJson = False) -> None:
    """Say which cases are asked in which tool, from a JSON file of rules; an earlier version is kept."""
    try:
        content = json.loads("\n".join(_lines(file)))
    except ValueError as error:
        raise Invalid(f"{file}: not JSON: {error}") from error
    runtime, row = find_project(project)
    with runtime.db.transaction() as session:
        document = set_routing(session, session.get_one(ProjectRow, row.id), content, actor=ACTOR)
    show({"version": document.version, "sha256": document.sha256}, as_json=as_json)


@labelling_app.command("gold")
def name_gold(
    project: str,
    task: Annotated[list[UUID], typer.Argument(help="A settled task, by the id that its page shows.")],
    drop: Annotated[bool, typer.Option("--drop", help="Never judge anybody by these.")] = False,
    as_json: AsJson = False,
) -> None:
    """Name settled tasks whose answer may be used to judge annotators, beside those that all agreed on."""
    runtime, row = find_project(project)
    with runtime.db.transaction() as session:
        for task_id in task:
            found = find_task(session, row, task_id)
            gold.name(session, row, found, is_gold=not drop, actor=ACTOR)
    show({"tasks": [str(task_id) for task_id in task], "is_gold": not drop}, as_json=as_json)


@labelling_app.command("import")
def import_answers(project: str, file: Path, as_json: AsJson = False) -> None:
    """Take answers from JSON Lines: response_id, annotator, verdict, label(s) or correction, cause, ratings, spans."""
    runtime, row = find_project(project)
    options = {"answers": [_line(number, text) for number, text in enumerate(_lines(file), start=1)]}
    document = do(runtime, JobKind.IMPORT, row.id, project_id=row.id, no_wait=False, options=options)
    show(document, as_json=as_json)


@labelling_app.command()
def accounts(
    name: Annotated[
        list[str] | None,
        typer.Option(help="An expert to make an account for; three experts when there is no account yet."),
    ] = None,
    tool: Annotated[
        Literal["label-studio", "argilla"], typer.Option(help="The bundled tool.")
    ] = "label-studio",
    as_json: AsJson = False,
) -> None:
    """Show the experts' accounts in a bundled tool, and make those that are missing."""
    settings, kind = from_environment().settings, ConnectorKind(tool)
    bundled = tools.bundled(kind)
    if theirs := tools.own(settings, kind):
        raise Invalid(
            f"{theirs.url} is yours: make accounts there, and in Argilla add them to each workspace"
        )
    running = bundled.running(settings.data_dir)
    if running is None:
        extra = " --with argilla" if kind is tools.ARGILLA else ""
        raise TryAgain(f"{bundled.TITLE} is not up yet; errata up{extra} starts it")
    try:
        known = tool_server.read_secrets(bundled.home_of(settings.data_dir)).accounts
        names = [*dict.fromkeys([account.name for account in known] + (name or []))]
        made = bundled.ensure_accounts(running.url, settings.data_dir, names or EXPERTS)
    except ToolFailed as error:
        raise TryAgain(str(error)) from error
    show(
        {
            "url": running.url,
            "accounts": [
                {"name": a.name, "email": a.email, "password": a.password, "token": a.token} for a in made
            ],
        },
        as_json=as_json,
    )


def find_task(session: Session, project: ProjectRow, task_id: UUID) -> AnnotationTask:
    """Find a task of a project."""
    found = session.get(AnnotationTask, task_id)
    if found is None or found.project_id != project.id:
        raise NotFound(f"project {project.slug} has no task {task_id}")
    return found


def _do(kind: JobKind, slug: str, *, as_json: bool, no_wait: bool) -> None:
    runtime, project = find_project(slug)
    document = do(runtime, kind, project.id, project_id=project.id, no_wait=no_wait)
    show(document, as_json=as_json)
    if waiting := document.get("waiting"):
        raise TryAgain("; ".join(f"{name}: {problem}" for name, problem in waiting.items()))


def _selected(slug: str) -> int:
    runtime, project = find_project(slug)
    selected = (AnnotationTask.project_id == project.id, AnnotationTask.state == TaskState.SELECTED)
    with runtime.db.reading() as session:
        return session.exec(select(func.count()).select_from(AnnotationTask).where(*selected)).one()


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{file}: {error}") from error


def _line(number: int, text: str) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise Invalid(f"line {number}: not JSON: {error}") from error
    if not isinstance(answer, dict):
        raise Invalid(f"line {number}: not an object")
    return answer
