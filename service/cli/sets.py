"""Training sets for other tools: list them, look at one, export it."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from sqlmodel import col, select

from retrain.export import TRAINING_SPLITS, Export, Format, export, to_jsonl
from retrain.types import Split
from service import answers, ledger
from service.answers.audits import blocked, blocking
from service.answers.examples import examples_of
from service.cli.audits import in_words
from service.cli.console import (
    ACTOR,
    AsJson,
    DryRun,
    NoWait,
    Project,
    connect,
    do,
    find_project,
    show,
    write_whole,
)
from service.clock import utcnow
from service.errors import Invalid
from service.stages.mirroring import needed_tags
from service.tables import JobKind, TrainingSet
from service.tables import Project as ProjectRow

app, sets_app = typer.Typer(), typer.Typer(no_args_is_help=True)
app.add_typer(sets_app, name="sets", help="Training sets.")
Name = Annotated[str, typer.Argument(metavar="SET", help="PROJECT/vN, or a fingerprint's first digits.")]


@sets_app.command("list")
def list_sets(project: Project, as_json: AsJson = False) -> None:
    """List a project's training sets, newest first."""
    runtime, row = find_project(project)
    with runtime.db.reading() as session:
        of_project = select(TrainingSet).where(TrainingSet.project_id == row.id)
        found = session.exec(of_project.order_by(col(TrainingSet.version).desc())).all()
        forbidden = blocked(session, row.id, found, utcnow().date())
    items = [
        {
            "name": f"{row.slug}/v{each.version}",
            "fingerprint": each.fingerprint,
            "counts": each.counts,
            "is_blocked": each.id in forbidden,
            "created_at": each.created_at.isoformat(),
        }
        for each in found
    ]
    show({"items": items, "next_cursor": None}, as_json=as_json)


@sets_app.command("show")
def show_set(name: Name, as_json: AsJson = False) -> None:
    """Show what a training set holds, its recipe and what its audit found."""
    with connect().db.reading() as session:
        found = answers.find_set(session, name)
        document = answers.describe_set(session, found) | {
            "recipe": found.recipe,
            "created_at": found.created_at.isoformat(),
        }
    findings = document["findings"]
    show(document | {"findings": findings if as_json else list(map(in_words, findings))}, as_json=as_json)


@sets_app.command("export")
def export_set(
    name: Name,
    wanted: Annotated[Format, typer.Option("--format", help="What will read the file.")],
    to: Annotated[Path, typer.Option(dir_okay=False, help="The file; one that is there is replaced.")],
    split: Annotated[
        list[Split] | None, typer.Option(help="A part of the set; train and validation by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a training set to a file that a trainer or a notebook reads; erased rows are not in it."""
    runtime = connect()
    splits = split or list(TRAINING_SPLITS)
    with runtime.db.reading() as session:
        found = answers.find_set(session, name)
        project = session.get_one(ProjectRow, found.project_id)
        examples = examples_of(session, found)
        is_blocked = bool(blocking(session, found, utcnow().date()))
    made = export(examples, wanted, system_prompt=project.system_prompt, splits=splits)
    document = {
        "set": found.fingerprint,
        "format": wanted.value,
        "splits": [each.value for each in splits],
        "rows": len(made.rows),
        "examples": made.examples,
        "left_out": {reason.value: count for reason, count in made.left_out.items()},
        "weights_lost": made.weights_lost,
        "is_blocked": is_blocked,
    }
    # First the ledger: users' words leave this installation, and an erasure must know where to look for them.
    with runtime.db.transaction() as session:
        ledger.append(
            session,
            actor=ACTOR,
            action="training_set_exported",
            subject=found.fingerprint,
            project_id=found.project_id,
            facts={key: document[key] for key in ("format", "splits", "rows")},
        )
    write_whole(to, partial(_write, made, wanted))
    show(document | {"file": str(to)}, as_json=as_json)


@sets_app.command()
def mirror(name: Name, as_json: AsJson = False, no_wait: NoWait = False) -> None:
    """Put a set and its judged runs into the data repository, and push what its remote lacks."""
    runtime = connect()
    with runtime.db.reading() as session:
        found = answers.find_set(session, name)
    show(do(runtime, JobKind.MIRROR, found.id, project_id=found.project_id, no_wait=no_wait), as_json=as_json)


@sets_app.command()
def collect(project: Project, as_json: AsJson = False, dry_run: DryRun = False) -> None:
    """Free the room of sets in the data repository that no model, rollback or bisection needs."""
    runtime, row = find_project(project)
    if dry_run:
        with runtime.db.reading() as session:
            show({"kept": needed_tags(session)}, as_json=as_json)
        return
    show(do(runtime, JobKind.COLLECT, row.id, project_id=row.id, no_wait=False), as_json=as_json)


def _write(made: Export, wanted: Format, path: Path) -> None:
    rows = to_jsonl(made.rows)
    if wanted is Format.PARQUET:
        _write_parquet(rows, path)
    else:
        path.write_bytes(rows)


def _write_parquet(rows: bytes, path: Path) -> None:
    """Let a process of its own write the file: `datasets` takes long to load, and only workers have it."""
    command = [sys.executable, "-m", "retrain.parquet", str(path)]
    done = subprocess.run(command, input=rows, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        *_, reason = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit {done.returncode}"]
        raise Invalid(f"--to {path}: {reason}")
