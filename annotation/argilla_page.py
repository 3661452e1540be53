"""Argilla's labelling page: what was asked and answered, then the verdict and what follows from it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID

import argilla as rg
from argilla._exceptions import ArgillaError
from argilla._models import RecordModel

from annotation.errors import InvalidSchema
from annotation.exchange import SUGGESTED_BY, shown, without_html
from annotation.questions import BEST_RATING, Question, QuestionType, fields, questions
from annotation.types import LabelSchema, NewTask


def settings_of(schema: LabelSchema, *, overlap: int, client: rg.Argilla) -> rg.Settings:
    """Return the fields and questions; all but the verdict may be left open, as Argilla has no conditions.

    Raises:
        InvalidSchema: Argilla cannot ask it.
    """
    try:
        return rg.Settings(
            guidelines=schema.guidelines or None,
            fields=[rg.TextField(name, title, client=client) for name, title in fields(schema).items()],
            questions=[_question(question, client) for question in questions(schema)],
            distribution=rg.TaskDistribution(min_submitted=overlap),
            allow_extra_metadata=True,  # by which records are marked as closed
        )
    except (ArgillaError, ValueError) as error:
        raise InvalidSchema(f"Argilla cannot ask this schema: {error}") from error


def asked_sha256(schema: LabelSchema) -> str:
    """Return the hash of the questions; guidelines may change without them."""
    asked = [asdict(question) for question in questions(schema)]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def record_of(task: NewTask, questions: Mapping[str, UUID]) -> RecordModel:
    """Return a task as a record; what is suggested names its question by id."""
    suggestions = [rg.Suggestion(name, value, agent=SUGGESTED_BY) for name, value in task.suggestion.items()]
    # The page takes a field's text for HTML, and runs what end users write.
    fields = {name: without_html(text) for name, text in shown(task).items()}
    record = rg.Record(id=task.key, fields=fields, suggestions=suggestions).api_model()
    for suggestion in record.suggestions or ():
        suggestion.question_id = questions[str(suggestion.question_name)]
    return record


def _question(question: Question, client: rg.Argilla) -> Any:
    asked: dict[str, Any] = {
        "name": question.name,
        "title": question.title,
        "description": question.hint or None,
        "required": question.is_required and not question.is_about_wrong,
        "client": client,
    }
    choices = list(question.choices)
    match question.type:
        case QuestionType.CHOICE:
            return rg.LabelQuestion(labels=choices, **asked)
        case QuestionType.CHOICES:
            return rg.MultiLabelQuestion(labels=choices, **asked)
        case QuestionType.SPANS:
            return rg.SpanQuestion(field="response", labels=choices, allow_overlapping=True, **asked)
        case QuestionType.RATING:
            return rg.RatingQuestion(values=list(range(1, BEST_RATING + 1)), **asked)
        case QuestionType.TEXT:
            return rg.TextQuestion(**asked)
