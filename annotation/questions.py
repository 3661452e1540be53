"""What a label schema asks, as an ordered list of typed questions: pages show it, and answers are checked by it."""

import re
from dataclasses import dataclass
from enum import StrEnum

from annotation.types import RATINGS, Abstention, Cause, LabelSchema, TaskKind, Verdict

BEST_RATING = 5
BETWEEN_LABELS = ";"
CONVERSATION_RATINGS = ("turn_taking", "sentiment_alignment", "task_completion")
SPANS = ("hallucinated", "unsafe")

# What 1, 3 and 5 mean.
ANCHORS = {
    "factual_accuracy": ("mostly wrong", "one error that matters", "nothing wrong"),
    "coherence": ("falls apart", "can be followed", "reads as one thought"),
    "conciseness": ("buried in words", "some words too many", "no word too many"),
    "turn_taking": ("talks past the other", "answers, late or at length", "takes and leaves turns well"),
    "sentiment_alignment": ("wrong tone for the mood", "neutral", "meets the mood"),
    "task_completion": ("not done", "done in part", "done"),
}
_RIVAL_ANCHORS = ("a is better", "no difference", "b is better")
_OTHER_ANCHORS = ("poor", "fair", "nothing to improve")
_FIELDS = {"context": "Context", "prompt": "Prompt", "response": "Response", "reasons": "What readers said"}
_RIVALS = {"context": "Context", "prompt": "Prompt", "response": "Answer a", "rival": "Answer b"}


class QuestionType(StrEnum):
    """How a question is answered: one or several of its choices, text, 1 to 5, or marks in the response."""

    CHOICE = "choice"
    CHOICES = "choices"
    TEXT = "text"
    RATING = "rating"
    SPANS = "spans"


@dataclass(frozen=True, slots=True)
class Question:
    """One question; `hint` says what its scale means, `is_about_wrong` that only an incorrect response raises it."""

    name: str
    type: QuestionType
    title: str
    choices: tuple[str, ...] = ()
    hint: str = ""
    is_required: bool = False
    is_about_wrong: bool = False


def questions(schema: LabelSchema) -> list[Question]:
    """Return what is asked, in the order in which it is shown."""
    if schema.kind is TaskKind.PAIRWISE:
        better = _verdict("Which answer is better", verdicts(schema))
        return [better, *(_rating(name, schema) for name in schema.ratings)]
    causes = tuple(map(str, Cause))
    marks = Question("spans", QuestionType.SPANS, "Mark what is wrong in the response", schema.spans)
    return [
        _verdict("Verdict", verdicts(schema)),
        _better(schema),
        Question("cause", QuestionType.CHOICE, "Cause", causes, is_required=True, is_about_wrong=True),
        *(_rating(name, schema) for name in schema.ratings),
        *([marks] if schema.spans else []),
    ]


def verdicts(schema: LabelSchema) -> tuple[Verdict, ...]:
    """Return what may be said of a response, or of two, by who does not abstain."""
    if schema.kind is TaskKind.PAIRWISE:
        return (Verdict.A, Verdict.B, Verdict.TIE)
    return (Verdict.CORRECT, Verdict.INCORRECT, Verdict.UNSURE)


def labels_in(text: str) -> tuple[str, ...]:
    """Return the labels that a response names where several may be right: `Billing; Skin`, or one a line."""
    return tuple(label for part in re.split(f"[{BETWEEN_LABELS}\n]", text) if (label := part.strip()))


def fields(schema: LabelSchema) -> dict[str, str]:
    """Return what is shown of a task, and its title."""
    return _RIVALS if schema.kind is TaskKind.PAIRWISE else _FIELDS


def default_ratings(kind: TaskKind) -> tuple[str, ...]:
    """Return what is rated in a project that does not say."""
    return RATINGS + CONVERSATION_RATINGS if kind is TaskKind.CONVERSATION else RATINGS


def default_spans(kind: TaskKind) -> tuple[str, ...]:
    """Return what may be marked in the responses of a project that does not say: nothing in a label."""
    return SPANS if kind in (TaskKind.GENERATION, TaskKind.CONVERSATION) else ()


def _verdict(title: str, verdicts: tuple[Verdict, ...]) -> Question:
    choices = tuple(map(str, (*verdicts, *Abstention)))
    return Question("verdict", QuestionType.CHOICE, title, choices, is_required=True)


def _better(schema: LabelSchema) -> Question:
    if schema.is_multi_label:
        return Question(
            "labels", QuestionType.CHOICES, "All right labels", schema.labels, is_about_wrong=True
        )
    if schema.labels:
        return Question("label", QuestionType.CHOICE, "Right label", schema.labels, is_about_wrong=True)
    return Question("correction", QuestionType.TEXT, "Corrected response", is_about_wrong=True)


def _rating(name: str, schema: LabelSchema) -> Question:
    usual = _RIVAL_ANCHORS if schema.kind is TaskKind.PAIRWISE else ANCHORS.get(name, _OTHER_ANCHORS)
    anchors = schema.anchors.get(name) or usual
    hint = " · ".join(f"{at} {words}" for at, words in zip((1, 3, BEST_RATING), anchors, strict=True))
    return Question(name, QuestionType.RATING, name.replace("_", " ").capitalize(), hint=hint)
