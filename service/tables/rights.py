"""What people whose words are kept here may ask for, and what they do without words."""

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from service.db import Json, UtcDateTime, text_enum
from service.tables.base import Row


class Erasure(Row, table=True):
    """One person's wish to be forgotten, in one project or in all.

    `subject` is kept until their words are erased, in the same transaction; `salted` is its digest for those who know
    whom to ask for. Responses that were erased by it have its `erased_at`. `recalled` are tasks about what others were
    answered, in which a tool shows this person's words.
    """

    __tablename__ = "erasure"

    project_id: UUID | None = Field(default=None, foreign_key="project.id", index=True)
    subject: str | None = Field(default=None, max_length=200)
    salted: str = Field(max_length=71)
    actor: str = Field(max_length=200)
    counts: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    recalled: list[str] = Field(default_factory=list, sa_type=Json)
    certificate: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    erased_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class LegalHold(Row, table=True):
    """Why a person's words may not be erased yet; in force until it is lifted or over. Then it names nobody."""

    __tablename__ = "legal_hold"

    project_id: UUID = Field(foreign_key="project.id", index=True)
    subject: str | None = Field(default=None, max_length=200, index=True)
    reason: str = Field(max_length=2000)
    until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    actor: str = Field(max_length=200)
    lifted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    lifted_by: str | None = Field(default=None, max_length=200)


class TextRead(Row, table=True):
    """That a person looked at what end users said, on a page or through the API, on one day (UTC).

    `row_id` is what the page was about: a row, or the project for a list.
    """

    __tablename__ = "text_read"
    __table_args__ = (
        UniqueConstraint("user_id", "page", "row_id", "day"),
        Index("ix_text_read_project_id_id", "project_id", "id"),
    )

    project_id: UUID = Field(foreign_key="project.id")
    user_id: UUID = Field(foreign_key="user.id")
    page: str = Field(max_length=64)
    row_id: UUID = Field(index=True)
    day: date


class SignalKind(StrEnum):
    """What a user did with an answer without saying anything about it."""

    COPIED = "copied"
    EDITED = "edited"
    REGENERATED = "regenerated"
    ABANDONED = "abandoned"


class Signal(Row, table=True):
    """An implicit signal: no words, no opinion, so that nothing is ever triaged or learned by it."""

    __tablename__ = "signal"
    __table_args__ = (UniqueConstraint("project_id", "event_id"),)

    project_id: UUID = Field(foreign_key="project.id")
    event_id: UUID
    response_id: UUID = Field(foreign_key="response.id", index=True)
    kind: SignalKind = Field(sa_type=text_enum(SignalKind))
