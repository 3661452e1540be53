"""Stage 1: remember what the model answered and what its users say about that."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from uuid import UUID

from sqlalchemy import update
from sqlmodel import Session, col, select

from retrain.types import sha256_of
from service import ledger, projects, taking_back, tokens
from service.client import signing
from service.client.signing import FeedbackToken
from service.db import insert_now
from service.errors import EventConflict, NotFound, ResponseMismatch
from service.masking import Masking
from service.received import by_external_id, find_response, of_event, take_turns, text_sha256_of, word_of
from service.secrets import Secrets
from service.tables import (
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
)

MAX_DIGITS = 9
REPORTED = "reports"  # the source of answers that nobody logged
NOT_REPORTED = "(The answer was not reported.)"
MAX_EARLIER = 20  # of one user's events about one response that are known again


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
    channel: str | None = None


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
class NewReport:
    """One complaint that came by another way than the widget."""

    event_id: UUID
    question: str
    complaint: str
    channel: str
    answer: str | None = None
    reasons: list[str] = field(default_factory=list)
    subject: str | None = None


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
        take_turns(session, f"{project.id}/response/{new.external_id}")
        if earlier := by_external_id(session, project, new.external_id):
            return earlier, False
    masking = Masking(is_on=project.masks_personal)
    said = new.response
    new = _masked_response(new, masking)
    response = Response(
        project_id=project.id,
        source_id=_source(session, project, new.source).id,
        model_version_id=new.model_version_id or _version_id(session, project, new.model_version),
        model_version=new.model_version,
        external_id=new.external_id,
        conversation_id=new.conversation_id,
        messages=new.messages,
        text=new.response,
        # Of what was masked no hash is kept but the one that tokens carry.
        body_sha256=sha256_of([new.messages, new.response]) if masking.counts else sha256,
        text_sha256=signing.text_sha256(said) if new.response != said else None,
        masked=dict(masking.counts),
        channel=new.channel,
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
    kid = project.token_keys[0]["kid"]
    token = FeedbackToken(
        kid=kid,
        project=project.slug,
        response=str(response.id),
        sha256=text_sha256_of(response),
        model=response.model_version,
        subject=response.subject,
        iat=issued,
        exp=issued + int(days * 86_400),
    )
    return signing.seal(token, tokens.signing_key(project.slug, kid, keys))


def record_feedback(
    session: Session,
    project: Project,
    new: NewFeedback,
    *,
    response_ref: str,
    subject: str | None,
    sha256: str,
    text_sha256: str | None = None,
    is_trusted: bool = True,
) -> tuple[Feedback, bool]:
    """Add one user's word and say whether it is new; the same event again returns the first.

    A subject has one voice on each response: another event of theirs changes what they said. Feedback may come
    before its response; then it waits, as all do whose response nobody knows. `text_sha256` is what the response's
    text has to be; what is not trusted waits for an operator.

    Raises:
        EventConflict: the event id was used with another body.
        NotFound: the response was erased.
        ResponseMismatch: the response has another text.
    """
    new, counts = _masked_feedback(new, Masking(is_on=project.masks_personal))
    if counts:
        sha256 = sha256_of([response_ref, {**asdict(new), "event_id": str(new.event_id)}])
    take_turns(session, f"{project.id}/event/{new.event_id}", f"{project.id}/response/{response_ref}")
    if earlier := of_event(session, Feedback, project, new.event_id):
        return _same(earlier, new.event_id, earlier.body_sha256, sha256), False
    row = Feedback(
        project_id=project.id,
        response_ref=response_ref,
        subject=subject,
        text_sha256=text_sha256,
        body_sha256=sha256,
        masked=counts,
        is_trusted=is_trusted,
        **asdict(new),
    )
    return _record_word(session, project, new, row)


def record_report(session: Session, project: Project, new: NewReport) -> tuple[Feedback, bool]:
    """Add a complaint as a flag of an unverified answer and say whether it is new, as `record_feedback` does.

    Raises:
        EventConflict: the event id was used with another body.
    """
    sha256 = sha256_of({**asdict(new), "event_id": str(new.event_id)})
    take_turns(session, f"{project.id}/event/{new.event_id}")
    if earlier := of_event(session, Feedback, project, new.event_id):
        return _same(earlier, new.event_id, earlier.body_sha256, sha256), False
    answered = NewResponse(
        messages=[{"role": "user", "content": new.question}],
        response=new.answer or NOT_REPORTED,
        source=REPORTED,
        subject=new.subject,
        channel=new.channel,
    )
    response, _ = log_response(session, project, answered, sha256=sha256)
    said = NewFeedback(new.event_id, Rating.DOWN, new.reasons, new.complaint)
    flag, _ = record_feedback(
        session, project, said, response_ref=str(response.id), subject=new.subject, sha256=sha256
    )
    flag.body_sha256 = sha256
    return flag, True


def take_in(session: Session, project: Project, row_id: UUID, *, actor: str) -> Feedback:
    """Let experts be asked about what came without a token.

    Raises:
        NotFound: the project has no such feedback.
    """
    found = session.get(Feedback, row_id)
    if found is None or found.project_id != project.id:
        raise NotFound(f"no feedback {row_id}")
    found.is_trusted = True
    ledger.append(
        session, actor=actor, action="feedback_taken_in", subject=str(found.id), project_id=project.id
    )
    return found


def record_signal(
    session: Session, project: Project, response_ref: str, *, event_id: UUID, kind: SignalKind
) -> tuple[Signal, bool]:
    """Add what a user did with an answer and say whether it is new; it has no words, and leads nowhere.

    Raises:
        NotFound: the project has no such response.
    """
    take_turns(session, f"{project.id}/event/{event_id}")
    if earlier := of_event(session, Signal, project, event_id):
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
    take_turns(session, f"{project.id}/event/{new.event_id}")
    if earlier := of_event(session, Outcome, project, new.event_id):
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


def _record_word(
    session: Session, project: Project, new: NewFeedback, row: Feedback
) -> tuple[Feedback, bool]:
    """Add a word as a row, or let it change what its subject said before of the same response."""
    response = find_response(session, project, row.response_ref)
    if response and row.text_sha256 not in (None, text_sha256_of(response)):
        raise ResponseMismatch(f"feedback_token: response {row.response_ref} has another text")
    own = row.subject and word_of(session, project, row.subject, row.response_ref, response)
    if own:
        return _said_anew(session, own, new, {"body_sha256": row.body_sha256, "masked": row.masked}), False
    row.response_id = response.id if response else None
    row.reasons_id = projects.current(session, project.id, DocumentKind.REASONS).id
    insert_now(session, row)
    return row, True


def _masked_response(new: NewResponse, masking: Masking) -> NewResponse:
    return replace(
        new,
        messages=[masking.within(turn, "content") for turn in new.messages],
        response=masking.text(new.response),
        context=[masking.within(passage, "text") for passage in new.context],
    )


def _masked_feedback(new: NewFeedback, masking: Masking) -> tuple[NewFeedback, dict[str, int]]:
    clean = replace(
        new,
        comment=masking.maybe(new.comment),
        correction=masking.maybe(new.correction),
        selection=new.selection and masking.within(new.selection, "quote"),
    )
    return clean, dict(masking.counts)


def _same(feedback: Feedback, event_id: UUID, known: str, sha256: str) -> Feedback:
    if known != sha256:
        raise EventConflict(f"event_id: {event_id} was used with another body")
    return feedback


def _said_anew(session: Session, own: Feedback, new: NewFeedback, more: Mapping[str, Any]) -> Feedback:
    """Let a later event change what somebody said; one that came before and is sent again changes nothing."""
    if known := own.earlier_events.get(str(new.event_id)):
        return _same(own, new.event_id, known, more["body_sha256"])
    events = {**own.earlier_events, str(own.event_id): own.body_sha256}
    own.earlier_events = dict(list(events.items())[-MAX_EARLIER:])
    taking_back.change(session, own, {**asdict(new), **more})
    return own


def _source(session: Session, project: Project, name: str | None) -> Source:
    named = name or "production"
    sources = select(Source).where(Source.project_id == project.id, Source.name == named)
    found = session.exec(sources).first()
    if found is None:
        take_turns(session, f"{project.id}/source/{named}")
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
    said = col(Feedback.text_sha256)
    is_same = said.is_(None) | (said == text_sha256_of(response))
    session.execute(parked.where(is_same).values(response_id=response.id))
    session.execute(parked.where(~is_same).values(is_mismatched=True))
