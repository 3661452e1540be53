"""Background jobs, what came in and goes out, and the ledger."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field

from service.db import Json, UtcDateTime, text_enum
from service.tables.base import Row


class JobKind(StrEnum):
    """Every background job; `service.jobs` says what each does, so that asking for one imports no torch."""

    TRIAGE = "triage"
    SEND = "send"
    SYNC = "sync"
    CURATE = "curate"
    TRAIN = "train"
    EVALUATE = "evaluate"
    REBUILD = "rebuild"
    IMPORT = "import"
    CORPUS = "corpus"
    MIRROR = "mirror"
    COLLECT = "collect"
    QUALITY = "quality"


class JobState(StrEnum):
    """A job's life: pending until leased; done, cancelled, or dead when its attempts are used up."""

    PENDING = "pending"
    LEASED = "leased"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"


class Job(Row, table=True):
    """One piece of background work for one row, and the only lease on it.

    `fence` grows with each lease: a write that carries an older one is refused. At most one pending and one leased
    job have a given `unique_key`, so asking twice asks once, and two never run side by side.
    """

    __tablename__ = "job"
    __table_args__ = (
        Index(
            "uq_job_unique_key_pending",
            "unique_key",
            unique=True,
            sqlite_where=text("state = 'pending'"),
            postgresql_where=text("state = 'pending'"),
        ),
        Index(
            "uq_job_unique_key_leased",
            "unique_key",
            unique=True,
            sqlite_where=text("state = 'leased'"),
            postgresql_where=text("state = 'leased'"),
        ),
        Index("ix_job_state_not_before", "state", "not_before"),
        Index("ix_job_project_id_id", "project_id", "id"),
        Index("ix_job_project_id_kind_id", "project_id", "kind", "id"),
        Index("ix_job_project_id_state_kind", "project_id", "state", "kind"),
    )

    kind: JobKind = Field(sa_type=text_enum(JobKind))
    project_id: UUID | None = Field(default=None, foreign_key="project.id")
    row_id: UUID
    unique_key: str | None = Field(default=None, max_length=200)
    options: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    state: JobState = Field(default=JobState.PENDING, sa_type=text_enum(JobState))
    attempts: int = 0
    max_attempts: int = 3
    not_before: datetime = Field(sa_type=UtcDateTime)
    fence: int = 0
    lease_owner: str | None = Field(default=None, max_length=200)
    lease_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    progress: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    result: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    failure: str | None = None
    failure_code: str | None = Field(default=None, max_length=64)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class InboxEvent(Row, table=True):
    """A webhook as it came, its secrets stripped: a hint that something is worth reading again."""

    __tablename__ = "inbox_event"
    __table_args__ = (UniqueConstraint("source", "natural_key"),)

    project_id: UUID = Field(foreign_key="project.id", index=True)
    source: str = Field(max_length=32)
    natural_key: str = Field(max_length=200)
    facts: dict[str, Any] = Field(sa_type=Json)
    handled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class OutboxEvent(Row, table=True):
    """Something others want to hear of, kept until it is delivered."""

    __tablename__ = "outbox_event"

    project_id: UUID = Field(foreign_key="project.id", index=True)
    kind: str = Field(max_length=64)
    facts: dict[str, Any] = Field(sa_type=Json)
    delivered_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class LedgerEntry(Row, table=True):
    """One decision or change, chained to the one before by its hash."""

    __tablename__ = "ledger_entry"
    __table_args__ = (
        UniqueConstraint("seq"),
        Index("ix_ledger_entry_project_id_id", "project_id", "id"),
        Index("ix_ledger_entry_project_id_subject", "project_id", "subject"),
    )

    seq: int = Field(sa_type=BigInteger)
    project_id: UUID | None = Field(default=None, foreign_key="project.id")
    actor: str = Field(max_length=200)
    action: str = Field(max_length=64)
    subject: str = Field(max_length=200)
    facts: dict[str, Any] = Field(sa_type=Json)
    previous: str = Field(max_length=71)
    sha256: str = Field(max_length=71)
