"""Stage 1: remember what the model answered and what its users say about that."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import update
from sqlmodel import Session, col, select

from retrain.types import sha256_of
from service import tokens
from service.clock import utcnow
from service.errors import EventConflict, Forbidden, NotFound
from service.secrets import Secrets
from service.tables import (
    AnnotationTask,
    Document,
    DocumentKind,
    Feedback,
    ModelState,
    ModelVersion,
    Project,
    Promotion,
    Rating,
    Response,
    Settlement,
    Source,
    TaskFlag,
    TaskState,
    TrainingRun,
    TrainingSetExample,
)
from service.tokens import FeedbackToken


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


def log_response(
    session: Session, project: Project, new: NewResponse, *, sha256: str
) -> tuple[Response, bool]:
    """Add a response and say whether it is new; the same `external_id` again returns the first.

    Feedback that came before its response is joined to it.
    """
    if new.external_id and (earlier := _by_external_id(session, project, new.external_id)):
        return earlier, False
    response = Response(
        project_id=project.id,
        source_id=_source(session, project, new.source).id,
        model_version_id=new.model_version_id,
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
    must_exist: bool,
) -> tuple[Feedback, bool]:
    """Add one user's word and say whether it is new; the same event again returns the first.

    Raises:
        EventConflict: the event id was used with another body.
        NotFound: `must_exist` and there is no such response; otherwise the feedback waits for it.
    """
    same = select(Feedback).where(Feedback.project_id == project.id, Feedback.event_id == new.event_id)
    if earlier := session.exec(same).first():
        if earlier.body_sha256 != sha256:
            raise EventConflict(f"event_id: {new.event_id} was used with another body")
        return earlier, False
    response = find_response(session, project, response_ref)
    if response is None and must_exist:
        raise NotFound(f"response_id: no response {response_ref}")
    reasons = select(Document.id).where(
        Document.project_id == project.id, Document.kind == DocumentKind.REASONS
    )
    feedback = Feedback(
        project_id=project.id,
        response_ref=response_ref,
        response_id=response.id if response else None,
        reasons_id=session.exec(reasons.order_by(col(Document.version).desc()).limit(1)).first(),
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
    session.add(feedback)
    session.flush()
    return feedback, True


def withdraw(session: Session, feedback: Feedback) -> None:
    """Take a feedback back; the row stays as a tombstone, its words go."""
    feedback.sqlmodel_update({"comment": None, "correction": None, "selection": None})
    feedback.withdrawn_at = feedback.withdrawn_at or utcnow()
    session.add(feedback)


def find_response(session: Session, project: Project, ref: str) -> Response | None:
    """Return the project's response by our id or by the host's external one.

    Raises:
        Forbidden: the id is of another project's response.
    """
    try:
        found = session.get(Response, UUID(ref))
    except ValueError:
        found = None
    if found is None:
        return _by_external_id(session, project, ref)
    if found.project_id != project.id:
        raise Forbidden("response_id: belongs to another project")
    return found


def state_of(session: Session, feedback: Feedback) -> str:
    """Say what became of a feedback by walking from it along the keys to the champion."""
    if feedback.withdrawn_at:
        return "withdrawn"
    task = session.exec(
        select(AnnotationTask).where(
            TaskFlag.task_id == AnnotationTask.id, TaskFlag.feedback_id == feedback.id
        )
    ).first()
    if task is None:
        return "received"
    if task.state is TaskState.SELECTED:
        return "grouped"
    settlement = session.exec(select(Settlement).where(Settlement.task_id == task.id)).first()
    if settlement is None:
        return "declined" if task.state is TaskState.WITHDRAWN else "checking"
    if settlement.verdict != "incorrect" or settlement.cause != "model":
        return "declined"
    return _state_in_training(session, settlement.id)


def _state_in_training(session: Session, settlement_id: UUID) -> str:
    trained = session.exec(
        select(ModelVersion)
        .join(TrainingRun, col(ModelVersion.training_run_id) == TrainingRun.id)
        .join(TrainingSetExample, col(TrainingSetExample.training_set_id) == TrainingRun.training_set_id)
        .where(TrainingSetExample.settlement_id == settlement_id)
    ).all()
    promoted = set(
        session.exec(
            select(Promotion.model_version_id).where(
                col(Promotion.model_version_id).in_([model.id for model in trained])
            )
        )
    )
    if any(model.state is ModelState.CHAMPION and model.id in promoted for model in trained):
        return "live"
    return "trained" if trained else "corrected"


def _by_external_id(session: Session, project: Project, external_id: str) -> Response | None:
    return session.exec(
        select(Response).where(Response.project_id == project.id, Response.external_id == external_id)
    ).first()


def _source(session: Session, project: Project, name: str | None) -> Source:
    named = name or "production"
    found = session.exec(select(Source).where(Source.project_id == project.id, Source.name == named)).first()
    if found is None:
        found = Source(project_id=project.id, name=named)
        session.add(found)
        session.flush()
    return found


def _join_parked(session: Session, response: Response, external_id: str) -> None:
    parked = update(Feedback).where(
        col(Feedback.project_id) == response.project_id,
        col(Feedback.response_ref) == external_id,
        col(Feedback.response_id).is_(None),
    )
    session.execute(parked.values(response_id=response.id))
