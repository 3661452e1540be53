"""What each promotion cost and brought: its outcomes before and after, the work behind it, the flags that it fixed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, exists, select

from retrain.intervals import Interval, difference
from retrain.worth import HOUR, Rates, payback, together, valued
from service.answers.monitors import Span, live_spans, newest_answers
from service.answers.outcomes import of_version
from service.answers.overview import effort
from service.rates import rates_of
from service.tables import ModelVersion, Project, PromotionKind, Recheck

PROMOTIONS, ANSWERS = 5, 10_000
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Change:
    """An outcome's mean before and after a promotion, and by how much it differs; `worth` is that per answer."""

    name: str
    unit: str
    before: Interval
    after: Interval
    change: Interval
    worth: Interval | None


@dataclass(frozen=True, slots=True)
class Worth:
    """What a promotion cost since the one before, in hours and at the project's rates, and what it brought.

    `payback` is in days, between limits; None where that cannot be told, for which `sentence` says why.
    """

    version: int
    live_since: datetime
    expert_hours: float
    compute_hours: float
    cost: float | None
    fixed: int
    cost_per_fix: float | None
    answers_a_day: float
    changes: Sequence[Change]
    gain: Interval | None
    payback: tuple[float, float] | None
    sentence: str


def worth_of(session: Session, project: Project, *, now: datetime) -> tuple[Rates | None, list[Worth]]:
    """Return a project's rates, and what its newest promotions cost and brought, the newest first."""
    rates = rates_of(session, project)
    spans = [span for span in live_spans(session, project) if span.promotion.kind is PromotionKind.PROMOTION]
    return rates, [
        _worth(session, project, span, rates, now=now) for span in spans[:PROMOTIONS] if span.before
    ]


def _worth(session: Session, project: Project, span: Span, rates: Rates | None, *, now: datetime) -> Worth:
    people, machines = effort(session, project, now=span.promotion.created_at, since=span.began_before)
    changes = _changes(session, span, rates)
    gain = together([each.worth for each in changes if each.worth])
    cost = rates.cost(people.total, machines.total) if rates else None
    fixed, a_day = _fixed(session, span.model), _answers_a_day(session, span, now=now)
    paid = payback(cost, gain, a_day) if cost is not None else None
    return Worth(
        version=span.model.number,
        live_since=span.promotion.created_at,
        expert_hours=people.total / HOUR,
        compute_hours=machines.total / HOUR,
        cost=cost,
        fixed=fixed,
        cost_per_fix=cost / fixed if cost is not None and fixed else None,
        answers_a_day=a_day,
        changes=changes,
        gain=gain,
        payback=paid,
        sentence=_sentence(rates, gain, paid, a_day),
    )


def _changes(session: Session, span: Span, rates: Rates | None) -> list[Change]:
    before = {(each.name, each.unit): each.mean for each in of_version(session, span.before or span.model)}
    found = []
    for after in sorted(of_version(session, span.model), key=lambda each: (each.name, each.unit)):
        if earlier := before.get((after.name, after.unit)):
            change = difference(earlier, after.mean)
            rate = rates.outcomes.get(after.name) if rates else None
            worth = None if rate is None else valued(change, rate)
            found.append(Change(after.name, after.unit, earlier, after.mean, change, worth))
    return found


def _fixed(session: Session, model: ModelVersion) -> int:
    """Count what users flagged, and the version before did not pass when asked, that this one does."""
    earlier = aliased(Recheck)
    known = exists().where(
        col(earlier.settlement_id) == Recheck.settlement_id, col(earlier.passed), col(earlier.id) < Recheck.id
    )
    passed = select(func.count()).select_from(Recheck)
    return session.exec(passed.where(Recheck.model_version_id == model.id, col(Recheck.passed), ~known)).one()


def _answers_a_day(session: Session, span: Span, *, now: datetime) -> float:
    newest = newest_answers(span.model, most=ANSWERS)
    days = max(((span.until or now) - span.promotion.created_at) / DAY, 1.0)
    return session.exec(select(func.count()).select_from(newest)).one() / days


def _sentence(
    rates: Rates | None, gain: Interval | None, paid: tuple[float, float] | None, a_day: float
) -> str:
    """Say what can be said of the payback, and no more."""
    if rates is None:
        return "Cannot tell: the project has no rates."
    if gain is None:
        return "Cannot tell: no outcome with a rate is known of this version and the one before."
    if paid:
        return f"At {a_day:,.0f} answers a day it pays for itself in {paid[0]:,.1f} to {paid[1]:,.1f} days."
    if gain.high <= 0:
        return "It does not pay for itself: its outcomes are worth less than those of the version before."
    return "Cannot tell: what it brings may be nothing, by the interval."
