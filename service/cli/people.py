"""Projects, keys, people, tokens and the documents that decisions name."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlmodel import Session, col, select

from annotation import label_schema
from annotation.suggestions import SuggestionSource
from retrain.suites.document import bundled_suites
from service import goalposts, migrations, people, projects
from service.answers.complaints import complaints
from service.answers.flagged import cluster_of, clusters
from service.answers.outdated import describe
from service.cli.console import ACTOR, AsJson, connect, show
from service.errors import Invalid
from service.runtime import Runtime, from_environment
from service.stages.asking import ask_again
from service.tables import ConnectorKind, Document, DocumentKind, ProjectKind, Role
from service.tables import Project as ProjectRow

Reason = Annotated[
    str, typer.Option(help="Why, while a scored challenger waits for a decision.", show_default=False)
]
SecondToken = Annotated[
    str, typer.Option(help="Then also the token of a second person who may approve.", show_default=False)
]

app = typer.Typer()
project_app, user_app, token_app, criteria_app, rules_app, schema_app, suites_app = (
    typer.Typer(no_args_is_help=True) for _ in range(7)
)
app.add_typer(project_app, name="projects", help="Projects: one fine-tuned model's world each.")
app.add_typer(user_app, name="users", help="People who sign in and decide.")
app.add_typer(token_app, name="tokens", help="People's own tokens.")
app.add_typer(criteria_app, name="criteria", help="What success means; nothing trains without it.")
app.add_typer(schema_app, name="schema", help="What experts are asked.")
app.add_typer(suites_app, name="suites", help="Kinds of behaviour that models are judged by.")
app.add_typer(rules_app, name="rules", help="What a challenger may lose before the gate refuses it.")


@app.command()
def init(
    admin: Annotated[str, typer.Option(help="The first administrator's name.")], as_json: AsJson = False
) -> None:
    """Set up an empty installation; prints the administrator's one-time sign-in link."""
    runtime = from_environment()
    migrations.upgrade(runtime.db)
    _add_user(runtime, admin, Role.ADMIN, slug="", as_json=as_json)


@user_app.command("add")
def add_user(
    name: str,
    role: Annotated[Role, typer.Option(help="What this person may do.")],
    project: Annotated[str, typer.Option(help="The role is for this project only.")] = "",
    as_json: AsJson = False,
) -> None:
    """Add a person; prints their one-time sign-in link."""
    _add_user(connect(), name, role, slug=project, as_json=as_json)


@token_app.command("add")
def add_token(user: str, as_json: AsJson = False) -> None:
    """Make a token with which a person acts through the API; it is shown once."""
    with connect().db.transaction() as session:
        token = people.add_token(session, user, actor=ACTOR)
    show({"token": token}, as_json=as_json)


@project_app.command("create")
def create_project(
    name: str,
    kind: Annotated[ProjectKind, typer.Option(help="What its model is for.")],
    base_model: Annotated[str, typer.Option(help="bundled:smollm2, bundled:tiny, a path, or a hub id.")],
    labels: Annotated[str, typer.Option(help="Labels of a classification, separated by commas.")] = "",
    schema: Annotated[Path | None, typer.Option(help="A label schema as JSON, instead of --labels.")] = None,
    guidelines: Annotated[Path | None, typer.Option(help="What experts read, as Markdown.")] = None,
    system_prompt: Annotated[str, typer.Option(help="The prompt that opens every conversation.")] = "",
    overlap: Annotated[int, typer.Option(help="How many experts are asked.")] = 2,
    needed: Annotated[int | None, typer.Option(help="How many must agree; all of them by default.")] = None,
    connector: Annotated[
        ConnectorKind, typer.Option(help="Where experts work.")
    ] = ConnectorKind.LABEL_STUDIO,
    random_share: Annotated[
        float, typer.Option(help="Share of unflagged responses that experts see.")
    ] = 0.05,
    as_json: AsJson = False,
) -> None:
    """Create a project; its base model is the first champion."""
    read = label_schema.from_json(read_json(schema)) if schema else None
    new = projects.NewProject(
        slug=name,
        kind=kind,
        base_model=base_model,
        labels=[label.strip() for label in labels.split(",") if label.strip()],
        schema=read,
        guidelines=read_text(guidelines) if guidelines else "",
        system_prompt=system_prompt,
        connector=connector,
        overlap=overlap,
        needed=needed or overlap,
        random_share=random_share,
    )
    with connect().db.transaction() as session:
        project = projects.create(session, new, actor=ACTOR)
    show({"project": project.slug, "id": str(project.id)}, as_json=as_json)


# Long, for each switch of a project is an option.
@project_app.command("set")
def change_project(
    name: str,
    random_share: Annotated[
        float | None, typer.Option(help="Share of unflagged responses that experts see.")
    ] = None,
    suggestion: Annotated[
        SuggestionSource | None,
        typer.Option(
            help="What experts find prefilled: nothing, the model's answer or the user's correction."
        ),
    ] = None,
    blind_share: Annotated[
        float | None,
        typer.Option(help="Share of tasks that show no suggestion, to measure how far it sways."),
    ] = None,
    persons_needed: Annotated[
        int | None,
        typer.Option(
            help="Persons behind what goes live; from 2 on, who asked for a training does not approve it."
        ),
    ] = None,
    blindness: Annotated[
        bool | None,
        typer.Option(
            help="Ask only where nobody can read others' answers, so in no Label Studio of your own."
        ),
    ] = None,
    admission_bar: Annotated[
        float | None, typer.Option(help="How much of a corpus must be right, at least, to be admitted.")
    ] = None,
    settlement_bar: Annotated[
        float | None, typer.Option(help="How probable an answer must be, at least, to be settled.")
    ] = None,
    gold_share: Annotated[
        float | None,
        typer.Option(help="For what share of tasks one whose answer is known is hidden among them."),
    ] = None,
    repeat_weeks: Annotated[
        int | None, typer.Option(help="After how many weeks somebody may be asked the same once more.")
    ] = None,
    daily_capacity: Annotated[
        int | None, typer.Option(help="Most answers that an expert is asked for a day; 0 for no limit.")
    ] = None,
    qualifying_answers: Annotated[
        int | None,
        typer.Option(help="Gold answers after which an expert's count, so there must be gold; 0 for none."),
    ] = None,
    qualifying_accuracy: Annotated[
        float | None, typer.Option(help="Share of them that must be right.")
    ] = None,
    token: Annotated[
        bool | None,
        typer.Option(help="Whether users' feedback needs a token; without one it waits for an operator."),
    ] = None,
    masking: Annotated[
        bool | None,
        typer.Option(
            help="Whether people's data is masked before it is stored; masked answers are not learned."
        ),
    ] = None,
    wave_voices: Annotated[
        int | None,
        typer.Option(help="How many people may not say nearly the same within a day; 0 for no limit."),
    ] = None,
    presumed_consent: Annotated[
        bool | None,
        typer.Option(help="Whether a user's words may be learned who did not say that they may not."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change how a project works."""
    with connect().db.transaction() as session:
        project = projects.find(session, name)
        projects.change(
            session,
            project,
            random_share=random_share,
            suggestion=suggestion,
            blind_share=blind_share,
            persons_needed=persons_needed,
            needs_blindness=blindness,
            admission_bar=admission_bar,
            settlement_bar=settlement_bar,
            gold_share=gold_share,
            repeat_weeks=repeat_weeks,
            daily_capacity=daily_capacity,
            qualifying_answers=qualifying_answers,
            qualifying_accuracy=qualifying_accuracy,
            needs_token=token,
            masks_personal=masking,
            presumes_consent=presumed_consent,
            wave_voices=wave_voices,
            actor=ACTOR,
        )
        document = {"project": project.slug} | {name: getattr(project, name) for name in projects.SWITCHES}
    show(document, as_json=as_json)


@project_app.command("list")
def list_projects(as_json: AsJson = False) -> None:
    """List the projects."""
    with connect().db.reading() as session:
        found = session.exec(select(ProjectRow).order_by(ProjectRow.slug)).all()
    items = [{"project": p.slug, "kind": p.kind.value, "base_model": p.base_model} for p in found]
    show({"items": items, "next_cursor": None}, as_json=as_json)


@criteria_app.command("set")
def set_criteria(
    project: str, file: Path, reason: Reason = "", second_token: SecondToken = "", as_json: AsJson = False
) -> None:
    """Set what success means, from a JSON file; an earlier version is kept."""
    _set_goalposts(goalposts.set_criteria, project, file, (reason, second_token), as_json=as_json)


@rules_app.command("set")
def set_rules(
    project: str, file: Path, reason: Reason = "", second_token: SecondToken = "", as_json: AsJson = False
) -> None:
    """Set what a challenger may lose, from a JSON file; an earlier version is kept."""
    _set_goalposts(goalposts.set_rules, project, file, (reason, second_token), as_json=as_json)


@suites_app.command("set")
def set_suites(
    project: str, file: Path, reason: Reason = "", second_token: SecondToken = "", as_json: AsJson = False
) -> None:
    """Set by what models are judged besides: {"behaviour": [NAME, …], "own": [suite, …], "known": {…}}."""
    _set_goalposts(goalposts.set_suites, project, file, (reason, second_token), as_json=as_json)


@suites_app.command("list")
def list_suites(project: Annotated[str, typer.Argument()] = "", as_json: AsJson = False) -> None:
    """Show the behavioural suites that come with Errata, and with PROJECT what its flags propose as suites."""
    items = [
        {"name": suite.name, "type": suite.type, "about": suite.about} for suite in bundled_suites().values()
    ]
    document: dict[str, Any] = {"items": items, "next_cursor": None}
    if project:
        with connect().db.reading() as session:
            found = clusters(session, projects.find(session, project))
        document["proposed"] = [
            {"reason": one.reason, "settled": len(one.settlements), "learned": one.learned} for one in found
        ]
    show(document, as_json=as_json)


@suites_app.command("accept")
def accept_suite(
    project: str, code: str, reason: Reason = "", second_token: SecondToken = "", as_json: AsJson = False
) -> None:
    """Judge models by the settled flags with the reason CODE, which no later set learns."""

    def put(session: Session, row: ProjectRow, code: str, **why: str) -> Document:
        return goalposts.accept_suite(session, row, code, cluster_of(session, row, code).settlements, **why)

    _move_goalposts(put, project, code, (reason, second_token), as_json=as_json)


@suites_app.command("decline")
def decline_suite(project: str, code: str, as_json: AsJson = False) -> None:
    """Propose no suite for the reason CODE any more."""
    with connect().db.transaction() as session:
        row = projects.find(session, project)
        cluster_of(session, row, code)
        document = goalposts.decline_suite(session, row, code, actor=ACTOR)
    show({"declined": document.content["reasons"]}, as_json=as_json)


def _set_goalposts(
    put: Callable[..., Document], project: str, file: Path, why: tuple[str, str], *, as_json: bool
) -> None:
    _move_goalposts(put, project, read_json(file), why, as_json=as_json)


def _move_goalposts(
    put: Callable[..., Document], project: str, content: Any, why: tuple[str, str], *, as_json: bool
) -> None:
    (reason, second_token), runtime = why, connect()
    with runtime.db.transaction() as session:
        row, token = projects.find(session, project), runtime.settings.token.get_secret_value()
        user = people.user_of(session, token) if token else None
        actor = user.name if user else ACTOR
        document = put(session, row, content, actor=actor, reason=reason, second_token=second_token)
    show({"version": document.version, "sha256": document.sha256}, as_json=as_json)


@schema_app.command("set")
def set_schema(
    project: str,
    file: Path,
    again: Annotated[
        bool, typer.Option("--ask-again", help="Ask again what the change puts in doubt.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Set what experts are asked, from a JSON file; tells which settled answers that puts in doubt."""
    content = read_json(file)
    with connect().db.transaction() as session:
        row = projects.find(session, project)
        projects.set_schema(session, row, content, actor=ACTOR)
        document = describe(session, row)
        document["asked_again"] = ask_again(session, row, actor=ACTOR) if again else 0
    show(document, as_json=as_json)


@schema_app.command("show")
def show_schema(project: str, as_json: AsJson = False) -> None:
    """Show what experts are asked, and which settled answers that puts in doubt."""
    with connect().db.reading() as session:
        document = describe(session, projects.find(session, project))
    show(document, as_json=as_json)


@criteria_app.command("show")
def show_criteria(project: str, as_json: AsJson = False) -> None:
    """Show what success means, newest version first, and which metrics tell what users complain about."""
    with connect().db.reading() as session:
        row = projects.find(session, project)
        told = [asdict(one) for one in complaints(session, row)]
        versions = select(Document).where(
            Document.project_id == row.id, Document.kind == DocumentKind.CRITERIA
        )
        found = session.exec(versions.order_by(col(Document.version).desc())).all()
    items = [{"version": d.version, "author": d.author, "content": d.content} for d in found]
    show({"items": items, "next_cursor": None, "complaints": told}, as_json=as_json)


def _add_user(runtime: Runtime, name: str, role: Role, *, slug: str, as_json: bool) -> None:
    with runtime.db.transaction() as session:
        project = projects.find(session, slug) if slug else None
        secret = people.invite(session, name, role, project=project, actor=ACTOR)
    show({"sign_in_url": f"{runtime.settings.own_url}/sign-in/{secret}"}, as_json=as_json)


def read_json(file: Path) -> Any:
    """Read a file of JSON.

    Raises:
        Invalid: it cannot be read, or is something else.
    """
    try:
        return json.loads(read_text(file))
    except ValueError as error:
        raise Invalid(f"{file}: {error}") from error


def read_text(file: Path) -> str:
    """Read a file of text.

    Raises:
        Invalid: it cannot be read, or is not UTF-8.
    """
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{file}: {error}") from error
