"""Running it: up, workers, jobs, health and the ledger."""

import os
import sys
import time
from typing import Annotated, Literal, NoReturn
from uuid import UUID

import typer
from rich.console import Console
from sqlmodel import col, select

from service import ledger, migrations, secrets, settings, supervisor
from service.cli.console import ACTOR, AsJson, connect, show
from service.db import Database
from service.errors import Invalid
from service.runtime import from_environment
from service.schedule import main as keep_schedule
from service.tables import Job, JobState, User

app = typer.Typer()
jobs_app, ledger_app = typer.Typer(no_args_is_help=True), typer.Typer(no_args_is_help=True)
app.add_typer(jobs_app, name="jobs", help="Background work.")
secrets_app = typer.Typer(no_args_is_help=True)
app.add_typer(secrets_app, name="secrets", help="The installation's own keys.")
app.add_typer(ledger_app, name="ledger", help="The chained record of decisions.")


@app.command()
def up(
    extra: Annotated[Literal["argilla"] | None, typer.Option("--with", help="What else to run.")] = None,
) -> None:
    """Run everything on this machine until Ctrl-C."""
    chosen = settings.load()
    if extra:
        chosen = chosen.model_copy(update={"argilla": True})
    out = Console(stderr=True, highlight=False, markup=False, emoji=False)
    started = time.monotonic()

    def report(name: str, state: str) -> None:
        out.print(f"{time.monotonic() - started:7.1f} s  {name:<13} {state}", soft_wrap=True)

    def ready() -> None:
        report("errata", f"ready at {chosen.own_url}")
        with from_environment().db.reading() as session:
            if session.exec(select(User.id).limit(1)).first() is None:
                report("errata", "nobody can sign in yet: ./run errata init --admin NAME prints a link")

    supervisor.up(chosen, report, ready=ready)


@app.command()
def worker(
    queue: Annotated[
        str, typer.Argument(help="light, heavy (training), remote (mirrors) or tools (experts).")
    ],
) -> None:
    """Work on one queue."""
    _run_module("service.worker", queue)


@app.command(hidden=True)
def work(job_id: UUID) -> None:
    """Do one job in this process, without Redis."""
    _run_module("service.worker", "--job", str(job_id))


@app.command()
def schedule() -> None:
    """Keep the schedule: sweep, triage, sync."""
    keep_schedule()


@app.command()
def migrate() -> None:
    """Bring the database to this version's schema; processes of the version before go on beside it."""
    migrations.upgrade(Database(settings.load().database))


@jobs_app.command("list")
def list_jobs(
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the newest jobs."""
    jobs = select(Job).order_by(col(Job.id).desc()).limit(50)
    with connect().db.reading() as session:
        found = session.exec(jobs.where(Job.state == state) if state else jobs).all()
    items = [
        {
            "id": str(j.id),
            "kind": j.kind.value,
            "state": j.state.value,
            "attempts": j.attempts,
            "failure": j.failure,
        }
        for j in found
    ]
    show({"items": items, "next_cursor": None}, as_json=as_json)


@jobs_app.command("retry")
def retry_job(job_id: UUID, as_json: AsJson = False) -> None:
    """Give a dead or cancelled job a fresh set of attempts."""
    connect().queue.retry(job_id, actor=ACTOR)
    show({"job": str(job_id), "state": "pending"}, as_json=as_json)


@jobs_app.command("cancel")
def cancel_job(job_id: UUID, as_json: AsJson = False) -> None:
    """End a job within seconds."""
    connect().queue.cancel(job_id, actor=ACTOR)
    show({"job": str(job_id), "state": "cancelled"}, as_json=as_json)


@ledger_app.command("verify")
def verify_ledger(
    head: Annotated[
        str, typer.Option(help="SEQ:SHA256 as it was once printed or told, so that a cut end is found too.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Look for edits, deletions and swaps in the ledger; exits 1 when there are any."""
    seq, _, sha256 = head.partition(":")
    if head and not seq.isdecimal():
        raise Invalid(f"--head {head}: write SEQ:SHA256")
    with connect().db.reading() as session:
        broken = list(ledger.broken(session))
        if head:
            broken += ledger.parted_from(session, int(seq), sha256)
        document = {"intact": not broken, "broken": broken, "head": ledger.head(session)}
    show(document, as_json=as_json)
    if broken:
        raise typer.Exit(1)


@secrets_app.command("rotate")
def rotate_secrets(as_json: AsJson = False) -> None:
    """Make new keys for sessions and webhooks; the earlier ones hold until the next rotation.

    Then start web servers and workers anew, one after the other; each tool's webhook follows at its next sync.
    """
    runtime = connect()
    secrets.rotate(runtime.settings.data_dir)
    with runtime.db.transaction() as session:
        ledger.append(session, actor=ACTOR, action="secrets_rotated", subject="installation", facts={})
    show({"rotated": ["session_key", "hook_secret"]}, as_json=as_json)


def _run_module(*arguments: str) -> NoReturn:
    # This process becomes the other one, which may load torch, so that a signal reaches it.
    environment = {**supervisor.QUIET, **os.environ}
    os.execve(sys.executable, [sys.executable, "-m", *arguments], environment)  # noqa: S606  no shell is wanted
