"""Settled answers as examples: what may be learned of a project, and the rows that a set was made of."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, exists, select

from annotation.types import Cause, Verdict
from retrain.audit import Repair, RepairKind
from retrain.audit.repairs import apply
from retrain.export import BrokenEntities, canonical_entities
from retrain.training_set import to_example
from retrain.types import Example, Kind, Message, Settled, Split, label_of, labels_in
from service.answers.flags import ANSWERED, FLAG
from service.settlements import IN_FORCE
from service.tables import (
    AcceptedRepair,
    AnnotationTask,
    AuditFinding,
    Document,
    Feedback,
    Project,
    Response,
    Settlement,
    Source,
    TaskPurpose,
    TrainingSet,
    TrainingSetExample,
)

LOOKED_UP = 500  # at once; a database limits what one statement may name
# What a row needs and no more: whole objects took three times as long to read.
COLUMNS: tuple[Any, ...] = (
    col(Settlement.id).label("key"),
    col(Settlement.verdict),
    col(Settlement.label),
    col(Settlement.labels),
    col(Settlement.correction),
    col(AnnotationTask.id).label("task_id"),
    col(AnnotationTask.schema_id),
    col(AnnotationTask.purpose),
    col(Response.source_id),
    col(Response.messages),
    col(Response.text),
    col(Response.host_metadata),
    col(Response.attributes),
    col(Response.language),
    col(Response.created_at),
    col(Response.conversation_id),
    col(Response.subject),
    col(Feedback.subject).label("flagger"),
)

# What only flags led to that were taken back: frozen sets keep it, the next one leaves it out.
TAKEN_BACK = (
    ((col(AnnotationTask.purpose) == TaskPurpose.FLAG) | col(AnnotationTask.rechecks_id).is_not(None))
    & exists().where(*ANSWERED)
    & ~exists().where(*ANSWERED, col(FLAG.withdrawn_at).is_(None))
)

log = structlog.get_logger()


def settled_answers(session: Session, project_id: UUID, *conditions: Any) -> list[Settled]:
    """Return what may be learned: right answers, and wrong ones whose cause is the model, with consent.

    A user's own words are learned only if they consented to that, also where an expert took them over. A response that
    experts found right teaches no label unless its text is one that they could choose. One that they only found wrong
    teaches what not to answer, where answers are texts.
    """
    may_learn = [col(Response.may_train).is_(True), ~exists().where(*ANSWERED, col(FLAG.consent).is_(False))]
    if not session.get_one(Project, project_id).presumes_consent:
        is_own = func.trim(FLAG.correction) == func.trim(Settlement.correction)
        may_learn.append(~exists().where(*ANSWERED, col(FLAG.consent).is_(None), is_own))
    return _read(session, project_id, *may_learn, *conditions)


def withdrawn_answers(session: Session, project_id: UUID) -> dict[str, str]:
    """Return why settlements that a set held teach no further one: which answer or flag was changed or taken back."""
    held = exists().where(col(TrainingSetExample.settlement_id) == Settlement.id)
    rows = select(Settlement.id, Settlement.withdrawn_by_id).where(
        Settlement.project_id == project_id, ~IN_FORCE, held
    )
    reasons = {str(key): f"withdrawn annotation {annotation}" for key, annotation in session.exec(rows)}
    flagged = (
        select(Settlement.id, AnnotationTask.flag_id)
        .join(AnnotationTask, col(AnnotationTask.id) == Settlement.task_id)
        .where(Settlement.project_id == project_id, IN_FORCE, held, TAKEN_BACK)
    )
    return reasons | {str(key): f"withdrawn flag {flag}" for key, flag in session.exec(flagged)}


def placed_answers(session: Session, project_id: UUID) -> list[Settled]:
    """Return what any set has held, whether or not it may still be learned: its neighbours keep its split.

    Erased ones judge no model any more, so what is near them may be anywhere.
    """
    return _read(session, project_id, exists().where(col(TrainingSetExample.settlement_id) == Settlement.id))


def _read(session: Session, project_id: UUID, *conditions: Any) -> list[Settled]:
    rows = session.execute(
        select_columns(*COLUMNS)
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .join(Feedback, col(AnnotationTask.flag_id) == Feedback.id, isouter=True)
        .where(col(Settlement.project_id) == project_id, col(Response.erased_at).is_(None), *conditions)
        .where(
            (col(Settlement.verdict) == Verdict.CORRECT)
            | ((col(Settlement.verdict) == Verdict.INCORRECT) & (col(Settlement.cause) == Cause.MODEL))
        )
        .order_by(col(Settlement.id))
    ).all()
    kind = Kind(session.get_one(Project, project_id).kind)
    sources = select(Source).where(Source.project_id == project_id)
    source_of = {source.id: source for source in session.exec(sources)}
    schemas = session.exec(select(Document).where(col(Document.id).in_({row.schema_id for row in rows})))
    asked = {schema.id: schema.content for schema in schemas}
    reasons = _reasons(session, project_id, [row.task_id for row in rows])
    settled = [
        one
        for row in rows
        for one in [_settled(row, source_of[row.source_id], kind, reasons[row.task_id], asked[row.schema_id])]
        if _is_choice(one.label, asked[row.schema_id])
    ]
    if kind is Kind.EXTRACTION:
        settled = [replace(one, answer=entities) for one in settled if (entities := _entities(one.answer))]
    if len(settled) < len(rows):
        log.info("settlements_left_out", count=len(rows) - len(settled), reason="no label, or no entities")
    return settled


def _reasons(session: Session, project_id: UUID, tasks: Sequence[UUID]) -> defaultdict[UUID, tuple[str, ...]]:
    """Return, by task, the reasons that users gave for the flags that it answers."""
    flags = select(AnnotationTask.id, FLAG.reasons).where(*ANSWERED, col(FLAG.withdrawn_at).is_(None))
    if len(tasks) <= LOOKED_UP:
        flags = flags.where(col(AnnotationTask.id).in_(tasks))
    else:
        settled = flags.join(Settlement, col(Settlement.task_id) == AnnotationTask.id)
        flags = settled.where(Settlement.project_id == project_id)
    found: defaultdict[UUID, tuple[str, ...]] = defaultdict(tuple)
    for task_id, reasons in session.exec(flags):
        found[task_id] = tuple(sorted({*found[task_id], *reasons}))
    return found


def examples_of(
    session: Session, training_set: TrainingSet, rows: Sequence[TrainingSetExample] | None = None
) -> list[Example]:
    """Return all of a set's rows, or some, from the settlements and repairs behind them; erased ones are missing."""
    of_set = select(TrainingSetExample).where(TrainingSetExample.training_set_id == training_set.id)
    if rows is None:
        rows = session.exec(of_set).all()
        found = settled_answers(session, training_set.project_id)
    else:
        found = [
            one
            for start in range(0, len(rows), LOOKED_UP)
            for one in settled_answers(
                session,
                training_set.project_id,
                col(Settlement.id).in_([row.settlement_id for row in rows[start : start + LOOKED_UP]]),
            )
        ]
    settled = {one.key: one for one in found}
    repairs = _repairs(session, {name for row in rows for name in row.repairs})
    return [
        _example(row, one, repairs)
        for row in rows
        if (one := settled.get(str(row.settlement_id))) is not None
    ]


def contents(session: Session, set_id: UUID | None, split: Split) -> dict[str, str]:
    """Return a part's settlements by their rows' content; of no set, none."""
    rows = select(TrainingSetExample.content_sha256, TrainingSetExample.settlement_id).where(
        TrainingSetExample.training_set_id == set_id, TrainingSetExample.split == split
    )
    return {content: str(key) for content, key in session.exec(rows) if content}


def accepted_repairs(session: Session, project_id: UUID) -> dict[str, Repair]:
    """Return the repairs that are in force, in the order in which they were accepted, by their row's id."""
    rows = session.exec(
        select(AcceptedRepair, AuditFinding)
        .join(AuditFinding, col(AcceptedRepair.finding_id) == AuditFinding.id)
        .where(AcceptedRepair.project_id == project_id, col(AcceptedRepair.undone_at).is_(None))
        .order_by(col(AcceptedRepair.id))
    )
    return {str(accepted.id): to_repair(finding.proposals[accepted.place]) for accepted, finding in rows}


def to_repair(document: dict[str, Any]) -> Repair:
    """Read a proposal as it is kept with its finding."""
    return Repair(**{**document, "kind": RepairKind(document["kind"]), "keys": tuple(document["keys"])})


def to_document(repair: Repair) -> dict[str, Any]:
    """Return what `to_repair` reads."""
    return {**asdict(repair), "kind": repair.kind.value, "keys": list(repair.keys)}


def _repairs(session: Session, names: set[str]) -> dict[str, Repair]:
    """Return repairs by name, taken back ones too, in the order in which they were accepted."""
    if not names:
        return {}
    rows = session.exec(
        select(AcceptedRepair, AuditFinding)
        .join(AuditFinding, col(AcceptedRepair.finding_id) == AuditFinding.id)
        .where(col(AcceptedRepair.id).in_([UUID(name) for name in names]))
        .order_by(col(AcceptedRepair.id))
    )
    return {str(accepted.id): to_repair(finding.proposals[accepted.place]) for accepted, finding in rows}


def _entities(answer: str) -> str | None:
    try:
        return canonical_entities(answer)
    except BrokenEntities:
        return None


def _language(tag: str | None) -> str | None:
    """Return a language tag's first part, or None if it has none: a card names languages, where nothing is erased."""
    found = re.match(r"[a-z]{2,3}(?=[-_]|$)", (tag or "").lower())
    return found[0] if found else None


def _is_choice(label: str | None, asked: dict[str, Any]) -> bool:
    """Say whether experts could have chosen a label, or several; what is no label at all is none to refuse."""
    chosen = labels_in(label) if label and asked.get("is_multi_label") else {label}
    return chosen <= {None, *asked["labels"]}


def _settled(
    row: Any, source: Source, kind: Kind, reasons: tuple[str, ...], asked: dict[str, Any]
) -> Settled:
    is_right = row.verdict is Verdict.CORRECT
    better = None if is_right else row.label or label_of(row.labels) or row.correction
    is_label = kind is Kind.CLASSIFICATION
    answer = row.text if is_right or (better is None and not is_label) else better or ""
    if is_right and asked.get("is_multi_label"):
        answer = label_of(labels_in(row.text))
    # A host's metadata may hold anything; a corpus's was written by its import.
    written = row.host_metadata.get("written") if source.is_corpus else None
    return Settled(
        key=str(row.key),
        messages=tuple(Message(**message) for message in row.messages),
        answer=answer,
        kind=kind,
        label=answer if is_label else None,
        rejected=row.text if better is not None and not is_label else None,
        is_wanted=is_right or better is not None or is_label,
        attributes=row.attributes,
        source=source.name,
        language=_language(row.language),
        written=date.fromisoformat(written) if written else row.created_at.date(),
        conversation=row.conversation_id,
        subject=row.subject,
        person=row.flagger or row.subject or "",
        is_random=row.purpose is TaskPurpose.RANDOM,
        is_flag=row.purpose is TaskPurpose.FLAG and not is_right,
        was_wrong=None if row.purpose in (TaskPurpose.CORPUS, TaskPurpose.ADDED) else not is_right,
        reasons=reasons,
    )


def _example(row: TrainingSetExample, one: Settled, repairs: dict[str, Repair]) -> Example:
    own: Sequence[Settled] = [one]
    if row.repairs:
        own, _ = apply([one], {name: repair for name, repair in repairs.items() if name in row.repairs})
    return to_example(own[0], row.group_name, row.split)
