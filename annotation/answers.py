"""An answer by question, as plain values: both tools' notations, files and the check are made from them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from annotation.errors import InvalidAnswer
from annotation.questions import BEST_RATING, Question, QuestionType, labels_in, questions
from annotation.types import Abstention, Answer, Cause, LabelSchema, Span, Verdict
from annotation.visible import places, visible

MAX_CORRECTION_CHARS = 100_000
MAX_SPANS = 200
NAMES = ("verdict", "label", "labels", "correction", "cause", "spans")  # every other question is a rating

_UNITS = ("utf-16-le", "surrogatepass")


def values_of(answer: Answer) -> dict[str, Any]:
    """Return what was answered, by question; what was not is missing."""
    said = {
        "verdict": str(answer.verdict),
        "label": answer.label,
        "labels": list(answer.labels) or None,
        "correction": answer.correction,
        "cause": answer.cause and str(answer.cause),
        "spans": [{"start": s.start, "end": s.end, "label": s.label} for s in answer.spans] or None,
    }
    return {**{name: value for name, value in said.items() if value is not None}, **answer.ratings}


def answer_of(values: Mapping[str, Any]) -> Answer:
    """Read what `values_of` returns; whether it fits a project, `check` says.

    Raises:
        InvalidAnswer: there is no verdict, or a value cannot be read.
    """
    return Answer(
        verdict=_verdict(values.get("verdict")),
        label=_text("label", values.get("label")),
        labels=_texts("labels", values.get("labels")),
        correction=_text("correction", values.get("correction")),
        cause=_cause(values.get("cause")),
        spans=tuple(map(_span, _list("spans", values.get("spans")))),
        ratings={name: _number(name, value) for name, value in values.items() if name not in NAMES},
    )


def check(answer: Answer, schema: LabelSchema, response: str = "") -> Answer:
    """Return the answer as far as it counts: label, correction and cause only for an incorrect response.

    An incorrect response that was corrected without naming a cause is the model's fault. Neither tool's server can be
    relied on to have checked anything. Spans lie in the `response`, the text that was judged.

    Raises:
        InvalidAnswer: the answer does not fit the schema, or does not say what was asked.
    """
    asked = {question.name: question for question in questions(schema)}
    if isinstance(answer.verdict, Abstention):
        answer = Answer(answer.verdict)
    if answer.verdict is not Verdict.INCORRECT:
        answer = replace(answer, label=None, labels=(), correction=None, cause=None)
    for name, value in values_of(replace(answer, ratings={})).items():
        _check(name, value, asked, is_rating=False)
    for name, rating in answer.ratings.items():
        _check(name, rating, asked, is_rating=True)
    answer = replace(answer, spans=tuple(_inside(span, response) for span in answer.spans))
    return _check_corrected(answer, schema, response) if answer.verdict is Verdict.INCORRECT else answer


def _check(name: str, value: Any, asked: Mapping[str, Question], *, is_rating: bool) -> None:
    question = asked.get(name)
    if question is None or (question.type is QuestionType.RATING) is not is_rating:
        raise InvalidAnswer(f"{name} {value!r:.100} is not asked; the questions are {list(asked)}")
    _CHECKS[question.type](question, value)


def _check_corrected(answer: Answer, schema: LabelSchema, response: str) -> Answer:
    better = answer.label or answer.labels or answer.correction
    if answer.cause in (None, Cause.MODEL):
        missing = "the right label" if schema.labels else "a corrected response"
        if not better:
            raise InvalidAnswer(f"an incorrect response needs {missing}, or a cause other than the model")
        if response and (
            better == response or (answer.labels and {*answer.labels} == {*labels_in(response)})
        ):
            raise InvalidAnswer(f"{missing} is the very response that was found incorrect")
    return replace(answer, cause=answer.cause or Cause.MODEL)


def _check_choice(question: Question, value: str) -> None:
    if value not in question.choices:
        raise InvalidAnswer(f"{question.name} {value!r:.100} is not in the schema")


def _check_choices(question: Question, values: Sequence[str]) -> None:
    for value in values:
        _check_choice(question, value)
    if len(set(values)) < len(values):
        raise InvalidAnswer(f"{question.name} repeats a choice")


def _check_text(question: Question, text: str) -> None:
    if not text.strip():
        raise InvalidAnswer(f"the {question.title.lower()} is empty")
    if len(text) > MAX_CORRECTION_CHARS:
        raise InvalidAnswer(
            f"the {question.title.lower()} has {len(text)} characters, {MAX_CORRECTION_CHARS} are allowed"
        )
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidAnswer(f"the {question.title.lower()} has characters that are no text")


def _check_rating(question: Question, rating: int) -> None:
    if type(rating) is not int or not 1 <= rating <= BEST_RATING:
        raise InvalidAnswer(f"{question.name} is rated {rating!r:.100}, not 1 to {BEST_RATING}")


def _check_spans(question: Question, spans: Sequence[Mapping[str, Any]]) -> None:
    if len(spans) > MAX_SPANS:
        raise InvalidAnswer(f"{len(spans)} spans are marked, {MAX_SPANS} are allowed")
    for span in spans:
        _check_choice(question, span["label"])


_CHECKS: dict[QuestionType, Callable[[Question, Any], None]] = {
    QuestionType.CHOICE: _check_choice,
    QuestionType.CHOICES: _check_choices,
    QuestionType.TEXT: _check_text,
    QuestionType.RATING: _check_rating,
    QuestionType.SPANS: _check_spans,
}


def _inside(span: Span, response: str) -> Span:
    """Return the span in characters of the response, not of what tools show of it, as the marked text tells."""
    if span.start >= 0 and span.text:
        for text, origins in ((response, range(len(response))), (visible(response), places(response))):
            start = _start(span, text)
            if start is not None:
                last = origins[start + len(span.text) - 1]
                span = replace(span, start=origins[start], end=last + 1)
                break
    if not 0 <= span.start < span.end <= len(response):
        raise InvalidAnswer(
            f"a span from {span.start} to {span.end} lies outside the response's {len(response)} characters"
        )
    return span


def _start(span: Span, text: str) -> int | None:
    """Return where in a text a span's own text starts, if it is there; browsers count a character over U+FFFF twice."""
    if text[span.start : span.end] == span.text:
        return span.start
    units = text.encode(*_UNITS)
    if units[2 * span.start : 2 * span.end] != span.text.encode(*_UNITS):
        return None
    return len(units[: 2 * span.start].decode(*_UNITS))


def _verdict(value: Any) -> Verdict | Abstention:
    for kind in (Verdict, Abstention):
        if isinstance(value, str) and value in set(kind):
            return kind(value)
    raise InvalidAnswer(f"verdict {value!r:.100} is none of {[str(v) for v in (*Verdict, *Abstention)]}")


def _cause(value: Any) -> Cause | None:
    if value is not None and (not isinstance(value, str) or value not in set(Cause)):
        raise InvalidAnswer(f"cause {value!r:.100} is none of {[str(c) for c in Cause]}")
    return None if value is None else Cause(value)


def _text(name: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidAnswer(f"{name} must be one text, not {value!r:.100}")
    return value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    texts = _list(name, value)
    if not all(isinstance(text, str) for text in texts):
        raise InvalidAnswer(f"{name} must be a list of texts, not {value!r:.100}")
    return tuple(texts)


def _list(name: str, value: Any) -> Sequence[Any]:
    if value is not None and not isinstance(value, list | tuple):
        raise InvalidAnswer(f"{name} must be a list, not {value!r:.100}")
    return value or ()


def _number(name: str, value: Any) -> int:
    if type(value) is not int:
        raise InvalidAnswer(f"{name} is rated {value!r:.100}, not with a number")
    return value


def _span(value: Any) -> Span:
    if isinstance(value, Mapping):
        start, end, label, text = (value.get(name) for name in ("start", "end", "label", "text"))
        if type(start) is int and type(end) is int and isinstance(label, str):
            return Span(start, end, label, text if isinstance(text, str) else "")
    raise InvalidAnswer(f"a span needs start, end and label, not {value!r:.100}")
