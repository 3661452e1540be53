"""Label schemas: which can be asked, how one is written, and which settled answers a change of it puts in doubt."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

from annotation.answers import NAMES
from annotation.errors import InvalidSchema
from annotation.questions import BEST_RATING, BETWEEN_LABELS, default_ratings, labels_in
from annotation.types import Answer, LabelSchema, TaskKind, Verdict

MAX_LABELS = 200
MAX_LABEL_CHARS = 100
MAX_GUIDELINES_CHARS = 20_000
MAX_ANCHOR_CHARS = 60
MAX_SPAN_KINDS = 20

_RATING_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TAKEN_NAMES = frozenset({*NAMES, "prompt", "response", "rival", "context", "reasons", "external_id"})
_FIELDS = frozenset(field.name for field in fields(LabelSchema))
_LATER_FIELDS = ("is_multi_label", "anchors", "spans")  # written where they say something

_COMMON_GUIDELINES = """\
1. Read the context and the prompt before the response. Judge the response as given, not who asked.
2. **Correct**: you would let it stand as it is. **Incorrect**: somebody has to change something. **Unsure**:
   it may be read either way. **Cannot judge**: too little is shown, or it is not your field; say so rather than
   guess. **Guideline unclear**: what is written here does not decide it. The last two count for nobody, and who
   runs the project is told.
3. {correction}
4. Name the cause. *model*: everything needed was there, and the model still got it wrong. *context*: what it
   was given is wrong or missing. *prompt*: our instructions led it astray. *policy*: the rule is disputed.
   *product*: the answer is right, the product is not. *user_mistaken*: the question rests on a mistake.
5. Ratings run from 1 to 5, and beside each stands what 1, 3 and 5 mean. Rate each one by itself.
6. Where you can mark text, mark what is made up or unsafe, and no more than that.
7. The reasons are what a reader of the response said. They are a hint, and they may be wrong.
"""
_CORRECTIONS = {
    TaskKind.CLASSIFICATION: "When it is incorrect, choose the one label that fits best.",
    TaskKind.GENERATION: "When it is incorrect, write the complete response that should have been given.",
    TaskKind.CONVERSATION: "When it is incorrect, write the turn that fits what was said before.",
}
_PAIRWISE_GUIDELINES = """\
1. Read the context and the prompt, then both answers. Which stands first says nothing about either.
2. **a** or **b**: the one that you would rather give. **tie**: neither is better. **Cannot judge** and **guideline
   unclear** count for nobody, and who runs the project is told.
3. Ratings say by how much and in what: 1 means that a is better in that, 3 that there is no difference, 5 that b is.
"""


def default_guidelines(kind: TaskKind) -> str:
    """Return the guidelines, in Markdown, of a project that has not written its own."""
    if kind is TaskKind.PAIRWISE:
        return _PAIRWISE_GUIDELINES
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
    if schema.is_multi_label and not schema.labels:
        raise InvalidSchema("is_multi_label: there are no labels of which several could be right")
    if schema.kind is TaskKind.PAIRWISE and schema.spans:
        raise InvalidSchema("two answers are compared as a whole: there are no spans")
    _validate_ratings(schema)
    _refuse_repeated("span", (kind.casefold() for kind in schema.spans))
    if len(schema.spans) > MAX_SPAN_KINDS:
        raise InvalidSchema(f"{len(schema.spans)} kinds of spans, {MAX_SPAN_KINDS} are allowed")
    for kind in schema.spans:
        _refuse_unpresentable("span", kind, MAX_LABEL_CHARS)
    if len(schema.guidelines) > MAX_GUIDELINES_CHARS:
        raise InvalidSchema(
            f"guidelines have {len(schema.guidelines)} characters, {MAX_GUIDELINES_CHARS} are allowed"
        )


def to_json(schema: LabelSchema) -> dict[str, Any]:
    """Return the schema as a JSON document; `from_json` reads it back."""
    document = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(schema).items()}
    document["anchors"] = {name: list(words) for name, words in schema.anchors.items()}
    return {name: v for name, v in document.items() if v or name not in _LATER_FIELDS}


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
        ratings=_texts(document, "ratings", default_ratings(kind)),
        guidelines=guidelines,
        is_multi_label=_truth(document, "is_multi_label"),
        anchors=_anchors(document),
        spans=_texts(document, "spans", ()),
    )
    validate(schema)
    return schema


def doubt(answer: Answer, response: str, *, then: LabelSchema, now: LabelSchema) -> str | None:
    """Return why an answer settled by an earlier schema has to be asked for again, or None if it still holds.

    A label that keeps its name keeps its meaning: to split one is to give both parts names of their own. What was not
    asked then (ratings, spans) puts no answer in doubt.
    """
    if answer.verdict not in (Verdict.CORRECT, Verdict.INCORRECT) or not then.labels:
        return None
    if then.is_multi_label != now.is_multi_label:
        return "several labels may be right" if now.is_multi_label else "one label is right"
    shown = labels_in(response) if then.is_multi_label else (response,)
    said = shown if answer.verdict is Verdict.CORRECT else (*answer.labels, answer.label)
    gone = [label for label in then.labels if label in said and label not in now.labels]
    return f"{', '.join(map(repr, gone))} is no label any more" if gone else None


def _validate_labels(labels: tuple[str, ...]) -> None:
    if not 2 <= len(labels) <= MAX_LABELS:
        raise InvalidSchema(f"a classification project needs 2 to {MAX_LABELS} labels, not {len(labels)}")
    _refuse_repeated("label", (label.casefold() for label in labels))
    for label in labels:
        _refuse_unpresentable("label", label, MAX_LABEL_CHARS)
        if BETWEEN_LABELS in label:
            raise InvalidSchema(
                f"label {label!r} holds {BETWEEN_LABELS!r}, which stands between several labels"
            )


def _validate_ratings(schema: LabelSchema) -> None:
    _refuse_repeated("rating", schema.ratings)
    for name in schema.ratings:
        if not _RATING_NAME.fullmatch(name) or name in _TAKEN_NAMES:
            raise InvalidSchema(
                f"rating {name!r} must be a lower-case word such as 'coherence', and not a field's name"
            )
    for name, words in schema.anchors.items():
        if name not in schema.ratings or len(words) != 3:
            raise InvalidSchema(f"anchors: {name!r} must be a rating, with words for 1, 3 and {BEST_RATING}")
        for word in words:
            _refuse_unpresentable("anchor", word, MAX_ANCHOR_CHARS)


def _refuse_unpresentable(what: str, text: str, max_chars: int) -> None:
    if not text.strip() or text != text.strip() or not text.isprintable() or len(text) > max_chars:
        raise InvalidSchema(
            f"{what} {text!r} must be 1 to {max_chars} printable characters without outer spaces"
        )


def _refuse_repeated(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidSchema(f"{what} {name!r} is repeated")
        seen.add(name)


def _texts(document: Mapping[str, Any], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    values = document.get(name, default)
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise InvalidSchema(f"{name} must be a list of texts")
    return tuple(values)


def _truth(document: Mapping[str, Any], name: str) -> bool:
    value = document.get(name, False)
    if not isinstance(value, bool):
        raise InvalidSchema(f"{name} must be true or false")
    return value


def _anchors(document: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    anchors = document.get("anchors", {})
    if not isinstance(anchors, Mapping):
        raise InvalidSchema("anchors must be an object of ratings")
    return {str(name): _texts(anchors, name, ()) for name in anchors}
