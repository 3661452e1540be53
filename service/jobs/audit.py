"""Audits data before there is a project or a model: `errata audit PATH` runs this module in a child process."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from retrain.audit import Context
from retrain.audit.checks import run_all
from retrain.audit.report import report
from retrain.corpus import example_of
from retrain.corpus_files import read_all
from retrain.embedding import encode
from retrain.errors import RetrainError
from retrain.types import Example
from service.clock import utcnow
from service.errors import Invalid, code_of

PROBLEMS_TOLD = 50


def main() -> None:
    """Read the corpus that the arguments name, audit it if they say so, and write one JSON document."""
    verb, reference, columns = sys.argv[1:]
    try:
        document = _read(reference, json.loads(columns), is_audited=verb == "audit")
    except (RetrainError, Invalid) as error:
        document = {"problem": {"code": code_of(error), "detail": str(error)}}
    sys.stdout.write(json.dumps(document))


def audited(
    examples: Sequence[Example],
    context: Context,
    on_check: Callable[[str, int, int], None] = lambda check, done, of: None,
) -> dict[str, Any]:
    """Run every check over rows and report.

    Raises:
        Invalid: there are no rows.
    """
    if not examples:
        raise Invalid("there is nothing to audit: no corpus was imported and no answer is settled")
    return report(examples, run_all(examples, context, report=on_check))


def _read(reference: str, columns: dict[str, str], *, is_audited: bool) -> dict[str, Any]:
    rows, unread = read_all(reference, columns=columns)
    told = {
        "unread": len(unread),
        "problems": [{"place": found.place, "reason": found.reason} for found in unread[:PROBLEMS_TOLD]],
    }
    if not is_audited:
        return {"rows": len(rows)} | told
    examples = [example_of(row, place) for place, row in rows.items()]
    return audited(examples, Context(today=utcnow().date(), encode=encode)) | told


if __name__ == "__main__":
    main()
