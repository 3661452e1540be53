"""What operators ask: what waits, what changed between two sets, what is live, what made a model worse."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from service import answers, bisections, champions
from service.answers.changes import compare
from service.answers.next_step import next_step
from service.answers.overview import loop
from service.cli.console import ACTOR, AsJson, DryRun, NoWait, Project, connect, do, find_project, show, wait
from service.clock import utcnow
from service.errors import Invalid
from service.tables import JobKind

app = typer.Typer()


@app.command()
def overview(project: Project, as_json: AsJson = False) -> None:
    """Show what waits at each stage of the loop, and the one thing to do now."""
    runtime, row = find_project(project)
    with runtime.db.reading() as session:
        step = next_step(session, row)
        stops = [asdict(stop) for stop in loop(session, row, now=utcnow())]
    items = [one | {"oldest": one["oldest"] and one["oldest"].isoformat()} for one in stops]
    about = str(step.row_id) if step.row_id else None
    show({"next": step.sentence, "page": step.page, "about": about, "items": items}, as_json=as_json)


@app.command()
def diff(a: str, b: str, as_json: AsJson = False) -> None:
    """Show how training set B differs from A, row by row with its cause."""
    with connect().db.reading() as session:
        document = compare(session, answers.find_set(session, a), answers.find_set(session, b))
    show(document if as_json else _at_a_glance(document), as_json=as_json)


@app.command()
def rebuild(
    name: Annotated[str, typer.Argument(metavar="SET")],
    verify: Annotated[bool, typer.Option("--verify", help="Compare with what is stored.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build a training set again from its settlements; --verify exits 1 unless all that is not erased is equal."""
    runtime = connect()
    with runtime.db.reading() as session:
        found = answers.find_set(session, name)
    document = do(runtime, JobKind.REBUILD, found.id, project_id=found.project_id, no_wait=False)
    show(document, as_json=as_json)
    if verify and not document["equal"]:
        raise typer.Exit(1)


@app.command()
def live(
    project: Project,
    at: Annotated[str, typer.Option(help="An ISO 8601 time; now by default.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show which model version is live, or was at a time."""
    try:
        moment = datetime.fromisoformat(at).astimezone() if at else None
    except ValueError as error:
        raise Invalid(f"--at {at}: not an ISO 8601 time") from error
    runtime, row = find_project(project)
    with runtime.db.reading() as session:
        found = champions.live_at(session, row, moment)
    show(answers.describe_promotion(*found), as_json=as_json)


@app.command()
def bisect(
    project: Project,
    good: Annotated[str, typer.Option(metavar="A", help="The better version: its number, or PROJECT/vN.")],
    bad: Annotated[str, typer.Option(metavar="B", help="The worse version.")],
    metric: Annotated[str, typer.Option(metavar="M", help="One that calls each case right or wrong.")],
    budget: Annotated[int | None, typer.Option(help="The most configurations to be trained.")] = None,
    as_json: AsJson = False,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
) -> None:
    """Find which change of data, code or configuration made a model version worse."""
    runtime, row = find_project(project)
    options: dict[str, Any] = {"metric": metric, "budget": budget}
    with runtime.db.reading() as session:
        versions = bisections.find_versions(session, row, good, bad)
        if dry_run:
            show(bisections.plan(runtime, session, *versions, **options), as_json=as_json)
            return
    found = bisections.request(runtime, *versions, actor=ACTOR, **options)
    with runtime.db.reading() as session:
        told = bisections.describe(session, found)
    if not as_json:
        likely, most = (told["progress"][name] for name in ("expected", "at_most"))
        typer.echo(
            f"about {likely['trainings']} trainings and {likely['seconds']:.0f} s, "
            f"at most {most['trainings']} and {most['seconds']:.0f} s",
            err=True,
        )
    done = {"job": told["job"], "id": told["id"]} if no_wait else wait(runtime, UUID(told["job"]))
    show(done, as_json=as_json)


@app.command()
def value(
    project: Project,
    version: Annotated[
        str, typer.Option(metavar="V", help="Its number, or PROJECT/vN; the newest by default.")
    ] = "",
    check: Annotated[
        int, typer.Option(metavar="N", min=0, max=20, help="Train N times without some of the sources.")
    ] = 0,
    as_json: AsJson = False,
    no_wait: NoWait = False,
) -> None:
    """Estimate what each flag, reason, source and annotator's hour was worth to a model version."""
    runtime, row = find_project(project)
    with runtime.db.reading() as session:
        (model,) = (
            bisections.find_versions(session, row, version)
            if version
            else [answers.find_model(session, row, None)]
        )
    options = {"repeats": check} if check else None
    show(
        do(runtime, JobKind.VALUE, model.id, project_id=row.id, no_wait=no_wait, options=options),
        as_json=as_json,
    )


def _at_a_glance(changes: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a difference what a person does not look at: keys, weights and refused answers."""
    return {
        name: value
        if isinstance(value, str)
        else [
            {"cause": one["cause"]["kind"], "part": one["row"]["split"], "asked": one["row"]["prompt"]}
            | ({"was": one["was"]} if "was" in one else {})
            | {"answer": one["row"]["answer"], "id": one["cause"]["id"]}
            for one in value
        ]
        for name, value in changes.items()
    }
