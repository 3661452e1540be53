"""What people may ask about their own words: erase them, keep them for a court, hand them out."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from service import projects, rights, text_reads
from service.cli.console import ACTOR, AsJson, NoWait, connect, show, wait
from service.errors import Invalid
from service.tables import Erasure

app = typer.Typer()
subject_app = typer.Typer(no_args_is_help=True)
app.add_typer(subject_app, name="subject", help="People, as your application names them.")
Subject = Annotated[str, typer.Option("--subject", help="A person, as your application names them.")]
InProject = Annotated[str, typer.Option("--project", "-p", help="In one project only; all by default.")]


@app.command()
def erase(
    subject: Subject = "",
    project: InProject = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, what would go is shown.")] = False,
    verify: Annotated[Path | None, typer.Option(help="Check a certificate instead.")] = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Forget a person wherever their words are, and print the signed certificate."""
    runtime = connect()
    if verify:
        with runtime.db.reading() as session:
            show(rights.verify_certificate(session, runtime.secrets, _read(verify)), as_json=as_json)
        return
    _check(subject)
    with runtime.db.transaction() as session:
        row = projects.find(session, project) if project else None
        told = rights.preview(session, runtime.secrets, subject, row)
        if yes:
            confirm = told["confirm"]
            wish, job = rights.ask_erasure(
                session, runtime.queue, runtime.secrets, subject, row, confirm=confirm, actor=ACTOR
            )
    if not yes:
        del told["confirm"]
        show({"would_erase": told, "next": "the same with --yes"}, as_json=as_json)
    elif no_wait:
        show({"erasure": str(wish.id), "job": str(job)}, as_json=as_json)
    else:
        wait(runtime, job)
        with runtime.db.reading() as session:
            show(session.get_one(Erasure, wish.id).certificate, as_json=as_json)


@app.command()
def hold(
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="The project's slug.")],
    subject: Subject = "",
    reason: Annotated[str, typer.Option(help="Why; needed unless it is lifted.")] = "",
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Until then (UTC).")] = None,
    lift: Annotated[bool, typer.Option("--lift", help="End it instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Keep a person's words from being erased."""
    _check(subject)
    runtime = connect()
    with runtime.db.transaction() as session:
        row = projects.find(session, project)
        if lift:
            document = {"lifted": rights.lift(session, runtime.secrets, subject, row, actor=ACTOR)}
        else:
            end = until.replace(tzinfo=UTC) if until else None
            made = rights.hold(session, runtime.secrets, subject, row, reason=reason, until=end, actor=ACTOR)
            document = made.model_dump(mode="json", include={"id", "reason", "until", "actor"})
    show(document, as_json=as_json)


@subject_app.command("export")
def export_subject(subject: str, project: InProject = "", as_json: AsJson = False) -> None:
    """Print everything that is kept of a person as one JSON document."""
    _check(subject)
    runtime = connect()
    with runtime.db.transaction() as session:
        row = projects.find(session, project) if project else None
        document = rights.export(session, runtime.secrets, subject, row, actor=ACTOR)
    show(document, as_json=True)


@subject_app.command("reads")
def show_reads(subject: str, project: InProject = "", as_json: AsJson = False) -> None:
    """Tell who looked at pages about what a person asked or said, and on which day."""
    _check(subject)
    with connect().db.reading() as session:
        row = projects.find(session, project) if project else None
        show({"reads": text_reads.of_person(session, subject, row)}, as_json=as_json)


def _check(subject: str) -> None:
    if not subject.strip():
        raise Invalid("--subject: name a person")


def _read(file: Path) -> object:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise Invalid(f"--verify {file}: {error}") from error
