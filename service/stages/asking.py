"""Asking again: new tasks for settled answers that a change of the label schema, or a worse model, puts in doubt."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.orm import aliased
from sqlmodel import Session, col, exists, select

from service import ledger, projects, routing
from service.answers.outdated import doubtful
from service.settlements import IN_FORCE
from service.tables import AnnotationTask, Project, Response, Settlement, TaskPurpose, TaskState

KEPT = (TaskPurpose.FLAG, TaskPurpose.RANDOM)


def ask_again(session: Session, project: Project, *, actor: str) -> int:
    """Add a task for each settled answer in doubt, and return how many; nobody is asked the same twice.

    The earlier answer stays as it is, and teaches until the later one is settled.
    """
    # Locked, so that two presses of a button make one task each.
    project = session.get_one(Project, project.id, with_for_update=True)
    return _ask(session, project, [one.task for one in doubtful(session, project)], actor=actor)


def ask_about(session: Session, project: Project, settlements: Sequence[UUID], *, actor: str) -> int:
    """Add a task for each of these settled answers that nobody is asked again yet, and return how many."""
    project = session.get_one(Project, project.id, with_for_update=True)
    again = aliased(AnnotationTask)
    is_asked = exists().where(
        col(again.rechecks_id) == AnnotationTask.id, col(again.state) != TaskState.WITHDRAWN
    )
    settled = (
        select(AnnotationTask)
        .join(Settlement, col(Settlement.task_id) == AnnotationTask.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .where(Settlement.project_id == project.id, col(Settlement.id).in_(settlements), IN_FORCE, ~is_asked)
        .where(col(Response.erased_at).is_(None))
    )
    return _ask(session, project, session.exec(settled.order_by(col(AnnotationTask.id))).all(), actor=actor)


def _ask(session: Session, project: Project, asked: Sequence[AnnotationTask], *, actor: str) -> int:
    schema_id, guidelines_id = projects.questions(session, project.id)
    rules = routing.routing_of(session, project)
    tasks = [
        AnnotationTask(
            project_id=project.id,
            response_id=one.response_id,
            purpose=one.purpose if one.purpose in KEPT else TaskPurpose.RECHECK,
            flag_id=one.flag_id,
            rechecks_id=one.id,
            schema_id=schema_id,
            guidelines_id=guidelines_id,
            priority=one.priority,
            **rules.place_again(session, one),
        )
        for one in asked
    ]
    session.add_all(tasks)
    session.flush()
    if tasks:
        facts = {"tasks": len(tasks)}
        ledger.append(
            session,
            actor=actor,
            action="asked_again",
            subject=project.slug,
            project_id=project.id,
            facts=facts,
        )
    return len(tasks)
