"""Who answers a project's tasks, what became of their answers, and what still waits for them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, case, func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from service import capacity, experts, standing, tools
from service.answers.overview import DAY, newest_tasks
from service.settings import Settings
from service.settlements import IN_FORCE, MAY_SETTLE, OPEN, is_asked, is_of, person_of
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    ConnectorKind,
    ModelState,
    ModelVersion,
    PoolMember,
    Project,
    QualityReport,
    Settlement,
    SettlementAnnotation,
    TaskState,
    TrainingRun,
    TrainingSetExample,
    User,
)

SAME = (
    (col(Settlement.verdict) == col(Annotation.verdict))
    & (func.coalesce(Settlement.label, "") == func.coalesce(Annotation.label, ""))
    & (col(Settlement.labels) == col(Annotation.labels))
)
STANDS = col(Annotation.withdrawn_at).is_(None)


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many tasks are in a state, and since when the oldest is there to be answered."""

    state: TaskState
    tasks: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Achieved:
    """What became of one annotator's answers.

    Of those that their task came to, so many are settled, in a training set, and in the set that the model in use comes
    from.
    """

    answered: int
    settled: int
    in_sets: int
    in_model: int


@dataclass(frozen=True, slots=True)
class Digest:
    """How many tasks wait for one annotator, and how many of them came in the last day."""

    waiting: int
    new: int


def report_of(session: Session, project: Project) -> QualityReport | None:
    """Return the newest report on a project's annotators."""
    return session.exec(select(QualityReport).where(QualityReport.project_id == project.id)).first()


def everybody(session: Session, project: Project) -> Sequence[Row[Any]]:
    """Return who answered the newest tasks, how often, how fast, how often as settled (of how many), and when last."""
    tasks = newest_tasks(project)
    return session.execute(
        select_columns(
            Annotator,
            func.count(),
            func.avg(Annotation.seconds_spent),
            func.count(case((col(Annotation.verdict).is_not(None), col(Settlement.id)))),
            func.sum(case((SAME, 1), else_=0)),
            func.max(Annotation.revised_at),
        )
        .join(Annotation, col(Annotation.annotator_id) == Annotator.id)
        .join(tasks, col(Annotation.task_id) == tasks.c.id)
        .join(Settlement, (col(Settlement.task_id) == tasks.c.id) & IN_FORCE, isouter=True)
        .where(STANDS)
        .group_by(col(Annotator.id))
        .order_by(func.count().desc())
    ).all()


def backlog(session: Session, project: Project) -> list[Backlog]:
    """Return what waits: to be sent, to be answered, to be adjudicated."""
    rows = session.execute(
        select_columns(col(AnnotationTask.state), func.count(), func.min(AnnotationTask.created_at))
        .where(col(AnnotationTask.project_id) == project.id, col(AnnotationTask.state).in_(OPEN), MAY_SETTLE)
        .group_by(col(AnnotationTask.state))
    ).all()
    found = {state: Backlog(state, tasks, oldest) for state, tasks, oldest in rows}
    return [
        found.get(state, Backlog(state, 0, None))
        for state in (TaskState.SELECTED, TaskState.SENT, TaskState.CONTESTED)
    ]


def digests(
    session: Session, project: Project, annotators: Sequence[Annotator], *, now: datetime
) -> dict[UUID, Digest]:
    """Return by annotator what waits for them: newest tasks that their pools may answer and they did not."""
    tasks, task = newest_tasks(project), col(AnnotationTask.id)
    is_new = func.coalesce(AnnotationTask.sent_at, AnnotationTask.created_at) > now - DAY
    tool, pool = col(AnnotationTask.connector), col(AnnotationTask.pool)
    counts = (func.count(func.distinct(task)), func.count(func.distinct(case((is_new, task)))))
    asked = select_columns(tool, pool, *counts).join(tasks, task == tasks.c.id).where(is_asked())
    by = col(Annotation.annotator_id)
    given = asked.add_columns(by).join(Annotation, col(Annotation.task_id) == task).where(STANDS)
    all_asked = session.execute(asked.group_by(tool, pool)).all()
    all_given = session.execute(given.group_by(tool, pool, by)).all()
    pools_of = standing.pools_of(session, project.id, annotators)

    def of(annotator: Annotator) -> Digest:
        pools = {None, *pools_of[person_of(annotator)]}
        theirs = [row for row in all_asked if row[0] == annotator.connector and row[1] in pools]
        done = [
            row for row in all_given if row[:2] in {each[:2] for each in theirs} and row[4] == annotator.id
        ]
        waiting, new = (
            sum(row[place] for row in theirs) - sum(row[place] for row in done) for place in (2, 3)
        )
        return Digest(waiting, new)

    return {each.id: of(each) for each in annotators}


def describe_experts(
    session: Session, project: Project, asked: Sequence[Annotator], *, now: datetime
) -> list[dict[str, Any]]:
    """Tell of who is asked in a project: pools, whether answers count, what waits for them, what they have room for."""
    waits = digests(session, project, asked, now=now)
    pools = standing.pools_of(session, project.id, asked)
    qualified = standing.qualified(session, project, asked)
    gold = standing.gold_of(session, project, asked) if project.qualifying_answers else {}
    room = capacity.left(session, project, asked, now=now)

    def tell(annotator: Annotator) -> dict[str, Any]:
        person = person_of(annotator)
        known, waiting = gold.get(person, standing.Gold(0, 0)), waits[annotator.id]
        return {
            "id": str(annotator.id),
            "account": annotator.account,
            "tool": annotator.connector.value,
            "pools": sorted(pools[person]),
            "is_qualified": person in qualified or known.qualifies(project),
            "gold_right": known.right,
            "gold_answered": known.answered,
            "waiting": waiting.waiting,
            "new": waiting.new,
            "daily_capacity": annotator.daily_capacity,
            "room_today": room.get(person),
        }

    return [tell(each) for each in asked]


def empty_pools(session: Session, project: Project) -> list[str]:
    """Return the pools of tasks that wait for an answer of somebody, and that nobody is in."""
    members = select(PoolMember.pool).where(PoolMember.project_id == project.id)
    tasks = newest_tasks(project)
    asked = select(AnnotationTask.pool).join(tasks, tasks.c.id == AnnotationTask.id)
    asked = asked.where(
        col(AnnotationTask.state).in_(OPEN),
        col(AnnotationTask.pool).is_not(None),
        col(AnnotationTask.pool).not_in(members),
    )
    return sorted(pool for pool in session.exec(asked.distinct()) if pool)


def left_alone(
    session: Session, project: Project, asked: Sequence[Annotator], *, only: UUID | None = None
) -> list[UUID]:
    """Return the newest tasks that wait for answers which nobody is left to give: all who may have given theirs.

    One that was set aside is still to come, since it counts once its author qualifies or comes into the pool.
    """
    tasks, task = newest_tasks(project), col(AnnotationTask.id)
    pools_of = standing.pools_of(session, project.id, asked)
    person = func.coalesce(Annotator.user_id, Annotator.id)
    heard = (
        select_columns(task, col(AnnotationTask.connector), col(AnnotationTask.pool), person)
        .join(tasks, task == tasks.c.id)
        .join(Annotation, col(Annotation.task_id) == task)
        .join(Annotator, col(Annotation.annotator_id) == Annotator.id)
        .where(is_asked(), STANDS, col(Annotation.set_aside).is_(None))
        .order_by(task.desc())
    )
    if only:
        heard = heard.where(task == only)
    by: defaultdict[tuple[UUID, ConnectorKind, str | None], set[str]] = defaultdict(set)
    for task_id, tool, pool, who in session.execute(heard.distinct()):
        by[task_id, tool, pool].add(str(who))

    def may_answer(tool: ConnectorKind, pool: str | None) -> set[str]:
        persons = {person_of(each) for each in asked if each.connector is tool and not each.left_at}
        return {person for person in persons if pool is None or pool in pools_of[person]}

    return [task_id for (task_id, tool, pool), persons in by.items() if may_answer(tool, pool) <= persons]


def is_left_alone(session: Session, project: Project, task: AnnotationTask) -> bool:
    """Say whether a task waits for an answer which nobody is left to give."""
    return bool(left_alone(session, project, experts.experts(session, project), only=task.id))


def is_here(session: Session, project: Project, annotator: Annotator) -> bool:
    """Say whether an annotator is asked in this project, or ever answered one of its tasks."""
    own = select(Annotation.id).join(AnnotationTask, col(Annotation.task_id) == AnnotationTask.id)
    of_project = own.where(AnnotationTask.project_id == project.id, Annotation.annotator_id == annotator.id)
    asked = {each.id for each in experts.experts(session, project)}
    return annotator.id in asked or session.exec(of_project.limit(1)).first() is not None


def of_person(session: Session, user: User, chosen: Settings) -> list[tuple[str, UUID]]:
    """Return in which projects a person answered, each with their account there."""
    logins = {tools.login_of(chosen, kind, user.name) for kind in ConnectorKind} - {None}
    rows = session.exec(
        select(Project.slug, Annotator)
        .join(AnnotationTask, col(AnnotationTask.project_id) == Project.id)
        .join(Annotation, col(Annotation.task_id) == AnnotationTask.id)
        .join(Annotator, col(Annotation.annotator_id) == Annotator.id)
        .where((col(Annotator.user_id) == user.id) | col(Annotator.account).in_(logins))
        .distinct()
        .order_by(Project.slug)
    )
    return [(slug, annotator.id) for slug, annotator in rows if is_of(annotator, user, chosen)]


def achieved(session: Session, project: Project, annotator_id: UUID) -> Achieved:
    """Return what became of an annotator's answers in a project."""
    answered = (
        select_columns(func.count(func.distinct(Annotation.task_id)))
        .join(AnnotationTask, col(Annotation.task_id) == AnnotationTask.id)
        .where(
            col(AnnotationTask.project_id) == project.id, col(Annotation.annotator_id) == annotator_id, STANDS
        )
    )
    settled = (
        select_columns(col(Settlement.id), col(Settlement.withdrawn_at))
        .join(SettlementAnnotation, col(SettlementAnnotation.settlement_id) == Settlement.id)
        .join(Annotation, col(SettlementAnnotation.annotation_id) == Annotation.id)
        .where(col(Settlement.project_id) == project.id, col(Annotation.annotator_id) == annotator_id, SAME)
        .subquery()
    )
    # A frozen set keeps what was settled then.
    in_sets = select_columns(func.count(func.distinct(TrainingSetExample.settlement_id))).join(
        settled, col(TrainingSetExample.settlement_id) == settled.c.id
    )
    in_model = (
        in_sets.join(TrainingRun, col(TrainingRun.training_set_id) == TrainingSetExample.training_set_id)
        .join(ModelVersion, col(ModelVersion.training_run_id) == TrainingRun.id)
        .where(col(ModelVersion.project_id) == project.id, col(ModelVersion.state) == ModelState.CHAMPION)
    )
    figures = (
        answered,
        select_columns(func.count()).where(settled.c.withdrawn_at.is_(None)),
        in_sets,
        in_model,
    )
    return Achieved(*session.execute(select_columns(*(each.scalar_subquery() for each in figures))).one())
