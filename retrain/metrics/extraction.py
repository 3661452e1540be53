"""How many of the entities of a text are found, by what they say and by where they stand."""

import json
from collections.abc import Hashable
from functools import partial
from typing import Any

from retrain.export import BrokenEntities, canonical_entities
from retrain.metrics.judged import Judged, Known
from retrain.metrics.metric import NOT_APPLICABLE, Metric, Row, alone, ratio


def entity_f1(one: Judged, known: Known, *, fields: tuple[str, ...]) -> Row:
    """Count entities found, and those expected or answered; each has a `label`, and a `text` or a `start` and `end`.

    F1 = 2·found / (expected + answered), pooled over cases; an entity is found if all that is compared agrees. An
    answer that is no JSON list of objects holds none. Cases whose expected entities lack a field that is compared do
    not count. Range 0 to 1, higher is better.
    Source: Tjong Kim Sang & De Meulder (2003), "Introduction to the CoNLL-2003 Shared Task".
    """
    wanted = {_compared(each, fields) for each in json.loads(canonical_entities(one.case.expected))}
    try:
        answered = {_compared(each, fields) for each in json.loads(canonical_entities(one.answer))}
    except BrokenEntities:
        answered = set()
    if None in wanted:
        return [NOT_APPLICABLE] * 2
    return 2.0 * len(wanted & answered), float(len(wanted) + len(answered))


def _compared(entity: dict[str, Any], fields: tuple[str, ...]) -> Hashable | None:
    """Return what is compared of an entity, as JSON; None if it has not all of it."""
    if not all(field in entity for field in fields):
        return None
    return tuple(json.dumps(entity[field], sort_keys=True) for field in fields)


METRICS = (
    Metric("entity_f1", 1, alone(partial(entity_f1, fields=("label", "text"))), ratio),
    Metric("span_f1", 1, alone(partial(entity_f1, fields=("label", "start", "end"))), ratio),
)
