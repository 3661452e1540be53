"""The ledger: every decision and change, each entry chained to the one before by its hash."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlmodel import Session, col

from retrain.types import sha256_of
from service import notices
from service.tables import LedgerEntry

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
    newest = session.scalars(select(LedgerEntry).order_by(col(LedgerEntry.seq).desc()).limit(1)).first()
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
    """Yield a sentence for each entry that was edited, removed, swapped or put in between."""
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


def document(entry: LedgerEntry) -> dict[str, Any]:
    """Return what an entry's hash is taken of."""
    return {
        "seq": entry.seq,
        "at": entry.created_at.isoformat(),
        "project": str(entry.project_id),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "facts": entry.facts,
        "previous": entry.previous,
    }


def _hash(entry: LedgerEntry) -> str:
    return sha256_of(document(entry))
