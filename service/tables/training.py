"""Training sets, the runs that learn from them and the model versions they yield."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Index, UniqueConstraint, text
from sqlmodel import Field

from retrain.types import Split
from service.clock import utcnow
from service.db import Json, UtcDateTime, text_enum
from service.tables.base import Row


class TrainingSet(Row, table=True):
    """An immutable, fingerprinted version of the project's examples; `artifact` is its Parquet file.

    `audit_report` and `card` are artifacts too: what the checks found, and the set described for people. `dropped`
    says, by settlement, why a settled answer is no row of it. `current_at` is when it was last built: the same content
    again is the same set.
    """

    __tablename__ = "training_set"
    __table_args__ = (
        UniqueConstraint("project_id", "version"),
        UniqueConstraint("project_id", "fingerprint"),
    )

    project_id: UUID = Field(foreign_key="project.id")
    parent_id: UUID | None = Field(default=None, foreign_key="training_set.id")
    version: int
    fingerprint: str = Field(max_length=71, index=True)
    artifact: str = Field(max_length=71)
    recipe: dict[str, Any] = Field(sa_type=Json)
    counts: dict[str, int] = Field(sa_type=Json)
    is_blocked: bool = False
    current_at: datetime = Field(default_factory=utcnow, sa_type=UtcDateTime)
    audit_report: str | None = Field(default=None, max_length=71)
    card: str | None = Field(default=None, max_length=71)
    dropped: dict[str, str] = Field(default_factory=dict, sa_type=Json)


class TrainingSetExample(Row, table=True):
    """One row of a set, the settlement it was made from, and the accepted repairs that changed it.

    `consent` is what allowed its use when the set was frozen: the response's legal basis, and what each flag said of
    training; None where that was not kept yet. Since `erased_at` the set's file is without the row, and its content
    has no hash here.
    """

    __tablename__ = "training_set_example"
    __table_args__ = (
        UniqueConstraint("training_set_id", "settlement_id"),
        # By which two sets are compared.
        Index(
            "ix_training_set_example_training_set_id_content_sha256",
            "training_set_id",
            "content_sha256",
        ),
        Index(
            "ix_training_set_example_training_set_id_erased_at",
            "training_set_id",
            "erased_at",
            sqlite_where=text("erased_at IS NOT NULL"),
            postgresql_where=text("erased_at IS NOT NULL"),
        ),
    )

    training_set_id: UUID = Field(foreign_key="training_set.id", index=True)
    settlement_id: UUID = Field(foreign_key="settlement.id", index=True)
    content_sha256: str = Field(max_length=71)
    split: Split = Field(sa_type=text_enum(Split))
    group_name: str = Field(max_length=100)
    repairs: list[str] = Field(default_factory=list, sa_type=Json)
    consent: dict[str, Any] | None = Field(default=None, sa_type=Json)
    erased_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class SplitAssignment(Row, table=True):
    """The part in which a group of related examples is for ever; the newest row of a group counts.

    A second row for a group exists only when it merged with a test group: then older scores on it are contaminated.
    """

    __tablename__ = "split_assignment"
    __table_args__ = (Index("ix_split_assignment_project_id_group_name", "project_id", "group_name"),)

    project_id: UUID = Field(foreign_key="project.id")
    training_set_id: UUID = Field(foreign_key="training_set.id")
    group_name: str = Field(max_length=100)
    split: Split = Field(sa_type=text_enum(Split))
    is_contaminated: bool = False


class AuditFinding(Row, table=True):
    """Something a check found in a training set; a waiver names it by `name`, a repair by its place in `proposals`."""

    __tablename__ = "audit_finding"

    training_set_id: UUID = Field(foreign_key="training_set.id", index=True)
    check: str = Field(max_length=64)
    check_version: str = Field(max_length=32)
    severity: str = Field(max_length=16)
    keys: list[str] = Field(sa_type=Json)
    evidence: str
    repair: str
    name: str = Field(default="", max_length=71)
    proposals: list[dict[str, Any]] = Field(default_factory=list, sa_type=Json)


class AcceptedRepair(Row, table=True):
    """A proposal that a person accepted: it changes the rows of later sets until it is taken back."""

    __tablename__ = "accepted_repair"

    project_id: UUID = Field(foreign_key="project.id", index=True)
    finding_id: UUID = Field(foreign_key="audit_finding.id", index=True)
    place: int
    user_id: UUID = Field(foreign_key="user.id")
    reason: str = Field(max_length=2000)
    undone_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    undone_by: UUID | None = Field(default=None, foreign_key="user.id")


class Mirror(Row, table=True):
    """Where a set stands in the data repository; `failure` is why it is not there, or not in the remote yet."""

    __tablename__ = "mirror"

    training_set_id: UUID = Field(foreign_key="training_set.id", unique=True)
    git_commit: str = Field(max_length=64)
    pushed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    failure: str | None = None


class RunState(StrEnum):
    """A training run's life."""

    REQUESTED = "requested"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TrainingRun(Row, table=True):
    """One attempt at training one adapter, with everything needed to repeat it.

    A run that is only watched goes on whatever the health monitor says.
    """

    __tablename__ = "training_run"

    project_id: UUID = Field(foreign_key="project.id", index=True)
    training_set_id: UUID = Field(foreign_key="training_set.id", index=True)
    criteria_id: UUID = Field(foreign_key="document.id")
    requested_by: UUID | None = Field(default=None, foreign_key="user.id")
    state: RunState = Field(default=RunState.REQUESTED, sa_type=text_enum(RunState))
    spec: dict[str, Any] = Field(sa_type=Json)
    seed: int
    is_only_watched: bool = False
    code_archive: str | None = Field(default=None, max_length=71)
    package_lock: str | None = Field(default=None, max_length=71)
    environment: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    report: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    failure: str | None = None
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class ModelState(StrEnum):
    """Where a model version stands; exactly one of a project is champion."""

    CHALLENGER = "challenger"
    CHAMPION = "champion"
    RETIRED = "retired"
    REFUSED = "refused"


class ModelVersion(Row, table=True):
    """The base model plus one adapter; number 0 is the base model alone."""

    __tablename__ = "model_version"
    __table_args__ = (UniqueConstraint("project_id", "number"),)

    project_id: UUID = Field(foreign_key="project.id")
    number: int
    base_model: str = Field(max_length=500)
    base_sha256: str | None = Field(default=None, max_length=71)
    parent_id: UUID | None = Field(default=None, foreign_key="model_version.id")
    training_run_id: UUID | None = Field(default=None, foreign_key="training_run.id", unique=True)
    adapter_sha256: str | None = Field(default=None, max_length=71, index=True)
    state: ModelState = Field(sa_type=text_enum(ModelState))


class Influence(Row, table=True):
    """By how much what a version learned helps with what it is asked, as it was last estimated.

    `rows` are the rows that matter most, by settlement: positive helps.
    """

    __tablename__ = "influence"

    model_version_id: UUID = Field(foreign_key="model_version.id", unique=True)
    rows: dict[str, float] = Field(sa_type=Json)


class Bisection(Row, table=True):
    """A search for what made one model version worse than another.

    `budget` is the most configurations that may be trained. `trainings` are scores by the name of what was trained,
    by which a search goes on where it was ended; `result` names rows by their settlements, and holds nobody's words.
    """

    __tablename__ = "bisection"

    project_id: UUID = Field(foreign_key="project.id", index=True)
    requested_by: UUID | None = Field(default=None, foreign_key="user.id")
    good_id: UUID = Field(foreign_key="model_version.id")
    bad_id: UUID = Field(foreign_key="model_version.id")
    metric: str = Field(max_length=64)
    budget: int | None = None
    state: RunState = Field(default=RunState.REQUESTED, sa_type=text_enum(RunState))
    progress: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    trainings: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    result: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    failure: str | None = None
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Tuning(Row, table=True):
    """A search for better training settings on one set.

    `plan` is as `retrain.tuning.plan` reads it, `metric` what trials are judged by, `trials` all of them so far as
    `Tried`, and `result` the best one and what mattered.
    """

    __tablename__ = "tuning"

    project_id: UUID = Field(foreign_key="project.id", index=True)
    requested_by: UUID | None = Field(default=None, foreign_key="user.id")
    training_set_id: UUID = Field(foreign_key="training_set.id")
    metric: str = Field(max_length=64)
    plan: dict[str, Any] = Field(sa_type=Json)
    state: RunState = Field(default=RunState.REQUESTED, sa_type=text_enum(RunState))
    trials: list[dict[str, Any]] = Field(default_factory=list, sa_type=Json)
    result: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    failure: str | None = None
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
