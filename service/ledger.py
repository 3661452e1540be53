"""The ledger: every decision and change, each entry chained to the one before by its hash."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlmodel import Session, col

from retrain.types import sha256_of
from service import notices
from service.tables import LedgerEntry, Project

GENESIS = f"sha256:{'0' * 64}"
_LOCK = 7_263_118  # any number, the same in every process


def append(
    session: Session,
    *,
    actor: str,
    action: str,
    subject: str,
    project_id: UUID | None = None,
    facts: dict[str, Any] | None = None,
) -> LedgerEntry:
    """Add an entry to the chain inside the caller's transaction, and tell whoever wants to hear of it.

    `facts` hold ids and hashes, never a user's text.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    newest = _newest(session)
    entry = LedgerEntry(
        seq=newest.seq + 1 if newest else 1,
        project_id=project_id,
        actor=actor,
        action=action,
        subject=subject,
        facts=facts or {},
        previous=newest.sha256 if newest else GENESIS,
        sha256="",
    )
    entry.sha256 = _hash(entry)
    session.add(entry)
    session.flush()
    notices.tell_of_entry(session, entry)
    return entry


def broken(session: Session) -> Iterator[str]:
    """Yield a sentence for each entry that was edited, removed, swapped or put in between.

    Of entries cut off at the end only a head kept elsewhere tells: a backup's, or `parted_from`.
    """
    previous, seq = GENESIS, 0
    entries = session.scalars(
        select(LedgerEntry).order_by(col(LedgerEntry.seq)).execution_options(yield_per=500)
    )
    for entry in entries:
        seq += 1
        if entry.seq != seq:
            yield f"entry {seq} is missing"
            seq = entry.seq
        if entry.previous != previous:
            yield f"entry {entry.seq} does not follow the one before it"
        if entry.sha256 != _hash(entry):
            yield f"entry {entry.seq} was edited"
        previous = entry.sha256
    if seq == 0 and session.scalars(select(col(Project.id)).limit(1)).first():
        yield "every entry is missing"


def head(session: Session) -> dict[str, Any]:
    """Return the newest entry's number and hash, which prove later that nothing before it was changed or cut off."""
    newest = _newest(session)
    return {"seq": newest.seq if newest else 0, "sha256": newest.sha256 if newest else GENESIS}


def parted_from(session: Session, seq: int, sha256: str) -> Iterator[str]:
    """Yield a sentence if the entry that once was the head is not what it was."""
    found = session.scalars(select(LedgerEntry).where(col(LedgerEntry.seq) == seq)).first()
    if seq and (found is None or found.sha256 != sha256):
        yield f"entry {seq} is not the one that was the head"


def document(entry: LedgerEntry) -> dict[str, Any]:
    """Return what an entry's hash is taken of."""
    return {
        "id": str(entry.id),
        "seq": entry.seq,
        "at": entry.created_at.isoformat(),
        "project": str(entry.project_id),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "facts": entry.facts,
        "previous": entry.previous,
    }


def _newest(session: Session) -> LedgerEntry | None:
    return session.scalars(select(LedgerEntry).order_by(col(LedgerEntry.seq).desc()).limit(1)).first()


def _hash(entry: LedgerEntry) -> str:
    return sha256_of(document(entry))
