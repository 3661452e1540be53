"""What people may ask about their own words: to be forgotten, with a certificate; and what stands against it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlmodel import Session, col, select

from retrain.types import canonical_json, sha256_of
from service import ledger, tokens
from service.answers.erasures import is_of, of_subject, reach
from service.backups import BACKED_UP
from service.clock import utcnow
from service.errors import Invalid, NotFound, OnHold, PreviewStale
from service.queue import JobQueue
from service.secrets import Secrets
from service.tables import (
    Annotation,
    AnnotationTask,
    Erasure,
    Feedback,
    GuidelineQuestion,
    Job,
    JobKind,
    LedgerEntry,
    LegalHold,
    Outcome,
    Project,
    Response,
    Settlement,
    Signal,
)

CERTIFICATE = "errata erasure certificate 1"
CERTIFIED = "erasure_certified"
ATTEMPTS = 12  # half a day, for a training that reads the rows or a tool that is away
# A settlement's explanation names experts.
INTERNAL = {
    *("body_sha256", "annotator_id", "reasons_id", "schema_id", "guidelines_id", "explanation"),
    *("user_id", "answered_by"),
    "case_id",
}


def preview(session: Session, secrets: Secrets, subject: str, project: Project | None) -> dict[str, Any]:
    """Return, as counts and names, what an erasure would take, and the `confirm` that asks for just that.

    Raises:
        OnHold: it would be refused.
    """
    project_id = project.id if project else None
    refuse_hold(session, subject, project_id)
    responses = is_of(subject, project_id)
    ids = select(Response.id).where(responses)
    feedback = of_subject(Feedback, subject, project_id) | col(Feedback.response_id).in_(ids)
    told = {
        "responses": session.exec(select(func.count()).select_from(Response).where(responses)).one(),
        "feedback": session.exec(select(func.count()).select_from(Feedback).where(feedback)).one(),
        **reach(session, responses),
    }
    return told | {"confirm": tokens.seal(sha256_of([subject, str(project_id), told]), secrets)}


def ask_erasure(
    session: Session,
    queue: JobQueue,
    secrets: Secrets,
    subject: str,
    project: Project | None,
    *,
    confirm: str,
    actor: str,
) -> tuple[Erasure, UUID]:
    """Ask for what a preview showed; return the wish and its job.

    Raises:
        OnHold: somebody must keep it.
        PreviewStale: another preview would show something else.
    """
    if confirm != preview(session, secrets, subject, project)["confirm"]:
        raise PreviewStale("confirm: what would be erased has changed since it was shown; look again")
    project_id = project.id if project else None
    wish = Erasure(project_id=project_id, subject=subject, salted=secrets.salted(subject), actor=actor)
    session.add(wish)
    session.flush()
    job = queue.ask(
        session, JobKind.ERASE, wish.id, project_id=project_id, unique_key=f"erase:{wish.id}", actor=actor
    )
    session.get_one(Job, job).max_attempts = ATTEMPTS
    return wish, job


def certify(
    session: Session, secrets: Secrets, erasure_id: UUID, *, tasks: int, now: datetime
) -> dict[str, Any]:
    """Write and return the signed certificate of an erasure whose every step is done; the first one stays.

    It holds counts, names of sets and models, and salted digests: no word of the person's, and not their name.
    """
    wish = session.get_one(Erasure, erasure_id, with_for_update=True)
    if wish.certificate:
        return wish.certificate
    reached = reach(session, col(Response.erased_at) == wish.erased_at)
    ids = session.exec(select(Response.id).where(Response.erased_at == wish.erased_at)).all()
    told = {
        "what": CERTIFICATE,
        "erasure": str(wish.id),
        "project": session.get_one(Project, wish.project_id).slug if wish.project_id else None,
        "subject": wish.salted,
        "asked_by": wish.actor,
        "asked_at": wish.created_at.isoformat(),
        "erased_at": wish.erased_at.isoformat() if wish.erased_at else None,
        "certified_at": now.isoformat(),
        "counts": wish.counts | {"tasks": tasks, "sets": len(reached["sets"])},
        "responses": sorted(secrets.salted(str(key)) for key in ids),
        "sets": reached["sets"],
        "models": reached["models"],
        "backups": _backups(session, now),
        "key_id": secrets.key_id,
    }
    told["signature"] = tokens.seal(canonical_json(told).decode(), secrets)
    note(session, wish, CERTIFIED, {"certificate": sha256_of(told)})
    wish.certificate = told
    return told


def _backups(session: Session, now: datetime) -> dict[str, Any]:
    """Say by which day no backup can be read any more that may hold the words: None if one was made without a key."""
    made = select(LedgerEntry).where(LedgerEntry.action == BACKED_UP)
    days = [entry.facts["readable_until"] for entry in session.exec(made)]
    open_for_ever = days.count(None)
    readable = [day for day in days if day and day > now.date().isoformat()]
    return {
        "unreadable_by": None if open_for_ever else max(readable, default=now.date().isoformat()),
        "without_key": open_for_ever,
    }


def note(session: Session, wish: Erasure, action: str, facts: Mapping[str, Any]) -> None:
    """Write down what was done for an erasure; the person by digest alone, for the ledger outlives it."""
    ledger.append(
        session,
        actor=wish.actor,
        action=action,
        subject=wish.salted,
        project_id=wish.project_id,
        facts={"erasure": str(wish.id), **facts},
    )


def verify_certificate(session: Session, secrets: Secrets, certificate: Any) -> dict[str, Any]:
    """Say whether this installation wrote a certificate, and its ledger knows it.

    Raises:
        Invalid: it is no certificate, or it was changed.
    """
    if not isinstance(certificate, dict) or certificate.get("what") != CERTIFICATE:
        raise Invalid("the file is no erasure certificate")
    told = {name: value for name, value in certificate.items() if name != "signature"}
    if not tokens.is_sealed(canonical_json(told).decode(), str(certificate.get("signature")), secrets):
        raise Invalid("the certificate is not one of this installation's, or it was changed")
    noted = select(LedgerEntry).where(
        LedgerEntry.action == CERTIFIED, LedgerEntry.subject == str(certificate["subject"])
    )
    sha256 = sha256_of(certificate)
    if all(entry.facts["certificate"] != sha256 for entry in session.exec(noted)):
        raise Invalid("the certificate is signed, but the ledger does not know it")
    return {"genuine": True, "counts": certificate["counts"], "certified_at": certificate["certified_at"]}


def export(
    session: Session, secrets: Secrets, subject: str, project: Project | None, *, actor: str
) -> dict[str, Any]:
    """Return everything that is kept of a person, and note in the ledger that it was handed out.

    What others said about the answers they got is not theirs; what experts made of them is told without their names.
    """
    project_id = project.id if project else None
    responses = is_of(subject, project_id)
    ids = select(Response.id).where(responses)
    tasks = select(AnnotationTask.id).where(col(AnnotationTask.response_id).in_(ids))
    rows: dict[str, Any] = {
        "responses": select(Response).where(responses),
        "feedback": select(Feedback).where(of_subject(Feedback, subject, project_id)),
        "annotations": select(Annotation).where(col(Annotation.task_id).in_(tasks)),
        "settlements": select(Settlement).where(col(Settlement.task_id).in_(tasks)),
        "questions": select(GuidelineQuestion).where(col(GuidelineQuestion.task_id).in_(tasks)),
        "signals": select(Signal).where(col(Signal.response_id).in_(ids)),
        "outcomes": select(Outcome).where(col(Outcome.response_id).in_(ids)),
    }
    document: dict[str, Any] = {
        name: [row.model_dump(mode="json", exclude=INTERNAL) for row in session.exec(found)]
        for name, found in rows.items()
    }
    counts = {name: len(found) for name, found in document.items()}
    ledger.append(
        session,
        actor=actor,
        action="subject_exported",
        subject=secrets.salted(subject),
        project_id=project_id,
        facts=counts,
    )
    reached = reach(session, responses)
    return {"subject": subject, **document, "sets": reached["sets"], "models": reached["models"]}


def hold(
    session: Session,
    secrets: Secrets,
    subject: str,
    project: Project,
    *,
    reason: str,
    until: datetime | None,
    actor: str,
) -> LegalHold:
    """Keep a person's words from being erased, until a moment or until it is lifted.

    Raises:
        Invalid: there is no reason.
    """
    if not reason.strip():
        raise Invalid("reason: say why")
    row = LegalHold(project_id=project.id, subject=subject, reason=reason, until=until, actor=actor)
    session.add(row)
    session.flush()
    _note(session, row, secrets.salted(subject), action="legal_hold_imposed", actor=actor)
    return row


def lift(session: Session, secrets: Secrets, subject: str, project: Project, *, actor: str) -> int:
    """Lift every hold on a person, and return how many there were.

    Raises:
        NotFound: there is none.
    """
    found = session.exec(
        select(LegalHold).where(
            of_subject(LegalHold, subject, project.id), col(LegalHold.lifted_at).is_(None)
        )
    ).all()
    if not found:
        raise NotFound("subject: under no legal hold")
    for row in found:
        row.sqlmodel_update({"subject": None, "lifted_at": utcnow(), "lifted_by": actor})
        session.add(row)
        _note(session, row, secrets.salted(subject), action="legal_hold_lifted", actor=actor)
    return len(found)


def holds(session: Session, project: Project) -> list[LegalHold]:
    """Return a project's holds in force, oldest first."""
    found = _in_force().where(LegalHold.project_id == project.id)
    return list(session.exec(found.order_by(col(LegalHold.id))))


def _in_force() -> Any:
    return select(LegalHold).where(
        col(LegalHold.subject).is_not(None),
        col(LegalHold.lifted_at).is_(None),
        col(LegalHold.until).is_(None) | (col(LegalHold.until) > utcnow()),
    )


def refuse_hold(session: Session, subject: str, project_id: UUID | None) -> None:
    """Raise OnHold while a person's words must be kept."""
    if found := session.exec(_in_force().where(of_subject(LegalHold, subject, project_id))).first():
        until = f"until {found.until.date()}" if found.until else "until it is lifted"
        raise OnHold(f"subject: under a legal hold by {found.actor} {until}")


def _note(session: Session, row: LegalHold, salted: str, *, action: str, actor: str) -> None:
    """Write it down; the person by digest alone, for the ledger outlives an erasure."""
    ledger.append(
        session,
        actor=actor,
        action=action,
        subject=salted,
        project_id=row.project_id,
        facts={"hold": str(row.id)},
    )
