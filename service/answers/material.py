"""What the next training set is made of: what is settled, as repaired, and all that earlier versions fixed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlmodel import Session, col, select

from retrain.audit.repairs import apply
from retrain.training_set import to_example
from retrain.types import Example, Placed, Settled, Split
from service import projects
from service.answers import newest_set
from service.answers.examples import (
    TAKEN_BACK,
    accepted_repairs,
    placed_answers,
    settled_answers,
    withdrawn_answers,
)
from service.answers.flagged import cases_of
from service.answers.outdated import is_superseded
from service.answers.quarantines import held_settlements
from service.errors import Invalid
from service.settlements import IN_FORCE
from service.tables import DocumentKind, Project, SplitAssignment, TrainingSet, TrainingSetExample


@dataclass(frozen=True, slots=True)
class History:
    """All that earlier versions fixed: which rows are in which group, and which group is in which split."""

    placed: list[Placed]
    assigned: dict[str, Split]
    newest: TrainingSet | None

    @property
    def newest_at(self) -> tuple[UUID, datetime] | None:
        """Return which set was the newest, and since when."""
        return (self.newest.id, self.newest.current_at) if self.newest else None


@dataclass(frozen=True, slots=True)
class Material:
    """Rows to build a set of, which repairs touched them, and why other settlements are not among them, by key."""

    rows: list[Settled]
    touched: Mapping[str, list[str]]
    dropped: Mapping[str, str]
    history: History


def material_of(session: Session, project: Project) -> Material:
    """Return what a project's next set is made of.

    Raises:
        Invalid: nothing is settled that could be learned from.
    """
    settled = settled_answers(session, project.id, IN_FORCE, ~TAKEN_BACK, ~is_superseded())
    if not settled:
        raise Invalid(f"project {project.slug}: no settlement can be learned from yet")
    held = held_settlements(session, project.id)
    suites = projects.current(session, project.id, DocumentKind.SUITE).content
    cases = {str(key) for keys in cases_of(session, suites).values() for key in keys}
    free = [replace(one, is_case=one.key in cases) for one in settled if one.key not in held]
    rows, touched = apply(free, accepted_repairs(session, project.id))
    repaired_away = {one.key for one in free} - {one.key for one in rows}
    quarantined = {one.key: f"quarantined: {held[one.key]}" for one in settled if one.key in held}
    return Material(
        rows=rows,
        touched=touched,
        dropped=withdrawn_answers(session, project.id)
        | quarantined
        | {key: f"repair {touched[key][-1]}" for key in repaired_away},
        history=_history(session, project.id),
    )


def _history(session: Session, project_id: UUID) -> History:
    """Return each placed settlement under its newest group, and each group's newest split.

    Rows that have left, by a repair or a withdrawn consent, are among them: what is near them stays in their split.
    """
    rows = session.exec(
        select(TrainingSetExample.settlement_id, TrainingSetExample.group_name)
        .join(TrainingSet, col(TrainingSetExample.training_set_id) == TrainingSet.id)
        .where(TrainingSet.project_id == project_id)
        .order_by(col(TrainingSet.version))
    )
    group_of = {str(settlement_id): group for settlement_id, group in rows}
    assignments = select(SplitAssignment).where(SplitAssignment.project_id == project_id)
    return History(
        placed=[
            Placed(one, group_of[one.key])
            for one in placed_answers(session, project_id)
            if one.key in group_of
        ],
        assigned={
            row.group_name: row.split for row in session.exec(assignments.order_by(col(SplitAssignment.id)))
        },
        newest=newest_set(session, project_id),
    )


def held_out(history: History, examples: Iterable[Example]) -> list[Example]:
    """Return rows of earlier versions that models are judged by and which are not in this one."""
    present = {example.key for example in examples}
    return [
        to_example(each.settled, each.group, split)
        for each in history.placed
        if each.settled.key not in present
        and (split := history.assigned.get(each.group)) in (Split.TEST, Split.REGRESSION)
        and split is not None
    ]
