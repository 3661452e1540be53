"""A user changes their word or takes it back: what becomes of the tasks in which experts are asked about it."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlmodel import Session, col, delete, exists, or_, select

from service import projects
from service.clock import utcnow
from service.errors import WrongState
from service.masking import Masking
from service.tables import (
    AnnotationTask,
    DocumentKind,
    Feedback,
    Project,
    Rating,
    TaskFlag,
    TaskPurpose,
    TaskState,
)

UNSETTLED = (TaskState.SELECTED, TaskState.SENT, TaskState.CONTESTED)


def withdraw(session: Session, feedback: Feedback) -> None:
    """Take a feedback back: its words go and the row stays; a task for it alone is sent no more, or recalled.

    Experts are no more offered what it said should have been answered, and tools lose it at the next look at them.
    """
    _suggest_no_more(session, feedback)
    feedback.sqlmodel_update({"comment": None, "correction": None, "selection": None})
    feedback.withdrawn_at = feedback.withdrawn_at or utcnow()
    session.add(feedback)
    session.flush()
    let_go(session, feedback)


def _suggest_no_more(session: Session, feedback: Feedback) -> None:
    """Drop the suggestion that came from this feedback, from a task that asks again too; the next push makes one."""
    of_flag = select(TaskFlag.task_id).where(TaskFlag.feedback_id == feedback.id)
    names = (AnnotationTask.id, AnnotationTask.rechecks_id, AnnotationTask.gold_of_id)
    about = or_(*(col(name).in_(of_flag) for name in names))
    for task in session.exec(select(AnnotationTask).where(about)):
        if feedback.correction and feedback.correction in task.suggestion.values():
            task.suggestion, task.is_blind = {}, None
            session.add(task)


def change(session: Session, feedback: Feedback, said: Mapping[str, Any]) -> None:
    """Take what the user says instead; triage looks again at what changed how urgent it is.

    Raises:
        WrongState: it was withdrawn.
    """
    if feedback.withdrawn_at:
        raise WrongState(f"event_id: feedback {feedback.event_id} was withdrawn")
    before = feedback.rating, feedback.reasons
    masking = Masking(is_on=session.get_one(Project, feedback.project_id).masks_personal)
    clean: dict[str, Any] = {
        name: masking.maybe(said[name]) for name in ("comment", "correction") if name in said
    }
    feedback.sqlmodel_update({**said, **clean})
    if said.get("selection"):
        clean["selection"] = masking.within(said["selection"], "quote")
    if masking.counts:
        feedback.masked = dict(masking.counts + Counter(feedback.masked))
    if "reasons" in said:
        feedback.reasons_id = projects.current(session, feedback.project_id, DocumentKind.REASONS).id
    if (feedback.rating, feedback.reasons) != before:
        feedback.triaged_at = None
    session.add(feedback)
    session.flush()
    if feedback.rating is Rating.UP:
        let_go(session, feedback)


def let_go(session: Session, feedback: Feedback) -> None:
    """Withdraw unsettled tasks behind which no other flag stands; praise, and what is held back, belongs to none."""
    # Locked first: triage may be adding a flag to it at this moment.
    of_flag = select(TaskFlag.task_id).where(TaskFlag.feedback_id == feedback.id)
    tasks = select(AnnotationTask).where(col(AnnotationTask.id).in_(of_flag))
    for task in session.exec(tasks.with_for_update()).all():
        if task.state not in UNSETTLED:
            continue
        if feedback.rating is Rating.UP or feedback.held_for:
            session.exec(delete(TaskFlag).where(col(TaskFlag.feedback_id) == feedback.id))
        flags = col(TaskFlag.task_id) == task.id, col(TaskFlag.feedback_id) == Feedback.id
        standing = select(exists().where(*flags, col(Feedback.withdrawn_at).is_(None)))
        if task.purpose is TaskPurpose.FLAG and not session.exec(standing).one():
            task.state = TaskState.WITHDRAWN
            session.add(task)
