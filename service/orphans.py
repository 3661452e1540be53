"""What nobody names: artifacts of jobs that were killed or refused before a row had their name, and their folders."""

import shutil
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from sqlmodel import col, select

from retrain import scratch
from retrain.amounts import how_many
from retrain.errors import BrokenArtifact, MissingArtifact
from service import backups
from service.errors import TryAgain
from service.runtime import Runtime
from service.tables import Job, JobKind, JobState

NAMED_WITHIN = timedelta(hours=1)


def remove(runtime: Runtime, *, storing: Collection[JobKind], emptied: Any) -> None:
    """Remove artifacts that no row names, folders that no job at work has, and what waits for one in these projects.

    Jobs of the storing kinds store first and name then, within an hour: what one at work may have stored stays.

    Raises:
        TryAgain: something stays that such a job may have stored, or an adapter's list of files cannot be read.
    """
    scratch.clear(runtime.settings.scratch)
    with runtime.db.reading() as session:
        at_work = session.exec(select(Job).where(Job.state == JobState.LEASED)).all()
        waiting = select(Job).where(Job.state == JobState.PENDING, col(Job.project_id).not_in(emptied))
        kept = {str(key) for job in (*at_work, *session.exec(waiting)) for key in (job.id, job.row_id)}
        now = runtime.db.now(session)
        try:
            named = backups.named(runtime, session)
        except (MissingArtifact, BrokenArtifact) as error:
            raise TryAgain(f"what no row names cannot be told: {error}; see errata verify") from error
    for folder in runtime.settings.work.glob("*"):
        if folder != runtime.settings.scratch and folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)
    began = [job.started_at for job in at_work if job.kind in storing and job.started_at]
    before = max(min(began, default=now), now - NAMED_WITHIN)
    if left := runtime.artifacts.remove_others(named, before=before):
        raise TryAgain(
            f"{how_many(left, 'file')} may be a job's that is at work: let it end, then erase again"
        )
