"""What people decide about audits: waive a finding, accept a repair, take one back."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any
from uuid import UUID

import typer

from service import answers
from service.answers.audits import describe_finding, findings_of, repairs_of, tell_proposal
from service.cli.console import APPROVERS, AsJson, Project, Token, connect, deciding, show
from service.clock import utcnow
from service.errors import Invalid
from service.stages import auditing
from service.waivers import in_force

app, repairs_app = typer.Typer(), typer.Typer(no_args_is_help=True)
app.add_typer(repairs_app, name="repairs", help="What audits propose, and what was accepted of it.")
Finding = Annotated[UUID, typer.Argument(metavar="FINDING", help="A finding's id: errata repairs list.")]
WHO_REPAIRS = ("operator", *APPROVERS)
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
    try:
        day = date.fromisoformat(until)
    except ValueError as error:
        raise Invalid(f"--until {until}: not a day such as 2027-01-31") from error
    with deciding(project, token) as (session, row, user):
        waiver = auditing.waive(session, row, finding, user=user, reason=reason, until=day)
    show({"finding": waiver.name, "author": user.name, **waiver.content}, as_json=as_json)


@repairs_app.command("list")
def list_repairs(name: Annotated[str, typer.Argument(metavar="SET")], as_json: AsJson = False) -> None:
    """List a set's findings with what each proposes, is waived, and was accepted."""
    with connect().db.reading() as session:
        found = answers.find_set(session, name)
        findings = findings_of(session, found)
        waived = in_force(session, found.project_id, utcnow().date())
        accepted = repairs_of(session, found)
    items = [
        {
            **describe_finding(each, waived.get(each.name)),
            "accepted": {place: str(row.id) for (key, place), row in accepted.items() if key == str(each.id)},
        }
        for each in findings
    ]
    show({"items": items if as_json else list(map(in_words, items))}, as_json=as_json)


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
    with deciding(project, token, roles=WHO_REPAIRS) as (session, row, user):
        accepted = auditing.accept(session, row, finding, place=place, user=user, reason=reason)
        check = auditing.find(session, row, finding).check
    show({"repair": str(accepted.id), "check": check, "place": place}, as_json=as_json)


@repairs_app.command()
def undo(
    repair: Annotated[UUID, typer.Argument(metavar="REPAIR")],
    project: Project,
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Take an accepted repair back; sets that were built with it stay what they are."""
    with deciding(project, token, roles=WHO_REPAIRS) as (session, row, user):
        auditing.undo(session, row, repair, user=user)
    show({"repair": str(repair), "undone": True}, as_json=as_json)


def in_words(finding: Mapping[str, Any]) -> dict[str, Any]:
    """Return a finding as `describe_finding` has it, each proposal in words after the place that `accept` takes."""
    told = (
        f"{place}: {tell_proposal(proposal, proposal['rows'])}"
        for place, proposal in enumerate(finding["proposals"])
    )
    return {**finding, "proposals": "; ".join(told)}
