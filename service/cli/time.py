"""Where people's time goes: what happens outside the tools is written down here."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from service import ledger
from service.answers.overview import effort
from service.cli.console import ACTOR, AsJson, Project, Token, deciding, find_project, show
from service.clock import utcnow
from service.errors import Invalid
from service.stages import promotion
from service.tables import Part, TimeEntry

app, time_app = typer.Typer(), typer.Typer(no_args_is_help=True)
app.add_typer(time_app, name="time", help="Time spent on data, training and validation.")
MAX_HOURS = 24 * 31


@time_app.command()
def add(
    project: Project,
    part: Annotated[Part, typer.Option(help="What it was spent on.")],
    hours: Annotated[float, typer.Option(help="How long.")],
    who: Annotated[str, typer.Option(help="Whose time.")] = ACTOR,
    note: Annotated[str, typer.Option(help="What was done.")] = "",
    as_json: AsJson = False,
) -> None:
    """Count time that no tool saw, such as a day of reading transcripts."""
    if not 0 < hours <= MAX_HOURS:
        raise Invalid(f"--hours {hours:g}: more than 0 and at most {MAX_HOURS}")
    runtime, row = find_project(project)
    with runtime.db.transaction() as session:
        entry = TimeEntry(
            project_id=row.id, who=who[:100], part=part, seconds_spent=hours * 3600, note=note[:500]
        )
        session.add(entry)
        ledger.append(
            session,
            actor=ACTOR,
            action="time_added",
            subject=part.value,
            project_id=row.id,
            facts={"hours": hours, "who": who[:100]},
        )
    show({"part": part.value, "hours": hours, "who": who}, as_json=as_json)


@time_app.command()
def waive(
    evaluation: Annotated[UUID, typer.Argument(metavar="EVALUATION", help="The evaluation's id.")],
    project: Project,
    reason: Annotated[str, typer.Option(help="Why.")],
    until: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The last day on which it holds.")],
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Let somebody else approve what lacks nothing but time on validation, until a day."""
    with deciding(project, token) as (session, row, user):
        waiver = promotion.waive_effort(
            session, row, evaluation, user=user, reason=reason, until=until.date()
        )
    show({"author": user.name, **waiver.content}, as_json=as_json)


@time_app.command("show")
def show_effort(project: Project, as_json: AsJson = False) -> None:
    """Show the last 30 days' hours by part, and whether 40 % went to data and 25 % to validation."""
    runtime, row = find_project(project)
    with runtime.db.reading() as session:
        people, machines = effort(session, row, now=utcnow())
    total = people.total
    show(
        {
            "people": {part: round(getattr(people, part) / 3600, 2) for part in Part},
            "machines": {part: round(getattr(machines, part) / 3600, 2) for part in Part},
            "enough_data": total > 0 and people.data >= 0.4 * total,
            "enough_validation": total > 0 and people.validation >= 0.25 * total,
        },
        as_json=as_json,
    )
