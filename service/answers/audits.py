"""What audits know of a project, what they found, what somebody waived of it, and what still stops a training."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from retrain import audit
from retrain.amounts import how_many
from retrain.audit import RepairKind, Severity
from retrain.near_duplicates import text_of
from retrain.types import Message, Split
from service import projects
from service.clock import utcnow
from service.errors import AuditBlocked
from service.settlements import IN_FORCE
from service.tables import (
    AcceptedRepair,
    AuditFinding,
    Document,
    DocumentKind,
    ModelState,
    ModelVersion,
    Project,
    QualityReport,
    Response,
    Settlement,
    Source,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
)
from service.waivers import in_force

PROMPTS = 2000
ORDER = (Severity.BLOCK, Severity.WARN, Severity.INFO)
PROPOSES = {
    RepairKind.DROP: "Leave out",
    RepairKind.REPLACE: "Replace in",
    RepairKind.TERM: "Replace, and keep in the glossary, in",
    RepairKind.SWAP: "Swap words in",
    RepairKind.RELABEL: "Relabel",
    RepairKind.WEIGHT: "Weigh",
    RepairKind.ASK: "Ask experts about",
}


def context_of(
    session: Session, project: Project, encode: Callable[[Sequence[str]], Any] | None
) -> audit.Context:
    """Return what checks may know of a project besides the rows."""
    glossary = projects.document(session, project.id, DocumentKind.GLOSSARY)
    content = glossary.content if glossary else {}
    sources = session.exec(select(Source).where(Source.project_id == project.id)).all()
    return audit.Context(
        today=utcnow().date(),
        description=content.get("description") or project.system_prompt,
        glossary=content.get("terms", {}),
        validity=[
            audit.Validity(each["name"], _day(each.get("valid_from")), _day(each.get("valid_to")))
            for each in content.get("validity", ())
        ],
        sources=[
            audit.Validity(source.name, *(day and day.date() for day in (source.valid_from, source.valid_to)))
            for source in sources
        ],
        known=_learned(session, project.id),
        groups=content.get("groups", ()),
        prompts=_prompts(session, project.id),
        doubts=_doubts(session, project.id),
        encode=encode,
    )


def _learned(session: Session, project_id: UUID) -> set[str]:
    """Return the rows from which the model in use learned."""
    learned = (
        select(TrainingSetExample.settlement_id)
        .join(TrainingRun, col(TrainingRun.training_set_id) == TrainingSetExample.training_set_id)
        .join(ModelVersion, col(ModelVersion.training_run_id) == TrainingRun.id)
        .where(ModelVersion.project_id == project_id, ModelVersion.state == ModelState.CHAMPION)
        .where(TrainingSetExample.split == Split.TRAIN)
    )
    return {str(key) for key in session.exec(learned)}


def _doubts(session: Session, project_id: UUID) -> dict[str, float]:
    """Return how probable it is that a settled answer is wrong: by the newest quality report, else as of settling."""
    settled = session.execute(
        select_columns(
            col(Settlement.id),
            col(Settlement.task_id),
            col(Settlement.posterior),
            col(Settlement.agreeing),
            col(Settlement.asked),
        ).where(col(Settlement.project_id) == project_id, col(Settlement.admission_id).is_(None), IN_FORCE)
    )
    report = session.exec(select(QualityReport).where(QualityReport.project_id == project_id)).first()
    doubtful = report.content["doubtful"] if report else {}
    return {
        str(key): 1 - doubtful[str(task)] if str(task) in doubtful else _doubt(posterior, agreeing, asked)
        for key, task, posterior, agreeing, asked in settled
    }


def _doubt(posterior: float | None, agreeing: int, asked: int) -> float:
    """Return how probable it is that a settled answer is wrong, by what was known when it was settled."""
    # Without a posterior Laplace's rule of succession, for the few who were asked.
    return (asked - agreeing + 1) / (asked + 2) if posterior is None else 1 - posterior


def _prompts(session: Session, project_id: UUID) -> dict[str, str]:
    """Return what users asked lately, by response, as checks read a row's prompt."""
    newest = (
        select(Response)
        .join(Source, col(Response.source_id) == Source.id)
        .where(Response.project_id == project_id, col(Source.is_corpus).is_(False))
        .where(Source.name != projects.PLAYGROUND, col(Response.erased_at).is_(None))
        .order_by(col(Response.id).desc())
    )
    asked = session.exec(newest.limit(PROMPTS))
    return {str(one.id): text_of([Message(**turn) for turn in one.messages]) for one in asked}


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def findings_of(session: Session, training_set: TrainingSet) -> list[AuditFinding]:
    """Return a set's findings, those that block first."""
    found = session.exec(
        select(AuditFinding)
        .where(AuditFinding.training_set_id == training_set.id)
        .order_by(col(AuditFinding.id))
    ).all()
    return sorted(found, key=lambda finding: ORDER.index(Severity(finding.severity)))


def blocking(session: Session, training_set: TrainingSet, today: date) -> list[AuditFinding]:
    """Return the findings that forbid training on a set, as nobody has waived them."""
    if not training_set.is_blocked:
        return []
    waived = in_force(session, training_set.project_id, today)
    found = select(AuditFinding).where(
        AuditFinding.training_set_id == training_set.id, AuditFinding.severity == Severity.BLOCK
    )
    return [
        finding
        for finding in session.exec(found.order_by(col(AuditFinding.id)))
        if finding.name not in waived
    ]


def blocked(session: Session, project_id: UUID, sets: Iterable[Any], today: date) -> set[UUID]:
    """Return which of a project's sets, or of rows with their `id` and `is_blocked`, have a `blocking` finding."""
    objected = [one.id for one in sets if one.is_blocked]
    waived = in_force(session, project_id, today)
    found = select(AuditFinding.training_set_id, AuditFinding.name).where(
        col(AuditFinding.training_set_id).in_(objected), AuditFinding.severity == Severity.BLOCK
    )
    return {set_id for set_id, name in session.exec(found) if name not in waived}


def refuse_blocked(session: Session, training_set: TrainingSet, today: date) -> None:
    """Let nothing train on a set that its audit forbids.

    Raises:
        AuditBlocked: with the first of the findings that nobody has waived.
    """
    if found := blocking(session, training_set, today):
        raise AuditBlocked(
            f"training set {training_set.fingerprint}: its audit found what blocks training: {found[0].evidence}"
        )


def repairs_of(session: Session, training_set: TrainingSet) -> dict[tuple[str, int], AcceptedRepair]:
    """Return the repairs in force, by the finding and the place of the proposal that was accepted."""
    accepted = session.exec(
        select(AcceptedRepair)
        .join(AuditFinding, col(AcceptedRepair.finding_id) == AuditFinding.id)
        .where(AuditFinding.training_set_id == training_set.id, col(AcceptedRepair.undone_at).is_(None))
    )
    return {(str(row.finding_id), row.place): row for row in accepted}


def describe_finding(finding: AuditFinding, waiver: Document | None) -> dict[str, Any]:
    """Return a finding as the API and the command line show it."""
    return {
        "id": str(finding.id),
        "check": finding.check,
        "severity": finding.severity,
        "rows": len(finding.keys),
        "evidence": finding.evidence,
        "repair": finding.repair,
        "proposals": [
            {name: value for name, value in proposal.items() if name != "keys"}
            | {"rows": len(proposal["keys"])}
            for proposal in finding.proposals
        ],
        "waived": {"by": waiver.author, **waiver.content} if waiver else None,
    }


def tell_proposal(proposal: Mapping[str, Any], rows: int) -> str:
    """Say what accepting a proposal does, such as "Replace in 2 rows: “MI” by “heart attack”"."""
    kind, find, put = RepairKind(proposal["kind"]), proposal["find"], proposal["put"]
    by = f": “{find}” by {f'“{put}”' if put else 'nothing'}" if find else ""
    told = {
        RepairKind.ASK: f": “{find}”" if find else " again",
        RepairKind.RELABEL: f" as “{put}”",
        RepairKind.WEIGHT: f" {proposal['factor']:.2f} times",
    }
    noun = "response" if kind is RepairKind.ASK and find else "row"
    return f"{PROPOSES[kind]} {how_many(rows, noun)}{told.get(kind, by)}"
