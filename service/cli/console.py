"""How commands speak: documents and tables on standard output, progress and problems on standard error."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from annotation.errors import ToolUnavailable
from annotation.visible import visible, written
from service import errors, migrations, people, projects
from service.errors import (
    ApprovalStale,
    ConfigurationError,
    Forbidden,
    Invalid,
    JobFailed,
    TryAgain,
    Unauthenticated,
)
from service.queue import QUEUE_OF
from service.runtime import Runtime, from_environment
from service.tables import Job, JobKind, JobState, User
from service.tables import Project as ProjectRow

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)
Project = Annotated[str, typer.Option("--project", "-p", help="The project's slug.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print the job's id and return at once.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]
Token = Annotated[str, typer.Option("--token", help="Your token, or ERRATA_TOKEN.", show_default=False)]

ACTOR = "command line"
APPROVERS = ("approver", "admin")
REFUSED, TRY_AGAIN, CONFIGURATION, INTERRUPTED = 3, 75, 78, 130
POLL_SECONDS = 0.2
MEANT = {"known": "known already", "unread": "could not be read"}  # what short names say to a person
EMPTY = {"checks": "all"}  # what an empty list says where it does not say none
ENDED = (JobState.DONE, JobState.DEAD, JobState.CANCELLED)


def connect() -> Runtime:
    """Return this process's runtime, once its database is seen to have this code's schema.

    Raises:
        ConfigurationError: the database was never set up, or an earlier or later version did it.
        TryAgain: the database does not answer.
    """
    runtime = from_environment()
    try:
        migrations.check(runtime.db)
        is_current = migrations.revision(runtime.db) == migrations.head()
    except OperationalError as error:
        raise TryAgain(f"ERRATA_DATABASE_URL: {str(error.orig).partition(chr(10))[0]}") from error
    if not is_current:
        raise ConfigurationError("the database is not set up for this version: run errata up or errata init")
    return runtime


def find_project(slug: str) -> tuple[Runtime, ProjectRow]:
    """Connect, and find a project."""
    runtime = connect()
    with runtime.db.reading() as session:
        return runtime, projects.find(session, slug)


def show(document: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a document, for programs as JSON and for people as lines; lists of rows become tables.

    Into a file or another program a table goes as lines with tabs between the cells.
    """
    if as_json:
        sys.stdout.write(f"{written(document)}\n")
        return
    # What users wrote is shown as it is.
    out = Console(highlight=False, markup=False, emoji=False)
    for name, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            if sys.stdout.isatty():
                out.print(_table(_name(name), value))
            else:
                sys.stdout.writelines(_lines(_name(name), value))
        elif name != "next_cursor" or value is not None:  # programs turn pages
            out.print(f"{_name(name)}: {_told(value)}", soft_wrap=True)


def report_problem(error: Exception) -> None:
    """Print a failure: one line, or with --json a problem document on standard output."""
    code, detail = code_of(error), " ".join(_sentence(error).split())
    if not detail:  # the command's help was printed instead
        return
    if "--json" in sys.argv:
        problem = {
            "type": f"/problems/{code}",
            "title": type(error).__name__,
            "code": code,
            "detail": detail,
        }
        sys.stdout.write(f"{written(problem)}\n")
    else:
        sys.stderr.write(f"errata: {visible(detail)}\n")


def code_of(error: Exception) -> str:
    """Return an error's stable code."""
    if isinstance(error, typer.TyperException):
        return "usage"
    if isinstance(error, JobFailed) and len(error.args) > 1:
        return str(error.args[1])
    return errors.code_of(error)


def exit_code(error: Exception) -> int:
    """Return the exit status that DESIGN's contract gives an error."""
    if isinstance(error, typer.TyperException):
        return error.exit_code
    if isinstance(error, ConfigurationError):
        return CONFIGURATION
    if isinstance(error, ApprovalStale):
        return REFUSED
    if isinstance(error, TryAgain | ToolUnavailable) or code_of(error) in ("tool_unavailable", "try_again"):
        return TRY_AGAIN
    return 1


@contextmanager
def deciding(
    slug: str, token: str, *, roles: Sequence[str] = APPROVERS
) -> Iterator[tuple[Session, ProjectRow, User]]:
    """Open the transaction in which a person decides: people do, not whoever has a shell.

    Raises:
        NotFound: there is no such project.
        Unauthenticated: there is no token, or it is nobody's.
        Forbidden: this person may not decide in the project.
    """
    runtime = connect()
    given = token or runtime.settings.token.get_secret_value()
    with runtime.db.transaction() as session:
        user = people.user_of(session, given) if given else None
        if user is None:
            raise Unauthenticated("ERRATA_TOKEN: give your own token; errata tokens add USER makes one")
        project = projects.find(session, slug)
        role = people.role_in(session, user, project.id)
        if role not in roles:
            raise Forbidden(f"role {role} may not decide")
        yield session, project, user


def do(
    runtime: Runtime,
    kind: JobKind,
    row_id: UUID,
    *,
    project_id: UUID,
    no_wait: bool,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Ask for a job and wait for its result; a job without options is asked for once, however often."""
    # Two files of answers are two jobs, though both are for one project.
    key = None if options else f"{kind}:{row_id}"
    with runtime.db.transaction() as session:
        job_id = runtime.queue.ask(
            session, kind, row_id, project_id=project_id, unique_key=key, options=options
        )
    return {"job": str(job_id)} if no_wait else wait(runtime, job_id)


def wait(
    runtime: Runtime, job_id: UUID, *, on_progress: Callable[[Job], None] | None = None
) -> dict[str, Any]:
    """Wait for a job and return its result; with no live worker it is done in a child process.

    Raises:
        JobFailed: it ended without a result.
    """
    tell = on_progress or _progress_line
    child = None
    while True:
        with runtime.db.reading() as session:
            job = session.get_one(Job, job_id)
            is_due = job.state is JobState.PENDING and job.not_before <= runtime.db.now(session)
        if job.state in ENDED:
            break
        if (
            is_due
            and (child is None or child.poll() is not None)
            and not runtime.queue.workers(QUEUE_OF[job.kind])
        ):
            child = work_in_a_child(job_id)
        tell(job)
        time.sleep(POLL_SECONDS)
    if child:
        child.wait()
    _clear_line()
    if job.state is not JobState.DONE:
        raise JobFailed(f"job {job_id} is {job.state}: {job.failure}", job.failure_code or "job_failed")
    return job.result


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have a file written that appears whole or not at all; one that is there is replaced.

    Raises:
        Invalid: it cannot be written.
    """
    partial = path.absolute().with_name(f"{path.name}.partial")
    try:
        write(partial)
        partial.replace(path)
    except OSError as error:
        raise Invalid(f"--to {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def work_in_a_child(job_id: UUID) -> "subprocess.Popen[bytes]":
    """Start a process that does one job."""
    return subprocess.Popen([sys.executable, "-m", "service.cli", "work", str(job_id)])  # noqa: S603


def _sentence(error: Exception) -> str:
    if isinstance(error, typer.TyperException):
        return error.format_message()
    return str(error.args[0] if isinstance(error, JobFailed) else error)


def _progress_line(job: Job) -> None:
    if sys.stderr.isatty():
        facts = "  ".join(
            f"{k.replace('_', ' ')} {v:.4g}" if isinstance(v, float) else f"{k.replace('_', ' ')} {v}"
            for k, v in job.progress.items()
            if v and not isinstance(v, list | dict)
        )
        sys.stderr.write(f"\r\033[K{job.kind.value}: {job.state.value}  {facts}"[:160])
        sys.stderr.flush()


def _clear_line() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")


def _lines(title: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    yield f"{title}:\n"
    for cells in (map(_name, rows[0]), *(map(_told, row.values()) for row in rows)):
        yield "\t".join(" ".join(cell.split()) for cell in cells) + "\n"


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(_name(name), overflow="fold")
    for row in rows:
        table.add_row(*map(_told, row.values()))
    return table


def _name(name: str) -> str:
    return MEANT.get(name, name.replace("_", " "))


def _told(value: Any) -> str:
    """Say a value as people do."""
    if isinstance(value, dict):
        named = (
            (name, EMPTY.get(name, "none") if each == [] else _told(each)) for name, each in value.items()
        )
        return ", ".join(f"{name} {text}" for name, text in named) or "none"
    if isinstance(value, list):
        return ", ".join(map(_told, value)) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return visible(str(value))  # a user's text could otherwise move the cursor, or write to the clipboard
