"""How one training set differs from another, row by row, and what caused each difference."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from retrain.difference import apart, diff
from retrain.types import Example
from service.answers.examples import LOOKED_UP, examples_of
from service.tables import (
    Annotation,
    Settlement,
    SettlementAnnotation,
    TaskFlag,
    TrainingSet,
    TrainingSetExample,
)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a row differs: flag, annotation, admission, repair, quarantine, recipe, merge or erasure."""

    kind: str
    id: str


def compare(session: Session, a: TrainingSet, b: TrainingSet) -> dict[str, Any]:
    """Say how b differs from a, row by row, each with what caused it."""
    rows = {side.id: _rows(session, side) for side in (a, b)}
    held = [list(rows[side.id].values()) for side in (a, b)]
    left, right = apart(held[0], held[1], _name)
    before = examples_of(session, a, left)
    changes = diff(before, examples_of(session, b, right))
    known = {row.key for row in before}
    keys = [row.key for row in changes.added] + [row.key for _, row in changes.changed]
    origins = _origins(session, keys)

    def added(row: Example) -> Cause:
        reason = a.dropped.get(row.key)
        return _of_reason(reason, b) if reason else origins[row.key]

    def changed(old: Example, row: Example) -> Cause:
        repairs = [rows[side.id][each.key].repairs for side, each in ((a, old), (b, row))]
        if old.key == row.key and repairs[0] != repairs[1]:
            return Cause("repair", max(set(repairs[0]) ^ set(repairs[1])))
        return origins[row.key]

    return {
        "a": a.fingerprint,
        "b": b.fingerprint,
        "added": [_told(row, added(row)) for row in changes.added],
        "removed": [_told(row, _removal(row.key, b)) for row in changes.removed]
        + [
            _gone(row)
            for row in left
            if (key := str(row.settlement_id)) not in rows[b.id] and key not in known
        ],
        "changed": [
            _told(row, changed(old, row)) | {"was": old.answer, "asked": old.prompt}
            for old, row in changes.changed
        ],
        "moved": [
            _told(row, Cause("merge", row.group)) | {"was": old.split.value} for old, row in changes.moved
        ],
    }


def _name(row: TrainingSetExample) -> str:
    """Return what equal rows share; what was erased of one is equal to nothing else."""
    return row.content_sha256 or str(row.settlement_id)


def _rows(session: Session, training_set: TrainingSet) -> dict[str, TrainingSetExample]:
    of_set = select(TrainingSetExample).where(TrainingSetExample.training_set_id == training_set.id)
    return {str(row.settlement_id): row for row in session.exec(of_set)}


def _origins(session: Session, keys: Iterable[str]) -> dict[str, Cause]:
    """Return what each settlement goes back to: the first flag, the admission of its source, or an annotation."""
    ids = [UUID(key) for key in keys]
    found: dict[str, Cause] = {}
    for start in range(0, len(ids), LOOKED_UP):
        part = ids[start : start + LOOKED_UP]
        settled = select(Settlement).where(col(Settlement.id).in_(part))
        found |= {
            str(row.id): Cause("admission", str(row.admission_id))
            if row.admission_id
            else Cause("settlement", str(row.id))
            for row in session.exec(settled)
        }
        annotated = (
            select(SettlementAnnotation.settlement_id, Annotation.id)
            .join(Annotation, col(Annotation.id) == SettlementAnnotation.annotation_id)
            .where(col(SettlementAnnotation.settlement_id).in_(part))
            .order_by(col(Annotation.id))
        )
        found |= {str(key): Cause("annotation", str(row_id)) for key, row_id in session.exec(annotated)}
        flagged = (
            select(Settlement.id, TaskFlag.feedback_id)
            .join(TaskFlag, col(TaskFlag.task_id) == Settlement.task_id)
            .where(col(Settlement.id).in_(part))
            .order_by(col(TaskFlag.id).desc())
        )
        found |= {str(key): Cause("flag", str(row_id)) for key, row_id in session.exec(flagged)}
    return found


def _removal(key: str, b: TrainingSet) -> Cause:
    """Say why a row of an earlier set is none of b's, by the reason that b wrote down."""
    reason = b.dropped.get(key)
    return _of_reason(reason, b) if reason else Cause("settlement", key)


def _of_reason(reason: str, by: TrainingSet) -> Cause:
    """Read why a set left a settlement out, as curation writes it."""
    before, _, name = reason.rpartition(" ")
    kind = {
        "repair": "repair",
        "withdrawn annotation": "annotation",
        "duplicate of": "duplicate",
        "quarantined:": "quarantine",
    }.get(before)
    return Cause(kind, name) if kind else Cause("recipe", by.fingerprint)


def _told(row: Example, cause: Cause) -> dict[str, Any]:
    return {
        "row": {"key": row.key, "prompt": row.prompt, "answer": row.answer, "split": row.split.value},
        "cause": {"kind": cause.kind, "id": cause.id},
    }


def _gone(row: TrainingSetExample) -> dict[str, Any]:
    """Tell of a row that may not be read any more: it was erased, or may not be learned from."""
    kind = "erasure" if row.erased_at else "consent"
    key = str(row.settlement_id)
    return {
        "row": {"key": key, "prompt": "", "answer": "", "split": row.split.value},
        "cause": {"kind": kind, "id": key},
    }
