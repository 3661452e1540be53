"""Data that a team already has: audit it before any model exists, import it, and ask experts about a sample."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from service import sources
from service.answers.corpora import corpora, find_source, too_few
from service.cli.console import ACTOR, AsJson, DryRun, NoWait, Project, do, find_project, show
from service.clock import utcnow
from service.errors import Invalid, JobFailed
from service.stages import corpus
from service.tables import JobKind

app = typer.Typer()
corpus_app = typer.Typer(no_args_is_help=True)
app.add_typer(corpus_app, name="corpus", help="Data that a team already has.")
Place = Annotated[
    str,
    typer.Argument(
        metavar="PLACE",
        help="CSV, JSON Lines, JSON, Parquet, a folder, a data set of the hub, label-studio:ID or"
        " argilla:WORKSPACE/DATASET.",
    ),
]
Name = Annotated[str, typer.Option("--source", help="The corpus's name in the project.")]
Columns = Annotated[
    list[str] | None, typer.Option("--column", help="ROLE=NAME of a column, such as answer=Response.")
]
Day = typer.Option(formats=["%Y-%m-%d"])
FINDINGS_SHOWN = 20
WHERE_SHOWN = 3


@corpus_app.command("import")
def import_corpus(
    place: Place,
    project: Project,
    source: Name,
    licence: Annotated[str, typer.Option("--licence", help="What allows its use, such as CC-BY-4.0.")],
    author: Annotated[str | None, typer.Option(help="Who wrote it, where rows do not say.")] = None,
    valid_from: Annotated[datetime | None, Day] = None,
    valid_to: Annotated[datetime | None, Day] = None,
    column: Columns = None,
    as_json: AsJson = False,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
) -> None:
    """Take what stands in a file, on the hub or in an annotation tool as rows that nobody has approved yet."""
    columns = sources.columns_of(column or ())
    runtime, row = find_project(project)
    if dry_run:
        show(_in_a_child("read", place, columns), as_json=as_json)
        return
    days = [day.replace(tzinfo=UTC) if day else None for day in (valid_from, valid_to)]
    new = sources.NewSource(source, licence, author, valid_from=days[0], valid_to=days[1])
    with runtime.db.transaction() as session:
        options = sources.import_options(session, _absolute(place), columns, actor=ACTOR)
        source_id = sources.ensure_source(session, row, new).id
    job = (JobKind.CORPUS, source_id)
    show(do(runtime, *job, project_id=row.id, no_wait=no_wait, options=options), as_json=as_json)


@corpus_app.command("list")
def list_corpora(project: Project, as_json: AsJson = False) -> None:
    """List corpora, each with its licence, validity and state."""
    runtime, row = find_project(project)
    with runtime.db.reading() as session:
        show({"items": corpora(session, row), "next_cursor": None}, as_json=as_json)


@corpus_app.command()
def sample(
    project: Project,
    source: Name,
    size: Annotated[int, typer.Option(help="How many rows.")] = corpus.SAMPLE,
    seed: Annotated[int, typer.Option(help="Another seed draws other rows.")] = 0,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Ask experts about a random sample of a corpus."""
    runtime, row = find_project(project)
    with runtime.db.transaction() as session:
        found = find_source(session, row, source)
        drawn = corpus.draw_sample(session, found, size=size, seed=seed, actor=ACTOR)
        told = {"source": source, "sampled": drawn}
        if why := too_few(drawn, found, session):
            told["note"] = why
        if dry_run:
            session.rollback()
    show(told, as_json=as_json)


@corpus_app.command()
def decide(
    project: Project, source: Name, as_json: AsJson = False, no_wait: NoWait = False, dry_run: DryRun = False
) -> None:
    """Admit a corpus, or quarantine it, by what experts settled of its sample."""
    runtime, row = find_project(project)
    with runtime.db.transaction() as session:
        found = find_source(session, row, source)
        admission = corpus.decide(session, found, now=utcnow(), actor=ACTOR)
        if dry_run:
            session.rollback()
    names = {"is_admitted", "right", "asked", "low", "bar"}
    told = {"source": source} | admission.model_dump(include=names)
    if admission.is_admitted and not dry_run:
        told |= do(runtime, JobKind.CORPUS, found.id, project_id=row.id, no_wait=no_wait)
    show(told, as_json=as_json)


@app.command()
def audit(
    place: Annotated[
        str, typer.Argument(metavar="[PLACE]", help="As for corpus import.", show_default=False)
    ] = "",
    project: Annotated[str, typer.Option("--project", "-p", help="Audit a project's data instead.")] = "",
    column: Columns = None,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with data, by source, before any model exists."""
    if bool(place) == bool(project):
        raise Invalid("name a place, or a project with --project")
    columns = sources.columns_of(column or ())
    if place:
        document = _in_a_child("audit", place, columns)
    else:
        runtime, row = find_project(project)
        options = {"audit": True}
        document = do(runtime, JobKind.CORPUS, row.id, project_id=row.id, no_wait=False, options=options)
    show(document if as_json else _at_a_glance(document), as_json=as_json)


def _absolute(place: str) -> str:
    """Name a file so that a worker in another folder finds it."""
    return str(Path(place).resolve()) if Path(place).exists() else place


def _in_a_child(verb: str, place: str, columns: dict[str, str]) -> dict[str, Any]:
    """Read a corpus in a child process, which may load what this one must not."""
    child = [sys.executable, "-m", "service.jobs.places", verb, place, json.dumps(columns)]
    done = subprocess.run(child, stdout=subprocess.PIPE, check=False)  # noqa: S603
    if done.returncode:
        raise JobFailed(f"{place}: the audit broke; what it said stands above")
    document: dict[str, Any] = json.loads(done.stdout)
    if problem := document.get("problem"):
        raise JobFailed(problem["detail"], problem["code"])
    return document


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:WHERE_SHOWN]) + (" …" if len(keys) > WHERE_SHOWN else "")


def _at_a_glance(report: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a report what a person reads elsewhere; sources come first."""
    shown = {"severity", "check", "rows", "evidence", "repair"}
    findings = [
        {name: one[name] for name in one if name in shown} | {"where": _some(one["keys"])}
        for one in report["findings"]
    ]
    more = len(findings) - FINDINGS_SHOWN + report["findings_left_out"]
    return {
        "audit": report["verdict"],
        **{f"source {number}": each["verdict"] for number, each in enumerate(report["sources"], start=1)},
        **({"checks": report["checks"]} if report["checks"] else {}),
        "gravest findings": findings[:FINDINGS_SHOWN],
        **({"more findings": more} if more > 0 else {}),
        **({"unread": report["unread"], "problems": report["problems"]} if report.get("unread") else {}),
    }
