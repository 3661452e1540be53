"""What users made of each live version's answers, in their order, and the alarms that were raised about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import Subquery
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from service import projects
from service.tables import (
    Feedback,
    LedgerEntry,
    ModelVersion,
    Project,
    Promotion,
    PromotionKind,
    Rating,
    Response,
    Source,
)

ROSE, DRIFTED = "flag_rate_rose", "prompts_drifted"
NEWEST_RESPONSES = 1_000
SPANS = 20


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which a version was live, and which one was before; without an end it is live now."""

    promotion: Promotion
    model: ModelVersion
    before: ModelVersion | None
    began_before: datetime | None
    until: datetime | None


def live_spans(session: Session, project: Project) -> list[Span]:
    """Return the newest switches of the champion, the newest first; the oldest of many has none before it."""
    history = (
        select(Promotion, ModelVersion)
        .join(ModelVersion, col(Promotion.model_version_id) == ModelVersion.id)
        .where(Promotion.project_id == project.id)
        .order_by(col(Promotion.seq).desc())
        .limit(SPANS + 1)
    )
    found = session.exec(history).all()
    ends = [None, *(promotion.created_at for promotion, _ in found)]
    spans = [
        Span(promotion, model, before, earlier.created_at, until)
        for ((promotion, model), (earlier, before)), until in zip(pairwise(found), ends, strict=False)
    ]
    if found and found[-1][0].kind is PromotionKind.FIRST:
        spans.append(Span(*found[-1], before=None, began_before=None, until=ends[len(found) - 1]))
    return spans


def newest_answers(model: ModelVersion, *, most: int | None = None) -> Subquery:
    """Return the ids of a version's newest answers to users."""
    # What operators ask and flag in the playground says nothing about users.
    tried = select(Source.id).where(Source.project_id == model.project_id, Source.name == projects.PLAYGROUND)
    return (
        select_columns(col(Response.id))
        .where(col(Response.model_version_id) == model.id, col(Response.source_id).not_in(tried))
        .order_by(col(Response.id).desc())
        .limit(most or NEWEST_RESPONSES)
        .subquery()
    )


def is_flag() -> tuple[Any, ...]:
    """Say in SQL that a `Feedback` says something is wrong, was not taken back, and is neither untrusted nor held."""
    is_kept = (
        col(Feedback.withdrawn_at).is_(None),
        col(Feedback.is_trusted),
        col(Feedback.held_for).is_(None),
    )
    return (col(Feedback.rating) == Rating.DOWN, *is_kept)


def reasons_given(session: Session, model: ModelVersion, *, most: int | None = None) -> list[set[str] | None]:
    """Return, of each of a version's newest answers, the oldest first, the reasons of its flags; None without any."""
    newest = newest_answers(model, most=most)
    flags = (
        select_columns(col(Feedback.response_id), col(Feedback.reasons))
        .join(newest, newest.c.id == Feedback.response_id)
        .where(*is_flag())
    )
    found: dict[Any, set[str]] = {}
    for response_id, reasons in session.execute(flags):
        found.setdefault(response_id, set()).update(reasons)
    return [found.get(row.id) for row in session.execute(select_columns(newest.c.id).order_by(newest.c.id))]


def alarms_of(session: Session, project: Project, span: Span) -> Sequence[LedgerEntry]:
    """Return the alarms about what is live, since it went live."""
    raised = select(LedgerEntry).where(
        LedgerEntry.project_id == project.id,
        LedgerEntry.subject == f"v{span.model.number}",
        col(LedgerEntry.action).in_((ROSE, DRIFTED)),
        LedgerEntry.created_at >= span.promotion.created_at,
    )
    return session.exec(raised.order_by(col(LedgerEntry.seq))).all()
