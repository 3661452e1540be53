"""How an answer is written in Label Studio's annotations and predictions; no SDK needed."""

from collections.abc import Mapping
from typing import Any

from annotation.answers import NAMES, answer_of, values_of
from annotation.errors import InvalidAnswer
from annotation.types import Answer


def from_result(result: Any) -> Answer:
    """Read an annotation's `result`.

    Label Studio's server checks no annotation that arrives through its API, so that anything may stand here.
    Regions that are not ours are left out; whether the answer fits the project, `answers.check` says.

    Raises:
        InvalidAnswer: something that is asked for is missing, repeated or not readable.
    """
    values: dict[str, Any] = {}
    for region in result if isinstance(result, list) else ():
        name, kind, value = _region(region)
        if name == "spans":
            values.setdefault(name, []).append(_span(value))
        elif name in values:
            raise InvalidAnswer(f"{name} was answered twice")
        elif kind == "rating":
            values[name] = value.get("rating")
        elif name in NAMES:
            values[name] = _text(name, value) if kind == "textarea" else _choices(name, value)
    return answer_of(values)


def to_result(answer: Answer) -> list[dict[str, Any]]:
    """Return the `result` that Label Studio's page would send for this answer."""
    return written(values_of(answer))


def written(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return answers by question as regions; a suggestion is some of them."""
    result = []
    for name, value in values.items():
        if name == "spans":
            result += [
                _written(name, "labels", s | {"labels": [s["label"]]}, at) for at, s in enumerate(value)
            ]
        elif name == "correction":
            result.append(_written(name, "textarea", {"text": [value]}))
        elif name in NAMES:
            result.append(_written(name, "choices", {"choices": value if name == "labels" else [value]}))
        else:
            result.append(_written(name, "rating", {"rating": value}))
    return result


def _region(region: Any) -> tuple[str, str, Mapping[str, Any]]:
    if isinstance(region, dict):
        name, kind, value = region.get("from_name"), region.get("type"), region.get("value")
        if isinstance(name, str) and isinstance(kind, str) and isinstance(value, dict):
            return name, kind, value
    raise InvalidAnswer("a region has no name, type or value")


def _choices(name: str, value: Mapping[str, Any]) -> Any:
    """Return a question's one choice, or all of those of which several may be right."""
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices or (name != "labels" and len(choices) > 1):
        raise InvalidAnswer(f"{name} must be one choice, not {choices!r:.100}")
    return choices if name == "labels" else choices[0]


def _text(name: str, value: Mapping[str, Any]) -> str:
    texts = value.get("text")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidAnswer(f"{name} must be text")
    return "\n".join(texts)


def _span(value: Mapping[str, Any]) -> dict[str, Any]:
    labels = value.get("labels")
    if not isinstance(labels, list) or len(labels) != 1:
        raise InvalidAnswer(f"a span must be one thing, not {labels!r:.100}")
    return {**value, "label": labels[0]}


def _written(name: str, kind: str, value: Mapping[str, Any], at: int = 0) -> dict[str, Any]:
    identifier = f"{name}-{at}" if at else name
    return {
        "id": identifier,
        "from_name": name,
        "to_name": "response",
        "type": kind,
        "value": {key: v for key, v in value.items() if key != "label"},
    }
