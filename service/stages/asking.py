"""Asking again: a change of the label schema, and new tasks for the settled answers that it puts in doubt."""

from sqlmodel import Session

from service import ledger, projects, routing
from service.answers.outdated import doubtful
from service.tables import AnnotationTask, Project, TaskPurpose

KEPT = (TaskPurpose.FLAG, TaskPurpose.RANDOM)


def ask_again(session: Session, project: Project, *, actor: str) -> int:
    """Add a task for each settled answer in doubt, and return how many; nobody is asked the same twice.

    The earlier answer stays as it is, and teaches until the later one is settled.
    """
    # Locked, so that two presses of a button make one task each.
    project = session.get_one(Project, project.id, with_for_update=True)
    schema_id, guidelines_id = projects.questions(session, project.id)
    rules = routing.routing_of(session, project)
    tasks = [
        AnnotationTask(
            project_id=project.id,
            response_id=one.task.response_id,
            purpose=one.task.purpose if one.task.purpose in KEPT else TaskPurpose.RECHECK,
            flag_id=one.task.flag_id,
            rechecks_id=one.task.id,
            schema_id=schema_id,
            guidelines_id=guidelines_id,
            priority=one.task.priority,
            **rules.place_again(session, one.task),
        )
        for one in doubtful(session, project)
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
