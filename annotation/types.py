"""The values annotation works on: no database, no network."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

RATINGS = ("factual_accuracy", "coherence", "conciseness")


class TaskKind(StrEnum):
    """What an expert is asked for besides a verdict: the right label, or a better response."""

    CLASSIFICATION = "classification"
    GENERATION = "generation"
    CONVERSATION = "conversation"


class Verdict(StrEnum):
    """An expert's judgement of a response."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    UNSURE = "unsure"


class Cause(StrEnum):
    """Whose fault a wrong response is; only `MODEL` leads to training."""

    MODEL = "model"
    CONTEXT = "context"
    PROMPT = "prompt"
    POLICY = "policy"
    PRODUCT = "product"
    USER_MISTAKEN = "user_mistaken"


@dataclass(frozen=True, slots=True)
class LabelSchema:
    """The questions of one project: `labels` for classification, 1-5 `ratings`, guidelines in Markdown."""

    kind: TaskKind
    labels: tuple[str, ...] = ()
    ratings: tuple[str, ...] = RATINGS
    guidelines: str = ""


@dataclass(frozen=True, slots=True)
class NewTask:
    """One response to judge, keyed by our own task id; who flagged it is never shown."""

    key: str
    prompt: str
    response: str
    context: str = ""
    reasons: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one expert said about one response."""

    verdict: Verdict
    label: str | None = None
    correction: str | None = None
    cause: Cause | None = None
    ratings: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PulledAnnotation:
    """One annotator's answer to one task, as the tool holds it.

    `external_id` is the tool's id of the annotation and `updated_at` its revision. No `answer` means that the
    annotator skipped the task or, where a `problem` is named, sent what is no answer. `annotator` is the
    tool's account (its e-mail); `changed_by` the account that last changed it.
    """

    task_key: str
    external_id: str
    annotator: str
    changed_by: str
    answer: Answer | None
    seconds_spent: float
    updated_at: datetime
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ToolProject:
    """Our project in the tool: its id there, the page an expert opens, and what a tool of its own mind signs with."""

    external_id: str
    url: str
    hook_secret: str = ""


class Connector(Protocol):
    """What every annotation tool can do for us; each call is safe to repeat.

    `push` makes one task per key however often and from however many processes it is called, and returns the
    tool's id of each key. `pull` yields at least every annotation created or edited since `since`.

    Raises:
        ToolUnavailable: try again later.
        ToolRefused: a person has to change something first.
    """

    name: str

    def set_up(self, *, slug: str, schema: LabelSchema, hook_url: str, hook_secret: str) -> ToolProject: ...
    def push(self, project: str, tasks: Sequence[NewTask]) -> Mapping[str, str]: ...
    def pull(self, project: str, since: datetime | None) -> Iterator[PulledAnnotation]: ...
    def fetch(self, project: str, task: str) -> list[PulledAnnotation]: ...
