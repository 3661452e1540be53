"""One feedback's whole story: from the answer that it is about to the model that learned from it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlmodel import Session, col, select

from service.settlements import is_handed_over
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    Evaluation,
    Feedback,
    ModelVersion,
    Promotion,
    Rating,
    Response,
    Settlement,
    TaskFlag,
    TaskState,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
    User,
)

MODELS = 20


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a stage; `page` and `row_id` say where more is told."""

    at: datetime
    stage: str
    told: str
    more: str = ""
    page: str = ""
    row_id: UUID | None = None


def story(session: Session, feedback: Feedback) -> list[Event]:
    """Return everything that happened to a feedback, each event after what led to it."""
    events = [(event.at, event) for event in _intake(session, feedback)]
    joined = session.exec(select(TaskFlag).where(TaskFlag.feedback_id == feedback.id)).first()
    if joined:
        task = session.get_one(AnnotationTask, joined.task_id)
        again = select(AnnotationTask).where(
            AnnotationTask.response_id == task.response_id, col(AnnotationTask.rechecks_id).is_not(None)
        )
        caused = [
            *_labelling(session, feedback, task, joined),
            *_learning(session, task),
            *(
                event
                for later in session.exec(again.order_by(col(AnnotationTask.id)))
                for event in _again(session, later)
            ),
        ]
        # What the task went through before this flag joined it is told from there on.
        events += [(max(event.at, joined.created_at), event) for event in caused]
    return [event for _, event in sorted(events, key=lambda placed: placed[0])]


def _intake(session: Session, feedback: Feedback) -> Iterator[Event]:
    response = session.get(Response, feedback.response_id) if feedback.response_id else None
    if response:
        who = f"version {response.model_version}" if response.model_version else "the model"
        yield Event(response.created_at, "intake", f"Answered by {who.replace('version v', 'version ')}")
    said = "Flagged as wrong" if feedback.rating is Rating.DOWN else "Called right"
    yield Event(feedback.created_at, "intake", said, ", ".join(feedback.reasons))
    if feedback.withdrawn_at:
        yield Event(feedback.withdrawn_at, "intake", "Taken back by whoever gave it")


def _labelling(
    session: Session, feedback: Feedback, task: AnnotationTask, joined: TaskFlag
) -> Iterator[Event]:
    flags = session.exec(select(TaskFlag).where(TaskFlag.task_id == task.id)).all()
    others = f"with {len(flags) - 1} more like it" if len(flags) > 1 else ""
    is_late = feedback.created_at > task.created_at
    told = "Joined to what experts were asked already" if is_late else "Chosen for experts"
    yield Event(joined.created_at, "triage", told, others, "task", task.id)
    yield from _answers(session, task)


def _again(session: Session, task: AnnotationTask) -> Iterator[Event]:
    yield Event(task.created_at, "labelling", "Experts are asked again", "", "task", task.id)
    yield from _answers(session, task)
    yield from _learning(session, task)


def _answers(session: Session, task: AnnotationTask) -> Iterator[Event]:
    if task.sent_at:
        yield Event(task.sent_at, "labelling", "Handed to experts", "", "task", task.id)
    answers = (
        select(Annotation, Annotator)
        .join(Annotator, col(Annotation.annotator_id) == Annotator.id)
        .where(Annotation.task_id == task.id)
        .order_by(col(Annotation.revised_at))
    )
    newest = task.created_at
    for answer, annotator in session.exec(answers):
        newest = max(newest, answer.revised_at)
        yield Event(answer.revised_at, "labelling", f"{annotator.account} answered", _answer(answer))
    if task.state is TaskState.CONTESTED:
        yield Event(newest, "labelling", "The experts disagree", "", "task", task.id)
    if task.state is TaskState.WITHDRAWN:
        yield Event(newest, "triage", "No longer asked: every flag was taken back")


def _answer(answer: Annotation) -> str:
    if answer.verdict is None:
        abstained = answer.abstention and answer.abstention.replace("_", " ")
        return answer.problem or abstained or "skipped"
    parts = [
        answer.verdict.value,
        answer.label or ", ".join(answer.labels),
        f"cause: {answer.cause}" if answer.cause else "",
    ]
    return ", ".join(part for part in parts if part)


def _learning(session: Session, task: AnnotationTask) -> Iterator[Event]:
    newest = select(Settlement).where(Settlement.task_id == task.id).order_by(col(Settlement.id).desc())
    settlement = session.exec(newest.limit(1)).first()
    if settlement is None:
        return
    verdict = ", ".join(filter(None, (settlement.verdict.value, settlement.label)))
    yield Event(settlement.created_at, "labelling", f"Settled: {verdict}", settlement.explanation)
    if is_handed_over(settlement):
        told = f"Handed over: what has to be mended is the {settlement.cause}"
        yield Event(settlement.created_at, "labelling", told, settlement.ticket_url or "")
    if settlement.withdrawn_at:
        told = "No longer settled: an answer that counted was changed or taken back"
        yield Event(settlement.withdrawn_at, "labelling", told)
    held = (
        select(TrainingSet, TrainingSetExample)
        .join(TrainingSetExample, col(TrainingSetExample.training_set_id) == TrainingSet.id)
        .where(TrainingSetExample.settlement_id == settlement.id)
        .order_by(col(TrainingSet.version))
    )
    sets = session.exec(held).all()
    for training_set, row in sets[:1]:
        told = f"In training set v{training_set.version} and all after it"
        yield Event(
            training_set.created_at, "curation", told, f"{row.split} part", "training_set", training_set.id
        )
    learned = (
        select(ModelVersion, TrainingRun)
        .join(TrainingRun, col(ModelVersion.training_run_id) == TrainingRun.id)
        .where(col(TrainingRun.training_set_id).in_([training_set.id for training_set, _ in sets]))
        .order_by(col(ModelVersion.number))
        .limit(MODELS)
    )
    for model, run in session.exec(learned):
        yield Event(
            model.created_at, "training", f"Version {model.number} was trained on that set", "", "run", run.id
        )
        yield from _judged(session, model)


def _judged(session: Session, model: ModelVersion) -> Iterator[Event]:
    for evaluation in session.exec(select(Evaluation).where(Evaluation.model_version_id == model.id)):
        if evaluation.finished_at:
            told = f"Version {model.number}: {evaluation.state.value.replace('_', ' ')}"
            yield Event(
                evaluation.finished_at,
                "evaluation",
                told,
                evaluation.sentence or "",
                "evaluation",
                evaluation.id,
            )
    promotions = (
        select(Promotion, User)
        .join(User, col(Promotion.user_id) == User.id)
        .where(Promotion.model_version_id == model.id)
    )
    for promotion, user in session.exec(promotions):
        yield Event(
            promotion.created_at,
            "promotion",
            f"Version {model.number} went live",
            f"by {user.name}",
            "models",
        )
