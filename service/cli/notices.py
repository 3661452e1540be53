"""Who else hears of what happens: targets, what they got, and what died on the way."""

from typing import Annotated, TypeVar
from uuid import UUID

import typer
from sqlmodel import Session

from service import notice_targets, projects
from service.cli.console import ACTOR, AsJson, connect, find_project, show
from service.errors import NotFound
from service.tables import Notice, NoticeKind, NoticeState, NoticeTarget

app = typer.Typer()
notices_app = typer.Typer(no_args_is_help=True)
app.add_typer(notices_app, name="notices", help="Signed webhooks that tell others what happened.")
SHOWN = 50
T = TypeVar("T", Notice, NoticeTarget)


@notices_app.command()
def add(
    project: str,
    url: Annotated[str, typer.Argument(help="An https address.")],
    kind: Annotated[list[NoticeKind], typer.Option(help="What it is to hear of; may be repeated.")],
    as_json: AsJson = False,
) -> None:
    """Add a target; the secret that signs what it gets is shown once."""
    runtime = connect()
    with runtime.db.transaction() as session:
        row = projects.find(session, project)
        added = notice_targets.add(session, row, url, kind, runtime=runtime, actor=ACTOR)
    show(added, as_json=as_json)


@notices_app.command("list")
def list_notices(
    project: str,
    dead: Annotated[bool, typer.Option("--dead", help="Only those that nobody has heard.")] = False,
    as_json: AsJson = False,
) -> None:
    """List a project's targets and its newest notices."""
    runtime, row = find_project(project)
    with runtime.db.reading() as session:
        targets = map(notice_targets.told, notice_targets.targets_of(session, row.id))
        found = notice_targets.newest(session, row.id, SHOWN, NoticeState.DEAD if dead else None)
        document = {"targets": list(targets), "items": list(map(notice_targets.told, found))}
    show(document, as_json=as_json)


@notices_app.command("test")
def send_test(target: UUID, as_json: AsJson = False) -> None:
    """Send a target a notice that means nothing."""
    with connect().db.transaction() as session:
        notice_targets.send_test(session, _find(session, NoticeTarget, target))
    show({"target": str(target)}, as_json=as_json)


@notices_app.command()
def again(notice: UUID, as_json: AsJson = False) -> None:
    """Give a dead notice a fresh set of attempts."""
    with connect().db.transaction() as session:
        notice_targets.send_again(session, _find(session, Notice, notice), actor=ACTOR)
    show({"notice": str(notice)}, as_json=as_json)


@notices_app.command()
def remove(target: UUID, as_json: AsJson = False) -> None:
    """Send a target nothing any more."""
    with connect().db.transaction() as session:
        notice_targets.remove(session, _find(session, NoticeTarget, target), actor=ACTOR)
    show({"target": str(target)}, as_json=as_json)


def _find(session: Session, table: type[T], row_id: UUID) -> T:
    found = session.get(table, row_id)
    if found is None:
        raise NotFound(f"no {table.__tablename__} {row_id}")
    return found
