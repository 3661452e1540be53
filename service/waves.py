"""Flags of many people in nearly the same words within a day: one case, which waits until an operator lets it go."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import func
from sqlmodel import Session, col, select

from annotation.waves import Said, waves
from retrain.near_duplicates import clusters
from service import ledger, taking_back
from service.errors import WrongState
from service.tables import Feedback, Project, Rating

WITHIN = timedelta(days=1)
LIKENESS = 0.6
MIN_WORDS = 5  # many people write "this is wrong" without knowing of each other
POOL = 5000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Wave:
    """Flags of one wave, and the case that some of them are held as already."""

    case_id: UUID
    members: Sequence[UUID]
    told: str


def find(session: Session, project: Project) -> list[Wave]:
    """Return the waves that flags which nobody looked at belong to; what an operator let go is none, nor what joins it.

    Hidden characters do not make words differ. Looks at the newest `POOL` flags with words.
    """
    has_words = col(Feedback.comment).is_not(None) | col(Feedback.correction).is_not(None)
    flags = (Feedback.project_id == project.id, Feedback.rating == Rating.DOWN, has_words)
    standing = (*flags, col(Feedback.withdrawn_at).is_(None), col(Feedback.is_trusted))
    waiting = select(func.min(Feedback.created_at)).where(
        *standing, col(Feedback.triaged_at).is_(None), col(Feedback.held_for).is_(None)
    )
    oldest = session.exec(waiting).one() if project.wave_voices else None
    if oldest is None:
        return []
    near = select(Feedback).where(*standing, col(Feedback.created_at) >= oldest - WITHIN)
    pool = session.exec(near.order_by(col(Feedback.id).desc()).limit(POOL)).all()
    rows = {str(row.id): row for row in pool if len(_words(row).split()) >= MIN_WORDS}
    groups = clusters([_words(row) for row in rows.values()], threshold=LIKENESS)
    said = (
        Said(key, row.subject or key, row.created_at, group)
        for (key, row), group in zip(rows.items(), groups, strict=True)
    )
    found = waves(said, voices=project.wave_voices, within=WITHIN)
    cases = ([rows[key] for key in keys] for keys in found)
    return [_wave(case) for case in cases if not any(row.case_id and row.held_for is None for row in case)]


def hold(session: Session, wave: Wave) -> int:
    """Hold a wave's flags back as one case, those too that experts were to be asked about; return how many are new."""
    rows = session.exec(select(Feedback).where(col(Feedback.id).in_(wave.members)).with_for_update()).all()
    fresh = [row for row in rows if row.held_for is None and not row.case_id and not row.withdrawn_at]
    for row in rows:
        if row in fresh or row.held_for:
            row.case_id, row.held_for = wave.case_id, wave.told
            session.add(row)
    session.flush()
    for row in fresh:
        if row.triaged_at:
            row.triaged_at = None
            taking_back.let_go(session, row)
    if fresh:
        log.warning("flags_held", case_id=str(wave.case_id), flags=len(fresh))
    return len(fresh)


def release(session: Session, project: Project, case_id: UUID, *, actor: str) -> int:
    """Let a case go: its flags are triaged as all are, and nothing like them is held again.

    Raises:
        WrongState: it is not held.
    """
    held = select(Feedback).where(
        Feedback.project_id == project.id, Feedback.case_id == case_id, col(Feedback.held_for).is_not(None)
    )
    rows = session.exec(held.with_for_update()).all()
    if not rows:
        raise WrongState("held_for: these flags are not held back")
    for row in rows:
        row.held_for = None
        session.add(row)
    facts = {"flags": len(rows)}
    ledger.append(
        session,
        actor=actor,
        action="flags_released",
        subject=str(case_id),
        project_id=project.id,
        facts=facts,
    )
    return len(rows)


def _wave(rows: Sequence[Feedback]) -> Wave:
    people = len({row.subject or row.id for row in rows})
    known = [row.case_id for row in rows if row.case_id]
    hours = WITHIN // timedelta(hours=1)
    told = f"{people} people said nearly the same within {hours} hours"
    return Wave(known[0] if known else rows[0].id, [row.id for row in rows], told)


def _words(row: Feedback) -> str:
    said = f"{row.comment or ''}\n{row.correction or ''}"
    return "".join(letter for letter in said if letter.isascii() or unicodedata.category(letter) != "Cf")
