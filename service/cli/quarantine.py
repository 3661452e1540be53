"""Keep a source or a person from experts and from the next set, and let them go again."""

from typing import Annotated

import typer

from service.answers.quarantines import describe_quarantine
from service.cli.audits import WHO_REPAIRS
from service.cli.console import AsJson, DryRun, Token, connect, deciding, show
from service.stages import quarantine as stage

app = typer.Typer()


@app.command()
def quarantine(
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="The project's slug.")],
    reason: Annotated[str, typer.Option(help="Why; needed unless it is lifted.")] = "",
    source: Annotated[str | None, typer.Option(help="A source of responses or of a corpus.")] = None,
    subject: Annotated[str | None, typer.Option(help="A person, as responses name them.")] = None,
    lift: Annotated[bool, typer.Option("--lift", help="End it instead.")] = False,
    token: Token = "",
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Let flags of a source or a person wait at intake, and their rows stay out of the next set."""
    secrets = connect().secrets
    with deciding(project, token, roles=WHO_REPAIRS) as (session, row, user):
        if lift:
            found = stage.find(session, row, source=source, subject=subject)
            stage.lift(session, row, secrets, found.id, user=user)
        else:
            found = stage.impose(
                session, row, secrets, user=user, reason=reason, source=source, subject=subject
            )
        document = describe_quarantine(session, found)
        if dry_run:
            session.rollback()
    show(document, as_json=as_json)
