"""For how many answers experts have room today: all of a project's, and each pool of them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col

from service import standing
from service.settlements import person_of
from service.tables import Annotation, AnnotationTask, Annotator, Project, TaskState


@dataclass(frozen=True, slots=True)
class Room:
    """How many people are asked, at least as many as about each task, and for how many more answers they have room."""

    heads: int
    answers: int


def rooms(
    session: Session, project: Project, asked: Sequence[Annotator], *, now: datetime
) -> dict[str | None, Room]:
    """Return the room today, in UTC, of everybody who is asked (None) and of each pool; none where there is no limit.

    That is what they can do in a day, less what they answered today, less what is still wanted of the pool's tasks.
    """
    if not project.daily_capacity:
        return {}
    people: defaultdict[str | None, set[str]] = defaultdict(set, {None: set()})
    for person, pools in standing.pools_of(session, project.id, asked).items():
        for pool in (None, *pools):
            people[pool].add(person)
    done = _done(session, project, asked, now=now)
    wanted = _wanted(session, project)
    wanted[None] = sum(wanted.values())  # till here what is wanted of no pool

    def room(pool: str | None) -> Room:
        heads = max(len(people[pool]), project.overlap)
        spent = sum(done[person] for person in people[pool]) + max(0, wanted[pool])
        return Room(heads, max(0, project.daily_capacity * heads - spent))

    return {pool: room(pool) for pool in sorted(people.keys() | wanted.keys(), key=lambda pool: pool or "")}


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
