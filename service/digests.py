"""Once a day, what waits for each expert, as notices to whoever passes it on to them by mail or chat."""

from datetime import datetime, timedelta

from sqlmodel import Session, col, exists, select

from service import experts, notices
from service.answers import annotators
from service.db import Database
from service.tables import Notice, NoticeKind, NoticeTarget, Project


def tell_experts(db: Database, *, every: timedelta, now: datetime) -> None:
    """Tell of each expert for whom something waits, in every project that has told nothing for so long."""
    with db.reading() as session:
        rows = session.exec(select(NoticeTarget).where(col(NoticeTarget.problem).is_(None))).all()
    for project_id in sorted({row.project_id for row in rows if NoticeKind.DIGEST in row.kinds}):
        with db.transaction() as session:
            _tell(session, session.get_one(Project, project_id), since=now - every, now=now)


def _tell(session: Session, project: Project, *, since: datetime, now: datetime) -> None:
    told = exists().where(
        col(Notice.project_id) == project.id,
        col(Notice.kind) == NoticeKind.DIGEST,
        col(Notice.created_at) > since,
    )
    if session.exec(select(told)).one():
        return
    asked = experts.experts(session, project)
    waits = annotators.digests(session, project, asked, now=now)
    facts = [
        {"annotator": str(each.id), "account": each.account, "tool": each.connector.value}
        | {"waiting": waits[each.id].waiting, "new": waits[each.id].new}
        for each in asked
        if waits[each.id].waiting
    ]
    notices.tell(session, project.id, NoticeKind.DIGEST, facts)
