"""What serves a project's champion elsewhere, and how far it follows."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlmodel import Field

from service.clock import utcnow
from service.db import UtcDateTime, text_enum
from service.tables.base import Row


class ServingKind(StrEnum):
    """How a target is told: by files in a directory or an object store, by vLLM's own route, by a signed webhook."""

    DIRECTORY = "directory"
    VLLM = "vllm"
    WEBHOOK = "webhook"


class ServingState(StrEnum):
    """How far a target follows the promotion `seq`: `LIVE` only once a probe answered as the approved adapter did."""

    WAITING = "waiting"
    PUBLISHED = "published"
    LIVE = "live"
    CANNOT_TELL = "cannot_tell"
    FAILING = "failing"


class ServingTarget(Row, table=True):
    """One place that is to serve what is live; what that is, the newest promotion says.

    `place` is where the adapter's files go, or where the webhook is; `seen_as` where the server itself sees `place`.
    `url` is the OpenAI-compatible server that is asked whether it is so; `base_name` is what the base model is called
    there. `served` is the name under which the version was last asked for, `told` what came of it.
    """

    __tablename__ = "serving_target"

    project_id: UUID = Field(foreign_key="project.id", index=True)
    kind: ServingKind = Field(sa_type=text_enum(ServingKind))
    place: str = Field(max_length=500)
    seen_as: str = Field(default="", max_length=500)
    url: str = Field(default="", max_length=500)
    base_name: str = Field(default="", max_length=200)
    state: ServingState = Field(default=ServingState.WAITING, sa_type=text_enum(ServingState))
    seq: int | None = None
    served: str | None = Field(default=None, max_length=200)
    told: str | None = Field(default=None, max_length=500)
    attempts: int = 0
    not_before: datetime = Field(default_factory=utcnow, sa_type=UtcDateTime)
    checked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    removed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
