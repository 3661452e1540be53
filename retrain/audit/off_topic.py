"""Finds rows that are about something else than the task and the bulk of the other rows.

Catches: rows whose telling words hardly occur in rows that share words with the bulk, be they single or a small
island of their own; with `context.encode`, those of them whose meaning is far from a sample of the rows, too.
Misses: another subject that makes up a large part of the rows, strays told in the task's own words, texts without
spaces between words, and, without `encode`, rows that belong but use few common words are judged by words alone.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer

from retrain.audit.context import NOTHING, Context, Encode
from retrain.audit.finding import Check, Finding, drop
from retrain.audit.rows import by_key
from retrain.audit.words import fitted
from retrain.near_duplicates import text_of
from retrain.types import Example, Kind

CHECK = Check("off_topic", version=1)

Floats = NDArray[np.float64]
_COMMON = 0.01
_WALKS = 3
_NEAREST = 3


def find(
    examples: Sequence[Example],
    context: Context = NOTHING,
    *,
    threshold: float = 0.35,
    suspicion: float = 0.55,
    distance: float = 0.6,
    encoded: int = 300,
    floor: int = 50,
) -> list[Finding]:
    """Return one finding for all rows that are off topic; fewer than `floor` rows have no bulk.

    A row is off topic when its `_belonging` is below `threshold`, where 1 is the median. With `context.encode`, up to
    `encoded` rows below `suspicion` are looked at, and those stay whose closeness to as many other rows is below
    `distance` times the usual.
    """
    rows = by_key(examples)
    if len(rows) < floor:
        return []
    texts = [_text(row) for row in rows]
    belonging = _belonging(texts, [context.description, *_terms(context)])
    bound = threshold if context.encode is None else suspicion
    strays = [int(place) for place in np.argsort(belonging, kind="stable") if belonging[place] < bound]
    if context.encode is not None and strays:
        strays = _far(texts, strays[:encoded], context, context.encode, distance)
    keys = [rows[place].key for place in strays]
    evidence = f"{len(keys)} of {len(rows)} rows about something else than the task and the other rows"
    repair = "Look at these rows, and leave out those that the model shall not learn."
    return [CHECK.found(keys, evidence, repair, drop(keys))] if keys else []


def _belonging(texts: Sequence[str], task: Sequence[str]) -> Floats:
    """Return how much of each text belongs to the bulk, 1 at the median, shaped (n_texts,).

    It starts with the share of common words and walks from rows to words and back: a word belongs as far as the rows
    that use it do, a row as far as its words do, rare words counting most. The task's own words belong wholly.
    """
    vectorizer = CountVectorizer(binary=True, token_pattern=r"[^\W\d_]{3,}", dtype=np.float64)
    uses = fitted(vectorizer, texts)
    if uses is None:
        return np.ones(len(texts))
    counts = np.asarray(uses.sum(axis=0)).ravel()
    weights = np.log1p(len(texts) / counts) ** 2
    whole = np.maximum(uses @ weights, 1e-9)
    is_named = np.asarray(vectorizer.transform(task).sum(axis=0)).ravel() > 0
    is_common = is_named | (counts >= max(2, _COMMON * len(texts)))
    belonging: Floats = (uses @ (weights * is_common)) / whole
    for _ in range(_WALKS):
        words = np.where(is_named, 1.0, (uses.T @ belonging) / (counts + 1))
        belonging = (uses @ (weights * words)) / whole
        belonging /= max(float(np.median(belonging)), 1e-9)
    return np.where(whole > 1e-9, belonging, 1.0)


def _far(
    texts: Sequence[str], strays: list[int], context: Context, encode: Encode, distance: float
) -> list[int]:
    """Return the strays that are far in meaning from a sample of the other texts and from the task."""
    others = np.setdiff1d(np.arange(len(texts)), strays)
    if len(others) <= _NEAREST:
        return []
    sample = others[np.linspace(0, len(others) - 1, min(len(others), len(strays) + 100)).astype(int)]
    known = encode([texts[place] for place in sample])
    among = known @ known.T
    np.fill_diagonal(among, -1.0)
    task = [text for text in (context.description, " ".join(_terms(context))) if text]
    near = (
        encode([texts[place] for place in strays]) @ np.vstack([known, *([encode(task)] if task else [])]).T
    )
    usual = float(np.median(_closeness(among)))
    return [place for place, close in zip(strays, _closeness(near), strict=True) if close < distance * usual]


def _closeness(similarities: NDArray[np.float32]) -> NDArray[np.float32]:
    nearest: NDArray[np.float32] = np.sort(similarities, axis=1)[:, -_NEAREST:].mean(axis=1)
    return nearest


def _terms(context: Context) -> list[str]:
    return [*context.glossary, *(name for names in context.glossary.values() for name in names)]


def _text(row: Example) -> str:
    asked = text_of(row.messages)
    return asked if row.kind in {Kind.CLASSIFICATION, Kind.EXTRACTION} else f"{asked}\n{row.answer}"
