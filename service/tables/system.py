"""Background jobs, what came in and goes out, and the ledger."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field

from service.clock import utcnow
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
    COMPARE = "compare"
    NOTIFY = "notify"
    SERVE = "serve"
    ERASE = "erase"
    BISECT = "bisect"
    VALUE = "value"
    BASES = "bases"
    TUNE = "tune"
    REPRODUCE = "reproduce"
    RECHECK = "recheck"
    MONITOR = "monitor"


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
    job have a given `unique_key`, so asking twice asks once, and two never run side by side; nor do two trainings of
    one project. `leases_lost` counts the leases that ran out because their worker stopped answering.
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
        Index(
            "uq_job_training_leased",
            "project_id",
            unique=True,
            sqlite_where=text("state = 'leased' AND kind = 'train'"),
            postgresql_where=text("state = 'leased' AND kind = 'train'"),
        ),
        Index("ix_job_state_not_before", "state", "not_before"),
        Index("ix_job_project_id_id", "project_id", "id"),
        Index("ix_job_project_id_kind_id", "project_id", "kind", "id"),
        Index("ix_job_project_id_state_kind", "project_id", "state", "kind"),
        Index(
            "ix_job_leases_lost",
            "leases_lost",
            sqlite_where=text("leases_lost > 0"),
            postgresql_where=text("leases_lost > 0"),
        ),
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
    leases_lost: int = 0
    lease_owner: str | None = Field(default=None, max_length=200)
    lease_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    progress: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    result: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    failure: str | None = None
    failure_code: str | None = Field(default=None, max_length=64)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class ScheduleTurn(Row, table=True):
    """What the schedule does again and again: of all schedulers whoever looks first when it is due has the turn.

    `problem` is what the last turn found wrong, if its work is to look.
    """

    __tablename__ = "schedule_turn"

    name: str = Field(max_length=64, unique=True)
    due_at: datetime = Field(sa_type=UtcDateTime)
    problem: str | None = Field(default=None, max_length=1000)


class InboxEvent(Row, table=True):
    """A webhook as it came, its secrets stripped: a hint that something is worth reading again."""

    __tablename__ = "inbox_event"
    __table_args__ = (UniqueConstraint("source", "natural_key"),)

    project_id: UUID = Field(foreign_key="project.id", index=True)
    source: str = Field(max_length=32)
    natural_key: str = Field(max_length=200)
    facts: dict[str, Any] = Field(sa_type=Json)
    handled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class NoticeKind(StrEnum):
    """What a host can hear of."""

    HANDED_OVER = "handed_over"
    FLAG_ANSWERED = "flag_answered"
    GATE_PASSED = "gate_passed"
    GATE_REFUSED = "gate_refused"
    APPROVAL_WANTED = "approval_wanted"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ALARM = "alarm"
    DIGEST = "digest"
    DEAD_LETTER = "dead_letter"
    TEST = "test"


class NoticeState(StrEnum):
    """A notice's life: waiting until delivered; dead when its attempts are used up or nobody is to hear it any more."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


class NoticeTarget(Row, table=True):
    """Where a project's notices of some kinds go, until there is a `problem` because of which none does.

    What signs them is derived from the installation's secret and this row's id, and kept nowhere.
    """

    __tablename__ = "notice_target"

    project_id: UUID = Field(foreign_key="project.id", index=True)
    url: str = Field(max_length=500)
    kinds: list[str] = Field(sa_type=Json)
    problem: str | None = Field(default=None, max_length=200)


class Notice(Row, table=True):
    """One thing that one target is to hear of: ids and states, never a user's text. Its id is the webhook's.

    `about_id` is the feedback, the task or the annotator that it is about, so that it is found when they are to be
    forgotten; `failure` is what became of the last attempt.
    """

    __tablename__ = "notice"
    __table_args__ = (
        Index("ix_notice_project_id_id", "project_id", "id"),
        Index(
            "ix_notice_waiting",
            "target_id",
            "not_before",
            sqlite_where=text("state = 'waiting'"),
            postgresql_where=text("state = 'waiting'"),
        ),
    )

    project_id: UUID = Field(foreign_key="project.id")
    target_id: UUID = Field(foreign_key="notice_target.id")
    kind: NoticeKind = Field(sa_type=text_enum(NoticeKind))
    facts: dict[str, Any] = Field(sa_type=Json)
    about_id: UUID | None = Field(default=None, index=True)
    state: NoticeState = Field(default=NoticeState.WAITING, sa_type=text_enum(NoticeState))
    attempts: int = 0
    not_before: datetime = Field(default_factory=utcnow, sa_type=UtcDateTime)
    failure: str | None = Field(default=None, max_length=200)


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
