"""How rows lose the words of a person, or of a time that is over: keys, states and counts stay."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, null, update
from sqlalchemy import select as select_columns
from sqlmodel import Session, SQLModel, col, select

from retrain.examination import slice_named
from retrain.types import Split
from service import notices, retention, rights
from service.answers.erasures import answered_nothing, is_of, of_subject, said_nothing
from service.answers.examinations import slices_of
from service.clock import utcnow
from service.tables import (
    Annotation,
    AnnotationTask,
    Document,
    Erasure,
    Evaluation,
    Feedback,
    GuidelineQuestion,
    Job,
    JobKind,
    LegalHold,
    Outcome,
    Project,
    Quarantine,
    Response,
    Score,
    Settlement,
    TaskFlag,
    TaskState,
    TrainingSetExample,
)

UNSETTLED = (TaskState.SELECTED, TaskState.SENT, TaskState.CONTESTED)


def erase_words(session: Session, wish: Erasure) -> None:
    """Empty the rows that hold the words, or what experts wrote instead, once, and note how many.

    Without a subject it is what the project's retention lets nobody keep any longer.

    Raises:
        OnHold: the person's words must be kept.
    """
    if wish.erased_at:
        return
    at, subject, project_id = utcnow(), str(wish.subject), wish.project_id
    # First, for what follows changes who said what, and waits there for an import that holds such a row.
    responses = change(session, Response, _whose(session, wish, now=at), {"erased_at": at})
    own = select(Response.id).where(Response.erased_at == at)
    said = col(Feedback.response_id).in_(own)
    if wish.subject is not None:
        rights.refuse_hold(session, subject, project_id)
        said |= of_subject(Feedback, subject, project_id)
        _forget_name(session, subject, project_id, at)
    feedback = _empty(session, wish, own, said, at)
    done = {"subject": None, "erased_at": at, "counts": {"responses": responses, "feedback": feedback}}
    # Whoever asked twice is forgotten once, and no wish goes on naming them.
    of_wish = of_subject(Erasure, subject, project_id) if wish.subject else col(Erasure.id) == wish.id
    change(session, Erasure, of_wish, done)
    session.refresh(wish)
    rights.note(session, wish, "subject_erased", wish.counts)


def change(session: Session, table: type[SQLModel], condition: Any, values: Mapping[str, Any]) -> int:
    """Change many rows by one statement; return how many."""
    changed = update(table).where(condition).values(values)
    return int(session.exec(changed.execution_options(synchronize_session=False)).rowcount)


def _whose(session: Session, wish: Erasure, *, now: datetime) -> Any:
    """Say which responses go."""
    if wish.subject is not None:
        return is_of(wish.subject, wish.project_id)
    old = retention.due(session, session.get_one(Project, wish.project_id), now=now)
    return col(Response.id).in_(old) | col(Response.copy_of_id).in_(old)


def _forget_name(session: Session, subject: str, project_id: UUID | None, at: datetime) -> None:
    """Take a person's name out of what was decided about them.

    What comes from them later is a stranger's: the quarantine ends with what it knew them by.
    """
    known = {"subject": None, "reason": "", "lifted_at": func.coalesce(Quarantine.lifted_at, at)}
    change(session, Quarantine, of_subject(Quarantine, subject, project_id), known)
    change(session, LegalHold, of_subject(LegalHold, subject, project_id), {"subject": None, "reason": ""})


def _empty(session: Session, wish: Erasure, own: Any, said: Any, at: datetime) -> int:
    """Empty all that hangs on these responses and on this feedback; return how much feedback there was."""
    tasks = select(AnnotationTask.id).where(col(AnnotationTask.response_id).in_(own))
    _erase_imported_answers(session, set(session.exec(own)))
    session.exec(delete(Outcome).where(col(Outcome.response_id).in_(own)))
    flagged = select(TaskFlag.task_id).join(Feedback, col(Feedback.id) == TaskFlag.feedback_id).where(said)
    about_others = col(AnnotationTask.id).in_(flagged) & col(AnnotationTask.id).not_in(tasks)
    wish.recalled = [str(key) for key in session.exec(select(AnnotationTask.id).where(about_others))]
    session.flush()
    prefilled = col(AnnotationTask.id).in_(tasks) | col(AnnotationTask.id).in_(flagged)
    for again in (AnnotationTask.rechecks_id, AnnotationTask.gold_of_id):  # suggests what the first one did
        prefilled |= col(again).in_(flagged)
    change(session, AnnotationTask, prefilled, {"suggestion": {}})
    judged: dict[str, Any] = {**dict.fromkeys(("correction", "problem", "reason")), "spans": []}
    change(session, Annotation, col(Annotation.task_id).in_(tasks), judged)
    asked = col(GuidelineQuestion.task_id).in_(tasks) | col(GuidelineQuestion.task_id).in_(flagged)
    change(session, GuidelineQuestion, asked, {"text": "", "answer": None})
    about_task = col(Settlement.task_id).in_(tasks)
    change(session, Settlement, about_task, {"correction": None, "ticket_url": None})
    notices.forget(session, select(Feedback.id).where(said).union_all(tasks), "erased")
    unsettled = col(AnnotationTask.id).in_(tasks) & col(AnnotationTask.state).in_(UNSETTLED)
    change(session, AnnotationTask, unsettled, {"state": TaskState.WITHDRAWN})
    _erase_figures(session, at)
    _erase_unknown_reasons(session, said)
    # Last, for who said what is how the others were found.
    feedback = change(session, Feedback, said, said_nothing(at))
    change(session, Response, col(Response.erased_at) == at, answered_nothing(at))
    settlements = select(Settlement.id).where(about_task)
    change(
        session,
        TrainingSetExample,
        col(TrainingSetExample.settlement_id).in_(settlements),
        {"consent": null()},
    )
    return feedback


def _erase_figures(session: Session, at: datetime) -> None:
    """Delete figures of slices that test rows erased at this moment made alone: their names tell attributes."""
    erased_projects = select(Response.project_id).where(col(Response.erased_at).is_not(None))
    judged = (
        select_columns(
            col(Response.project_id),
            col(Response.attributes),
            col(Response.language),
            col(Response.erased_at),
        )
        .join(AnnotationTask, col(AnnotationTask.response_id) == Response.id)
        .join(Settlement, col(Settlement.task_id) == AnnotationTask.id)
        .join(TrainingSetExample, col(TrainingSetExample.settlement_id) == Settlement.id)
        .where(col(TrainingSetExample.split) == Split.TEST, col(Response.project_id).in_(erased_projects))
    )
    made: defaultdict[bool, set[tuple[UUID, str]]] = defaultdict(set)
    for project_id, attributes, language, erased_at in session.execute(judged):
        names = (slice_named(*each) for each in slices_of(attributes, language).items())
        made[erased_at == at].update((project_id, name) for name in names)
    for project_id, name in made[True] - made[False]:
        evaluations = select(Evaluation.id).where(Evaluation.project_id == project_id)
        session.exec(delete(Score).where(col(Score.slice) == name, col(Score.evaluation_id).in_(evaluations)))


def _erase_unknown_reasons(session: Session, said: Any) -> None:
    """Keep of these flags' reasons those that could be chosen: any other is what somebody wrote."""
    offered: dict[UUID | None, Collection[str]] = {None: ()}
    for flag in session.exec(select(Feedback).where(said)):
        if flag.reasons_id not in offered:
            offered[flag.reasons_id] = session.get_one(Document, flag.reasons_id).content
        flag.reasons = [code for code in flag.reasons if code in offered[flag.reasons_id]]
    session.flush()


def _erase_imported_answers(session: Session, responses: Collection[UUID]) -> None:
    """Take answers about these responses out of the files that jobs were asked to import."""
    for job in session.exec(select(Job).where(Job.kind == JobKind.IMPORT)):
        answers = job.options.get("answers", [])
        others = [one for one in answers if _response_of(one) not in responses]
        if len(others) < len(answers):
            job.options = job.options | {"answers": others}
            job.failure = job.failure and "erased, with answers that it was about"


def _response_of(answer: Mapping[str, Any]) -> UUID | None:
    """Read an answer's id as the import does, in all its spellings; one that cannot be read is no response's."""
    try:
        return UUID(str(answer.get("response_id")))
    except ValueError:
        return None
