"""For how many answers experts have room today: all of a project's, and each pool of them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from service import ledger, standing
from service.errors import Invalid
from service.settlements import of_persons, person_of
from service.tables import Annotation, AnnotationTask, Annotator, Project, TaskState

MOST = 10_000


@dataclass(frozen=True, slots=True)
class Room:
    """How many people are asked, at least as many as about each task, and for how many more answers they have room."""

    heads: int
    answers: int


def rooms(
    session: Session, project: Project, asked: Sequence[Annotator], *, now: datetime
) -> dict[str | None, Room]:
    """Return the room today, in UTC, of everybody who is asked (None) and of each pool; none where there is no limit.

    That is what each can still do today, less what is still wanted of the pool's tasks: who does more than theirs takes
    no room from others.
    """
    free = left(session, project, asked, now=now)
    if not project.daily_capacity:
        return {}
    people: defaultdict[str | None, set[str]] = defaultdict(set, {None: set()})
    for person, pools in standing.pools_of(session, project.id, asked).items():
        for pool in (None, *pools):
            people[pool].add(person)
    wanted = _wanted(session, project)
    wanted[None] = sum(wanted.values())  # till here what is wanted of no pool

    def room(pool: str | None) -> Room:
        heads = max(len(people[pool]), project.overlap)
        own = sum(free[person] for person in people[pool])
        unknown = project.daily_capacity * (heads - len(people[pool]))
        return Room(heads, max(0, own + unknown - max(0, wanted[pool])))

    return {pool: room(pool) for pool in sorted(people.keys() | wanted.keys(), key=lambda pool: pool or "")}


def left(session: Session, project: Project, asked: Sequence[Annotator], *, now: datetime) -> dict[str, int]:
    """Return by person for how many more answers they have room today; nobody where there is no limit."""
    if not project.daily_capacity:
        return {}
    done = _done(session, project, asked, now=now)
    own = {person_of(each): each.daily_capacity for each in asked if each.daily_capacity is not None}
    people = {person_of(each) for each in asked}
    return {person: max(0, own.get(person, project.daily_capacity) - done[person]) for person in people}


def set_own(session: Session, annotators: Sequence[Annotator], answers: int | None, *, actor: str) -> None:
    """Say how many answers a day a person has room for in each project, if not as many as the project asks for.

    Raises:
        Invalid: it is no such number.
    """
    if answers is not None and not 0 <= answers <= MOST:
        raise Invalid(f"daily_capacity: {answers} is not between 0 and {MOST}")
    for each in session.exec(select(Annotator).where(of_persons(annotators))):
        each.daily_capacity = answers
        facts = {"daily_capacity": answers}
        ledger.append(session, actor=actor, action="capacity_changed", subject=str(each.id), facts=facts)


def _done(
    session: Session, project: Project, asked: Sequence[Annotator], *, now: datetime
) -> defaultdict[str, int]:
    """Count what each person answered today."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    given = (
        select_columns(col(Annotation.annotator_id), func.count(func.distinct(Annotation.task_id)))
        .join(AnnotationTask, col(Annotation.task_id) == AnnotationTask.id)
        .where(col(AnnotationTask.project_id) == project.id, col(Annotation.reason).is_(None))
        .where(col(Annotation.created_at) >= day)
        .group_by(col(Annotation.annotator_id))
    )
    counts = {annotator_id: int(count) for annotator_id, count in session.execute(given)}
    done: defaultdict[str, int] = defaultdict(int)
    for annotator in asked:
        done[person_of(annotator)] += counts.get(annotator.id, 0)
    return done


def _wanted(session: Session, project: Project) -> defaultdict[str | None, int]:
    """Count the answers that are still wanted of tasks with experts, by pool."""
    overlap, pool = func.coalesce(AnnotationTask.overlap, project.overlap), col(AnnotationTask.pool)
    sent = (col(AnnotationTask.project_id) == project.id, col(AnnotationTask.state) == TaskState.SENT)
    asked = select_columns(pool, func.sum(overlap)).where(*sent).group_by(pool)
    given = (
        select_columns(pool, col(Annotation.task_id), col(Annotation.annotator_id))
        .join(AnnotationTask, col(Annotation.task_id) == AnnotationTask.id)
        .where(*sent, col(Annotation.reason).is_(None))
        .where(col(Annotation.set_aside).is_(None), col(Annotation.withdrawn_at).is_(None))
        .distinct()
        .subquery()
    )
    came = select_columns(given.c.pool, func.count()).group_by(given.c.pool)
    wanted: defaultdict[str | None, int] = defaultdict(int)
    for name, count in session.execute(asked):
        wanted[name] += int(count)
    for name, count in session.execute(came):
        wanted[name] -= count
    return wanted
