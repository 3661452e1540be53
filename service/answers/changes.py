"""How one training set differs from another, row by row, and what caused each difference."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from uuid import UUID

from sqlalchemy.orm import aliased
from sqlmodel import Session, col, exists, select

from retrain.difference import diff
from retrain.types import Example, Split
from service.answers.erasures import erased_rows
from service.answers.examples import LOOKED_UP, examples_of
from service.answers.flags import ANSWERED, FLAG
from service.tables import (
    Annotation,
    AnnotationTask,
    Settlement,
    SettlementAnnotation,
    SplitAssignment,
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
    """Say how b differs from a, row by row, by cause and then by prompt; equal rows are never loaded."""
    left, right = _apart(session, a, b), _apart(session, b, a)
    before, after = examples_of(session, a, left), examples_of(session, b, right)
    changes = diff(before, after)
    origins = _origins(session, [row.key for row in (*changes.added, *(new for _, new in changes.changed))])
    repairs = [{str(row.settlement_id): row.repairs for row in side} for side in (left, right)]
    gone, gone_since = _gone(session, left, before, b), _gone(session, right, after, a)

    def added(row: Example) -> Cause:
        reason = a.dropped.get(row.key)
        return _of_reason(reason, b) if reason else origins[row.key]

    def changed(old: Example, row: Example) -> Cause:
        was, now = repairs[0][old.key], repairs[1][row.key]
        return (
            Cause("repair", max(set(was) ^ set(now)))
            if old.key == row.key and was != now
            else origins[row.key]
        )

    moves = _moves(session, a, b, changes.moved)
    return {
        "a": a.fingerprint,
        "b": b.fingerprint,
        "added": _sorted([*(_told(row, added(row)) for row in changes.added), *gone_since]),
        "removed": _sorted([*(_told(row, _removal(row.key, b)) for row in changes.removed), *gone]),
        "changed": _sorted(_told(row, changed(old, row)) | _before(old) for old, row in changes.changed),
        "moved": _sorted(
            _told(row, cause) | {"was": old.split.value, "was_key": old.key}
            for (old, row), cause in zip(changes.moved, moves, strict=True)
        ),
    }


def _apart(session: Session, one: TrainingSet, other: TrainingSet) -> Sequence[TrainingSetExample]:
    """Return the rows of one set whose content the other lacks; a content stands in a set once.

    What was erased of a row is equal to nothing but itself. The database compares columns: a set may have millions.
    """
    content, key = col(TrainingSetExample.content_sha256), col(TrainingSetExample.settlement_id)
    of_one, twin = col(TrainingSetExample.training_set_id) == one.id, aliased(TrainingSetExample)
    is_there = exists().where(col(twin.training_set_id) == other.id, col(twin.content_sha256) == content)
    # First the contents: their index has all that it takes, and no row is read that both sets have.
    contents = select(content).where(of_one, content != "", ~is_there)
    rows = select(TrainingSetExample).where(of_one)
    differing = session.exec(rows.where(content.in_(contents)))
    erased = session.exec(rows.where(content == "", ~is_there.where(col(twin.settlement_id) == key)))
    return sorted(chain(differing, erased), key=lambda row: row.settlement_id)


def _gone(
    session: Session, rows: Sequence[TrainingSetExample], read: Sequence[Example], other: TrainingSet
) -> list[dict[str, Any]]:
    """Tell of the rows that could not be read, and whose settlements have none in the other set."""
    keys = {row.key for row in read}
    unread = [row for row in rows if str(row.settlement_id) not in keys]
    key = col(TrainingSetExample.settlement_id)
    of_other = select(key).where(TrainingSetExample.training_set_id == other.id)
    held = {
        found
        for start in range(0, len(unread), LOOKED_UP)
        for found in session.exec(
            of_other.where(key.in_([row.settlement_id for row in unread[start : start + LOOKED_UP]]))
        )
    }
    return [_told_of_gone(row) for row in unread if row.settlement_id not in held]


def _moves(
    session: Session, a: TrainingSet, b: TrainingSet, moved: Sequence[tuple[Example, Example]]
) -> list[Cause]:
    """Return why each row is in another split: a group whose split was changed met another."""
    names = sorted({row.group for pair in moved for row in pair})
    splits: defaultdict[str, set[Split]] = defaultdict(set)
    for start in range(0, len(names), LOOKED_UP):
        of_groups = select(SplitAssignment.group_name, SplitAssignment.split).where(
            SplitAssignment.project_id == b.project_id,
            col(SplitAssignment.group_name).in_(names[start : start + LOOKED_UP]),
        )
        for name, split in session.exec(of_groups):
            splits[name].add(Split(split))
    is_erased = any(erased_rows(session, side) for side in (a, b)) if moved else False

    def cause(old: Example, row: Example) -> Cause:
        if any(len(splits[name]) > 1 for name in (old.group, row.group)):
            return Cause("merge", row.group)
        if a.recipe != b.recipe:
            return Cause("recipe", b.fingerprint)
        return Cause("erasure" if is_erased else "settlement", row.key)

    return [cause(old, row) for old, row in moved]


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
            select(Settlement.id, FLAG.id)
            .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
            .where(col(Settlement.id).in_(part), *ANSWERED)
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
        "withdrawn flag": "flag",
        "duplicate of": "duplicate",
        "quarantined:": "quarantine",
    }.get(before)
    return Cause(kind, name) if kind else Cause("recipe", by.fingerprint)


def _told(row: Example, cause: Cause) -> dict[str, Any]:
    facts = {"weight": row.weight, "rejected": row.rejected}
    return {
        "row": {"key": row.key, "prompt": row.prompt, "answer": row.answer, "split": row.split.value} | facts,
        "cause": {"kind": cause.kind, "id": cause.id},
    }


def _sorted(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda told: (told["cause"]["kind"], told["row"]["prompt"], told["row"]["key"]))


def _before(old: Example) -> dict[str, Any]:
    """Tell what a changed row was."""
    told = {"was": old.answer, "asked": old.prompt, "was_key": old.key}
    return told | {"was_weight": old.weight, "was_rejected": old.rejected}


def _told_of_gone(row: TrainingSetExample) -> dict[str, Any]:
    """Tell of a row that may not be read any more: it was erased, or may not be learned from."""
    kind = "erasure" if row.erased_at else "consent"
    key = str(row.settlement_id)
    return {
        "row": {"key": key, "prompt": "", "answer": "", "split": row.split.value},
        "cause": {"kind": kind, "id": key},
    }
