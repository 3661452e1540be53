"""What people decide about audits: waive a finding, accept a repair, take one back."""

from datetime import date
from typing import Annotated
from uuid import UUID

import typer
from sqlmodel import col, select

from service import answers, projects
from service.answers.audits import describe_finding, findings_of, repairs_of, waivers
from service.cli.console import AsJson, Project, Token, connect, person, show
from service.clock import utcnow
from service.errors import Invalid, NotFound
from service.stages import auditing
from service.tables import AcceptedRepair

app, repairs_app = typer.Typer(), typer.Typer(no_args_is_help=True)
app.add_typer(repairs_app, name="repairs", help="What audits propose, and what was accepted of it.")
Finding = Annotated[UUID, typer.Argument(metavar="FINDING", help="A finding's id: errata repairs list.")]
WHO_REPAIRS = ("operator", "approver", "admin")
Reason = Annotated[str, typer.Option(help="Why.")]


@app.command()
def waive(
    finding: Finding,
    project: Project,
    reason: Reason,
    until: Annotated[str, typer.Option(help="The last day on which it holds, such as 2027-01-31.")],
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Let sets be trained on although their audit blocks them, until a day."""
    runtime = connect()
    user = person(runtime, token, project)
    try:
        day = date.fromisoformat(until)
    except ValueError as error:
        raise Invalid(f"--until {until}: not a day such as 2027-01-31") from error
    with runtime.db.transaction() as session:
        row = projects.find(session, project)
        found = auditing.find(session, row, finding)
        waiver = auditing.waive(session, row, found, user=user, reason=reason, until=day)
    show({"finding": waiver.name, "author": user.name, **waiver.content}, as_json=as_json)


@repairs_app.command("list")
def list_repairs(name: Annotated[str, typer.Argument(metavar="SET")], as_json: AsJson = False) -> None:
    """List a set's findings with what each proposes, is waived, and was accepted."""
    with connect().db.reading() as session:
        found = answers.find_set(session, name)
        findings = findings_of(session, found)
        waived = waivers(session, found, utcnow().date())
        accepted = repairs_of(session, found)
    items = [
        {
            **describe_finding(each, waived.get(each.name)),
            "accepted": {place: str(row.id) for (key, place), row in accepted.items() if key == str(each.id)},
        }
        for each in findings
    ]
    show({"items": items}, as_json=as_json)


@repairs_app.command()
def accept(
    finding: Finding,
    project: Project,
    place: Annotated[int, typer.Option(help="Which of its proposals, from 0.")] = 0,
    reason: Reason = "",
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Accept a proposal: later sets are built with it; the settlements stay as they are."""
    runtime = connect()
    user = person(runtime, token, project, roles=WHO_REPAIRS)
    with runtime.db.transaction() as session:
        row = projects.find(session, project)
        found = auditing.find(session, row, finding)
        accepted = auditing.accept(session, row, found, place, user=user, reason=reason)
    show({"repair": str(accepted.id), "check": found.check, "place": place}, as_json=as_json)


@repairs_app.command()
def undo(
    repair: Annotated[UUID, typer.Argument(metavar="REPAIR")],
    project: Project,
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Take an accepted repair back; sets that were built with it stay what they are."""
    runtime = connect()
    user = person(runtime, token, project, roles=WHO_REPAIRS)
    with runtime.db.transaction() as session:
        row = projects.find(session, project)
        of_project = select(AcceptedRepair).where(AcceptedRepair.project_id == row.id)
        accepted = session.exec(of_project.where(col(AcceptedRepair.id) == repair)).first()
        if accepted is None:
            raise NotFound(f"project {project} has no repair {repair}")
        auditing.undo(session, row, accepted, user=user)
    show({"repair": str(repair), "undone": True}, as_json=as_json)
