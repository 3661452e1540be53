"""How an answer is written in Argilla's responses; no SDK needed."""

from collections.abc import Mapping
from typing import Any

from annotation.errors import InvalidAnswer
from annotation.exchange import cause_of, verdict_of
from annotation.types import Answer

_NOT_RATINGS = frozenset({"verdict", "label", "correction", "cause"})


def from_values(values: Any) -> Answer:
    """Read a response's `values`; whether the answer fits the project, `label_schema.check` says.

    Raises:
        InvalidAnswer: something that is asked for is missing or not readable.
    """
    given = {
        name: value.get("value")
        for name, value in (values if isinstance(values, Mapping) else {}).items()
        if isinstance(value, Mapping)
    }
    return Answer(
        verdict=verdict_of(_text(given, "verdict")),
        label=_text(given, "label"),
        correction=_text(given, "correction"),
        cause=cause_of(_text(given, "cause")),
        ratings={name: _number(name, value) for name, value in given.items() if name not in _NOT_RATINGS},
    )


def to_values(answer: Answer) -> dict[str, dict[str, Any]]:
    """Return the `values` that Argilla's page would send for this answer."""
    texts = {
        "verdict": answer.verdict,
        "label": answer.label,
        "correction": answer.correction,
        "cause": answer.cause,
    }
    said = {name: str(value) for name, value in texts.items() if value is not None}
    return {name: {"value": value} for name, value in [*said.items(), *answer.ratings.items()]}


def _text(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidAnswer(f"{name} must be text, not {value!r}")
    return value


def _number(name: str, value: Any) -> int:
    if type(value) is not int:
        raise InvalidAnswer(f"{name} is rated {value!r}, not with a number")
    return value
