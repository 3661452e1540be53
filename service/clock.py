"""The one place that reads the clock."""

from datetime import UTC, datetime


def utcnow() -> datetime:
    """Return this moment, aware, in UTC."""
    return datetime.now(UTC)
