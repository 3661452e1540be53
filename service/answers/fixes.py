"""Did the fix work? For each reason that a version was taught about: how often users flag with it, before and after."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import aliased
from sqlmodel import Session, col, exists, select

from annotation.types import Cause, Verdict
from retrain.amounts import how_many
from retrain.intervals import Interval, difference, more_needed, wilson
from retrain.types import Split
from service.answers.flags import ANSWERED, FLAG
from service.answers.monitors import Span, live_spans, reasons_given
from service.settlements import IN_FORCE
from service.tables import (
    AnnotationTask,
    ModelVersion,
    Project,
    Promotion,
    PromotionKind,
    Recheck,
    Settlement,
    TrainingRun,
    TrainingSetExample,
)

PROMOTIONS, TAUGHT = 5, 2_000  # the newest, and of what each was taught


@dataclass(frozen=True, slots=True)
class Fix:
    """What a version was taught about one reason, how much of it passed when asked again, and the flags with it since.

    `before` is the share of the answers of the version before that were flagged so, `after` that of this one's.
    """

    version: int
    reason: str
    taught: int
    passed: int
    before: Interval | None
    after: Interval | None
    change: Interval | None
    sentence: str


def fixes_of(session: Session, project: Project) -> list[Fix]:
    """Return, the newest promotion first, what each version was the first to be taught, by reason."""
    spans = [
        span
        for span in live_spans(session, project)
        if span.promotion.kind is PromotionKind.PROMOTION and span.before is not None
    ]
    flagged: dict[UUID, list[set[str] | None]] = {}
    found = []
    for span in spans[:PROMOTIONS]:
        taught, passed = _taught(session, span)
        for model in (span.model, span.before):
            if taught and model is not None and model.id not in flagged:
                flagged[model.id] = reasons_given(session, model)
        found += [
            _fix(span, reason, count, passed[reason], flagged)
            for reason, count in sorted(taught.items(), key=lambda one: (-one[1], one[0]))
        ]
    return found


def _fix(
    span: Span, reason: str, taught: int, passed: int, flagged: dict[UUID, list[set[str] | None]]
) -> Fix:
    before = _share(flagged[span.before.id], reason) if span.before else None
    after = _share(flagged[span.model.id], reason)
    change = difference(before, after) if before and after else None
    sentence = _sentence(span.model.number, before, after)
    return Fix(span.model.number, reason, taught, passed, before, after, change, sentence)


def _share(answers: list[set[str] | None], reason: str) -> Interval | None:
    with_it = sum(reasons is not None and reason in reasons for reasons in answers)
    return wilson(with_it, len(answers)) if answers else None


def _sentence(version: int, before: Interval | None, after: Interval | None) -> str:
    """Say whether it worked, and no more than the interval does."""
    if before is None or after is None:
        missing = f"version {version}" if after is None else "the version before"
        return f"Cannot tell: no answers of {missing} are logged."
    change = difference(before, after)
    less, more = sorted((abs(change.low), abs(change.high)))
    points = f"by {100 * less:.1f} to {100 * more:.1f} points"
    if change.high < 0:
        return f"It worked: users flag with this reason less often, {points}."
    if change.low > 0:
        return f"It did not work: users flag with this reason more often, {points}."
    if not change.value:
        return "Cannot tell yet: so far they flag with it as often as before."
    needed = more_needed(before, after)
    if needed is None:
        return "Cannot tell: too few answers of the version before are known for so small a difference."
    return f"Cannot tell yet: it takes about {how_many(needed, 'more answer')}, if both stay as they are."


def _taught(session: Session, span: Span) -> tuple[Counter[str], Counter[str]]:
    """Count by reason the corrections that a version was the first one live to learn, and those that it passed."""
    earlier, run = aliased(TrainingSetExample), aliased(TrainingRun)
    was_live, promoted = aliased(ModelVersion), aliased(Promotion)
    known = exists().where(
        col(earlier.settlement_id) == Settlement.id,
        col(earlier.split) == Split.TRAIN,
        col(run.training_set_id) == earlier.training_set_id,
        col(was_live.training_run_id) == run.id,
        col(promoted.model_version_id) == was_live.id,
        col(promoted.project_id) == span.promotion.project_id,
        col(promoted.seq) < span.promotion.seq,
    )
    newest = (
        select(TrainingSetExample.settlement_id)
        .join(TrainingRun, col(TrainingRun.training_set_id) == TrainingSetExample.training_set_id)
        .where(TrainingRun.id == span.model.training_run_id, TrainingSetExample.split == Split.TRAIN)
        .order_by(col(TrainingSetExample.settlement_id).desc())
        .limit(TAUGHT)
    ).subquery()
    rows = (
        select(Settlement.id, FLAG.reasons, Recheck.passed)
        .join(newest, newest.c.settlement_id == Settlement.id)
        .join(AnnotationTask, col(AnnotationTask.id) == Settlement.task_id)
        .join(
            Recheck,
            (col(Recheck.settlement_id) == Settlement.id) & (col(Recheck.model_version_id) == span.model.id),
            isouter=True,
        )
        .where(IN_FORCE, Settlement.verdict == Verdict.INCORRECT, Settlement.cause == Cause.MODEL, ~known)
        .where(*ANSWERED, col(FLAG.withdrawn_at).is_(None))
    )
    given: dict[UUID, tuple[set[str], bool]] = {}
    for key, reasons, has_passed in session.exec(rows):
        given.setdefault(key, (set(), bool(has_passed)))[0].update(reasons)
    return _counted(iter(given.values())), _counted(one for one in given.values() if one[1])


def _counted(given: Iterator[tuple[set[str], bool]]) -> Counter[str]:
    return Counter(reason for reasons, _ in given for reason in reasons)
