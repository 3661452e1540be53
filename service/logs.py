"""Logging: events with named facts, one line of JSON each, to standard error."""

import logging
import sys

import structlog
from structlog.contextvars import bound_contextvars as bound

__all__ = ["bound", "configure"]


def configure(*, level: int = logging.INFO) -> None:
    """Send our own events and the libraries' warnings to standard error as JSON lines."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Asked for each time, since a test or a terminal may put another stream in its place.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
