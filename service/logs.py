"""Logging: events with named facts, one line of JSON each, to standard error."""

import logging
import sys

import structlog
from structlog.contextvars import bound_contextvars as bound
from structlog.contextvars import merge_contextvars

__all__ = ["bound", "configure", "merge_contextvars"]


def configure(*, level: int = logging.INFO) -> None:
    """Send our own events and the libraries' warnings to standard error as JSON lines."""
    facts: list[structlog.typing.Processor] = [
        merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*facts, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Asked for each time, since a test or a terminal may put another stream in its place.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    libraries = logging.StreamHandler(sys.stderr)
    libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*facts, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[libraries])
