"""What people decide about single tasks: the answer to a contested one, whom to ask again, where it is followed."""

from typing import Annotated
from uuid import UUID

import typer
from sqlmodel import Session

from annotation.types import Answer, Cause, Verdict
from service import settlements
from service.answers.annotators import is_left_alone
from service.cli.audits import WHO_REPAIRS
from service.cli.console import ACTOR, AsJson, DryRun, Project, Token, connect, deciding, find_project, show
from service.cli.labelling import find_task
from service.cli.listings import tasks_app
from service.errors import NotFound
from service.stages import asking
from service.tables import Bisection, Settlement
from service.tables import Project as ProjectRow

app = typer.Typer()


@tasks_app.command()
def adjudicate(
    task: Annotated[UUID, typer.Argument(help="A contested task, or one that nobody is left to answer.")],
    project: Project,
    verdict: Annotated[Verdict, typer.Option(help="What its response is.")],
    reason: Annotated[str, typer.Option(help="Why it holds.")],
    label: Annotated[str | None, typer.Option(help="The right one.")] = None,
    labels: Annotated[str, typer.Option(help="Where several may be right: those that are, a,b,c.")] = "",
    correction: Annotated[str | None, typer.Option(help="What should have been said.")] = None,
    cause: Annotated[Cause | None, typer.Option(help="Whose fault it is.")] = None,
    token: Token = "",
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Decide a task as a person who did not answer it."""
    chosen, several = connect().settings, tuple(each for each in labels.split(",") if each)
    answer = Answer(verdict, label=label, labels=several, correction=correction, cause=cause)
    with deciding(project, token, roles=WHO_REPAIRS) as (session, row, user):
        found = find_task(session, row, task)
        if is_left_alone(session, row, found):
            settlements.contest(session, found, actor=user.name)
        settlements.adjudicate(session, row, found, answer, reason=reason, user=user, chosen=chosen)
        document = {"task": str(task), "state": found.state.value}
        if dry_run:
            session.rollback()
    show(document, as_json=as_json)


@tasks_app.command()
def ask_again(
    project: Project,
    bisection: Annotated[
        UUID | None, typer.Option(help="The rows that it found to blame, not those that new questions doubt.")
    ] = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Ask experts again for settled answers that are in doubt; what they said teaches until then."""
    runtime, row = find_project(project)
    with runtime.db.transaction() as session:
        if bisection:
            asked = asking.ask_about(session, row, _to_blame(session, row, bisection), actor=ACTOR)
        else:
            asked = asking.ask_again(session, row, actor=ACTOR)
        if dry_run:
            session.rollback()
    show({"asked_again": asked}, as_json=as_json)


@tasks_app.command()
def ticket(
    settlement: Annotated[UUID, typer.Argument(help="What a task came to, as errata where names it.")],
    project: Project,
    url: Annotated[str, typer.Option(help="Where it is followed; without, the link goes.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say where what was handed over is followed; whoever flagged it is shown the link."""
    runtime, row = find_project(project)
    with runtime.db.transaction() as session:
        found = session.get(Settlement, settlement)
        if found is None or found.project_id != row.id:
            raise NotFound(f"project {row.slug} has no settlement {settlement}")
        settlements.link_ticket(session, found, url or None, actor=ACTOR)
    show({"settlement": str(settlement), "ticket_url": url or None}, as_json=as_json)


def _to_blame(session: Session, project: ProjectRow, bisection_id: UUID) -> list[UUID]:
    found = session.get(Bisection, bisection_id)
    if found is None or found.project_id != project.id:
        raise NotFound(f"project {project.slug} has no bisection {bisection_id}")
    return [UUID(row["row"]) for row in found.result.get("rows", [])]
