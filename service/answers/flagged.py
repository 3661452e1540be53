"""Flags with one reason as a suite of their own: which could be one, and which settled answers are its cases."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from retrain.types import Split
from service import projects
from service.answers.examples import LOOKED_UP, TAKEN_BACK, settled_answers
from service.answers.outdated import is_superseded
from service.answers.quarantines import held_settlements
from service.errors import NotFound
from service.goalposts import FLAGGED, proposed_from
from service.settlements import IN_FORCE
from service.tables import (
    AnnotationTask,
    DocumentKind,
    Project,
    Settlement,
    TaskPurpose,
    TrainingSetExample,
)

LOOKED_AT = LOOKED_UP  # of the newest settlements, for a page's cost must not grow with them


@dataclass(frozen=True, slots=True)
class Cluster:
    """Settled flags with one reason that no set has learned from; `learned` more are lost as cases."""

    reason: str
    settlements: Sequence[UUID]
    learned: int


def clusters(session: Session, project: Project) -> list[Cluster]:
    """Return the reasons that enough settled flags share for a suite, the most frequent first.

    Not those after which a suite is named already, nor those that somebody declined.
    """
    document = projects.current(session, project.id, DocumentKind.SUITE).content
    declined = projects.document(session, project.id, DocumentKind.DECLINED_SUITES)
    taken = {*document.get("behaviour", []), *document.get(FLAGGED, {})}
    taken |= {one.get("name") or one.get("extends") for one in document.get("own", [])}
    taken |= set(declined.content["reasons"] if declined else [])
    known = projects.reason_codes(session, project.id)
    free: defaultdict[str, list[UUID]] = defaultdict(list)
    learned: defaultdict[str, int] = defaultdict(int)
    for settlement, reasons, is_learned in _flags(session, project):
        for reason in known.intersection(reasons) - taken:
            if is_learned:
                learned[reason] += 1
            else:
                free[reason].append(settlement)
    wanted = proposed_from(document)
    found = [Cluster(reason, keys, learned[reason]) for reason, keys in free.items() if len(keys) >= wanted]
    return sorted(found, key=lambda one: (-len(one.settlements), one.reason))


def cluster_of(session: Session, project: Project, reason: str) -> Cluster:
    """Return the cluster of a reason.

    Raises:
        NotFound: too few flags have it, or it was accepted or declined.
    """
    found = next((one for one in clusters(session, project) if one.reason == reason), None)
    if found is None:
        raise NotFound(f"no suite is proposed for {reason!r}: see errata suites list {project.slug}")
    return found


def cases_of(session: Session, document: Mapping[str, Any]) -> dict[str, set[UUID]]:
    """Return the settlements that are cases of each reason's suite, by a suite's document.

    What settles the same answer anew takes the place of what was accepted.
    """
    return {reason: _settled_alike(session, keys) for reason, keys in document.get(FLAGGED, {}).items()}


def _flags(session: Session, project: Project) -> list[tuple[UUID, tuple[str, ...], bool]]:
    """Return the newest settled flags that could be learned from, with their reasons, and whether a set did."""
    newest = select(Settlement.id).where(Settlement.project_id == project.id)
    keys = list(session.exec(newest.order_by(col(Settlement.id).desc()).limit(LOOKED_AT)))
    newest_flags = (col(Settlement.id).in_(keys), AnnotationTask.purpose == TaskPurpose.FLAG)
    settled = settled_answers(session, project.id, IN_FORCE, ~TAKEN_BACK, ~is_superseded(), *newest_flags)
    learned = select(TrainingSetExample.settlement_id).where(
        col(TrainingSetExample.settlement_id).in_([UUID(one.key) for one in settled]),
        col(TrainingSetExample.split).in_((Split.TRAIN, Split.VALIDATION)),
    )
    lost, held = set(session.exec(learned)), held_settlements(session, project.id, *newest_flags)
    return [
        (UUID(one.key), one.reasons, UUID(one.key) in lost)
        for one in settled
        if one.is_flag and one.is_wanted and one.key not in held
    ]


def _settled_alike(session: Session, keys: Sequence[str]) -> set[UUID]:
    accepted = select(AnnotationTask.response_id).join(
        Settlement, col(Settlement.task_id) == AnnotationTask.id
    )
    answers = accepted.where(col(Settlement.id).in_([UUID(key) for key in keys]))
    alike = select(Settlement.id).join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
    return set(session.exec(alike.where(col(AnnotationTask.response_id).in_(answers))))
