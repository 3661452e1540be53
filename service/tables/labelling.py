"""What experts are asked, what each answered, and what their answers come to."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Index, UniqueConstraint, text
from sqlmodel import Field

from annotation.types import Abstention, Cause, Verdict
from service.db import Json, UtcDateTime, text_enum
from service.tables.base import Row
from service.tables.project import ConnectorKind


class TaskPurpose(StrEnum):
    """Why an expert is asked; each purpose but `RANDOM` has a foreign key to its cause."""

    FLAG = "flag"
    RANDOM = "random"
    CORPUS = "corpus"
    GOLD = "gold"
    RECHECK = "recheck"
    HUMAN_EVALUATION = "human_evaluation"
    COVERAGE = "coverage"
    ADDED = "added"


class TaskState(StrEnum):
    """A task's life: selected by triage, sent to the tool, then settled or contested, or withdrawn."""

    SELECTED = "selected"
    SENT = "sent"
    SETTLED = "settled"
    CONTESTED = "contested"
    WITHDRAWN = "withdrawn"


class SetAside(StrEnum):
    """Why an answer that could be read counts for nobody: who gave it was not asked, or not to be relied on yet."""

    OUTSIDE_POOL = "outside_pool"
    UNQUALIFIED = "unqualified"
    LEFT = "left"


TO_CLOSE = "NOT is_closed AND state IN ('settled', 'withdrawn')"


class AnnotationTask(Row, table=True):
    """One response for experts to judge; near-equal flags share one, and `flag_id` is the first of them.

    `connector` is the tool in which it is asked and `external_id` its id there; an `overlap` of its own replaces the
    project's, and where it has a `pool` only its members' answers count. `rival_id` is the other answer where two are
    compared. `urgency` are the parts of the `priority` that triage gave it.
    `suggestion` is what was prefilled, by question, or would have been: who is asked about a blind task is not shown
    it. Both are decided when the task is first sent.
    With a `gold_of_id` it asks a settled task once more, to see how annotators do: it is withdrawn when enough have
    answered, and comes to nothing. `is_gold` is an operator's word on whether a settled task may be asked so.
    `is_closed` says that its tool was told to ask nobody any more.
    """

    __tablename__ = "annotation_task"
    __table_args__ = (
        Index("ix_annotation_task_project_id_state", "project_id", "state", "priority"),
        Index("ix_annotation_task_project_id_id", "project_id", "id"),
        Index("ix_annotation_task_project_id_priority_id", "project_id", "priority", "id"),
        Index("ix_annotation_task_project_id_external_id", "project_id", "external_id"),
        Index(
            "ix_annotation_task_selected",
            "project_id",
            "connector",
            "id",
            sqlite_where=text("state = 'selected'"),
            postgresql_where=text("state = 'selected'"),
        ),
        Index(
            "ix_annotation_task_to_close",
            "project_id",
            "connector",
            sqlite_where=text(TO_CLOSE),
            postgresql_where=text(TO_CLOSE),
        ),
    )

    project_id: UUID = Field(foreign_key="project.id")
    response_id: UUID = Field(foreign_key="response.id", index=True)
    purpose: TaskPurpose = Field(sa_type=text_enum(TaskPurpose))
    flag_id: UUID | None = Field(default=None, foreign_key="feedback.id")
    source_id: UUID | None = Field(default=None, foreign_key="source.id", index=True)
    gold_of_id: UUID | None = Field(default=None, foreign_key="annotation_task.id", index=True)
    rechecks_id: UUID | None = Field(default=None, foreign_key="annotation_task.id", index=True)
    evaluation_id: UUID | None = Field(default=None, foreign_key="evaluation.id", index=True)
    rival_id: UUID | None = Field(default=None, foreign_key="response.id", index=True)
    repair_id: UUID | None = Field(default=None, foreign_key="accepted_repair.id")
    schema_id: UUID = Field(foreign_key="document.id")
    guidelines_id: UUID = Field(foreign_key="document.id")
    priority: float
    urgency: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    connector: ConnectorKind = Field(sa_type=text_enum(ConnectorKind))
    overlap: int | None = None
    pool: str | None = Field(default=None, max_length=100)
    suggestion: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    is_blind: bool | None = None
    is_gold: bool | None = None
    state: TaskState = Field(default=TaskState.SELECTED, sa_type=text_enum(TaskState))
    external_id: str | None = Field(default=None, max_length=64)
    sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    is_closed: bool = False


class TaskFlag(Row, table=True):
    """One flag that a task answers; a flag belongs to one task."""

    __tablename__ = "task_flag"

    task_id: UUID = Field(foreign_key="annotation_task.id", index=True)
    feedback_id: UUID = Field(foreign_key="feedback.id", unique=True)


class Annotator(Row, table=True):
    """A person who answers tasks, by the account they have in the tool; a pseudonym once they have left.

    A `daily_capacity` of their own replaces the project's.
    """

    __tablename__ = "annotator"
    __table_args__ = (UniqueConstraint("connector", "account"),)

    connector: ConnectorKind = Field(sa_type=text_enum(ConnectorKind))
    account: str = Field(max_length=200)
    user_id: UUID | None = Field(default=None, foreign_key="user.id")
    daily_capacity: int | None = None
    left_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class PoolMember(Row, table=True):
    """One annotator in one of a project's pools, which its rules name."""

    __tablename__ = "pool_member"
    __table_args__ = (UniqueConstraint("project_id", "pool", "annotator_id"),)

    project_id: UUID = Field(foreign_key="project.id")
    pool: str = Field(max_length=100)
    annotator_id: UUID = Field(foreign_key="annotator.id", index=True)


class Qualification(Row, table=True):
    """That an annotator's answers count in a project which demands it: how many of their gold answers were right."""

    __tablename__ = "qualification"
    __table_args__ = (UniqueConstraint("project_id", "annotator_id"),)

    project_id: UUID = Field(foreign_key="project.id")
    annotator_id: UUID = Field(foreign_key="annotator.id", index=True)
    right: int
    answered: int


class Annotation(Row, table=True):
    """One revision of one annotator's answer; revisions are only added, the newest counts.

    It names the questions and guidelines that it answers. With an abstention, with a problem, or set aside when it
    came, it counts for nobody.
    One with a `reason` is an adjudicator's, and decides a contested task. `tool_task` is the tool's task that it was
    given in; `withdrawn_at` is when it was seen to be deleted there.
    """

    __tablename__ = "annotation"
    __table_args__ = (UniqueConstraint("task_id", "external_id", "revised_at"),)

    task_id: UUID = Field(foreign_key="annotation_task.id", index=True)
    annotator_id: UUID = Field(foreign_key="annotator.id", index=True)
    schema_id: UUID | None = Field(default=None, foreign_key="document.id")
    guidelines_id: UUID | None = Field(default=None, foreign_key="document.id")
    external_id: str = Field(max_length=64)
    revised_at: datetime = Field(sa_type=UtcDateTime)
    is_skipped: bool = False
    problem: str | None = Field(default=None, max_length=500)
    set_aside: SetAside | None = Field(default=None, sa_type=text_enum(SetAside))
    abstention: Abstention | None = Field(default=None, sa_type=text_enum(Abstention))
    verdict: Verdict | None = Field(default=None, sa_type=text_enum(Verdict))
    label: str | None = Field(default=None, max_length=200)
    labels: list[str] = Field(default_factory=list, sa_type=Json)
    correction: str | None = None
    cause: Cause | None = Field(default=None, sa_type=text_enum(Cause))
    spans: list[dict[str, Any]] = Field(default_factory=list, sa_type=Json)
    reason: str | None = None
    ratings: dict[str, int] = Field(default_factory=dict, sa_type=Json)
    seconds_spent: float = 0.0
    tool_task: str | None = Field(default=None, max_length=64)
    withdrawn_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class GuidelineQuestion(Row, table=True):
    """What an expert asks the guidelines' owner, of one task or of all, and what they are answered.

    It names the guidelines that left them in doubt. An erasure empties one about a task of whom it forgets.
    """

    __tablename__ = "guideline_question"
    __table_args__ = (Index("ix_guideline_question_project_id_id", "project_id", "id"),)

    project_id: UUID = Field(foreign_key="project.id")
    guidelines_id: UUID = Field(foreign_key="document.id")
    task_id: UUID | None = Field(default=None, foreign_key="annotation_task.id", index=True)
    user_id: UUID = Field(foreign_key="user.id", index=True)
    text: str
    answer: str | None = None
    answered_by: UUID | None = Field(default=None, foreign_key="user.id")
    answered_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Settlement(Row, table=True):
    """What a task's annotations come to; only those whose cause is the model, or that find it right, teach it.

    With an `admission` nobody was asked about this row: a sample of its source was found right. `posterior` is how
    probable it is that this is right, by what was known of the annotators when it was settled. One that lost an
    annotation it counted, `withdrawn_by_id`, is withdrawn: it stays in frozen sets and teaches no further one. Where
    something other than the model is to be mended, `ticket_url` is where that is followed.
    """

    __tablename__ = "settlement"
    __table_args__ = (
        Index("ix_settlement_project_id_id", "project_id", "id"),
        Index(
            "uq_settlement_task_id_in_force",
            "task_id",
            unique=True,
            sqlite_where=text("withdrawn_at IS NULL"),
            postgresql_where=text("withdrawn_at IS NULL"),
        ),
    )

    project_id: UUID = Field(foreign_key="project.id")
    task_id: UUID = Field(foreign_key="annotation_task.id", index=True)
    verdict: Verdict = Field(sa_type=text_enum(Verdict))
    label: str | None = Field(default=None, max_length=200)
    labels: list[str] = Field(default_factory=list, sa_type=Json)
    correction: str | None = None
    cause: Cause | None = Field(default=None, sa_type=text_enum(Cause))
    agreeing: int
    asked: int
    explanation: str = Field(max_length=500)
    posterior: float | None = None
    admission_id: UUID | None = Field(default=None, foreign_key="admission.id")
    withdrawn_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    withdrawn_by_id: UUID | None = Field(default=None, foreign_key="annotation.id")
    ticket_url: str | None = Field(default=None, max_length=500)


class SettlementAnnotation(Row, table=True):
    """One annotation that a settlement counted, and how often its annotator was taken to be right at that time."""

    __tablename__ = "settlement_annotation"
    __table_args__ = (UniqueConstraint("settlement_id", "annotation_id"),)

    settlement_id: UUID = Field(foreign_key="settlement.id", index=True)
    annotation_id: UUID = Field(foreign_key="annotation.id", index=True)
    accuracy: float | None = None


class QualityReport(Row, table=True):
    """How far a project's annotators agree and can be trusted, as it was last computed."""

    __tablename__ = "quality_report"

    project_id: UUID = Field(foreign_key="project.id", unique=True)
    content: dict[str, Any] = Field(sa_type=Json)
    computed_at: datetime = Field(sa_type=UtcDateTime)
