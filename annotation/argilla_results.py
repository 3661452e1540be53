"""How an answer is written in Argilla's responses and suggestions; no SDK needed."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from annotation.answers import answer_of, values_of
from annotation.types import Answer


def from_values(values: Any) -> Answer:
    """Read a response's `values`; whether the answer fits the project, `answers.check` says.

    Raises:
        InvalidAnswer: something that is asked for is missing or not readable.
    """
    given = values.items() if isinstance(values, Mapping) else ()
    # What was emptied again in the page is sent with nothing in it.
    return answer_of(
        {
            name: value["value"]
            for name, value in given
            if isinstance(value, Mapping) and value.get("value") not in (None, [])
        }
    )


def to_values(answer: Answer) -> dict[str, dict[str, Any]]:
    """Return the `values` that Argilla's page would send for this answer."""
    return {name: {"value": value} for name, value in values_of(answer).items()}


def with_marked_text(answer: Answer, judged: str) -> Answer:
    """Return an answer whose marks hold the part of the judged response that they mark.

    Argilla tells where a mark is, not what it marks: of what hides in a response it shows more than that holds.
    """
    marked = (
        replace(span, text=judged[span.start : span.end])
        if 0 <= span.start <= span.end <= len(judged)
        else span
        for span in answer.spans
    )
    return replace(answer, spans=tuple(marked))


def exported(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as an export has it: to each question, what was submitted."""
    said: defaultdict[str, list[Any]] = defaultdict(list)
    for response in record.get("responses") or ():
        if response["status"] == "submitted":
            for question, answer in (response["values"] or {}).items():
                said[question].append(answer)
    return {"id": record["external_id"] or record["id"], "fields": record["fields"], "responses": said}
