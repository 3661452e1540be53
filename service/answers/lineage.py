"""Where each row of a set comes from, by ids alone: settlement, annotations, feedback, response, consent, repairs."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from retrain.audit import RepairKind
from retrain.types import canonical_json
from service.answers.examples import LOOKED_UP, to_repair
from service.answers.flags import ANSWERED, FLAG
from service.runtime import Runtime
from service.tables import (
    AcceptedRepair,
    AnnotationTask,
    AuditFinding,
    Response,
    Settlement,
    SettlementAnnotation,
    TrainingSet,
    TrainingSetExample,
)

Ids = dict[UUID, list[str]]
# Source: GDPR, article 6(1). A host's own words may be personal, and nothing can be erased from Git.
BASES = ("consent", "contract", "legal obligation", "vital interests", "public task", "legitimate interests")


def basis_of(stated: str | None) -> str | None:
    """Return a stated legal basis as sets and Git may hold it: one of `BASES`, the corpus's licence, or "other"."""
    if stated is None:
        return None
    basis = stated.strip().lower().replace("_", " ")
    return "licence" if basis.startswith("licence") else basis if basis in BASES else "other"


def facts_of(runtime: Runtime, session: Session, training_set: TrainingSet) -> dict[str, bytes]:
    """Return, as files, how a set was made, what its audit found, and what its rows go back to, without words."""
    facts, report = {}, {}
    if training_set.card:
        facts["README.md"] = runtime.artifacts.get_bytes(training_set.card)
    if training_set.audit_report:
        report = json.loads(runtime.artifacts.get_bytes(training_set.audit_report))
        facts["audit.json"] = pretty(report)
    of_set = select(TrainingSetExample).where(TrainingSetExample.training_set_id == training_set.id)
    rows = session.exec(of_set.order_by(col(TrainingSetExample.settlement_id))).all()
    versions, salted = report.get("versions", {}), runtime.secrets.salted
    lineage = lineage_of(session, rows, checks=versions, salted=salted)
    return facts | {
        "recipe.json": pretty({"fingerprint": training_set.fingerprint, **training_set.recipe}),
        "lineage.jsonl": b"".join(canonical_json(row) + b"\n" for row in lineage),
    }


def pretty(document: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """Return a document as people and line-wise comparisons read it, the same each time."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, default=str).encode() + b"\n"


def consents(session: Session, settlements: Sequence[UUID]) -> dict[UUID, dict[str, Any]]:
    """Return what allows each settlement's use today: the legal basis, and what each flag said of training."""
    found: dict[UUID, dict[str, Any]] = {}
    for part in _parts(settlements):
        based = (
            select(Settlement.id, Response.legal_basis)
            .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
            .join(Response, col(AnnotationTask.response_id) == Response.id)
            .where(col(Settlement.id).in_(part))
        )
        found |= {key: {"basis": basis_of(basis), "flags": {}} for key, basis in session.exec(based)}
        said = (
            select(Settlement.id, FLAG.id, FLAG.consent)
            .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
            .where(col(Settlement.id).in_(part), *ANSWERED)
            .order_by(col(FLAG.id))
        )
        for key, flag, consent in session.exec(said):
            found[key]["flags"][str(flag)] = consent
    return found


def lineage_of(
    session: Session,
    rows: Sequence[TrainingSetExample],
    *,
    checks: Mapping[str, int],
    salted: Callable[[str], str],
) -> Iterator[dict[str, Any]]:
    """Yield what each row goes back to; digests of what was said are salted, and no person is named.

    `checks` are those that judged the set, with their versions; a repair names the check that proposed it.
    """
    repairs = _repairs(session, {name for row in rows for name in row.repairs})
    for part in _parts(rows):
        keys = [row.settlement_id for row in part]
        origins = _origins(session, keys)
        annotations, feedback = _annotations(session, keys), _feedback(session, keys)
        for row in part:
            response, admission = origins[row.settlement_id]
            yield {
                "settlement": str(row.settlement_id),
                "response": str(response),
                "annotations": annotations[row.settlement_id],
                "feedback": feedback[row.settlement_id],
                "admission": str(admission) if admission else None,
                "consent": row.consent and row.consent | {"basis": basis_of(row.consent["basis"])},
                "split": row.split.value,
                "group": salted(row.group_name),
                "content": salted(row.content_sha256),
                "checks": dict(checks),
                "repairs": [repairs[name] for name in row.repairs],
            }


def _origins(session: Session, keys: Sequence[UUID]) -> dict[UUID, tuple[UUID, UUID | None]]:
    """Return each settlement's response, and the admission that it rests on, if any."""
    rows = (
        select_columns(col(Settlement.id), col(AnnotationTask.response_id), col(Settlement.admission_id))
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .where(col(Settlement.id).in_(keys))
    )
    return {key: (response, admission) for key, response, admission in session.execute(rows)}


def _annotations(session: Session, keys: Sequence[UUID]) -> Ids:
    rows = (
        select_columns(col(SettlementAnnotation.settlement_id), col(SettlementAnnotation.annotation_id))
        .where(col(SettlementAnnotation.settlement_id).in_(keys))
        .order_by(col(SettlementAnnotation.annotation_id))
    )
    return _gathered(session, rows)


def _feedback(session: Session, keys: Sequence[UUID]) -> Ids:
    rows = (
        select_columns(col(Settlement.id), col(FLAG.id))
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .where(col(Settlement.id).in_(keys), *ANSWERED)
        .order_by(col(FLAG.id))
    )
    return _gathered(session, rows)


def _gathered(session: Session, rows: Any) -> Ids:
    found: defaultdict[UUID, list[str]] = defaultdict(list)
    for key, row_id in session.execute(rows):
        found[key].append(str(row_id))
    return found


def _repairs(session: Session, names: set[str]) -> dict[str, dict[str, Any]]:
    rows = (
        select(AcceptedRepair, AuditFinding)
        .join(AuditFinding, col(AcceptedRepair.finding_id) == AuditFinding.id)
        .where(col(AcceptedRepair.id).in_([UUID(name) for name in names]))
    )
    return {str(repair.id): _repair(repair, finding) for repair, finding in session.exec(rows)}


def _repair(repair: AcceptedRepair, finding: AuditFinding) -> dict[str, Any]:
    """Tell of a repair without the words that it replaces; what weighs rows anew says how much."""
    proposal = to_repair(finding.proposals[repair.place])
    told = {"repair": str(repair.id), "check": finding.check, "version": int(finding.check_version)}
    weight = {"factor": proposal.factor} if proposal.kind is RepairKind.WEIGHT else {}
    return {**told, "kind": proposal.kind.value, **weight}


def _parts(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (rows[start : start + LOOKED_UP] for start in range(0, len(rows), LOOKED_UP))
