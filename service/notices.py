"""What others hear of: each notice is written in the transaction in which it happens, one for each target."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import update
from sqlmodel import Session, col, select

from service.tables import Job, JobKind, JobState, LedgerEntry, Notice, NoticeKind, NoticeState, NoticeTarget

ALARMS = (
    "annotation_quarantined",
    "consolidation_proposed",
    "flag_rate_rose",
    "prompts_drifted",
    "quarantined",
    "tool_away",
    "tool_project_lost",
    "webhook_put_back",
)
# By what the ledger calls it; what is not noted there is told where it happens.
TOLD: dict[str, tuple[NoticeKind, ...]] = dict.fromkeys(ALARMS, (NoticeKind.ALARM,)) | {
    "evaluation_passed": (NoticeKind.GATE_PASSED, NoticeKind.APPROVAL_WANTED),
    "evaluation_refused": (NoticeKind.GATE_REFUSED,),
    "evaluation_cannot_tell": (NoticeKind.GATE_REFUSED,),
    "promotion": (NoticeKind.PROMOTED,),
    "rollback": (NoticeKind.ROLLED_BACK,),
    "override": (NoticeKind.PROMOTED, NoticeKind.ALARM),
}


def tell(
    session: Session,
    project_id: UUID | None,
    kind: NoticeKind,
    told: Iterable[Mapping[str, Any]],
    *,
    but: UUID | None = None,
) -> None:
    """Add a notice of each of these facts for every target that wants the kind, `but` one; they hold no user's text."""
    rows = select(NoticeTarget).where(
        NoticeTarget.project_id == project_id, col(NoticeTarget.problem).is_(None)
    )
    targets = [row for row in session.exec(rows) if kind in row.kinds and row.id != but]
    for facts in told if targets else ():
        about = facts.get("feedback") or facts.get("task") or facts.get("annotator")
        session.add_all(
            Notice(
                project_id=target.project_id,
                target_id=target.id,
                kind=kind,
                facts=dict(facts),
                about_id=UUID(about) if about else None,
            )
            for target in targets
        )


def tell_of_entry(session: Session, entry: LedgerEntry) -> None:
    """Tell of what an entry of the ledger says, but not who did it."""
    for kind in TOLD.get(entry.action, ()):
        # Of an alarm the subject may be a name that a user's application gave.
        named = {} if kind is NoticeKind.ALARM else {"model_version": entry.subject}
        tell(session, entry.project_id, kind, [{"event": entry.action, **named, **entry.facts}])


def tell_of_dead(session: Session, job: Job) -> None:
    """Tell that a job gave up, unless it was to send notices: each would be about the one before."""
    if job.state is JobState.DEAD and job.kind is not JobKind.NOTIFY:
        facts = {"job": str(job.id), "kind": job.kind.value, "code": job.failure_code or ""}
        tell(session, job.project_id, NoticeKind.DEAD_LETTER, [facts])


def give_up(session: Session, notice: Notice) -> None:
    """Let a notice die, and tell the other targets."""
    notice.state = NoticeState.DEAD
    if notice.kind is not NoticeKind.DEAD_LETTER:
        facts = {"notice": str(notice.id), "target": str(notice.target_id), "kind": notice.kind.value}
        tell(session, notice.project_id, NoticeKind.DEAD_LETTER, [facts], but=notice.target_id)


def disable(session: Session, target: NoticeTarget, why: str) -> None:
    """Send a target nothing any more; what waits for it dies."""
    target.problem = why
    session.add(target)
    let_die(session, col(Notice.target_id) == target.id, why)


def let_die(session: Session, condition: Any, why: str) -> None:
    """Give up what waits of the notices that a condition finds."""
    waiting = update(Notice).where(condition, col(Notice.state) == NoticeState.WAITING)
    dead = waiting.values(state=NoticeState.DEAD, failure=why)
    session.execute(dead.execution_options(synchronize_session=False))


def forget(session: Session, about: Any, why: str) -> None:
    """Send nothing more about these feedbacks, tasks or annotators (ids, or a query of them), and keep no word."""
    told = col(Notice.about_id).in_(about)
    let_die(session, told, why)
    emptied = update(Notice).where(told).values(facts={})
    session.execute(emptied.execution_options(synchronize_session=False))
