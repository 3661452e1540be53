"""Reads a corpus from where it is: files, the hub, or a project inside Label Studio or Argilla.

`errata audit PLACE` and a dry run of an import run this module in a child process.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from annotation.errors import AnnotationError
from retrain import corpus_files
from retrain.corpus import Found, example_of
from retrain.errors import RetrainError
from service import settings, tools
from service.errors import ServiceError, code_of
from service.settings import Settings

PROBLEMS_TOLD = 50


def main() -> None:
    """Read the place that the arguments name, audit it if they say so, and write one JSON document."""
    verb, place, columns = sys.argv[1:]
    try:
        document = _told(place, json.loads(columns), is_audited=verb == "audit")
    except (AnnotationError, RetrainError, ServiceError) as error:
        document = {"problem": {"code": code_of(error), "detail": str(error)}}
    sys.stdout.write(json.dumps(document))


def read(chosen: Settings, place: str, columns: Mapping[str, str]) -> Iterable[Found]:
    """Return what stands in a place; of a tool's project all of it, so that one that breaks off gives nothing.

    Raises:
        Invalid: a tool is named, and no project in it.
        UnreadableCorpus: there is no such place, or `columns` names what rows do not have.
        ToolRefused, ToolUnavailable, TryAgain: the tool does not give its project.
    """
    named = tools.named(place)
    if named is None:
        return corpus_files.read(place, columns=columns)
    kind, project = named
    connect = import_module("service.jobs.labelling").connect  # the tools' SDKs take seconds to load
    return list(corpus_files.read_records(place, connect(chosen, kind).records(project), columns=columns))


def _told(place: str, columns: dict[str, str], *, is_audited: bool) -> dict[str, Any]:
    rows, unread = corpus_files.sort_out(read(settings.load(), place, columns))
    told = {
        "unread": len(unread),
        "problems": [{"place": found.place, "reason": found.reason} for found in unread[:PROBLEMS_TOLD]],
    }
    if not is_audited:
        return {"rows": len(rows)} | told
    report: dict[str, Any] = import_module("service.jobs.audit").of_rows(
        [example_of(row, place) for place, row in rows.items()]
    )
    return report | told


if __name__ == "__main__":
    main()
