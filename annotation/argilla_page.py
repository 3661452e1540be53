"""Argilla's labelling page: what was asked and answered, then the verdict and what follows from it."""

import hashlib
import json

import argilla as rg
from argilla._exceptions import ArgillaError

from annotation.errors import InvalidSchema
from annotation.label_schema import BEST_RATING, to_json
from annotation.types import Cause, LabelSchema, Verdict

_FIELDS = {
    "context": "Context",
    "prompt": "Prompt",
    "response": "Response",
    "reasons": "What readers said",
}


def settings_of(schema: LabelSchema, *, overlap: int, client: rg.Argilla) -> rg.Settings:
    """Return the fields and questions; all but the verdict may be left open, as Argilla has no conditions.

    Raises:
        InvalidSchema: Argilla cannot ask it.
    """
    better: rg.LabelQuestion | rg.TextQuestion
    if schema.labels:
        labels = list(schema.labels)
        better = rg.LabelQuestion("label", labels, "Right label", required=False, client=client)
    else:
        better = rg.TextQuestion("correction", "Corrected response", required=False, client=client)
    try:
        return rg.Settings(
            guidelines=schema.guidelines or None,
            fields=[rg.TextField(name, title, client=client) for name, title in _FIELDS.items()],
            questions=[
                rg.LabelQuestion("verdict", [str(each) for each in Verdict], "Verdict", client=client),
                better,
                rg.LabelQuestion(
                    "cause", [str(each) for each in Cause], "Cause", required=False, client=client
                ),
                *(_rating(name, client) for name in schema.ratings),
            ],
            distribution=rg.TaskDistribution(min_submitted=overlap),
        )
    except (ArgillaError, ValueError) as error:
        raise InvalidSchema(f"Argilla cannot ask this schema: {error}") from error


def asked_sha256(schema: LabelSchema) -> str:
    """Return the hash of the questions; guidelines may change without them."""
    asked = {name: value for name, value in to_json(schema).items() if name != "guidelines"}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _rating(name: str, client: rg.Argilla) -> rg.RatingQuestion:
    title = name.replace("_", " ").capitalize()
    return rg.RatingQuestion(name, list(range(1, BEST_RATING + 1)), title, required=False, client=client)
