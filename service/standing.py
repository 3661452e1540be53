"""Whose answers count in a project: members of a task's pool, who qualified, and nobody who left.

It is decided when an answer arrives, so that a later change takes no settlement back; who comes in later, or
qualifies, counts with what they answered to tasks that are still open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Subquery
from sqlalchemy import select as select_columns
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, delete, or_, select

from annotation.types import Answer, Span
from annotation.votes import Repeat, Vote, in_short, pace, told_apart
from service import ledger
from service.errors import Invalid, NotFound
from service.settlements import IN_FORCE, OPEN, is_gold, newest_of, of_persons, person_of, settle_task
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    ConnectorKind,
    PoolMember,
    Project,
    Qualification,
    Response,
    SetAside,
    Settlement,
    TaskPurpose,
    User,
)


@dataclass(frozen=True, slots=True)
class Gold:
    """How many of an annotator's newest answers to tasks whose answer is known were right."""

    right: int
    answered: int

    def qualifies(self, project: Project) -> bool:
        """Say whether that is what a project demands."""
        enough = self.answered >= project.qualifying_answers
        return enough and self.right >= project.qualifying_accuracy * self.answered


@dataclass(frozen=True, slots=True)
class Told:
    """What answers tell: `votes` of items, `repeats` of how far people agree with themselves.

    `gold` says by the id of a copy what is known of it, `persons` who an annotator is.
    """

    votes: list[Vote]
    repeats: list[Repeat]
    gold: Mapping[str, str]
    persons: Mapping[str, str]


def judge(session: Session, task: AnnotationTask, annotator: Annotator) -> SetAside | None:
    """Return why an annotator's answer to a task counts for nobody, None if it counts.

    Who has answered enough gold tasks well enough is qualified from then on, for good, and what they answered before
    counts as long as its task is open.
    """
    if annotator.left_at:
        return SetAside.LEFT
    if task.pool and task.pool not in pools_of(session, task.project_id, [annotator])[person_of(annotator)]:
        return SetAside.OUTSIDE_POOL
    if task.purpose is TaskPurpose.GOLD or _qualify(session, task.project_id, annotator):
        return None
    return SetAside.UNQUALIFIED


def pools_of(session: Session, project_id: UUID, annotators: Sequence[Annotator]) -> dict[str, set[str]]:
    """Return by person the pools of a project that these annotators are in, by whichever of their accounts."""
    rows = session.exec(
        select(Annotator, PoolMember.pool)
        .join(PoolMember, col(PoolMember.annotator_id) == Annotator.id)
        .where(PoolMember.project_id == project_id, of_persons(annotators))
    )
    pools: dict[str, set[str]] = {person_of(each): set() for each in annotators}
    for annotator, pool in rows:
        pools[person_of(annotator)].add(pool)
    return pools


def qualified(session: Session, project: Project, annotators: Sequence[Annotator]) -> set[str]:
    """Return which people's answers count in a project as far as gold answers are demanded."""
    if not project.qualifying_answers:
        return {person_of(each) for each in annotators}
    rows = (
        select(Annotator)
        .join(Qualification, col(Qualification.annotator_id) == Annotator.id)
        .where(Qualification.project_id == project.id, of_persons(annotators))
    )
    return {person_of(each) for each in session.exec(rows)}


def gold_of(session: Session, project: Project, annotators: Sequence[Annotator]) -> dict[str, Gold]:
    """Return by person how these annotators did on what was known beforehand, by whichever of their accounts."""
    theirs = of_persons(annotators)
    copies = (
        select_columns(col(AnnotationTask.id), col(AnnotationTask.gold_of_id))
        .join(Annotation, col(Annotation.task_id) == AnnotationTask.id)
        .join(Annotator, col(Annotation.annotator_id) == Annotator.id)
        .where(col(AnnotationTask.project_id) == project.id, theirs)
        .where(col(AnnotationTask.gold_of_id).is_not(None))
        .subquery()
    )
    task_id = col(AnnotationTask.id)
    either = task_id.in_(select_columns(copies.c.id)) | task_id.in_(select_columns(copies.c.gold_of_id))
    tasks = select_columns(task_id, col(AnnotationTask.gold_of_id)).where(either).subquery()
    told = told_by(session, project, tasks, theirs)
    were_right: dict[str, list[bool]] = {person_of(each): [] for each in annotators}
    for vote in told.votes:
        if vote.task in told.gold:
            were_right[told.persons[vote.annotator]].append(vote.said == told.gold[vote.task])
    return {person: Gold(sum(each), len(each)) for person, each in were_right.items()}


def told_by(session: Session, project: Project, tasks: Subquery, *only: ColumnElement[bool]) -> Told:
    """Return what the newest answers of annotators (`only` of some) to tasks (`id`, `gold_of_id`) tell.

    A copy is a vote of who never saw its item, as long as its answer is known. An adjudicator saw the others' answers,
    and is left out.
    """
    said = (Annotation.verdict, Annotation.label, Annotation.labels, Annotation.correction)
    more = (
        Annotation.cause,
        Annotation.ratings,
        Annotation.spans,
        Annotation.revised_at,
        Annotation.seconds_spent,
    )
    who = (Annotation.task_id, Annotation.annotator_id, Annotator.user_id, Annotator.connector)
    which = (Annotation.external_id, Annotation.problem)
    rows = session.execute(
        select_columns(tasks.c.gold_of_id, *map(col, (*who, *which, *said, *more)))
        .join(tasks, col(Annotation.task_id) == tasks.c.id)
        .join(Annotator, col(Annotation.annotator_id) == Annotator.id)
        .where(col(Annotation.reason).is_(None), col(Annotation.withdrawn_at).is_(None), *only)
        .where(col(Annotation.set_aside).is_(None))
        .order_by(col(Annotation.revised_at), col(Annotation.id))
    ).all()
    # Who looks through their own answers again was not quick to give them.
    begun = {(row.task_id, row.annotator_id): row.revised_at for row in reversed(rows)}
    newest = newest_of(rows, lambda row: ((row.task_id, row.annotator_id), row.external_id, row.problem))
    copies = {str(row.task_id): str(row.gold_of_id) for row in newest if row.gold_of_id}
    persons = {str(row.annotator_id): str(row.user_id or row.annotator_id) for row in newest}
    given = [row for row in newest if row.verdict]
    untimed = (row for row in given if row.connector is ConnectorKind.ARGILLA)
    seconds = pace(
        (str(row.task_id), str(row.annotator_id), begun[row.task_id, row.annotator_id]) for row in untimed
    )
    votes = [_vote(row, seconds) for row in given]
    kept, repeats = told_apart(votes, copies, persons, gap=timedelta(weeks=project.repeat_weeks))
    gold = _known(session, tasks)
    return Told(
        [vote for vote in kept if vote.task in gold or vote.task not in copies], repeats, gold, persons
    )


def accounts_of(session: Session, name: str) -> list[Annotator]:
    """Return the annotators of an account, in whichever tool, or of the person of that name.

    Raises:
        NotFound: nobody of that account was invited or has answered; an account is known from then on.
    """
    named = select(User.id).where(User.name == name)
    either = or_(col(Annotator.account) == name, col(Annotator.user_id).in_(named))
    found = session.exec(select(Annotator).where(either).order_by(col(Annotator.id))).all()
    if not found:
        raise NotFound(f"no annotator {name!r}: an account is known once it was invited here or has answered")
    return list(found)


def change_pool(
    session: Session, project: Project, pool: str, *, add: Sequence[str], remove: Sequence[str], actor: str
) -> list[str]:
    """Add accounts to a project's pool and take others out of it; return the accounts that are in it then.

    What those who come in have answered already counts from now on, as long as its task is open.

    Raises:
        NotFound: an account is unknown.
        Invalid: one of those to be added has left.
    """
    within = (col(PoolMember.project_id) == project.id, col(PoolMember.pool) == pool)
    for name in remove:
        theirs = [annotator.id for annotator in accounts_of(session, name)]
        session.execute(delete(PoolMember).where(*within, col(PoolMember.annotator_id).in_(theirs)))
    known = set(session.exec(select(PoolMember.annotator_id).where(*within)))
    for annotator in [each for name in add for each in accounts_of(session, name)]:
        if annotator.left_at:
            raise Invalid(f"add: {annotator.account} has left")
        if annotator.id not in known:
            known.add(annotator.id)
            session.add(PoolMember(project_id=project.id, pool=pool, annotator_id=annotator.id))
            session.flush()
            _reconsider(session, project, annotator, SetAside.OUTSIDE_POOL, AnnotationTask.pool == pool)
    facts = {"members": sorted(map(str, known))}
    ledger.append(
        session, actor=actor, action="pool_changed", subject=pool, project_id=project.id, facts=facts
    )
    members = select(Annotator.account).where(col(Annotator.id).in_(known)).order_by(Annotator.account)
    return list(session.exec(members))


def _reconsider(
    session: Session, project: Project, annotator: Annotator, why: SetAside, *only: ColumnElement[bool] | bool
) -> None:
    """Judge anew what a person answered to open tasks and was set aside, and settle what that changes."""
    rows = session.exec(
        select(Annotation, AnnotationTask, Annotator)
        .join(AnnotationTask, col(Annotation.task_id) == AnnotationTask.id)
        .join(Annotator, col(Annotation.annotator_id) == Annotator.id)
        .where(AnnotationTask.project_id == project.id, *only)
        .where(col(AnnotationTask.state).in_(OPEN), of_persons([annotator]))
        .where(Annotation.set_aside == why)
        .order_by(col(AnnotationTask.id))
    ).all()
    for annotation, task, account in rows:
        # Locked as an answer from the tool is.
        session.get_one(Response, task.response_id, with_for_update=True)
        annotation.set_aside = judge(session, task, account)
        session.flush()
        settle_task(session, project, task)


def _vote(row: Row[Any], paced: Mapping[tuple[str, str], float]) -> Vote:
    answer = Answer(
        row.verdict,
        label=row.label,
        labels=tuple(row.labels),
        correction=row.correction,
        cause=row.cause,
        ratings=row.ratings,
        spans=tuple(Span(**span) for span in row.spans),
    )
    task, annotator = str(row.task_id), str(row.annotator_id)
    seconds = paced.get((task, annotator), row.seconds_spent)
    return Vote(task, annotator, answer, at=row.revised_at, seconds=seconds)


def _known(session: Session, tasks: Subquery) -> dict[str, str]:
    """Return what is known of those copies whose first one is among the tasks, too.

    Who answered another is not known here, and must not be judged by their own answer.
    """
    first, original = tasks.alias(), aliased(AnnotationTask)
    known = (
        select_columns(tasks.c.id, col(Settlement.verdict), col(Settlement.label), col(Settlement.labels))
        .join(first, first.c.id == tasks.c.gold_of_id)
        .join(original, col(original.id) == first.c.id)
        .join(Settlement, col(Settlement.task_id) == original.id)
        .where(IN_FORCE, is_gold(original))
    )
    return {str(task_id): in_short(*said) for task_id, *said in session.execute(known)}


def _qualify(session: Session, project_id: UUID, annotator: Annotator) -> bool:
    project, person = session.get_one(Project, project_id), person_of(annotator)
    if person in qualified(session, project, [annotator]):
        return True
    gold = gold_of(session, project, [annotator])[person]
    if not gold.qualifies(project):
        return False
    session.add(
        Qualification(
            project_id=project_id, annotator_id=annotator.id, right=gold.right, answered=gold.answered
        )
    )
    ledger.append(
        session,
        actor="gold",
        action="annotator_qualified",
        subject=str(annotator.id),
        project_id=project_id,
        facts=asdict(gold),
    )
    session.flush()
    _reconsider(session, project, annotator, SetAside.UNQUALIFIED)
    return True
