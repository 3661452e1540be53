"""Which base model to take."""

from typing import Annotated

import typer

from service import answers
from service.cli.console import AsJson, NoWait, Project, do, find_project, show
from service.errors import NotFound
from service.tables import JobKind

app = typer.Typer()
model_app = typer.Typer(no_args_is_help=True)
app.add_typer(model_app, name="models", help="Model versions, and the base models that they are made of.")


@model_app.command()
def compare(
    bases: Annotated[list[str], typer.Argument(metavar="BASE…", help="bundled:NAME, a path or a hub's id.")],
    project: Project,
    as_json: AsJson = False,
    no_wait: NoWait = False,
) -> None:
    """Score base models on the newest set's validation rows, with what each takes to run."""
    runtime, row = find_project(project)
    with runtime.db.reading() as session:
        newest = answers.newest_set(session, row.id)
    if newest is None:
        raise NotFound(f"project {project} has no training set; build one first: errata curate -p {project}")
    options = {"bases": list(dict.fromkeys(bases))}
    document = do(runtime, JobKind.BASES, newest.id, project_id=row.id, no_wait=no_wait, options=options)
    if not as_json and not no_wait:
        scores = ("zero_shot", "few_shot")
        document["bases"] = [
            one | {name: "{value:.2f} ({low:.2f} to {high:.2f})".format(**one[name]) for name in scores}
            for one in document["bases"]
        ]
    show(document, as_json=as_json)
