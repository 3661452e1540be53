"""Beside the loop: send what others are to hear of, signed, and again until they have heard it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlmodel import Session, col, select
from standardwebhooks import Webhook

from retrain.types import canonical_json
from service import ledger, notices, tokens
from service.clock import utcnow
from service.errors import AddressRefused, Invalid, TryAgain
from service.queue import Lease
from service.runtime import Runtime
from service.tables import Notice, NoticeState, NoticeTarget, Project

AT_ONCE = 32  # targets
BATCH = 100  # notices for one target, before other projects have their turn
TURN = timedelta(minutes=1)  # for one target: the job ends with the slowest
GONE = 410
# Where more is told, by the first of these that a notice names.
PAGES = {
    "feedback": "/v1/feedback/{feedback}/status/{signature}",
    "task": "/p/{slug}/tasks/{task}",
    "annotator": "/p/{slug}/work",
    "evaluation": "/p/{slug}/evaluations/{evaluation}",
    "seq": "/p/{slug}/models",
    "job": "/p/{slug}/jobs/{job}",
    "target": "/p/{slug}/notices",
    "event": "/p/{slug}/ledger",
}

log = structlog.get_logger()


class Post(Protocol):
    """Sends a body, and returns the answer's status."""

    def __call__(self, url: str, body: bytes, headers: dict[str, str], *, seconds: float) -> int: ...


def deliver(runtime: Runtime, lease: Lease, project_id: UUID, post: Post) -> dict[str, int]:
    """Send what is due to each target by itself, in the order in which it happened, until one fails.

    That one rests, and what came after it goes first then: its time stands in it. A target that is slow or dead keeps
    no other waiting.
    """
    with lease.transaction() as session:
        due = select(Notice.target_id).where(Notice.project_id == project_id, *_is_due()).distinct()
        targets = session.exec(due.limit(AT_ONCE)).all()
    serve = partial(_serve, runtime, lease, post, utcnow() + TURN)
    with ThreadPoolExecutor(max_workers=max(1, len(targets))) as pool:
        return {"delivered": sum(pool.map(serve, targets))}


def _serve(runtime: Runtime, lease: Lease, post: Post, until: datetime, target_id: UUID) -> int:
    """Send a target what is due, begin nothing `until` when its turn is over, and count what it has heard."""
    due = select(Notice).where(Notice.target_id == target_id, *_is_due()).order_by(col(Notice.id)).limit(1)
    for count in range(BATCH):
        with lease.transaction() as session:
            notice = session.exec(due).first()
            if notice is None:
                return count
            url = session.get_one(NoticeTarget, target_id).url
            slug = session.get_one(Project, notice.project_id).slug
            body = _body(runtime, notice, slug, head=ledger.head(session))
        status, failure = _attempt(runtime, post, notice, url, body)
        with lease.transaction() as session:
            _record(session, notice.id, runtime.settings.notice_retry_seconds, status, failure)
        if failure:
            log.warning("notice_failed", notice_id=str(notice.id), status=status)
            return count
        if utcnow() >= until:
            return count + 1
    return BATCH


def _attempt(runtime: Runtime, post: Post, notice: Notice, url: str, body: str) -> tuple[int, str]:
    """Send a notice, always under its own id, and return the status and what is wrong with it."""
    at, secret = utcnow(), tokens.webhook_secret(str(notice.target_id), runtime.secrets)
    headers = {
        "content-type": "application/json",
        "webhook-id": str(notice.id),
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(str(notice.id), at, body),
    }
    try:
        status = post(url, body.encode(), headers, seconds=runtime.settings.notice_timeout_seconds)
    except (AddressRefused, Invalid, TryAgain) as error:
        return 0, str(error)[:200]
    return status, "" if 200 <= status < 300 else f"answered {status}"


def _record(session: Session, notice_id: UUID, rests: Sequence[float], status: int, failure: str) -> None:
    """Note what became of an attempt; after the last rest there is no other."""
    notice = session.get_one(Notice, notice_id, with_for_update=True)
    if notice.state is not NoticeState.WAITING:  # erased meanwhile, or its target removed
        return
    notice.attempts += 1
    notice.failure = failure or None
    if not failure:
        notice.state = NoticeState.DELIVERED
    elif notice.attempts > len(rests) or status == GONE:
        notices.give_up(session, notice)
    else:
        notice.not_before = utcnow() + timedelta(seconds=rests[notice.attempts - 1])
    if status == GONE:
        notices.disable(session, session.get_one(NoticeTarget, notice.target_id), "answered 410 Gone")


def _body(runtime: Runtime, notice: Notice, slug: str, *, head: Mapping[str, Any]) -> str:
    """Write what a target gets; with the `ledger`'s head kept there, an end that is cut off here is found."""
    facts = {name: str(value) for name, value in notice.facts.items()}
    page = next(page for name, page in PAGES.items() if name in facts)
    if "feedback" in facts:
        facts["signature"] = tokens.sign_status(facts["feedback"], runtime.secrets)
    url = runtime.settings.own_url + page.format(slug=slug, **facts)
    document = {
        "type": notice.kind.value,
        "timestamp": notice.created_at.isoformat(),
        "data": {"project": slug, **notice.facts, "url": url},
        "ledger": head,
    }
    return canonical_json(document).decode()


def _is_due() -> tuple[Any, ...]:
    return (col(Notice.state) == NoticeState.WAITING, col(Notice.not_before) <= utcnow())
