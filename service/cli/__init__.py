"""`errata`: one verb per stage and per operator's question."""

import sys

import typer

from annotation.errors import AnnotationError
from retrain.errors import RetrainError
from service import logs
from service.cli import (
    annotators,
    audits,
    backups,
    corpus,
    doctor,
    documents,
    examples,
    feedback,
    keys,
    labelling,
    lineage,
    listings,
    loop,
    models,
    notices,
    operation,
    people,
    playground,
    quarantine,
    questions,
    rights,
    serving,
    sets,
    tasks,
    time,
    triggers,
    tuning,
    users,
    worth,
)
from service.cli.console import INTERRUPTED, app, exit_code, report_problem
from service.errors import ServiceError

PARTS = (
    *(
        people,
        users,
        documents,
        keys,
        corpus,
        loop,
        triggers,
        models,
        playground,
        listings,
        tasks,
        serving,
        labelling,
        annotators,
        feedback,
        questions,
        tuning,
        lineage,
        sets,
        audits,
        quarantine,
        worth,
    ),
    *(notices, rights, time, operation, backups, doctor),
)
for part in PARTS:
    app.registered_commands += part.app.registered_commands
    app.registered_groups += part.app.registered_groups
examples.show_in(app)


def main() -> None:
    """Run the command line; every foreseen failure is one line, or one problem document with --json."""
    logs.configure()
    try:
        status = app(standalone_mode=False, prog_name="errata")
    except typer.Abort:
        status = INTERRUPTED
    except (typer.TyperException, ServiceError, AnnotationError, RetrainError) as error:
        report_problem(error)
        status = exit_code(error)
    sys.exit(status if isinstance(status, int) else 0)
