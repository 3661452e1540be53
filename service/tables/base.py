"""What every row has."""

import secrets
import time
from datetime import datetime
from uuid import UUID

from sqlmodel import Field, SQLModel

from service.clock import utcnow
from service.db import UtcDateTime


def uuid7() -> UUID:
    """Return a time-ordered id, so that indexes on it are appended to.

    Milliseconds, then the millisecond's fraction in 12 bits, then chance.
    Source: RFC 9562, section 5.7 and 6.2, method 3.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    value = milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62)
    return UUID(int=value)


def first_id(moment: datetime) -> UUID:
    """Return the smallest id that `uuid7` could have made at a moment, so that an index on ids finds what is newer."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


class Row(SQLModel):
    """A row's identity and birth; SQLModel does not validate rows, request schemas do."""

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    created_at: datetime = Field(default_factory=utcnow, sa_type=UtcDateTime, index=True)
