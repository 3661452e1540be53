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
    feedback,
    labelling,
    lineage,
    loop,
    models,
    notices,
    operation,
    people,
    quarantine,
    questions,
    rights,
    sets,
    time,
    triggers,
    tuning,
    worth,
)
from service.cli.console import INTERRUPTED, app, exit_code, report_problem
from service.errors import ServiceError

PARTS = (
    *(
        people,
        corpus,
        loop,
        triggers,
        models,
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
