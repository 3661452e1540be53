"""Where a project's notices go: targets are added, tried and removed, and what died is sent again."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from service import ledger, notices, outgoing, tokens
from service.clock import utcnow
from service.errors import Invalid, WrongState
from service.runtime import Runtime
from service.tables import Notice, NoticeKind, NoticeState, NoticeTarget, Project

CHOICES = [kind for kind in NoticeKind if kind is not NoticeKind.TEST]
REMOVED = "removed"
IS_KEPT = col(NoticeTarget.problem).is_distinct_from(REMOVED)


def add(
    session: Session, project: Project, url: str, kinds: Iterable[str], *, runtime: Runtime, actor: str
) -> dict[str, Any]:
    """Add a target and tell of it, with the secret that signs what it gets.

    Raises:
        Invalid: the URL is not https, or no kind is named, or none of ours.
        AddressRefused: it names a private address.
    """
    outgoing.check_url(url, may_loop_back=runtime.settings.notice_to_loopback)
    wanted = sorted(set(kinds))
    if not wanted or not set(wanted) <= set(CHOICES):
        raise Invalid(f"kinds: name some of {', '.join(CHOICES)}")
    target = NoticeTarget(project_id=project.id, url=url, kinds=wanted)
    session.add(target)
    session.flush()
    _note(session, target, "notice_target_added", actor)
    return told(target) | {"secret": tokens.webhook_secret(str(target.id), runtime.secrets)}


def remove(session: Session, target: NoticeTarget, *, actor: str) -> None:
    """Send a target nothing any more; what it got stays listed."""
    notices.disable(session, target, REMOVED)
    _note(session, target, "notice_target_removed", actor)


def send_test(session: Session, target: NoticeTarget) -> None:
    """Send one target a notice that means nothing.

    Raises:
        WrongState: nothing is sent there any more.
    """
    _refuse_disabled(target)
    facts = {"target": str(target.id)}
    session.add(Notice(project_id=target.project_id, target_id=target.id, kind=NoticeKind.TEST, facts=facts))


def send_again(session: Session, notice: Notice, *, actor: str) -> None:
    """Give a dead notice a fresh set of attempts, under the same id.

    Raises:
        WrongState: it is not dead, what it was about is erased, or nothing is sent there any more.
    """
    if notice.state is not NoticeState.DEAD or not notice.facts:
        raise WrongState(f"notice {notice.id}: only a dead one that is not erased is sent again")
    target = session.get_one(NoticeTarget, notice.target_id)
    _refuse_disabled(target)
    notice.sqlmodel_update({"state": NoticeState.WAITING, "attempts": 0, "not_before": utcnow()})
    session.add(notice)
    _note(session, target, "notice_sent_again", actor)


def targets_of(session: Session, project_id: UUID) -> list[NoticeTarget]:
    """Return a project's targets, newest first, without those that were removed."""
    rows = select(NoticeTarget).where(NoticeTarget.project_id == project_id, IS_KEPT)
    return list(session.exec(rows.order_by(col(NoticeTarget.id).desc())))


def newest(session: Session, project_id: UUID, limit: int, state: NoticeState | None = None) -> list[Notice]:
    """Return a project's newest notices, or those in one state."""
    rows = select(Notice).where(Notice.project_id == project_id).order_by(col(Notice.id).desc())
    return list(session.exec((rows.where(Notice.state == state) if state else rows).limit(limit)))


def told(row: NoticeTarget | Notice) -> dict[str, Any]:
    """Tell of a target or a notice as programs hear it."""
    return row.model_dump(mode="json", exclude={"project_id", "about_id"})


def _refuse_disabled(target: NoticeTarget) -> None:
    if target.problem:
        raise WrongState(f"target {target.id}: nothing is sent there any more ({target.problem})")


def _note(session: Session, target: NoticeTarget, action: str, actor: str) -> None:
    ledger.append(session, actor=actor, action=action, subject=str(target.id), project_id=target.project_id)
