"""The values annotation works on: no database, no network."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

RATINGS = ("factual_accuracy", "coherence", "conciseness")


class TaskKind(StrEnum):
    """What an expert is asked for: a verdict and the right label or a better response, or which of two is better."""

    CLASSIFICATION = "classification"
    GENERATION = "generation"
    CONVERSATION = "conversation"
    PAIRWISE = "pairwise"


class Verdict(StrEnum):
    """An expert's judgement of a response, or, of a response `a` and its rival `b`, which is better."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    UNSURE = "unsure"
    A = "a"
    B = "b"
    TIE = "tie"


class Abstention(StrEnum):
    """Why an expert gives no verdict; it counts for nobody, and an operator is told."""

    CANNOT_JUDGE = "cannot_judge"
    GUIDELINE_UNCLEAR = "guideline_unclear"


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
    """The questions of one project, which `annotation.questions` spells out.

    `labels` are for classification, of which `is_multi_label` lets several be right; `ratings` run from 1 to 5, and
    `anchors` say by rating what 1, 3 and 5 mean; `spans` are what may be marked in the response; guidelines are
    Markdown.
    """

    kind: TaskKind
    labels: tuple[str, ...] = ()
    ratings: tuple[str, ...] = RATINGS
    guidelines: str = ""
    is_multi_label: bool = False
    anchors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewTask:
    """One response to judge, keyed by our own task id; who flagged it is never shown.

    `rival` is the other answer of a pairwise task. `suggestion` holds what is prefilled, by question.
    """

    key: str
    prompt: str
    response: str
    context: str = ""
    reasons: str = ""
    rival: str | None = None
    suggestion: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters of the response from `start` up to `end` that an expert marked; a tool may tell their `text`."""

    start: int
    end: int
    label: str
    text: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one expert said about one response; `labels` where several may be right."""

    verdict: Verdict | Abstention
    label: str | None = None
    correction: str | None = None
    cause: Cause | None = None
    ratings: Mapping[str, int] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()


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
class HeldTask:
    """One task as the tool holds it, with all of its annotations.

    `key` is empty when it was added in the tool by hand; `shown` are the texts that an expert reads, and
    `changed_at` when the tool says that it or an annotation changed last.
    """

    external_id: str
    key: str
    annotations: tuple[PulledAnnotation, ...] = ()
    shown: Mapping[str, str] = field(default_factory=dict)
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ToolProject:
    """Our project in the tool: its id there, the page an expert opens, and what a tool of its own mind signs with.

    `is_hook_new` says that the webhook was not there, or not as it should be, and had to be registered.
    """

    external_id: str
    url: str
    hook_secret: str = ""
    is_hook_new: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """How a tool is, as far as we need it: no `problem` means well, and a `remedy` says what a person can do."""

    version: str = ""
    account: str = ""
    problem: str = ""
    remedy: str = ""


class Connector(Protocol):
    """What every annotation tool can do for us; each call is safe to repeat.

    `set_up` makes the project and its webhook or brings them up to date, the one of `known_id` where that is still
    there; an empty `hook_url` takes the webhook away,
    None leaves it as it is. `push` makes one task per key however often and from however many processes it is
    called, and returns the tool's id of each key. `pull` yields at least every task on which an annotation was
    created or edited since `since`, and without one every task. `fetch` leaves out tasks that are gone, and `delete`
    has read that they are before it returns. `close` has a tool offer tasks to nobody who has not answered them, as
    far as it can, `reopen` to all again; both pass over what is gone. `health` raises nothing.

    Raises:
        ToolUnavailable: try again later.
        ToolRefused: a person has to change something first.
    """

    name: str

    def set_up(
        self,
        *,
        slug: str,
        schema: LabelSchema,
        hook_url: str | None,
        hook_secret: str,
        known_id: str | None = None,
    ) -> ToolProject: ...
    def push(self, project: str, tasks: Sequence[NewTask]) -> Mapping[str, str]: ...
    def pull(self, project: str, since: datetime | None) -> Iterator[HeldTask]: ...
    def fetch(self, project: str, tasks: Sequence[str]) -> list[HeldTask]: ...
    def delete(self, project: str, tasks: Sequence[str]) -> None: ...
    def close(self, project: str, tasks: Sequence[str]) -> None: ...
    def reopen(self, project: str, tasks: Sequence[str]) -> None: ...
    def health(self) -> Health: ...
