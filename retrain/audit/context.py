"""What a check knows besides the rows; what is not given switches off what needs it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from retrain.types import Example

Encode = Callable[[Sequence[str]], Any]
"""Turns texts into an array of unit vectors, shaped (n_texts, n_dimensions); the web has no numpy to name it by."""


@dataclass(frozen=True, slots=True)
class Validity:
    """When a named thing (a product, a statute, a price) holds; an open end is None. The last day counts."""

    name: str
    valid_from: date | None = None
    valid_to: date | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """All that an audit may look at beside the rows under audit.

    `glossary` maps each preferred term to its other names; `validity` says when things hold, `sources` when the rows
    of a source do. `doubts` gives, by key, the probability that the settled answer is wrong. `earlier` holds rows of
    earlier versions, `known` the keys of those that the model in use has learned; `prompts` is what users really ask
    lately, by response. `groups` are the attributes by which rows are compared for bias; without them, counterfactual
    term lists are used. `near_threshold` is how alike the set takes near-duplicates to be.
    """

    today: date | None = None
    description: str = ""
    glossary: Mapping[str, Sequence[str]] = field(default_factory=dict)
    validity: Sequence[Validity] = ()
    sources: Sequence[Validity] = ()
    earlier: Sequence[Example] = ()
    known: Collection[str] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    doubts: Mapping[str, float] = field(default_factory=dict)
    groups: Sequence[str] = ()
    near_threshold: float = 0.8
    encode: Encode | None = None


NOTHING = Context()
