"""What an examination takes from rows: answers heard before, what is known of cases, and which of them judge."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from retrain.artifacts import ArtifactStore
from retrain.errors import BrokenArtifact, MissingArtifact
from retrain.examination import heard_in
from retrain.metrics.judged import Answer
from retrain.types import Case, Split
from service.answers.consolidation import chain_of
from service.answers.flagged import cases_of
from service.tables import (
    AnnotationTask,
    Evaluation,
    ModelVersion,
    Response,
    Settlement,
    Source,
    SplitAssignment,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
)

EXAMS_LOOKED_AT = 20


@dataclass(frozen=True, slots=True)
class About:
    """What the set, which holds content only, does not say of a case: its slices, the context, and who is who."""

    attributes: Mapping[str, str]
    context: tuple[str, ...]
    roles: Mapping[str, str]


NOTHING = About({}, (), {})


def earlier_evaluations(session: Session, project_id: UUID, exam: str) -> list[Evaluation]:
    """Return the newest evaluations that asked the very same exam, as the champion sat it beside each challenger."""
    newest = session.exec(
        select(Evaluation)
        .where(Evaluation.project_id == project_id, col(Evaluation.report).is_not(None))
        .order_by(col(Evaluation.id).desc())
        .limit(EXAMS_LOOKED_AT)
    )
    return [one for one in newest if one.hashes.get("exam") == exam]


def heard_in_reports(
    artifacts: ArtifactStore,
    evaluations: Iterable[Evaluation],
    cases: Sequence[Case],
    *,
    of_base: Sequence[Case],
) -> dict[str | None, Mapping[str, Answer]]:
    """Return what adapters answered to these cases, by adapter; under None what the base did to those it is asked.

    No transaction is needed.
    """
    heard: dict[str | None, Mapping[str, Answer]] = {}
    for one in evaluations:
        try:
            told = orjson.loads(artifacts.get_bytes(one.report or ""))
        except (MissingArtifact, BrokenArtifact):
            continue  # then they are asked again
        of_it = {
            "base": None,
            "champion": one.hashes["champion"] or None,
            "challenger": one.hashes["adapter"],
        }
        for who, adapter in of_it.items():
            wanted = cases if adapter else of_base
            said = heard_in(told, who, wanted) if adapter not in heard else None
            if said is not None:
                heard[adapter] = said
    return heard


def about_cases(session: Session, project_id: UUID, *, roles: Collection[str]) -> dict[str, About]:
    """Return, by content hash, what a set does not hold; attributes that say who is who tell no results apart."""
    rows = session.execute(
        select_columns(
            col(TrainingSetExample.content_sha256),
            col(Response.attributes),
            col(Response.language),
            col(Response.context),
            col(Source.name),
        )
        .join(Settlement, col(TrainingSetExample.settlement_id) == Settlement.id)
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .join(Source, col(Response.source_id) == Source.id)
        .where(col(Settlement.project_id) == project_id)
        .where(col(TrainingSetExample.split).in_((Split.TEST, Split.REGRESSION)))
    )
    return {
        name: About(
            {"source": source}
            | slices_of({key: value for key, value in attributes.items() if key not in roles}, language),
            tuple(passage["text"] for passage in context),
            {key: value for key, value in attributes.items() if key in roles and value.strip()},
        )
        for name, attributes, language, context, source in rows
    }


def slices_of(attributes: Mapping[str, str], language: str | None) -> dict[str, str]:
    """Return what tells results on a response apart: its language, and what its application says of it."""
    return {**({"language": language} if language else {}), **attributes}


def contaminated_rows(
    session: Session, training_set: TrainingSet, models: Iterable[ModelVersion]
) -> set[str]:
    """Return the contents of the test rows in whose group is one that a model learned before the group met the test."""
    met = select(SplitAssignment.id).where(
        SplitAssignment.project_id == training_set.project_id, col(SplitAssignment.is_contaminated)
    )
    if session.exec(met.limit(1)).first() is None:
        return set()
    runs = {one.training_run_id for model in models for one in chain_of(session, model)}
    taught = (
        select(TrainingSetExample.settlement_id)
        .join(TrainingRun, col(TrainingRun.training_set_id) == TrainingSetExample.training_set_id)
        .where(col(TrainingRun.id).in_(runs - {None}), TrainingSetExample.split == Split.TRAIN)
    )
    learned = {str(key) for key in session.exec(taught)}
    # Of near-equal rows only one stands in the set.
    twins = (why for key, why in training_set.dropped.items() if key in learned)
    learned.update(why.removeprefix("duplicate of ") for why in twins)
    test = session.exec(
        select(TrainingSetExample).where(
            TrainingSetExample.training_set_id == training_set.id, TrainingSetExample.split == Split.TEST
        )
    ).all()
    groups = {row.group_name for row in test if str(row.settlement_id) in learned}
    return {row.content_sha256 for row in test if row.group_name in groups}


def flagged_rows(
    session: Session, training_set: TrainingSet, suite: Mapping[str, Any]
) -> dict[str, set[str]]:
    """Return, by reason, which rows of a set are cases of the suite of flags with it, by content hash."""
    rows = {
        reason: select(TrainingSetExample.content_sha256).where(
            TrainingSetExample.training_set_id == training_set.id,
            col(TrainingSetExample.settlement_id).in_(keys),
        )
        for reason, keys in cases_of(session, suite).items()
    }
    return {reason: set(session.exec(of_reason)) for reason, of_reason in rows.items()}
