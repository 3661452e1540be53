"""What tasks come to: settled by those who answered, or by a third who decides and says why."""

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, or_, select

from annotation.answers import check
from annotation.exchange import UNKNOWN_ACCOUNT
from annotation.settlement import Contested, Settled, Waiting, accuracy, settle
from annotation.settlement import adjudicate as decide
from annotation.types import Answer, Cause, LabelSchema, Verdict
from service import ledger, notices, projects, tools
from service.clock import utcnow
from service.confirmed import holding, is_known
from service.errors import Forbidden, Invalid, WrongState
from service.settings import Settings
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    ConnectorKind,
    Document,
    Feedback,
    NoticeKind,
    Project,
    QualityReport,
    Response,
    Settlement,
    SettlementAnnotation,
    TaskFlag,
    TaskPurpose,
    TaskState,
    User,
)

IN_FORCE = col(Settlement.withdrawn_at).is_(None)
MAY_SETTLE = col(AnnotationTask.purpose) != TaskPurpose.GOLD  # which comes to nothing, and is no backlog
OPEN = (TaskState.SENT, TaskState.CONTESTED, TaskState.SELECTED)
# Somebody other than who trains the model has to mend these; of a user's mistake nobody has.
HANDED_OVER = frozenset({Cause.CONTEXT, Cause.PROMPT, Cause.POLICY, Cause.PRODUCT})
CHANGED_BY_ANOTHER = "changed by another account"
NOT_OURS = "by an account that is none of our experts'"
NOT_AS_SENT = "to a task that shows something else than we asked"
QUARANTINED = {CHANGED_BY_ANOTHER, NOT_OURS, NOT_AS_SENT, UNKNOWN_ACCOUNT}
CONTENT = {
    *("problem", "abstention", "verdict", "label", "labels", "correction", "cause", "spans", "ratings"),
}
MAX_EXPLANATION = MAX_LINK = 500
LINK = re.compile(r"https?://[\w.-]+(:\d{1,5})?(/[^\s\\]*)?")

Counted = Sequence[tuple[Annotation, Annotator]]
T = TypeVar("T")


def settle_task(
    session: Session, project: Project, task: AnnotationTask, known: Mapping[str, float] | None = None
) -> TaskState:
    """Settle or contest a task by the newest answer of each person.

    A settled one stays as it is, unless an answer that counted was changed or taken back. A gold task comes to
    nothing: it is withdrawn once enough have answered. `known` is what `accuracies` returns, for who has it already.
    """
    newest = _newest(session, task)
    if task.purpose is TaskPurpose.GOLD:
        if task.state in OPEN and len(newest) >= (task.overlap or project.overlap):
            task.state = TaskState.WITHDRAWN
        return task.state
    if task.state is TaskState.SETTLED:
        _reopen(session, task, newest)
    if task.state not in OPEN:
        return task.state
    asked = [(annotation, annotator) for annotation, annotator in newest if not annotation.set_aside]
    counted = [(annotation, annotator) for annotation, annotator in asked if annotation.verdict]
    known = accuracies(session, project.id) if known is None else known
    trust = {person_of(annotator): known.get(str(annotator.id), accuracy(0, 0)) for _, annotator in counted}
    skipped = sum(annotation.is_skipped for annotation, _ in asked)
    outcome = _outcome(project, task, counted, trust, skipped=skipped)
    if isinstance(outcome, Contested):
        task.state = TaskState.CONTESTED
    elif isinstance(outcome, Settled):
        task.state = TaskState.SETTLED
        _add(session, task, outcome, counted, trust)
    elif task.state is TaskState.CONTESTED:
        task.state = _asked(task)
    return task.state


def is_asked() -> ColumnElement[bool]:
    """Say in SQL whether a task waits for experts' answers; without a tool nothing is sent anywhere."""
    state, tool = col(AnnotationTask.state), col(AnnotationTask.connector)
    return (state == TaskState.SENT) | ((state == TaskState.SELECTED) & (tool == ConnectorKind.NONE))


def contest(session: Session, task: AnnotationTask, *, actor: str) -> None:
    """Have a third decide a task that waits for answers which nobody is left to give."""
    if task.state not in OPEN:
        raise WrongState("only a task that is open can be decided")
    task.state = TaskState.CONTESTED
    session.add(task)
    session.flush()
    ledger.append(
        session, actor=actor, action="task_left_alone", subject=str(task.id), project_id=task.project_id
    )


def adjudicate(
    session: Session,
    project: Project,
    task: AnnotationTask,
    answer: Answer,
    *,
    reason: str,
    user: User,
    chosen: Settings,
) -> None:
    """Decide a contested task, as somebody who is none of those who answered it.

    Raises:
        WrongState: it is not contested, or not any more.
        Forbidden: this person answered it.
        InvalidAnswer: the answer does not fit the questions.
    """
    # Locked as an answer from the tool is, so that of two that settle a task at once the second sees the first.
    response = session.get_one(Response, task.response_id, with_for_update=True)
    session.refresh(task)
    if task.state is not TaskState.CONTESTED or response.erased_at:
        raise WrongState("only a contested task is adjudicated")
    if any(is_of(annotator, user, chosen) for _, annotator in _newest(session, task)):
        raise Forbidden("you answered this task yourself: somebody else has to decide")
    given = check(answer, schema_of(session, task), response.text)
    session.add(_decision(task, _adjudicator(session, user), given, reason))
    session.flush()
    settle_task(session, project, task)
    session.add(task)
    ledger.append(
        session,
        actor=user.name,
        action="task_adjudicated",
        subject=str(task.id),
        project_id=project.id,
        facts={"verdict": given.verdict.value},
    )


def _decision(task: AnnotationTask, annotator: Annotator, given: Answer, reason: str) -> Annotation:
    return Annotation(
        task_id=task.id,
        annotator_id=annotator.id,
        schema_id=task.schema_id,
        guidelines_id=task.guidelines_id,
        external_id="adjudication",
        revised_at=utcnow(),
        verdict=Verdict(given.verdict),
        label=given.label,
        labels=list(given.labels),
        correction=given.correction,
        cause=given.cause,
        reason=reason,
    )


def accuracies(session: Session, project_id: UUID) -> dict[str, float]:
    """Return how often each annotator is taken to be right, by what they have done in a project so far."""
    report = session.exec(select(QualityReport).where(QualityReport.project_id == project_id)).first()
    told = report.content["annotators"] if report else {}
    return {annotator: each["weight"] for annotator, each in told.items()}


def schema_of(session: Session, task: AnnotationTask) -> LabelSchema:
    """Return the questions as they were when the task was made."""
    return projects.read_schema(
        session.get_one(Document, task.schema_id), session.get_one(Document, task.guidelines_id)
    )


def is_of(annotator: Annotator, user: User, chosen: Settings) -> bool:
    """Say whether an account is a person's: by what was written down, or by its name where the accounts are ours."""
    if annotator.user_id:
        return annotator.user_id == user.id
    return annotator.account == tools.login_of(chosen, annotator.connector, user.name)


def person_of(annotator: Annotator) -> str:
    """Name a person, whichever of their accounts they used: nobody agrees with themselves."""
    return str(annotator.user_id or annotator.id)


def of_persons(annotators: Sequence[Annotator]) -> ColumnElement[bool]:
    """Say in SQL whether an `Annotator` is an account of one of these people, in whichever tool."""
    owners = [each.user_id for each in annotators if each.user_id]
    return or_(col(Annotator.id).in_([each.id for each in annotators]), col(Annotator.user_id).in_(owners))


def newest_of(revisions: Iterable[T], told: Callable[[T], tuple[Hashable, Hashable, str | None]]) -> list[T]:
    """Return the newest answer of each, of revisions in the order of time.

    What another made or changed in somebody's name silences none of their own answers. `told` says whose a revision
    is, of which answer, and what is wrong with it.
    """
    last: dict[Hashable, tuple[Hashable, bool, T]] = {}
    for revision in revisions:
        whose, answer, problem = told(revision)
        last.pop((whose, answer), None)
        last[whose, answer] = (whose, problem in QUARANTINED, revision)
    newest: dict[Hashable, T] = {}
    for whose, is_quarantined, revision in last.values():
        if not is_quarantined or whose not in newest:
            newest[whose] = revision
    return list(newest.values())


def is_gold(task: type[AnnotationTask]) -> ColumnElement[bool]:
    """Say in SQL whether others may be judged by a task's `Settlement`: by an operator's word, or else unanimity."""
    is_unanimous = (col(Settlement.agreeing) == Settlement.asked) & (col(Settlement.asked) > 1)
    return func.coalesce(task.is_gold, is_unanimous)


def is_handed_over(settlement: Settlement) -> bool:
    """Say whether the answer was wrong and the model is not what has to be mended."""
    is_wrong = settlement.verdict is Verdict.INCORRECT and settlement.withdrawn_at is None
    return is_wrong and settlement.cause in HANDED_OVER


def link_ticket(session: Session, settlement: Settlement, url: str | None, *, actor: str) -> None:
    """Say where what was handed over is followed; whoever flagged it is shown this link.

    Raises:
        WrongState: nothing was handed over.
        Invalid: it is no plain http(s) link.
    """
    if not is_handed_over(settlement):
        raise WrongState("only what is not the model's fault is handed over, and has a ticket")
    if url and (len(url) > MAX_LINK or not LINK.fullmatch(url)):
        raise Invalid("ticket_url: write https://host/path")
    settlement.ticket_url = url
    session.add(settlement)
    ledger.append(
        session,
        actor=actor,
        action="ticket_linked" if url else "ticket_removed",
        subject=str(settlement.id),
        project_id=settlement.project_id,
    )


def _newest(session: Session, task: AnnotationTask) -> Counted:
    """Return each person's newest answer that was not taken back, in the order in which they were given."""
    revisions = (
        select(Annotation, Annotator)
        .join(Annotator, col(Annotation.annotator_id) == Annotator.id)
        .where(Annotation.task_id == task.id, col(Annotation.withdrawn_at).is_(None))
        .order_by(col(Annotation.revised_at), col(Annotation.id))
    )
    return newest_of(
        session.exec(revisions),
        lambda row: (person_of(row[1]), f"{row[1].id} {row[0].external_id}", row[0].problem),
    )


def _reopen(session: Session, task: AnnotationTask, newest: Counted) -> None:
    """Withdraw a task's settlement if an answer that it counted no longer stands; frozen sets keep it.

    One that was sent again without a change stands.
    """
    settlement = session.exec(select(Settlement).where(Settlement.task_id == task.id, IN_FORCE)).first()
    if settlement is None:
        return
    counted = (
        select(Annotation)
        .join(SettlementAnnotation, col(SettlementAnnotation.annotation_id) == Annotation.id)
        .where(SettlementAnnotation.settlement_id == settlement.id)
    )
    standing = {annotation.annotator_id: annotation for annotation, _ in newest}
    lost = next(
        (
            one
            for one in session.exec(counted)
            if (now := standing.get(one.annotator_id)) is None
            or now.model_dump(include=CONTENT) != one.model_dump(include=CONTENT)
        ),
        None,
    )
    if lost is None:
        return
    settlement.withdrawn_at, settlement.withdrawn_by_id = utcnow(), lost.id
    task.state = _asked(task)
    session.flush()
    ledger.append(
        session,
        actor=task.connector.value,
        action="settlement_withdrawn",
        subject=str(settlement.id),
        project_id=task.project_id,
        facts={"annotation": str(lost.id)},
    )


def _asked(task: AnnotationTask) -> TaskState:
    """Return the state of a task that waits for answers."""
    return TaskState.SENT if task.external_id else TaskState.SELECTED


def _outcome(
    project: Project, task: AnnotationTask, counted: Counted, trust: dict[str, float], *, skipped: int
) -> Settled | Contested | Waiting:
    answers = [(person_of(annotator), _answer(annotation)) for annotation, annotator in counted]
    decided = [person_of(annotator) for annotation, annotator in counted if annotation.reason]
    if decided:
        return decide(answers, by=decided[-1], accuracies=trust)
    # Who skipped is not waited for, as long as enough are left to agree.
    overlap = task.overlap or project.overlap
    needed = min(project.needed, overlap)
    asked = max(needed, min(2, overlap), overlap - skipped)
    return settle(answers, needed=needed, overlap=asked, bar=project.settlement_bar, accuracies=trust)


def _answer(annotation: Annotation) -> Answer:
    return Answer(
        verdict=annotation.verdict or Verdict.UNSURE,
        label=annotation.label,
        labels=tuple(annotation.labels),
        correction=annotation.correction,
        cause=annotation.cause,
        ratings=annotation.ratings,
    )


def _add(
    session: Session, task: AnnotationTask, settled: Settled, counted: Counted, trust: dict[str, float]
) -> None:
    settlement = Settlement(
        project_id=task.project_id,
        task_id=task.id,
        verdict=Verdict(settled.answer.verdict),
        label=settled.answer.label,
        labels=list(settled.answer.labels),
        correction=settled.answer.correction,
        cause=settled.answer.cause,
        agreeing=len(settled.annotators),
        asked=len(counted),
        explanation=settled.explanation[:MAX_EXPLANATION],
        posterior=settled.posterior,
    )
    session.add(settlement)
    session.flush()
    session.add_all(
        SettlementAnnotation(
            settlement_id=settlement.id, annotation_id=annotation.id, accuracy=trust[person_of(annotator)]
        )
        for annotation, annotator in counted
    )
    _tell(session, settlement)


def _tell(session: Session, settlement: Settlement) -> None:
    """Let hear of it who has to mend what is not the model's fault, and the host of whoever flagged it."""
    if is_handed_over(settlement):
        facts = {"settlement": str(settlement.id), "task": str(settlement.task_id), "cause": settlement.cause}
        notices.tell(session, settlement.project_id, NoticeKind.HANDED_OVER, [facts])
    is_taught = settlement.verdict is Verdict.INCORRECT and settlement.cause is Cause.MODEL
    if is_known(session, settlement):
        return
    flags = (
        select(Feedback)
        .join(TaskFlag, col(TaskFlag.feedback_id) == Feedback.id)
        .join(AnnotationTask, col(AnnotationTask.id) == TaskFlag.task_id)
    )
    task = session.get_one(AnnotationTask, settlement.task_id)
    standing = flags.where(
        AnnotationTask.response_id == task.response_id,
        holding(AnnotationTask) == settlement.id,
        col(Feedback.withdrawn_at).is_(None),
    )
    told = (
        {
            "feedback": str(flag.id),
            "event_id": str(flag.event_id),
            "state": "corrected" if is_taught else "declined",
            "is_handed_over": is_handed_over(settlement),
        }
        for flag in session.exec(standing)
    )
    notices.tell(session, settlement.project_id, NoticeKind.FLAG_ANSWERED, told)


def _adjudicator(session: Session, user: User) -> Annotator:
    """Return the account by which a person of ours answers here."""
    own = select(Annotator).where(Annotator.connector == ConnectorKind.NONE, Annotator.account == user.name)
    found = session.exec(own).first()
    if found is None:
        found = Annotator(connector=ConnectorKind.NONE, account=user.name, user_id=user.id)
        session.add(found)
        session.flush()
    return found
