"""The playground by command: ask the models, and try to break them."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID, uuid4

import typer

from service import playground
from service.cli.audits import WHO_REPAIRS
from service.cli.console import AsJson, Token, deciding, find_project, show
from service.errors import NotFound
from service.stages import intake

app = typer.Typer()
PROJECT = typer.Argument(metavar="PROJECT", help="The project's slug.")


class Step(StrEnum):
    """How a session of trying to break a model goes on."""

    BEGIN = "begin"
    END = "end"


@app.command()
def ask(
    project: Annotated[str, PROJECT],
    message: Annotated[str, typer.Argument(help="What to ask.")],
    conversation: Annotated[
        UUID | None, typer.Option(help="Go on in this one, else begin another.", show_default=False)
    ] = None,
    beside: Annotated[
        int | None, typer.Option(help="Ask the version of this number as well.", show_default=False)
    ] = None,
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Ask the champion; while you try to break it, each question is kept as a candidate case."""
    runtime, row = find_project(project)
    with runtime.db.reading() as session:
        turns = playground.turns_of(session, row, conversation) if conversation else []
    if conversation and not turns:
        raise NotFound(f"no conversation {conversation}")
    messages = playground.messages_of(turns, message)
    numbers = dict.fromkeys((None, beside))
    answers = [playground.ask(runtime, row.slug, messages, number=number) for number in numbers]
    here = conversation or uuid4()
    with deciding(project, token, roles=WHO_REPAIRS) as (session, found, user):
        kept = playground.remember(session, found, messages, answers, conversation=here, user=user)
        days = runtime.settings.feedback_token_days
        items = [
            {
                "model_version": each.model_version,
                "answer": each.text,
                "response_id": each.id,
                "feedback_token": intake.feedback_token(found, each, runtime.secrets, days=days),
            }
            for each in kept
        ]
    show({"conversation": here, "answers": items}, as_json=as_json)


@app.command()
def attack(
    project: Annotated[str, PROJECT],
    step: Annotated[Step, typer.Argument(help="Whether you begin or have done.")],
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Begin or end a session of trying to break a model; its time counts as validation."""
    with deciding(project, token, roles=WHO_REPAIRS) as (session, row, user):
        found = playground.attack(session, row, user, begins=step is Step.BEGIN)
        told = {"session": found.id, "seconds": round(found.seconds_spent), "ended_at": found.ended_at}
    show(told, as_json=as_json)
