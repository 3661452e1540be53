"""How a challenger was judged, who said yes, and what was live when."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import UniqueConstraint
from sqlmodel import Field

from service.db import Json, UtcDateTime, text_enum
from service.tables.base import Row


class EvaluationState(StrEnum):
    """An evaluation's life; the last four are its verdict or its end."""

    RUNNING = "running"
    AWAITING_PEOPLE = "awaiting_people"
    PASSED = "passed"
    REFUSED = "refused"
    CANNOT_TELL = "cannot_tell"
    FAILED = "failed"


class Evaluation(Row, table=True):
    """Champion and challenger on the same suites, and the gate's verdict; `people` is what people preferred so far.

    `contaminated` counts the test rows that were left out, since one of the two learned them, or what is near them.
    """

    __tablename__ = "evaluation"

    project_id: UUID = Field(foreign_key="project.id", index=True)
    model_version_id: UUID = Field(foreign_key="model_version.id", index=True)
    champion_id: UUID = Field(foreign_key="model_version.id")
    training_set_id: UUID = Field(foreign_key="training_set.id")
    criteria_id: UUID = Field(foreign_key="document.id")
    rules_id: UUID = Field(foreign_key="document.id")
    suite_id: UUID = Field(foreign_key="document.id")
    state: EvaluationState = Field(default=EvaluationState.RUNNING, sa_type=text_enum(EvaluationState))
    seed: int = 0
    sentence: str | None = None
    reasons: list[dict[str, Any]] = Field(default_factory=list, sa_type=Json)
    hashes: dict[str, str] = Field(default_factory=dict, sa_type=Json)
    report: str | None = Field(default=None, max_length=71)
    people: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    contaminated: int = 0
    failure: str | None = None
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Score(Row, table=True):
    """One metric of one model version on one suite, overall or on a slice, with its interval."""

    __tablename__ = "score"
    __table_args__ = (UniqueConstraint("evaluation_id", "model_version_id", "suite", "metric", "slice"),)

    evaluation_id: UUID = Field(foreign_key="evaluation.id")
    model_version_id: UUID = Field(foreign_key="model_version.id", index=True)
    suite: str = Field(max_length=100)
    metric: str = Field(max_length=64)
    slice: str = Field(default="", max_length=100)
    value: float
    low: float
    high: float
    n: int


class Decision(StrEnum):
    """What a person said about a challenger."""

    APPROVED = "approved"
    REJECTED = "rejected"


class Approval(Row, table=True):
    """One person's decision, bound to the hashes of all that they saw; `seconds_spent` is their review time."""

    __tablename__ = "approval"

    project_id: UUID = Field(foreign_key="project.id", index=True)
    evaluation_id: UUID = Field(foreign_key="evaluation.id", index=True)
    model_version_id: UUID = Field(foreign_key="model_version.id")
    user_id: UUID = Field(foreign_key="user.id")
    decision: Decision = Field(sa_type=text_enum(Decision))
    reason: str
    seconds_spent: float = 0.0
    hashes: dict[str, str] = Field(sa_type=Json)


class AttackSession(Row, table=True):
    """One person's attempt to break the model; the time that it took counts as validation."""

    __tablename__ = "attack_session"

    project_id: UUID = Field(foreign_key="project.id", index=True)
    user_id: UUID = Field(foreign_key="user.id", index=True)
    last_at: datetime = Field(sa_type=UtcDateTime)
    seconds_spent: float = 0.0
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class SuiteCandidate(Row, table=True):
    """One attack and the answer it got, which may become a case of a suite."""

    __tablename__ = "suite_candidate"

    attack_session_id: UUID = Field(foreign_key="attack_session.id", index=True)
    response_id: UUID = Field(foreign_key="response.id", unique=True)


class PromotionKind(StrEnum):
    """How a model version went live; an override is one that two persons put there past gate and approval."""

    FIRST = "first"
    PROMOTION = "promotion"
    ROLLBACK = "rollback"
    OVERRIDE = "override"


class Promotion(Row, table=True):
    """One switch of the champion; rows are only added, the highest `seq` is live."""

    __tablename__ = "promotion"
    __table_args__ = (UniqueConstraint("project_id", "seq"),)

    project_id: UUID = Field(foreign_key="project.id")
    seq: int
    kind: PromotionKind = Field(sa_type=text_enum(PromotionKind))
    model_version_id: UUID = Field(foreign_key="model_version.id")
    approval_id: UUID | None = Field(default=None, foreign_key="approval.id")
    user_id: UUID | None = Field(default=None, foreign_key="user.id")
    reason: str = ""


class Recheck(Row, table=True):
    """That what a flag led experts to correct was asked again of a version that learned it; no word of it is kept.

    `reason` is a `retrain.types.Mending`.
    """

    __tablename__ = "recheck"
    __table_args__ = (UniqueConstraint("settlement_id", "model_version_id"),)

    settlement_id: UUID = Field(foreign_key="settlement.id")
    model_version_id: UUID = Field(foreign_key="model_version.id", index=True)
    passed: bool
    reason: str = Field(max_length=32)


class Part(StrEnum):
    """What people's time is spent on; Errata asks for at least 40 % on data and 25 % on validation."""

    DATA = "data"
    TRAINING = "training"
    VALIDATION = "validation"


class TimeEntry(Row, table=True):
    """Time spent outside the tools, as somebody wrote it down."""

    __tablename__ = "time_entry"

    project_id: UUID = Field(foreign_key="project.id", index=True)
    who: str = Field(max_length=100)
    part: Part = Field(sa_type=text_enum(Part))
    seconds_spent: float
    note: str = Field(default="", max_length=500)
