"""The loop by hand: triage, curate, train, evaluate, approve, promote, roll back."""

import json
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from sqlmodel import Session, col, select

from retrain.recipe import Recipe
from service import answers
from service.cli.console import (
    REFUSED,
    TRY_AGAIN,
    AsJson,
    DryRun,
    NoWait,
    Project,
    Token,
    connect,
    deciding,
    do,
    find_project,
    show,
    wait,
)
from service.cli.junit import as_junit
from service.errors import Invalid, NotFound
from service.runtime import Runtime
from service.stages import promotion, training
from service.tables import (
    Decision,
    Evaluation,
    EvaluationState,
    Feedback,
    JobKind,
    ModelVersion,
    Response,
    Settlement,
    TrainingRun,
)
from service.tables import Project as ProjectRow

app, runs_app = typer.Typer(), typer.Typer(no_args_is_help=True)
app.add_typer(runs_app, name="runs", help="Trainings that were asked for.")
Number = Annotated[int | None, typer.Option("--model-version", help="Its number; the newest by default.")]


@app.command()
def triage(
    project: Project, as_json: AsJson = False, no_wait: NoWait = False, dry_run: DryRun = False
) -> None:
    """Choose which feedback experts look at."""
    runtime, row = find_project(project)
    if dry_run:
        show(_waiting(runtime, row), as_json=as_json)
        return
    show(do(runtime, JobKind.TRIAGE, row.id, project_id=row.id, no_wait=no_wait), as_json=as_json)


@app.command()
def curate(
    project: Project,
    recipe: Annotated[
        Path | None, typer.Option(help="A JSON file: shares, caps, checks; the newest set's by default.")
    ] = None,
    as_json: AsJson = False,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
) -> None:
    """Make the next training set of what experts settled on."""
    runtime, row = find_project(project)
    options = _recipe(recipe) if recipe else None
    if dry_run:
        with runtime.db.reading() as session:
            in_force = (Settlement.project_id == row.id, col(Settlement.withdrawn_at).is_(None))
            settled = len(session.exec(select(Settlement.id).where(*in_force)).all())
        show({"settlements": settled}, as_json=as_json)
        return
    document = do(runtime, JobKind.CURATE, row.id, project_id=row.id, no_wait=no_wait, options=options)
    show(document, as_json=as_json)


@app.command()
def train(
    project: Project,
    training_set: Annotated[str, typer.Option("--set", help="A set's name; the newest by default.")] = "",
    option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of the spec, such as epochs=5.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Such as the one that an unhealthy run proposed.")
    ] = None,
    only_watch: Annotated[
        bool, typer.Option("--only-watch", help="Do not stop the run, whatever its health.")
    ] = False,
    as_json: AsJson = False,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
) -> None:
    """Train a challenger; its evaluation follows by itself."""
    runtime, row = find_project(project)
    chosen: dict[str, Any] = dict(pair(text) for text in option or [])
    if learning_rate is not None:
        chosen["learning_rate"] = learning_rate
    with runtime.db.transaction() as session:
        found = answers.set_of(session, row, training_set)
        if dry_run:
            options = training.check_options(chosen)
            show(
                {"training_set": found.fingerprint, "counts": found.counts, "options": options},
                as_json=as_json,
            )
            return
        run = training.request(runtime, session, found, chosen, is_only_watched=only_watch)
        job_id = UUID(answers.describe_run(session, run)["job"])
    show({"job": str(job_id), "run": str(run.id)} if no_wait else wait(runtime, job_id), as_json=as_json)


@runs_app.command()
def reproduce(run: UUID, as_json: AsJson = False, no_wait: NoWait = False) -> None:
    """Train a finished run again from what it recorded: the same adapter, or which input is not as it was.

    Exits with 3 if another adapter comes of it.
    """
    runtime = connect()
    with runtime.db.reading() as session:
        found = session.get(TrainingRun, run)
        if found is None:
            raise NotFound(f"there is no run {run}")
        answers.made_by(session, found)
    told = do(runtime, JobKind.REPRODUCE, found.id, project_id=found.project_id, no_wait=no_wait)
    show(told, as_json=as_json)
    if told.get("is_equal") is False:
        raise typer.Exit(REFUSED)


@app.command()
def evaluate(
    project: Project,
    number: Number = None,
    junit: Annotated[Path | None, typer.Option(help="Write each rule as a test case to this file.")] = None,
    as_json: AsJson = False,
    no_wait: NoWait = False,
    dry_run: DryRun = False,
) -> None:
    """Judge a challenger against the champion; exits 3 unless it passes or is waived, 75 while people compare."""
    runtime, row = find_project(project)
    with runtime.db.reading() as session:
        model = answers.find_model(session, row, number)
    if dry_run:
        show({"model_version": model.number, "state": model.state.value}, as_json=as_json)
        return
    document = do(runtime, JobKind.EVALUATE, model.id, project_id=row.id, no_wait=no_wait)
    if not no_wait:
        with runtime.db.reading() as session:
            judged = session.get_one(Evaluation, UUID(document["id"]))
            document = answers.describe_today(session, judged)
    if junit and not no_wait:
        junit.write_text(as_junit(document))
    show(document, as_json=as_json)
    if not no_wait and document["state"] == EvaluationState.AWAITING_PEOPLE:
        raise typer.Exit(TRY_AGAIN)
    if not no_wait and document["verdict"] != "passed" and not document["waived"]:
        raise typer.Exit(REFUSED)


@app.command()
def approve(
    project: Project,
    reason: Annotated[str, typer.Option(help="Why.")],
    number: Number = None,
    reject: Annotated[bool, typer.Option("--reject", help="Say no instead.")] = False,
    token: Token = "",
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Approve a challenger as it is now; a later change makes the approval stale."""
    with deciding(project, token) as (session, row, user):
        model = answers.find_model(session, row, number)
        evaluation = answers.newest_evaluation(session, model.id)
        if evaluation is None:
            raise NotFound(f"version {model.number} was never evaluated")
        seen = promotion.what_to_approve(session, evaluation)
        if not dry_run:
            promotion.decide(
                session,
                row,
                evaluation_id=evaluation.id,
                model_version=model.number,
                adapter_sha256=seen["adapter"],
                training_set=seen["training_set"],
                decision=Decision.REJECTED if reject else Decision.APPROVED,
                reason=reason,
                user=user,
            )
    show({"model_version": model.number, "evaluation": str(evaluation.id), **seen}, as_json=as_json)


@app.command()
def promote(
    project: Project,
    number: Number = None,
    override: Annotated[
        str,
        typer.Option(help="Why it goes live past gate and approval; an emergency, and everybody hears it."),
    ] = "",
    second_token: Annotated[str, typer.Option(help="The token of the second person an override needs.")] = "",
    token: Token = "",
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Make an approved version the champion."""
    if override and number is None:
        raise Invalid("--override: name the version that is to be live")
    with deciding(project, token) as (session, row, user):
        if override and number is not None:
            second = {"reason": override, "second_token": second_token}
            done = promotion.override(session, row, model_version=number, user=user, **second)
        else:
            done = promotion.promote(session, row, model_version=number, user=user)
        document = _promoted(session, done)
        if dry_run:
            session.rollback()
    show(document, as_json=as_json)


@app.command()
def rollback(
    project: Project,
    reason: Annotated[str, typer.Option(help="Why.")],
    seen_seq: Annotated[
        int | None,
        typer.Option(help="Refuse if it is not this promotion any more; errata live shows its seq."),
    ] = None,
    token: Token = "",
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Make the version that was live before live again."""
    with deciding(project, token) as (session, row, user):
        done = promotion.roll_back(session, row, reason=reason, user=user, seen_seq=seen_seq)
        document = _promoted(session, done)
        if dry_run:
            session.rollback()
    show(document, as_json=as_json)


def pair(text: str) -> tuple[str, str]:
    """Read NAME=VALUE.

    Raises:
        Invalid: it is something else.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise Invalid(f"--option {text}: write NAME=VALUE")
    return name, value


def _recipe(file: Path) -> dict[str, Any]:
    """Read a recipe and write out all that it leaves to the defaults."""
    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise Invalid(f"--recipe {file}: {error}") from error
    if not isinstance(document, dict):
        raise Invalid(f"--recipe {file}: a JSON object is needed")
    return Recipe.from_json(document).to_json()


def _waiting(runtime: Runtime, project: ProjectRow) -> dict[str, Any]:
    with runtime.db.reading() as session:
        counts = {}
        for name, table in (("feedback", Feedback), ("responses", Response)):
            waiting = select(table.id).where(table.project_id == project.id, table.triaged_at.is_(None))  # type: ignore[union-attr]
            counts[name] = len(session.exec(waiting).all())
    return counts


def _promoted(session: Session, done: Any) -> dict[str, Any]:
    return answers.describe_promotion(done, session.get_one(ModelVersion, done.model_version_id))
