"""Stage 1: remember what the model answered and what its users say about that."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import bindparam, exists, func, update
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from retrain.types import sha256_of
from service import projects, tokens
from service.clock import utcnow
from service.db import insert_now
from service.errors import EventConflict, NotFound, WrongState
from service.secrets import Secrets
from service.tables import (
    AnnotationTask,
    Document,
    DocumentKind,
    Feedback,
    ModelVersion,
    Outcome,
    Project,
    Rating,
    Response,
    Signal,
    SignalKind,
    Source,
    TaskFlag,
    TaskPurpose,
    TaskState,
)
from service.tokens import FeedbackToken

T = TypeVar("T", Feedback, Signal, Outcome)
MAX_DIGITS = 9
# Built once, for each flag asks them, and to build a statement costs more than to ask it.
OF_EVENT: dict[Any, Any] = {
    table: select(table).where(
        col(table.project_id) == bindparam("project_id"), col(table.event_id) == bindparam("event_id")
    )
    for table in (Feedback, Signal, Outcome)
}
BY_EXTERNAL_ID = select(Response).where(
    Response.project_id == bindparam("project_id"), Response.external_id == bindparam("external_id")
)


@dataclass(frozen=True, slots=True)
class NewResponse:
    """One answer of the model as its host logs it."""

    messages: list[dict[str, str]]
    response: str
    model_version: str | None = None
    external_id: str | None = None
    conversation_id: str | None = None
    context: list[dict[str, str]] = field(default_factory=list)
    source: str | None = None
    subject: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    language: str | None = None
    may_train: bool = True
    legal_basis: str | None = None
    trace_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    model_version_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class NewFeedback:
    """One end user's word as the widget or the host sends it."""

    event_id: UUID
    rating: Rating
    reasons: list[str] = field(default_factory=list)
    comment: str | None = None
    correction: str | None = None
    consent: bool | None = None
    selection: dict[str, Any] | None = None
    session: str | None = None
    trace_id: str | None = None
    span_id: str | None = None


@dataclass(frozen=True, slots=True)
class NewOutcome:
    """A business result as the host sends it, of a response or of a conversation."""

    event_id: UUID
    name: str
    value: float
    unit: str = ""
    response_id: str | None = None
    conversation_id: str | None = None


def log_response(
    session: Session, project: Project, new: NewResponse, *, sha256: str
) -> tuple[Response, bool]:
    """Add a response and say whether it is new; the same `external_id` again returns the first.

    Feedback that came before its response is joined to it.
    """
    if new.external_id:
        _take_turns(session, f"{project.id}/response/{new.external_id}")
        if earlier := _by_external_id(session, project, new.external_id):
            return earlier, False
    response = Response(
        project_id=project.id,
        source_id=_source(session, project, new.source).id,
        model_version_id=new.model_version_id or _version_id(session, project, new.model_version),
        model_version=new.model_version,
        external_id=new.external_id,
        conversation_id=new.conversation_id,
        messages=new.messages,
        text=new.response,
        body_sha256=sha256,
        context=new.context,
        subject=new.subject,
        attributes=new.attributes,
        language=new.language,
        may_train=new.may_train,
        legal_basis=new.legal_basis,
        trace_id=new.trace_id,
        host_metadata=new.metadata,
    )
    session.add(response)
    session.flush()
    if new.external_id:
        _join_parked(session, response, new.external_id)
    return response, True


def feedback_token(project: Project, response: Response, keys: Secrets, *, days: float) -> str:
    """Return the token that lets whoever holds it give feedback on this response."""
    issued = int(response.created_at.timestamp())
    token = FeedbackToken(
        kid=keys.key_id,
        project=project.slug,
        response=str(response.id),
        sha256=sha256_of(response.text),
        model=response.model_version,
        subject=response.subject,
        iat=issued,
        exp=issued + int(days * 86_400),
    )
    return tokens.sign(token, keys)


def record_feedback(
    session: Session,
    project: Project,
    new: NewFeedback,
    *,
    response_ref: str,
    subject: str | None,
    sha256: str,
) -> tuple[Feedback, bool]:
    """Add one user's word and say whether it is new; the same event again returns the first.

    Feedback may come before its response if that is named by the host's external id; then it waits.

    Raises:
        EventConflict: the event id was used with another body.
        NotFound: `response_ref` looks like an id of ours, but the project has no such response.
    """
    _take_turns(session, f"{project.id}/event/{new.event_id}", f"{project.id}/response/{response_ref}")
    if earlier := _of_event(session, Feedback, project, new.event_id):
        if earlier.body_sha256 != sha256:
            raise EventConflict(f"event_id: {new.event_id} was used with another body")
        return earlier, False
    response = find_response(session, project, response_ref)
    if response is None and _own_id(response_ref):
        raise NotFound(f"response_id: no response {response_ref}")
    reasons = _reasons(session, project.id)
    feedback = Feedback(
        project_id=project.id,
        response_ref=response_ref,
        response_id=response.id if response else None,
        reasons_id=reasons.id,
        subject=subject,
        body_sha256=sha256,
        event_id=new.event_id,
        rating=new.rating,
        reasons=new.reasons,
        comment=new.comment,
        correction=new.correction,
        consent=new.consent,
        selection=new.selection,
        session=new.session,
        trace_id=new.trace_id,
        span_id=new.span_id,
    )
    insert_now(session, feedback)
    return feedback, True


def record_signal(
    session: Session, project: Project, response_ref: str, *, event_id: UUID, kind: SignalKind
) -> tuple[Signal, bool]:
    """Add what a user did with an answer and say whether it is new; it has no words, and leads nowhere.

    Raises:
        NotFound: the project has no such response.
    """
    _take_turns(session, f"{project.id}/event/{event_id}")
    if earlier := _of_event(session, Signal, project, event_id):
        return earlier, False
    response = find_response(session, project, response_ref)
    if response is None:
        raise NotFound(f"response_id: no response {response_ref}")
    signal = Signal(project_id=project.id, event_id=event_id, response_id=response.id, kind=kind)
    session.add(signal)
    session.flush()
    return signal, True


def record_outcome(
    session: Session, project: Project, new: NewOutcome, *, sha256: str
) -> tuple[Outcome, bool]:
    """Add a business result and say whether it is new; the same event again returns the first.

    Raises:
        EventConflict: the event id was used with another body.
        NotFound: the project has no such response or conversation.
    """
    _take_turns(session, f"{project.id}/event/{new.event_id}")
    if earlier := _of_event(session, Outcome, project, new.event_id):
        if earlier.body_sha256 != sha256:
            raise EventConflict(f"event_id: {new.event_id} was used with another body")
        return earlier, False
    if new.response_id:
        response = find_response(session, project, new.response_id)
    else:
        talk = (Response.project_id == project.id, Response.conversation_id == new.conversation_id)
        response = session.exec(select(Response).where(*talk).order_by(col(Response.id).desc())).first()
    if response is None:
        raise NotFound(f"no response or conversation {new.response_id or new.conversation_id}")
    outcome = Outcome(
        project_id=project.id,
        event_id=new.event_id,
        response_id=response.id,
        model_version_id=response.model_version_id,
        name=new.name,
        value=new.value,
        unit=new.unit,
        body_sha256=sha256,
    )
    session.add(outcome)
    session.flush()
    return outcome, True


def withdraw(session: Session, feedback: Feedback) -> None:
    """Take a feedback back: its words go, the row stays, and a task for it alone is never sent."""
    feedback.sqlmodel_update({"comment": None, "correction": None, "selection": None})
    feedback.withdrawn_at = feedback.withdrawn_at or utcnow()
    session.add(feedback)
    session.flush()
    standing = exists().where(
        col(TaskFlag.task_id) == AnnotationTask.id,
        col(TaskFlag.feedback_id) == Feedback.id,
        col(Feedback.withdrawn_at).is_(None),
    )
    caused = select(TaskFlag.task_id).where(TaskFlag.feedback_id == feedback.id)
    session.execute(
        update(AnnotationTask)
        .where(
            col(AnnotationTask.id).in_(caused),
            col(AnnotationTask.state) == TaskState.SELECTED,
            col(AnnotationTask.purpose) == TaskPurpose.FLAG,
            ~standing,
        )
        .values(state=TaskState.WITHDRAWN)
        .execution_options(synchronize_session=False)
    )


def change(session: Session, feedback: Feedback, said: Mapping[str, Any]) -> None:
    """Take what the user says instead; a rating that becomes a flag waits for triage again.

    Raises:
        WrongState: it was withdrawn.
    """
    if feedback.withdrawn_at:
        raise WrongState(f"event_id: feedback {feedback.event_id} was withdrawn")
    feedback.sqlmodel_update(dict(said))
    grouped = select(TaskFlag.id).where(TaskFlag.feedback_id == feedback.id)
    if feedback.rating is Rating.DOWN and session.exec(grouped).first() is None:
        feedback.triaged_at = None
    session.add(feedback)


def find_response(session: Session, project: Project, ref: str) -> Response | None:
    """Return the project's response by our id or by the host's external one."""
    own_id = _own_id(ref)
    found = session.get(Response, own_id) if own_id else None
    if found and found.project_id == project.id and not found.erased_at:
        return found
    return _by_external_id(session, project, ref)


def _take_turns(session: Session, *names: str) -> None:
    """Let requests about the same thing wait for each other; on SQLite there is one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        for name in names:
            session.execute(select_columns(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


def _reasons(session: Session, project_id: UUID) -> Document:
    return projects.current(session, project_id, DocumentKind.REASONS)


def _of_event(session: Session, table: type[T], project: Project, event_id: UUID) -> T | None:
    """Return what was recorded under an id that its sender made."""
    named = {"project_id": project.id, "event_id": event_id}
    found: T | None = session.exec(OF_EVENT[table], params=named).first()
    return found


def _own_id(ref: str) -> UUID | None:
    try:
        found = UUID(ref)
    except ValueError:
        return None
    return found if str(found) == ref.lower() else None


def _by_external_id(session: Session, project: Project, external_id: str) -> Response | None:
    named = {"project_id": project.id, "external_id": external_id}
    return session.exec(BY_EXTERNAL_ID, params=named).first()


def _source(session: Session, project: Project, name: str | None) -> Source:
    named = name or "production"
    sources = select(Source).where(Source.project_id == project.id, Source.name == named)
    found = session.exec(sources).first()
    if found is None:
        _take_turns(session, f"{project.id}/source/{named}")
        found = session.exec(sources).first()
    if found is None:
        found = Source(project_id=project.id, name=named)
        session.add(found)
        session.flush()
    return found


def _version_id(session: Session, project: Project, named: str | None) -> UUID | None:
    """Return the version of ours that a host names as we do, `v` and its number."""
    digits = (named or "").removeprefix("v")
    if named == digits or not digits.isdecimal() or len(digits) > MAX_DIGITS:
        return None
    versions = select(ModelVersion.id).where(
        ModelVersion.project_id == project.id, ModelVersion.number == int(digits)
    )
    return session.exec(versions).first()


def _join_parked(session: Session, response: Response, external_id: str) -> None:
    parked = update(Feedback).where(
        col(Feedback.project_id) == response.project_id,
        col(Feedback.response_ref) == external_id,
        col(Feedback.response_id).is_(None),
    )
    session.execute(parked.values(response_id=response.id))
