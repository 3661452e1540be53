"""Projects, the people and keys that may act on them, and the documents that decisions name."""

from datetime import datetime
from enum import StrEnum
from secrets import token_hex
from typing import Any
from uuid import UUID

from sqlalchemy import UniqueConstraint
from sqlmodel import Field

from annotation.settlement import BAR
from annotation.suggestions import SuggestionSource
from service.db import Json, UtcDateTime, text_enum
from service.tables.base import Row


class ProjectKind(StrEnum):
    """What the project's model is for; a comparison is about which of another project's models people prefer."""

    CLASSIFICATION = "classification"
    GENERATION = "generation"
    CONVERSATION = "conversation"
    EXTRACTION = "extraction"
    COMPARISON = "comparison"


class ConnectorKind(StrEnum):
    """The annotation tool in which the project's experts work."""

    LABEL_STUDIO = "label-studio"
    ARGILLA = "argilla"
    NONE = "none"


class Role(StrEnum):
    """What a person may do, from answering tasks to everything."""

    ANNOTATOR = "annotator"
    AUDITOR = "auditor"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"


class KeyKind(StrEnum):
    """A secret key acts for the host's backend; a public key, seen by anyone, only gives feedback."""

    SECRET = "secret"  # noqa: S105  a kind, not a password
    PUBLIC = "public"


class DocumentKind(StrEnum):
    """What is decided beforehand and versioned, so that each decision can name what it used."""

    LABEL_SCHEMA = "label_schema"
    GUIDELINES = "guidelines"
    REASONS = "reasons"
    CRITERIA = "criteria"
    GATE_RULES = "gate_rules"
    SUITE = "suite"
    GLOSSARY = "glossary"
    WAIVER = "waiver"
    ROUTING = "routing"
    TRIGGERS = "triggers"
    DECLINED_SUITES = "declined_suites"
    RATES = "rates"
    RETENTION = "retention"


def first_token_key() -> list[dict[str, Any]]:
    """Return the id under which a project's tokens are signed until that is rotated; `until` is in Unix seconds."""
    return [{"kid": token_hex(4), "until": None}]


class Project(Row, table=True):
    """One fine-tuned model's world: its feedback, experts, sets, runs and champion.

    In a comparison's project people judge what two models of the project `compares_id` answered. At least
    `persons_needed` persons stand behind what goes live: who asked for its training, and each who approved it.
    An expert is asked for at most `daily_capacity` answers a day, and counts once `qualifying_answers` of theirs were
    known beforehand and that share was right; 0 of either demands nothing. What
    `wave_voices` people say nearly alike within a day is held.
    `token_keys` are the keys that sign feedback tokens, by their ids: the first one signs, others hold until a time.
    """

    __tablename__ = "project"

    slug: str = Field(max_length=64, unique=True)
    kind: ProjectKind = Field(sa_type=text_enum(ProjectKind))
    base_model: str = Field(max_length=500)
    system_prompt: str = ""
    connector: ConnectorKind = Field(sa_type=text_enum(ConnectorKind))
    overlap: int = 2
    needed: int = 2
    random_share: float = 0.0
    suggestion: SuggestionSource = Field(default=SuggestionSource.NONE, sa_type=text_enum(SuggestionSource))
    blind_share: float = 0.3
    admission_bar: float = 0.9
    settlement_bar: float = BAR
    gold_share: float = 0.05
    repeat_weeks: int = 4
    persons_needed: int = 1
    needs_blindness: bool = False
    compares_id: UUID | None = Field(default=None, foreign_key="project.id", index=True)
    daily_capacity: int = 0
    qualifying_answers: int = 0
    qualifying_accuracy: float = 0.8
    needs_token: bool = True
    masks_personal: bool = True
    presumes_consent: bool = False
    wave_voices: int = 10
    token_keys: list[dict[str, Any]] = Field(default_factory=first_token_key, sa_type=Json)


class ToolProject(Row, table=True):
    """One project in one annotation tool: where it is there, how far it was read, and what hinders it.

    `cursor` is the newest change that was read, by the tool's clock; `look_due_at` when everything is to be looked at
    again. After `failures` in a row nothing is tried before `not_before`, and `problem` says what a person can do.
    `guidelines_shown` are the ids of the guidelines that its page showed, each with the time from which on.
    """

    __tablename__ = "tool_project"
    __table_args__ = (UniqueConstraint("project_id", "connector"),)

    project_id: UUID = Field(foreign_key="project.id")
    connector: ConnectorKind = Field(sa_type=text_enum(ConnectorKind))
    external_id: str | None = Field(default=None, max_length=64)
    url: str | None = Field(default=None, max_length=500)
    hook_secret: str | None = Field(default=None, max_length=200)
    hook_sha256: str | None = Field(default=None, max_length=71)
    hook_put_back_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    lost_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    quarantined_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    cursor: datetime | None = Field(default=None, sa_type=UtcDateTime)
    polled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    look_due_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    foreign_tasks: int = 0
    guidelines_shown: list[dict[str, Any]] = Field(default_factory=list, sa_type=Json)
    failures: int = 0
    not_before: datetime | None = Field(default=None, sa_type=UtcDateTime)
    problem: str | None = Field(default=None, max_length=1000)


class User(Row, table=True):
    """A person who signs in, approves and promotes.

    `role` counts in every project that gives them no other by a `Membership`. `password` is an Argon2id hash.
    """

    __tablename__ = "user"

    name: str = Field(max_length=100, unique=True)
    role: Role = Field(sa_type=text_enum(Role))
    password: str | None = Field(default=None, max_length=200)
    disabled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class UserToken(Row, table=True):
    """A person's bearer token, or a one-time link; only its hash is kept.

    A link that `joins` a project is for somebody invited to annotate there: used, it is their consent.
    """

    __tablename__ = "user_token"

    user_id: UUID = Field(foreign_key="user.id", index=True)
    sha256: str = Field(max_length=71, unique=True)
    is_sign_in_link: bool = False
    joins_id: UUID | None = Field(default=None, foreign_key="project.id")
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Membership(Row, table=True):
    """A person's role in one project, instead of their role everywhere."""

    __tablename__ = "membership"
    __table_args__ = (UniqueConstraint("user_id", "project_id"),)

    user_id: UUID = Field(foreign_key="user.id")
    project_id: UUID = Field(foreign_key="project.id", index=True)
    role: Role = Field(sa_type=text_enum(Role))


class UserSession(Row, table=True):
    """One browser in which a person is signed in; only the hash of its cookie is kept."""

    __tablename__ = "user_session"

    user_id: UUID = Field(foreign_key="user.id", index=True)
    sha256: str = Field(max_length=71, unique=True)
    browser: str = Field(default="", max_length=200)
    last_seen_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class ApiKey(Row, table=True):
    """A program's credential for one project; only its hash is kept.

    A secret key without `scopes` may do all that secret keys may. `last_used_at` is exact to a minute.
    """

    __tablename__ = "api_key"

    project_id: UUID = Field(foreign_key="project.id", index=True)
    kind: KeyKind = Field(sa_type=text_enum(KeyKind))
    name: str = Field(default="", max_length=100)
    sha256: str = Field(max_length=71, unique=True)
    origins: list[str] = Field(default_factory=list, sa_type=Json)
    scopes: list[str] = Field(default_factory=list, sa_type=Json)
    last_used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Document(Row, table=True):
    """One version of a schema, guideline, rule or suite; versions are only added."""

    __tablename__ = "document"
    __table_args__ = (UniqueConstraint("project_id", "kind", "name", "version"),)

    project_id: UUID = Field(foreign_key="project.id")
    kind: DocumentKind = Field(sa_type=text_enum(DocumentKind))
    name: str = Field(default="", max_length=100)
    version: int
    content: dict[str, Any] = Field(sa_type=Json)
    sha256: str = Field(max_length=71)
    author: str = Field(max_length=100)
