"""Searching for better training settings."""

from typing import Annotated
from uuid import UUID

import typer

from service import answers, tunings
from service.cli.console import ACTOR, AsJson, DryRun, NoWait, Project, find_project, show, wait
from service.cli.loop import pair
from service.stages import training

app = typer.Typer()
USUAL = tunings.Wish()


@app.command()
def tune(
    project: Project,
    training_set: Annotated[str, typer.Option("--set", help="A set's name; the newest by default.")] = "",
    trials: Annotated[int, typer.Option(help="The most that are tried.")] = USUAL.trials,
    sampler: Annotated[str, typer.Option(help="tpe, cma-es, nsga-ii or random.")] = USUAL.sampler,
    pruner: Annotated[
        str, typer.Option(help="What ends bad trials early: median, asha or none.")
    ] = USUAL.pruner,
    seconds: Annotated[float | None, typer.Option(help="The most that all trials take together.")] = None,
    watt_hours: Annotated[float | None, typer.Option(help="The most energy, by an estimate.")] = None,
    cost: Annotated[
        float | None, typer.Option(help="The most it may cost, by the project's rates for a machine's hour.")
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE of the spec to start from.")] = None,
    search: Annotated[list[str] | None, typer.Option(help="A setting to search; all by default.")] = None,
    workers: Annotated[int, typer.Option(help="How many workers search side by side.")] = USUAL.workers,
    seed: Annotated[int, typer.Option(help="Of the sampler.")] = USUAL.seed,
    as_json: AsJson = False,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
) -> None:
    """Search for better training settings; trials are judged by the validation split and never see the test."""
    runtime, row = find_project(project)
    start = training.check_options(dict(pair(text) for text in option or []))
    wish = tunings.Wish(sampler, pruner, trials, seconds, watt_hours, cost, search or (), workers, seed)
    with runtime.db.transaction() as session:
        found = answers.set_of(session, row, training_set)
        if dry_run:
            show(tunings.plan(session, found, start, wish), as_json=as_json)
            return
        asked = tunings.request(runtime, session, found, start, wish, actor=ACTOR)
        told = tunings.describe(session, asked)
    done = {"job": told["job"], "id": told["id"]} if no_wait else wait(runtime, UUID(told["job"]))
    show(done, as_json=as_json)
