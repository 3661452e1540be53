"""Logging: events with named facts, one line of JSON each, to standard error."""

import logging
import re
import sys
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars as bound
from structlog.contextvars import merge_contextvars

__all__ = ["bound", "configure", "merge_contextvars", "without_secrets"]

# Our own credentials by their prefixes, what HTTP calls one, and passwords within addresses.
_SECRETS = re.compile(
    r"\b(?P<kind>esk|eut|ess|esl|etk|whsec)_[\w+/=-]{8,}"
    r"|(?P<scheme>\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}"
    r"|(?P<before>://[^\s/:@\"']*:)[^\s/@\"']+(?=@)",
    re.IGNORECASE,
)


def configure(*, level: int = logging.INFO) -> None:
    """Send our own events and the libraries' warnings to standard error as JSON lines."""
    facts: list[structlog.typing.Processor] = [
        merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*facts, structlog.processors.JSONRenderer(), _scrub],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Asked for each time, since a test or a terminal may put another stream in its place.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    libraries = logging.StreamHandler(sys.stderr)
    libraries.setFormatter(
        _Scrubbed(
            foreign_pre_chain=[*facts, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[libraries])


def without_secrets(text: str) -> str:
    """Put a sign in the place of whatever looks like a credential: nobody logs one, but an error may quote it."""
    return _SECRETS.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    kind, scheme, before = found["kind"], found["scheme"], found["before"]
    return f"{kind}_…" if kind else f"{scheme or before}…"


def _scrub(_logger: object, _method: str, line: Any) -> str:
    return without_secrets(line)


class _Scrubbed(structlog.stdlib.ProcessorFormatter):
    """What libraries say, tracebacks included, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))
