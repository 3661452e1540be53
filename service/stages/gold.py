"""Beside stage 3: asks what is settled once more, hidden among what is not, to see how annotators do."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import func
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from annotation.triage import random_share
from annotation.types import Verdict
from retrain.types import sha256_of
from service import ledger, projects, routing
from service.answers.outdated import doubtful
from service.answers.quarantines import is_held
from service.errors import WrongState
from service.queue import Lease
from service.settlements import IN_FORCE, OPEN, person_of
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    ConnectorKind,
    Project,
    Response,
    Settlement,
    TaskPurpose,
    TaskState,
)
from service.tables.base import uuid7

MIN_KNOWN = 20  # fewer would come round so often that they are recognised
RETIRED_AFTER = 12  # answers
LOOKED_AT = 2000  # settled tasks, the newest of all and the newest that may be repeated
LOOKED_UP = 500  # at once; a database limits what one statement may name
AT_WORK = timedelta(weeks=8)  # who has answered in that time is likely to answer again

log = structlog.get_logger()


@dataclass(slots=True)
class Known:
    """A settled task that may be asked once more.

    `is_sure` says that what it came to is fit to judge others by; `last` when each person answered it, or a copy of
    it, for the last time; `answered` how many have answered copies.
    """

    task: AnnotationTask
    is_sure: bool
    last: dict[str, datetime] = field(default_factory=dict)
    copies: set[UUID] = field(default_factory=set)
    answered: int = 0
    is_open: bool = False

    def serves(self, at_work: set[str], long_ago: datetime) -> bool:
        """Say whether it would tell something of somebody: of who never saw it, or saw it long ago."""
        if self.is_open or self.answered >= RETIRED_AFTER:
            return False
        seen = at_work & self.last.keys()
        return (self.is_sure and len(seen) < len(at_work)) or any(self.last[one] <= long_ago for one in seen)


def hide(lease: Lease, project_id: UUID, *, now: datetime) -> int:
    """Add gold tasks among those that wait to be sent, for the project's share of them, and return how many.

    Each has a host among them, whose tool, priority and place in the order it shares. A second run adds none.
    """
    # Read without the lock for writing, for intake waits for that.
    with lease.queue.db.reading() as session:
        project = session.get_one(Project, project_id)
        if not project.gold_share:
            return 0
        lie = _lie(session, project_id)
        added = [
            task
            for tool, hosts in _hosts(session, project).items()
            for task in _beside(session, project, tool, hosts, now=now)
        ]
    if added:
        with lease.transaction() as session:
            if _lie(session, project_id) != lie:
                return 0  # another job hid some meanwhile
            session.add_all(added)
        log.info("gold_hidden", count=len(added))
    return len(added)


def name(session: Session, project: Project, task: AnnotationTask, *, is_gold: bool, actor: str) -> None:
    """Say that what a settled task came to may be used to judge annotators, or may not.

    Raises:
        WrongState: it came to nothing, so that there is nothing to judge by.
    """
    settled = select(Settlement.id).where(Settlement.task_id == task.id, IN_FORCE)
    if session.exec(settled).first() is None:
        raise WrongState(f"task {task.id} is not settled: it has no answer to judge others by")
    task.is_gold = is_gold
    session.add(task)
    ledger.append(
        session,
        actor=actor,
        action="gold_named",
        subject=str(task.id),
        project_id=project.id,
        facts={"is_gold": is_gold},
    )


def _lie(session: Session, project_id: UUID) -> int:
    """Count the gold tasks that wait to be sent."""
    selected = (AnnotationTask.project_id == project_id, AnnotationTask.state == TaskState.SELECTED)
    gold = col(AnnotationTask.gold_of_id).is_not(None)
    return session.exec(select(func.count()).select_from(AnnotationTask).where(*selected, gold)).one()


def _hosts(session: Session, project: Project) -> dict[ConnectorKind, list[AnnotationTask]]:
    """Return, by tool, the tasks beside which gold is to lie and does not yet: a share of all, by each one's hash."""
    selected = (AnnotationTask.project_id == project.id, AnnotationTask.state == TaskState.SELECTED)
    in_tools = select(AnnotationTask).where(*selected, AnnotationTask.connector != ConnectorKind.NONE)
    waiting = session.exec(in_tools.order_by(col(AnnotationTask.id))).all()
    lie = Counter(task.connector for task in waiting if task.gold_of_id)
    by_key = {str(task.id): task for task in waiting if not task.gold_of_id}
    hosts: defaultdict[ConnectorKind, list[AnnotationTask]] = defaultdict(list)
    # The project's id is shown in no tool: who reads tasks there cannot work out which are hosts.
    for key in random_share(by_key, project.gold_share, seed=f"gold {project.id}"):
        hosts[by_key[key].connector].append(by_key[key])
    return {tool: tasks[lie[tool] :] for tool, tasks in hosts.items() if tasks[lie[tool] :]}


def _beside(
    session: Session, project: Project, tool: ConnectorKind, hosts: Sequence[AnnotationTask], *, now: datetime
) -> list[AnnotationTask]:
    """Return a gold task beside each host, as far as there is something to ask: first what was asked least."""
    long_ago = now - timedelta(weeks=project.repeat_weeks)
    at_work = _at_work(session, project, tool, now - AT_WORK)
    useful = [one for one in _known(session, project, tool, long_ago) if one.serves(at_work, long_ago)]
    useful.sort(key=lambda one: (len(one.copies), sha256_of([str(hosts[0].id), str(one.task.id)])))
    rules = routing.routing_of(session, project)
    schema_id, guidelines_id = projects.questions(session, project.id)
    placed = ((host, one.task, rules.place_again(session, one.task)) for host, one in zip(hosts, useful))  # noqa: B905
    return [
        AnnotationTask(
            # The host's time and chance of its own: in the order of ids it stands right before or behind it.
            id=UUID(int=host.id.int >> 62 << 62 | uuid7().int % 2**62),
            project_id=project.id,
            response_id=task.response_id,
            purpose=TaskPurpose.GOLD,
            gold_of_id=task.id,
            schema_id=schema_id,
            guidelines_id=guidelines_id,
            priority=host.priority,
            **place,
        )
        for host, task, place in placed
        if place["connector"] is tool
    ]


def _at_work(session: Session, project: Project, tool: ConnectorKind, since: datetime) -> set[str]:
    """Return who has answered in a tool lately."""
    answered = (
        select(Annotator)
        .join(Annotation, col(Annotation.annotator_id) == Annotator.id)
        .join(AnnotationTask, col(Annotation.task_id) == AnnotationTask.id)
        .where(AnnotationTask.project_id == project.id, Annotator.connector == tool)
        .where(col(Annotation.revised_at) > since)
        .distinct()
    )
    return {person_of(annotator) for annotator in session.exec(answered)}


def _known(session: Session, project: Project, tool: ConnectorKind, long_ago: datetime) -> list[Known]:
    """Return the settled tasks of a tool that nobody has doubts about, and by whom they were answered."""
    again = aliased(AnnotationTask)
    settled = (
        select(AnnotationTask, Settlement)
        .join(Settlement, col(Settlement.task_id) == AnnotationTask.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .where(AnnotationTask.project_id == project.id, AnnotationTask.connector == tool, IN_FORCE)
        .where(col(Settlement.admission_id).is_(None), Settlement.verdict != Verdict.UNSURE)
        .where(col(AnnotationTask.is_gold).is_not(False), col(AnnotationTask.rechecks_id).is_(None))
        .where(AnnotationTask.purpose != TaskPurpose.HUMAN_EVALUATION)
        .where(~select(again.id).where(again.rechecks_id == AnnotationTask.id).exists())
        .where(col(Response.erased_at).is_(None), ~is_held())
        .order_by(col(Settlement.id).desc())
        .limit(LOOKED_AT)
    )
    doubted = {one.task.id for one in doubtful(session, project)}
    rows = [*session.exec(settled), *session.exec(settled.where(col(Settlement.created_at) <= long_ago))]
    unanimous = {task.id for task, settlement in rows if settlement.agreeing == settlement.asked > 1}
    known = {
        task.id: Known(task, bool(task.is_gold) or (task.id in unanimous and len(unanimous) >= MIN_KNOWN))
        for task, _ in rows
        if task.id not in doubted
    }
    ids = list(known)
    for start in range(0, len(ids), LOOKED_UP):
        _look_up(session, known, ids[start : start + LOOKED_UP])
    return list(known.values())


def _look_up(session: Session, known: dict[UUID, Known], ids: Sequence[UUID]) -> None:
    """Write down who answered some tasks and their copies."""
    rows = session.exec(
        select(AnnotationTask, Annotation, Annotator)
        .join(
            Annotation,
            (col(Annotation.task_id) == AnnotationTask.id) & col(Annotation.withdrawn_at).is_(None),
            isouter=True,
        )
        .join(Annotator, col(Annotation.annotator_id) == Annotator.id, isouter=True)
        .where(col(AnnotationTask.id).in_(ids) | col(AnnotationTask.gold_of_id).in_(ids))
    )
    for task, annotation, annotator in rows:
        one = known[task.gold_of_id or task.id]
        if task.gold_of_id:
            one.copies.add(task.id)
            one.is_open |= task.state in OPEN
            one.answered += annotation is not None
        if annotation:
            person = person_of(annotator)
            one.last[person] = max(annotation.revised_at, one.last.get(person, annotation.revised_at))
