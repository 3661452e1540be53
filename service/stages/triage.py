"""Stage 2: choose the feedback that deserves a person's time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import structlog
from sqlmodel import Session, col, select

from annotation.triage import Flag, expected_values, prioritise, random_share, with_estimates
from annotation.types import Cause, Verdict
from retrain.near_duplicates import clusters
from retrain.types import sha256_of
from service import projects, routing, waves
from service.answers.quarantines import is_feedback_held, is_held
from service.clock import utcnow
from service.db import Database
from service.queue import Lease
from service.settlements import IN_FORCE, MAY_SETTLE
from service.tables import (
    AnnotationTask,
    Feedback,
    Job,
    JobKind,
    JobState,
    Project,
    Rating,
    Response,
    Settlement,
    TaskFlag,
    TaskPurpose,
    TaskState,
)

BATCH = 2000
OPEN = (TaskState.SELECTED, TaskState.SENT)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction looks at, which responses are near-equal, and what languages nobody had said."""

    feedback: Sequence[UUID]
    responses: Sequence[UUID]
    cluster_of: dict[UUID, int]
    languages: dict[UUID, str]


def run(
    lease: Lease, project_id: UUID, language_of: Callable[[str], str | None] = lambda text: None
) -> dict[str, Any]:
    """Turn flags nobody looked at into tasks, near-equal ones into one, and draw the random share.

    What is in quarantine, or part of a wave, waits as if it had not been looked at until that is lifted.
    Where the host did not log in which language was asked, `language_of` tells it of the text, if it can.
    Works in batches of `BATCH`, each in one transaction, until nothing is left.
    """
    flagged = drawn = held = 0
    with lease.queue.db.reading() as session:
        found = waves.find(session, session.get_one(Project, project_id))
    for wave in found:
        with lease.transaction() as session:
            held += waves.hold(session, wave)
    while batch := _read(lease.queue.db, project_id, language_of):
        with lease.transaction() as session:
            project = session.get_one(Project, project_id)
            _say_languages(session, batch)
            flagged += _select_flagged(session, project, batch)
            drawn += _draw(session, project, batch)
    log.info("triage_finished", tasks_from_flags=flagged, tasks_drawn=drawn, held=held)
    return {"tasks_from_flags": flagged, "tasks_drawn": drawn, "held": held}


def preview(session: Session, project_id: UUID) -> dict[str, Any]:
    """Say how much is waiting, changing nothing."""
    return {
        "flags": len(_untriaged_flags(session, project_id)),
        "responses": len(_untriaged_responses(session, project_id)),
    }


def _read(db: Database, project_id: UUID, language_of: Callable[[str], str | None]) -> Batch | None:
    """Return what waits, clustered and read while no writer is kept waiting; None when nothing does."""
    with db.reading() as session:
        feedback, responses = _untriaged_flags(session, project_id), _untriaged_responses(session, project_id)
        opened = session.exec(
            select(Response)
            .join(AnnotationTask, col(AnnotationTask.response_id) == Response.id)
            .where(AnnotationTask.project_id == project_id, col(AnnotationTask.state).in_(OPEN))
        ).all()
    if not feedback and not responses:
        return None
    flags = [response for row, response in feedback if _is_flag(row)]
    texts = {response.id: _text(response) for response in (*opened, *flags)} if flags else {}
    cluster_of = dict(zip(texts, clusters(list(texts.values())), strict=True))
    languages = _languages([*responses, *flags], language_of)
    return Batch([row.id for row, _ in feedback], [one.id for one in responses], cluster_of, languages)


def _languages(responses: Iterable[Response], language_of: Callable[[str], str | None]) -> dict[UUID, str]:
    """Return the language in which users asked, of those responses where nobody said it and the words tell."""
    asked = {
        one.id: "\n".join(turn["content"] for turn in one.messages if turn["role"] == "user")
        for one in responses
        if one.language is None
    }
    return {key: language for key, text in asked.items() if (language := language_of(text))}


def _say_languages(session: Session, batch: Batch) -> None:
    """Store the languages that were told, but for answers that were erased meanwhile."""
    said = select(Response).where(col(Response.id).in_(batch.languages), col(Response.erased_at).is_(None))
    for response in session.exec(said):
        response.language = batch.languages[response.id]


def _untriaged_flags(session: Session, project_id: UUID) -> Sequence[tuple[Feedback, Response]]:
    waiting = (
        select(Feedback, Response)
        .join(Response, col(Feedback.response_id) == Response.id)
        .where(Feedback.project_id == project_id, col(Feedback.triaged_at).is_(None), ~is_feedback_held())
        .where(col(Feedback.is_trusted))
        .order_by(col(Feedback.id))
        .limit(BATCH)
    )
    return session.exec(waiting).all()


def _untriaged_responses(session: Session, project_id: UUID) -> Sequence[Response]:
    waiting = select(Response).where(
        Response.project_id == project_id, col(Response.triaged_at).is_(None), ~is_held()
    )
    return session.exec(waiting.order_by(col(Response.id)).limit(BATCH)).all()


def _select_flagged(session: Session, project: Project, batch: Batch) -> int:
    """Group the flags with each other and with the tasks still open; return how many tasks were added."""
    flags = _take_flags(session, batch)
    tasks = {batch.cluster_of[task.response_id]: task for task in _open_tasks(session, project.id, batch)}
    rules = routing.routing_of(session, project)
    weigh = _Weights(rules.severity, _expected_values(session, project.id))
    grouped = _grouped(session, [feedback for feedback, _ in flags])
    for task in {task.id: task for task in grouped.values()}.values():
        (whole,) = prioritise(weigh.flag(*pair, group="") for pair in _pairs(session, task))
        task.urgency, task.priority = asdict(whole.urgency), whole.urgency.priority
    by_key = {
        str(feedback.id): (feedback, response) for feedback, response in flags if feedback.id not in grouped
    }
    cases = prioritise(weigh.flag(*pair, group=str(batch.cluster_of[pair[1].id])) for pair in by_key.values())
    for case in cases:
        members = [by_key[key] for key in case.keys]
        flag, response = members[0]
        joined = tasks.get(int(case.group))
        place = {} if joined else rules.place_of(session, response.id, [flag for flag, _ in members])
        task = joined or _add_task(session, project, response.id, TaskPurpose.FLAG, flag=flag, place=place)
        session.add_all([TaskFlag(task_id=task.id, feedback_id=feedback.id) for feedback, _ in members])
        (whole,) = (
            prioritise(weigh.flag(*pair, group="") for pair in _pairs(session, task)) if joined else (case,)
        )
        task.urgency, task.priority = asdict(whole.urgency), whole.urgency.priority
    return sum(int(case.group) not in tasks for case in cases)


def _grouped(session: Session, flags: Sequence[Feedback]) -> dict[UUID, AnnotationTask]:
    """Return the task of each flag that has one already: its user has changed what they say of it."""
    of_flags = (
        select(TaskFlag.feedback_id, AnnotationTask)
        .join(AnnotationTask, col(AnnotationTask.id) == TaskFlag.task_id)
        .where(col(TaskFlag.feedback_id).in_([flag.id for flag in flags]))
    )
    return {flag_id: task for flag_id, task in session.exec(of_flags)}  # noqa: C416  rows are no pairs


def _take_flags(session: Session, batch: Batch) -> list[tuple[Feedback, Response]]:
    """Mark the batch's feedback as looked at and return its flags, each with its response.

    What became a flag after the batch was read has no cluster, and waits for the next batch.
    """
    waiting = (
        select(Feedback, Response)
        .join(Response, col(Feedback.response_id) == Response.id)
        .where(col(Feedback.id).in_(batch.feedback), col(Feedback.triaged_at).is_(None))
        .order_by(col(Feedback.id))
        .with_for_update(of=Feedback)
    )
    rows = session.exec(waiting).all()
    taken = [row for row in rows if not _is_flag(row[0]) or row[1].id in batch.cluster_of]
    now = utcnow()
    for feedback, _ in taken:
        feedback.triaged_at = now
    return [(feedback, response) for feedback, response in taken if _is_flag(feedback)]


def _is_flag(feedback: Feedback) -> bool:
    return feedback.rating is Rating.DOWN and feedback.withdrawn_at is None


@dataclass(frozen=True, slots=True)
class _Weights:
    """How severe a project's reasons are, and what flags with them are expected to teach."""

    severity: Mapping[str, float]
    value: Mapping[str, float]

    def flag(self, feedback: Feedback, response: Response, *, group: str) -> Flag:
        """Weigh a flag of a response; the host may have logged how sure its model was."""
        said = response.host_metadata.get("confidence")
        return Flag(
            key=str(feedback.id),
            group=group,
            severity=max((self.severity.get(code, 1.0) for code in feedback.reasons), default=1.0),
            at=feedback.created_at,
            confidence=float(said) if isinstance(said, int | float) and 0 <= said <= 1 else None,
            value=max((self.value.get(code, 1.0) for code in feedback.reasons), default=1.0),
        )


def _expected_values(session: Session, project_id: UUID) -> dict[str, float]:
    """Return by reason what flags are expected to teach: by those that experts decided, and by the newest estimate."""
    decided = (
        select(Feedback.reasons, Settlement.verdict, Settlement.cause)
        .join(TaskFlag, col(TaskFlag.feedback_id) == Feedback.id)
        .join(Settlement, col(Settlement.task_id) == TaskFlag.task_id)
        .where(Feedback.project_id == project_id, IN_FORCE)
    )
    newest = session.exec(decided.order_by(col(Settlement.id).desc()).limit(BATCH))
    expected = expected_values(
        (reasons, verdict is Verdict.INCORRECT and cause is Cause.MODEL) for reasons, verdict, cause in newest
    )
    estimated = select(Job.result).where(
        Job.project_id == project_id, Job.kind == JobKind.VALUE, Job.state == JobState.DONE
    )
    found = session.exec(estimated.order_by(col(Job.id).desc()).limit(1)).first() or {}
    worth = {one["group"]: one["estimate"] / one["rows"] for one in found.get("reasons", ()) if one["rows"]}
    return with_estimates(expected, worth)


def _pairs(session: Session, task: AnnotationTask) -> Sequence[tuple[Feedback, Response]]:
    """Return all of a task's flags, each with its response."""
    flags = (
        select(Feedback, Response)
        .join(Response, col(Feedback.response_id) == Response.id)
        .join(TaskFlag, col(TaskFlag.feedback_id) == Feedback.id)
        .where(TaskFlag.task_id == task.id, col(Feedback.withdrawn_at).is_(None))
    )
    return session.exec(flags).all()


def _draw(session: Session, project: Project, batch: Batch) -> int:
    """Add a task for a random share of responses; where the host names them, a repeated run draws alike."""
    waiting = select(Response).where(
        col(Response.id).in_(batch.responses), col(Response.triaged_at).is_(None)
    )
    responses = session.exec(waiting.order_by(col(Response.id))).all()
    now = utcnow()
    for response in responses:
        response.triaged_at = now
    by_key = {
        f"{sha256_of(response.messages)}:{response.external_id or response.id}": response
        for response in responses
    }
    opened = select(AnnotationTask.response_id).where(
        AnnotationTask.project_id == project.id, col(AnnotationTask.state).in_(OPEN)
    )
    busy = set(session.exec(opened))
    chosen = [by_key[key] for key in random_share(list(by_key), project.random_share, seed="triage")]
    fresh = [response for response in chosen if response.id not in busy]
    rules = routing.routing_of(session, project)
    for response in fresh:
        place = rules.place(language=response.language)
        _add_task(session, project, response.id, TaskPurpose.RANDOM, flag=None, place=place)
    return len(fresh)


def _open_tasks(session: Session, project_id: UUID, batch: Batch) -> list[AnnotationTask]:
    """Return the tasks that the batch's flags may join."""
    opened = (
        select(AnnotationTask)
        .where(AnnotationTask.project_id == project_id, col(AnnotationTask.state).in_(OPEN))
        .where(MAY_SETTLE)  # no flag waits for what comes to nothing
        .order_by(col(AnnotationTask.id))
        .with_for_update()
    )
    return [task for task in session.exec(opened) if task.response_id in batch.cluster_of]


def _add_task(
    session: Session,
    project: Project,
    response_id: UUID,
    purpose: TaskPurpose,
    *,
    flag: Feedback | None,
    place: Mapping[str, Any],
) -> AnnotationTask:
    schema_id, guidelines_id = projects.questions(session, project.id)
    task = AnnotationTask(
        project_id=project.id,
        response_id=response_id,
        purpose=purpose,
        flag_id=flag.id if flag else None,
        schema_id=schema_id,
        guidelines_id=guidelines_id,
        priority=0.0,
        **place,
    )
    session.add(task)
    session.flush()
    return task


def _text(response: Response) -> str:
    """Return what makes two flags near-equal: what was asked last, and what was answered."""
    return f"{response.messages[-1]['content']}\n{response.text}"
