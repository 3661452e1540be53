"""Stage 4: make an immutable, audited training set of what experts settled on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import structlog
from sqlmodel import Session, col, select

from annotation.types import Cause, Verdict
from retrain import audit
from retrain.training_set import Built, Placed, Recipe, Settled, build, diff, fingerprint
from retrain.types import Example, Kind, Message, Split, content_hash
from service import ledger
from service.answers import describe_set, newest_set
from service.errors import Invalid
from service.queue import Lease
from service.runtime import Runtime
from service.tables import (
    AnnotationTask,
    AuditFinding,
    Document,
    Project,
    Response,
    Settlement,
    SplitAssignment,
    TaskPurpose,
    TrainingSet,
    TrainingSetExample,
)

Write = Callable[[Sequence[Example], Path], None]
Read = Callable[[Path], list[Example]]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class History:
    """All that earlier versions fixed: which rows are in which group, and which group is in which split."""

    placed: list[Placed]
    assigned: dict[str, Split]
    newest: TrainingSet | None


def run(runtime: Runtime, lease: Lease, project_id: UUID, recipe: Recipe, write: Write) -> dict[str, Any]:
    """Build the next set; when nothing changed, the newest one is the answer.

    Raises:
        Invalid: nothing is settled that could be learned from.
    """
    with lease.transaction() as session:
        settled = _settled(session, project_id)
        history = _history(session, project_id, settled)
    if not settled:
        raise Invalid(f"project {project_id}: no settlement can be learned from yet")
    built = build(settled, earlier=history.placed, assigned=history.assigned, recipe=recipe)
    findings = audit.run_all(built.examples)
    artifact = _store(runtime, built.examples, write)
    with lease.transaction() as session:
        training_set = _add(
            session,
            project_id=project_id,
            history=history,
            built=built,
            recipe=recipe,
            artifact=artifact,
            findings=findings,
        )
        answer = describe_set(session, training_set)
    log.info("training_set_frozen", fingerprint=training_set.fingerprint, **training_set.counts)
    return answer


def rebuild(runtime: Runtime, lease: Lease, set_id: UUID, write: Write) -> dict[str, Any]:
    """Build a set again from its settlements alone and compare name and bytes with what is stored."""
    with lease.transaction() as session:
        stored = session.get_one(TrainingSet, set_id)
        examples = examples_of(session, stored)
    held = sum(stored.counts.values())
    name = fingerprint(examples, Recipe.from_json(stored.recipe))
    artifact = _store(runtime, sorted(examples, key=content_hash), write)
    runtime.artifacts.verify(stored.artifact)
    return {
        "set": stored.fingerprint,
        "fingerprint": name,
        "artifact": artifact,
        "erased": held - len(examples),
        "equal": name == stored.fingerprint and artifact == stored.artifact,
    }


def compare(session: Session, a: TrainingSet, b: TrainingSet) -> dict[str, Any]:
    """Say how b differs from a, row by row, each with the settlement that caused it."""
    changes = diff(examples_of(session, a), examples_of(session, b))
    return {
        "a": a.fingerprint,
        "b": b.fingerprint,
        "added": [_change(row) for row in changes.added],
        "removed": [_change(row) for row in changes.removed],
        "changed": [_change(row) | {"was": old.answer} for old, row in changes.changed],
        "moved": [_change(row) | {"was": old.split.value} for old, row in changes.moved],
    }


def examples_of(session: Session, training_set: TrainingSet) -> list[Example]:
    """Return a set's rows from the settlements they were made from; erased ones are missing."""
    rows = session.exec(
        select(TrainingSetExample).where(TrainingSetExample.training_set_id == training_set.id)
    ).all()
    settled = {one.key: one for one in _settled(session, training_set.project_id)}
    return [
        Example(
            key=str(row.settlement_id),
            group=row.group_name,
            messages=one.messages,
            answer=one.answer,
            kind=one.kind,
            label=one.label,
            split=row.split,
            weight=one.weight,
            attributes=one.attributes,
        )
        for row in rows
        if (one := settled.get(str(row.settlement_id)))
    ]


def _settled(session: Session, project_id: UUID) -> list[Settled]:
    """Return what may be learned: right answers, and wrong ones whose cause is the model, with consent.

    A response that experts found right teaches no label unless its text is one that they could choose.
    """
    rows = session.exec(
        select(Settlement, AnnotationTask, Response, Document)
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .join(Document, col(AnnotationTask.schema_id) == Document.id)
        .where(Settlement.project_id == project_id, col(Response.may_train).is_(True))
        .where(
            (Settlement.verdict == Verdict.CORRECT)
            | ((Settlement.verdict == Verdict.INCORRECT) & (Settlement.cause == Cause.MODEL))
        )
        .order_by(col(Settlement.id))
    ).all()
    kind = Kind(session.get_one(Project, project_id).kind)
    settled = [
        one
        for settlement, task, response, schema in rows
        if (one := _one(settlement, task, response, kind)).label in (None, *schema.content["labels"])
    ]
    if len(settled) < len(rows):
        log.info("settlements_left_out", count=len(rows) - len(settled), reason="the answer is no label")
    return settled


def _one(settlement: Settlement, task: AnnotationTask, response: Response, kind: Kind) -> Settled:
    answer = (
        response.text if settlement.verdict is Verdict.CORRECT else settlement.label or settlement.correction
    )
    return Settled(
        key=str(settlement.id),
        messages=tuple(Message(**message) for message in response.messages),
        answer=answer or "",
        kind=kind,
        label=answer if kind is Kind.CLASSIFICATION else None,
        attributes=response.attributes,
        conversation=response.conversation_id,
        is_random=task.purpose is TaskPurpose.RANDOM,
    )


def _history(session: Session, project_id: UUID, settled: Sequence[Settled]) -> History:
    """Return each placed settlement under its newest group, and each group's newest split."""
    rows = session.exec(
        select(TrainingSetExample.settlement_id, TrainingSetExample.group_name)
        .join(TrainingSet, col(TrainingSetExample.training_set_id) == TrainingSet.id)
        .where(TrainingSet.project_id == project_id)
        .order_by(col(TrainingSet.version))
    )
    group_of = {str(settlement_id): group for settlement_id, group in rows}
    assignments = select(SplitAssignment).where(SplitAssignment.project_id == project_id)
    return History(
        placed=[Placed(one, group_of[one.key]) for one in settled if one.key in group_of],
        assigned={
            row.group_name: row.split for row in session.exec(assignments.order_by(col(SplitAssignment.id)))
        },
        newest=newest_set(session, project_id),
    )


def _store(runtime: Runtime, examples: Sequence[Example], write: Write) -> str:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "examples.parquet"
        write(examples, path)
        return runtime.artifacts.put_bytes(path.read_bytes())


def _add(
    session: Session,
    *,
    project_id: UUID,
    history: History,
    built: Built,
    recipe: Recipe,
    artifact: str,
    findings: Sequence[audit.Finding],
) -> TrainingSet:
    name = fingerprint(built.examples, recipe)
    same = select(TrainingSet).where(TrainingSet.project_id == project_id, TrainingSet.fingerprint == name)
    if known := session.exec(same).first():
        return known
    added = TrainingSet(
        project_id=project_id,
        parent_id=history.newest.id if history.newest else None,
        version=history.newest.version + 1 if history.newest else 1,
        fingerprint=name,
        artifact=artifact,
        recipe=recipe.to_json(),
        counts={split.value: sum(e.split is split for e in built.examples) for split in Split},
        is_blocked=audit.is_blocked(findings),
    )
    session.add(added)
    session.flush()
    session.add_all([_example_row(added.id, example) for example in built.examples])
    contaminated = {name for merge in built.merges for name in merge.contaminated}
    for group, split in built.assignments.items():
        row = SplitAssignment(project_id=project_id, training_set_id=added.id, group_name=group, split=split)
        row.is_contaminated = group in contaminated
        session.add(row)
    session.add_all([_finding_row(added.id, finding) for finding in findings])
    ledger.append(
        session,
        actor="curation",
        action="training_set_frozen",
        subject=name,
        project_id=project_id,
        facts={"version": added.version, "artifact": artifact, "dropped": len(built.dropped)},
    )
    return added


def _example_row(set_id: UUID, example: Example) -> TrainingSetExample:
    return TrainingSetExample(
        training_set_id=set_id,
        settlement_id=UUID(example.key),
        content_sha256=content_hash(example),
        split=example.split,
        group_name=example.group,
    )


def _finding_row(set_id: UUID, finding: audit.Finding) -> AuditFinding:
    return AuditFinding(
        training_set_id=set_id,
        check=finding.check,
        check_version=str(finding.version),
        severity=finding.severity.value,
        keys=list(finding.keys),
        evidence=finding.evidence,
        repair=finding.repair,
    )


def _change(row: Example) -> dict[str, Any]:
    return {
        "row": {"prompt": row.prompt, "answer": row.answer, "split": row.split.value},
        "cause": {"kind": "settlement", "id": row.key},
    }
