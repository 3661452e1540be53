"""A set's data card, from what the database knows of its rows."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date

from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from retrain import card
from retrain.audit import Finding
from retrain.types import Example, Kind
from service.answers.lineage import basis_of
from service.clock import utcnow
from service.tables import (
    AnnotationTask,
    Project,
    Response,
    Settlement,
    Source,
    TrainingSet,
    TrainingSetExample,
)
from service.waivers import in_force


def card_of(
    session: Session, training_set: TrainingSet, examples: Sequence[Example], found: Sequence[Finding]
) -> str:
    """Describe a set for people, without a word of its rows."""
    project = session.get_one(Project, training_set.project_id)
    sources = session.exec(select(Source).where(Source.project_id == project.id)).all()
    present = {example.source for example in examples}
    of_set = (
        select_columns(col(Response.legal_basis), col(Settlement.agreeing), col(Settlement.asked))
        .select_from(TrainingSetExample)
        .join(Settlement, col(TrainingSetExample.settlement_id) == Settlement.id)
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .where(col(TrainingSetExample.training_set_id) == training_set.id)
        .where(col(TrainingSetExample.erased_at).is_(None))
    )
    people = session.execute(of_set).all()
    shared = [agreeing == asked for _, agreeing, asked in people if asked > 1]
    findings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for finding in found:
        findings[finding.check][finding.severity.value] += 1
    return card.render(
        card.CardFacts(
            name=f"{project.slug}/v{training_set.version}",
            fingerprint=training_set.fingerprint,
            kind=Kind(project.kind),
            frozen=training_set.created_at.date(),
            counts=card.count(examples),
            recipe=training_set.recipe,
            # The data repository writes each split's rows to shards of these names.
            files={split: f"rows/{split}-*.parquet" for split in {example.split for example in examples}},
            findings=findings,
            waivers=_waived(session, training_set, found),
            agreement={"rows on which all experts agreed": sum(shared) / len(shared)} if shared else {},
            consent=Counter(basis_of(basis) or "not stated" for basis, _, _ in people),
            licences={source.name: source.licence for source in sources if source.name in present},
        )
    )


def _waived(session: Session, training_set: TrainingSet, found: Sequence[Finding]) -> list[card.Waiver]:
    """Return the waivers that hold today for what was found."""
    holding = in_force(session, training_set.project_id, utcnow().date())
    waived = [holding[name].content for name in sorted({finding.name for finding in found} & holding.keys())]
    return [card.Waiver(one["check"], date.fromisoformat(one["until"])) for one in waived]
