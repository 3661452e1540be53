"""What the model said, and what its users said about that."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Index, UniqueConstraint, text
from sqlmodel import Field

from service.db import Json, UtcDateTime, text_enum
from service.tables.base import Row


class Rating(StrEnum):
    """Whether the end user found the response right; `DOWN` makes the feedback a flag."""

    UP = "up"
    DOWN = "down"


class Source(Row, table=True):
    """Where responses and corpus rows come from, under which licence, and how long they hold.

    A corpus is data that a team already had: its rows teach nothing until experts judged them or a sample of them.
    """

    __tablename__ = "source"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    project_id: UUID = Field(foreign_key="project.id")
    name: str = Field(max_length=100)
    licence: str = Field(default="", max_length=200)
    valid_from: datetime | None = Field(default=None, sa_type=UtcDateTime)
    valid_to: datetime | None = Field(default=None, sa_type=UtcDateTime)
    is_corpus: bool = False
    author: str = Field(default="", max_length=200)


class Admission(Row, table=True):
    """What experts' judgement of a random sample of a corpus came to; the newest one of a source counts.

    It is admitted if `low`, the lower end of the interval of the share that is right, reaches `bar`.
    """

    __tablename__ = "admission"

    project_id: UUID = Field(foreign_key="project.id", index=True)
    source_id: UUID = Field(foreign_key="source.id", index=True)
    right: int
    asked: int
    low: float
    bar: float
    is_admitted: bool


class Quarantine(Row, table=True):
    """A source, or a person as `Response.subject` names them, whose flags no expert sees and whose rows nothing learns.

    It is in force until somebody lifts it. An erasure of the person takes `subject` and `reason` out of it.
    """

    __tablename__ = "quarantine"

    project_id: UUID = Field(foreign_key="project.id", index=True)
    source_id: UUID | None = Field(default=None, foreign_key="source.id")
    subject: str | None = Field(default=None, max_length=200)
    reason: str = Field(max_length=2000)
    user_id: UUID = Field(foreign_key="user.id")
    lifted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    lifted_by: UUID | None = Field(default=None, foreign_key="user.id")


class Response(Row, table=True):
    """One answer the model gave to `messages`, whose last turn is the user's; of an erased one only the keys stay.

    `masked` counts what of people's data was replaced before it was stored; then `text_sha256` is what feedback tokens
    say of the text as it was. `channel` is how somebody reported the answer of whom nobody logged it: it is unverified.

    `set_aside` is why no expert is asked about a row of a corpus, and nothing learns it. `copy_of_id` is the response
    whose question this one answers once more, for people to compare.
    """

    __tablename__ = "response"
    __table_args__ = (
        UniqueConstraint("project_id", "external_id"),
        Index("ix_response_project_id_id", "project_id", "id"),
        Index("ix_response_project_id_triaged_at_id", "project_id", "triaged_at", "id"),
        Index("ix_response_project_id_conversation_id", "project_id", "conversation_id"),
        Index("ix_response_model_version_id_id", "model_version_id", "id"),
        Index("ix_response_source_id_id", "source_id", "id"),
        Index("ix_response_source_id_body_sha256", "source_id", "body_sha256"),
        Index(
            "ix_response_source_id_set_aside",
            "source_id",
            "set_aside",
            sqlite_where=text("set_aside IS NOT NULL"),
            postgresql_where=text("set_aside IS NOT NULL"),
        ),
    )

    project_id: UUID = Field(foreign_key="project.id")
    source_id: UUID = Field(foreign_key="source.id")
    model_version_id: UUID | None = Field(default=None, foreign_key="model_version.id")
    model_version: str | None = Field(default=None, max_length=200)
    external_id: str | None = Field(default=None, max_length=200)
    conversation_id: str | None = Field(default=None, max_length=200)
    messages: list[dict[str, str]] = Field(sa_type=Json)
    text: str
    body_sha256: str = Field(max_length=71)
    context: list[dict[str, str]] = Field(default_factory=list, sa_type=Json)
    subject: str | None = Field(default=None, max_length=200, index=True)
    attributes: dict[str, str] = Field(default_factory=dict, sa_type=Json)
    language: str | None = Field(default=None, max_length=35)
    may_train: bool = True
    legal_basis: str | None = Field(default=None, max_length=200)
    trace_id: str | None = Field(default=None, max_length=64)
    text_sha256: str | None = Field(default=None, max_length=71)
    masked: dict[str, int] = Field(default_factory=dict, sa_type=Json)
    channel: str | None = Field(default=None, max_length=32)
    host_metadata: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    triaged_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    set_aside: str | None = Field(default=None, max_length=100)
    copy_of_id: UUID | None = Field(default=None, foreign_key="response.id", index=True)
    erased_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Outcome(Row, table=True):
    """A business result that is known later, of one answer, or of a conversation by the answer that was its last then.

    `model_version_id` is the answer's, so that a version's figures need no walk. Nobody is asked about it, and nothing
    learns by it. An erasure deletes it.
    """

    __tablename__ = "outcome"
    __table_args__ = (
        UniqueConstraint("project_id", "event_id"),
        Index("ix_outcome_model_version_id_id", "model_version_id", "id"),
    )

    project_id: UUID = Field(foreign_key="project.id")
    event_id: UUID
    response_id: UUID = Field(foreign_key="response.id", index=True)
    model_version_id: UUID | None = Field(default=None, foreign_key="model_version.id")
    name: str = Field(max_length=64)
    value: float
    unit: str = Field(default="", max_length=32)
    body_sha256: str = Field(max_length=71)


class Feedback(Row, table=True):
    """One end user's word on one response.

    `response_ref` is the response as the sender named it; `response_id` is empty while the response has not
    arrived. `event_id` is made by the sender, so that a repeated request adds nothing; of one subject's word on one
    response the newest event counts, and `earlier_events` are those before it, each with its `body_sha256`.
    `text_sha256` is the response's text as the sender's token names it: one that says another is never joined.
    Nobody is asked about what is not trusted until an operator takes it in, nor about what is `held_for` a reason as
    part of the case `case_id`, which is the id of its first flag, until an operator lets that go.
    """

    __tablename__ = "feedback"
    __table_args__ = (
        UniqueConstraint("project_id", "event_id"),
        Index("ix_feedback_project_id_id", "project_id", "id"),
        Index("ix_feedback_project_id_triaged_at_id", "project_id", "triaged_at", "id"),
        Index("ix_feedback_project_id_response_ref", "project_id", "response_ref"),
        # Few flags are of a case: the others are recorded no slower for it.
        Index(
            "ix_feedback_case_id",
            "case_id",
            sqlite_where=text("case_id IS NOT NULL"),
            postgresql_where=text("case_id IS NOT NULL"),
        ),
    )

    project_id: UUID = Field(foreign_key="project.id")
    event_id: UUID
    response_ref: str = Field(max_length=200)
    response_id: UUID | None = Field(default=None, foreign_key="response.id", index=True)
    reasons_id: UUID | None = Field(default=None, foreign_key="document.id")
    rating: Rating = Field(sa_type=text_enum(Rating))
    reasons: list[str] = Field(default_factory=list, sa_type=Json)
    comment: str | None = None
    correction: str | None = None
    consent: bool | None = None
    selection: dict[str, Any] | None = Field(default=None, sa_type=Json)
    subject: str | None = Field(default=None, max_length=200, index=True)
    session: str | None = Field(default=None, max_length=200)
    trace_id: str | None = Field(default=None, max_length=64)
    span_id: str | None = Field(default=None, max_length=32)
    body_sha256: str = Field(max_length=71)
    earlier_events: dict[str, str] = Field(default_factory=dict, sa_type=Json)
    text_sha256: str | None = Field(default=None, max_length=71)
    is_mismatched: bool = False
    is_trusted: bool = True
    held_for: str | None = Field(default=None, max_length=200)
    case_id: UUID | None = None
    masked: dict[str, int] = Field(default_factory=dict, sa_type=Json)
    triaged_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    withdrawn_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
