"""The questions asked about a response: which schemas can be asked, and which answers fit one."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from annotation.errors import InvalidAnswer, InvalidSchema
from annotation.types import Answer, Cause, LabelSchema, TaskKind, Verdict

MAX_LABELS = 200
MAX_LABEL_CHARS = 100
MAX_GUIDELINES_CHARS = 20_000
BEST_RATING = 5

_RATING_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TAKEN_NAMES = frozenset(
    {"verdict", "label", "correction", "cause", "prompt", "response", "context", "reasons", "external_id"}
)
_FIELDS = frozenset({"kind", "labels", "ratings", "guidelines"})

_COMMON_GUIDELINES = """\
1. Read the context and the prompt before the response. Judge the response as given, not who asked.
2. **Correct**: you would let it stand as it is. **Incorrect**: somebody has to change something. **Unsure**:
   you cannot tell from what is shown; say so rather than guess, or skip the task if it is not your field.
3. {correction}
4. Name the cause. *model*: everything needed was there, and the model still got it wrong. *context*: what it
   was given is wrong or missing. *prompt*: our instructions led it astray. *policy*: the rule is disputed.
   *product*: the answer is right, the product is not. *user_mistaken*: the question rests on a mistake.
5. Ratings run from 1 (poor) to 5 (nothing to improve). Rate each one by itself.
6. The reasons are what a reader of the response said. They are a hint, and they may be wrong.
"""
_CORRECTIONS = {
    TaskKind.CLASSIFICATION: "When it is incorrect, choose the one label that fits best.",
    TaskKind.GENERATION: "When it is incorrect, write the complete response that should have been given.",
    TaskKind.CONVERSATION: "When it is incorrect, write the turn that fits what was said before.",
}


def default_guidelines(kind: TaskKind) -> str:
    """Return the guidelines, in Markdown, of a project that has not written its own."""
    return _COMMON_GUIDELINES.format(correction=_CORRECTIONS[kind])


def validate(schema: LabelSchema) -> None:
    """Make sure that people can be asked these questions.

    Raises:
        InvalidSchema: a label or rating is missing, repeated or not presentable.
    """
    if schema.kind is TaskKind.CLASSIFICATION:
        _validate_labels(schema.labels)
    elif schema.labels:
        raise InvalidSchema(
            f"a {schema.kind} project takes a corrected response, not labels: {schema.labels!r}"
        )
    _refuse_repeated("rating", schema.ratings)
    for name in schema.ratings:
        if not _RATING_NAME.fullmatch(name) or name in _TAKEN_NAMES:
            raise InvalidSchema(
                f"rating {name!r} must be a lower-case word such as 'coherence', and not a field's name"
            )
    if len(schema.guidelines) > MAX_GUIDELINES_CHARS:
        raise InvalidSchema(
            f"guidelines have {len(schema.guidelines)} characters, {MAX_GUIDELINES_CHARS} are allowed"
        )


def check(answer: Answer, schema: LabelSchema) -> Answer:
    """Return the answer as far as it counts: label, correction and cause only for an incorrect response.

    An incorrect response that was corrected without naming a cause is the model's fault.

    Raises:
        InvalidAnswer: the answer does not fit the schema, or does not say what was asked.
    """
    _check_ratings(answer.ratings, schema)
    if answer.verdict is not Verdict.INCORRECT:
        return replace(answer, label=None, correction=None, cause=None)
    corrected = _check_label(answer, schema) if schema.labels else _check_correction(answer)
    if not corrected and answer.cause in (None, Cause.MODEL):
        missing = "the right label" if schema.labels else "a corrected response"
        raise InvalidAnswer(f"an incorrect response needs {missing}, or a cause other than the model")
    return replace(answer, cause=answer.cause or Cause.MODEL)


def to_json(schema: LabelSchema) -> dict[str, Any]:
    """Return the schema as a JSON document; `from_json` reads it back."""
    return {**asdict(schema), "labels": list(schema.labels), "ratings": list(schema.ratings)}


def from_json(document: Any) -> LabelSchema:
    """Read a schema, taking the default ratings and guidelines where it names none.

    Raises:
        InvalidSchema: it is no schema, or one that cannot be asked.
    """
    if not isinstance(document, Mapping) or not set(document) <= _FIELDS:
        raise InvalidSchema(f"a label schema is an object with {sorted(_FIELDS)}")
    try:
        kind = TaskKind(str(document.get("kind")))
    except ValueError:
        raise InvalidSchema(
            f"kind {document.get('kind')!r} is none of {[str(k) for k in TaskKind]}"
        ) from None
    guidelines = document.get("guidelines", default_guidelines(kind))
    if not isinstance(guidelines, str):
        raise InvalidSchema("guidelines must be text")
    schema = LabelSchema(
        kind=kind,
        labels=_texts(document, "labels", ()),
        ratings=_texts(document, "ratings", LabelSchema(kind=kind).ratings),
        guidelines=guidelines,
    )
    validate(schema)
    return schema


def _validate_labels(labels: tuple[str, ...]) -> None:
    if not 2 <= len(labels) <= MAX_LABELS:
        raise InvalidSchema(f"a classification project needs 2 to {MAX_LABELS} labels, not {len(labels)}")
    _refuse_repeated("label", (label.casefold() for label in labels))
    for label in labels:
        if (
            not label.strip()
            or label != label.strip()
            or not label.isprintable()
            or len(label) > MAX_LABEL_CHARS
        ):
            raise InvalidSchema(
                f"label {label!r} must be 1 to {MAX_LABEL_CHARS} printable characters without outer spaces"
            )


def _refuse_repeated(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidSchema(f"{what} {name!r} is repeated")
        seen.add(name)


def _check_ratings(ratings: Mapping[str, int], schema: LabelSchema) -> None:
    for name, rating in ratings.items():
        if name not in schema.ratings:
            raise InvalidAnswer(f"rating {name!r} is none of {list(schema.ratings)}")
        if type(rating) is not int or not 1 <= rating <= BEST_RATING:
            raise InvalidAnswer(f"{name} is rated {rating!r}, not 1 to {BEST_RATING}")


def _check_label(answer: Answer, schema: LabelSchema) -> bool:
    if answer.correction is not None:
        raise InvalidAnswer("a classification is corrected by a label, not by a text")
    if answer.label is not None and answer.label not in schema.labels:
        raise InvalidAnswer(f"label {answer.label!r} is not in the schema")
    return answer.label is not None


def _check_correction(answer: Answer) -> bool:
    if answer.label is not None:
        raise InvalidAnswer(f"label {answer.label!r} was given where the schema has none")
    if answer.correction is not None and not answer.correction.strip():
        raise InvalidAnswer("the corrected response is empty")
    return answer.correction is not None


def _texts(document: Mapping[str, Any], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    values = document.get(name, default)
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise InvalidSchema(f"{name} must be a list of texts")
    return tuple(values)
