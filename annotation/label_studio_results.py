"""How an answer is written in Label Studio's annotations; no SDK needed."""

from collections.abc import Mapping, Sequence
from typing import Any

from annotation.errors import InvalidAnswer
from annotation.exchange import cause_of, verdict_of
from annotation.types import Answer


def from_result(result: Any) -> Answer:
    """Read an annotation's `result`.

    Label Studio's server checks no annotation that arrives through its API, so that anything may stand here.
    Regions that are not ours are left out; whether the answer fits the project, `label_schema.check` says.

    Raises:
        InvalidAnswer: something that is asked for is missing, repeated or not readable.
    """
    regions: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for region in result if isinstance(result, list) else ():
        name, kind, value = _region(region)
        if name in regions:
            raise InvalidAnswer(f"{name} was answered twice")
        regions[name] = (kind, value)
    return Answer(
        verdict=verdict_of(_choice(regions, "verdict")),
        label=_choice(regions, "label"),
        correction=_text(regions, "correction"),
        cause=cause_of(_choice(regions, "cause")),
        ratings={name: _rating(name, value) for name, (kind, value) in regions.items() if kind == "rating"},
    )


def to_result(answer: Answer) -> list[dict[str, Any]]:
    """Return the `result` that Label Studio's page would send for this answer."""
    choices = {"verdict": answer.verdict, "label": answer.label, "cause": answer.cause}
    result = [
        _written(name, "choices", [str(choice)]) for name, choice in choices.items() if choice is not None
    ]
    if answer.correction is not None:
        result.append(_written("correction", "textarea", [answer.correction], key="text"))
    return result + [_written(name, "rating", rating) for name, rating in answer.ratings.items()]


def _region(region: Any) -> tuple[str, str, Mapping[str, Any]]:
    if isinstance(region, dict):
        name, kind, value = region.get("from_name"), region.get("type"), region.get("value")
        if isinstance(name, str) and isinstance(kind, str) and isinstance(value, dict):
            return name, kind, value
    raise InvalidAnswer("a region has no name, type or value")


def _choice(regions: Mapping[str, tuple[str, Mapping[str, Any]]], name: str) -> str | None:
    if name not in regions:
        return None
    choices = regions[name][1].get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], str):
        raise InvalidAnswer(f"{name} must be one choice, not {choices!r}")
    return choices[0]


def _text(regions: Mapping[str, tuple[str, Mapping[str, Any]]], name: str) -> str | None:
    if name not in regions:
        return None
    texts = regions[name][1].get("text")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidAnswer(f"{name} must be text")
    return "\n".join(texts)


def _rating(name: str, value: Mapping[str, Any]) -> int:
    rating = value.get("rating")
    if type(rating) is not int:
        raise InvalidAnswer(f"{name} is rated {rating!r}, not with a number")
    return rating


def _written(name: str, kind: str, value: Sequence[str] | int, key: str = "") -> dict[str, Any]:
    return {"id": name, "from_name": name, "to_name": "response", "type": kind, "value": {key or kind: value}}
