"""After stage 7: ask the new champion what users flagged, tell them what is mended, let experts look at the rest."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlmodel import Session, col, exists, select

from annotation.types import Cause, Verdict
from retrain.examination import Model, ask, case_of
from retrain.recheck import mending
from retrain.types import Example, Mending, Split
from service import notices, projects
from service.answers.examples import examples_of
from service.answers.flags import ANSWERED, FLAG
from service.answers.outdated import is_superseded
from service.confirmed import is_of_alike
from service.queue import Lease
from service.runtime import Runtime
from service.settlements import IN_FORCE
from service.tables import (
    AnnotationTask,
    ModelState,
    ModelVersion,
    NoticeKind,
    Project,
    Recheck,
    Response,
    Settlement,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
)

ASKED_AT_ONCE = 16  # what a kill costs at most
AGAIN = 500  # of what an earlier version was asked already, the newest: a check against forgetting

CHAMPION = ModelState.CHAMPION

log = structlog.get_logger()
AskAgain = Callable[[Session, Project, Sequence[UUID]], int]


class Examiner(Protocol):
    """What a job hands over, so that this module loads without torch."""

    def open(self, base_model: str, system_prompt: str) -> Model: ...


@dataclass(frozen=True, slots=True)
class Taught:
    """A row that flags led to, the answer that was flagged, and whether experts were asked twice about it."""

    row: Example
    flagged: str
    is_reopened: bool

    @property
    def settlement(self) -> UUID:
        """What the row was made of."""
        return UUID(self.row.key)


def perform(
    runtime: Runtime, lease: Lease, model_id: UUID, examiner: Examiner, ask_again: AskAgain
) -> dict[str, Any]:
    """Ask a champion each question whose correction it learned, once, and note whether it passes.

    What passes for the first time is told to whoever flagged it; what does not, experts are asked about once more. A
    model that is no champion any more is asked nothing further.
    """
    with lease.transaction() as session:
        champion = session.get_one(ModelVersion, model_id)
        project = session.get_one(Project, champion.project_id)
        labels = projects.labels_to_choose(session, project.id)
        found = _taught(session, champion)
    counts: Counter[str] = Counter(dict.fromkeys((*Mending, "reopened"), 0))
    if found and champion.adapter_sha256:
        with runtime.scratch() as folder:
            runtime.artifacts.fetch_directory(champion.adapter_sha256, Path(folder) / "adapter")
            model = examiner.open(project.base_model, project.system_prompt)
            model.add_adapter(champion.adapter_sha256, Path(folder) / "adapter")
        for start in range(0, len(found), ASKED_AT_ONCE):
            lease.report(step=start, steps=len(found), asking=f"version {champion.number}")
            part = found[start : start + ASKED_AT_ONCE]
            with model.using(champion.adapter_sha256):
                said = ask(model, [case_of(one.row) for one in part], labels)
            outcomes = {one.settlement: _mending(one, said[case_of(one.row).key].text) for one in part}
            with lease.transaction() as session:
                if session.get_one(ModelVersion, model_id, with_for_update=True).state is not CHAMPION:
                    break
                twice = {one.settlement for one in part if one.is_reopened}
                counts.update(_note(session, champion, outcomes, twice, ask_again))
    log.info("rechecked", version=champion.number, **counts)
    return {"model_version": champion.number, **counts}


def _taught(session: Session, champion: ModelVersion) -> list[Taught]:
    """Return the corrections that a champion learned and was not asked about, those that none was asked about first."""
    if champion.state is not CHAMPION or champion.training_run_id is None:
        return []
    run = session.get_one(TrainingRun, champion.training_run_id)
    asked, before = (
        exists().where(col(Recheck.settlement_id) == Settlement.id, *of)
        for of in ([col(Recheck.model_version_id) == champion.id], [])
    )
    flagged = exists().where(*ANSWERED, col(FLAG.withdrawn_at).is_(None))
    rows = (
        select(TrainingSetExample, Response.text, AnnotationTask.rechecks_id, before)
        .join(Settlement, col(TrainingSetExample.settlement_id) == Settlement.id)
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .where(TrainingSetExample.training_set_id == run.training_set_id)
        .where(TrainingSetExample.split == Split.TRAIN, col(Response.erased_at).is_(None))
        .where(IN_FORCE, Settlement.verdict == Verdict.INCORRECT, Settlement.cause == Cause.MODEL)
        .where(flagged, ~asked, ~is_superseded())
        .order_by(before, col(Settlement.id).desc())
    )
    found = session.exec(rows).all()
    first = [each for each in found if not each[3]]
    chosen = [*first, *found[len(first) :][:AGAIN]]
    training_set = session.get_one(TrainingSet, run.training_set_id)
    examples = {
        UUID(row.key): row for row in examples_of(session, training_set, [each[0] for each in chosen])
    }
    return [
        Taught(examples[row.settlement_id], text, rechecks is not None)
        for row, text, rechecks, _ in chosen
        if row.settlement_id in examples
    ]


def _mending(one: Taught, answer: str) -> Mending:
    return mending(case_of(one.row), answer, one.flagged, is_wanted=one.row.is_wanted)


def _note(
    session: Session,
    champion: ModelVersion,
    found: Mapping[UUID, Mending],
    asked_twice: set[UUID],
    ask_again: AskAgain,
) -> Counter[str]:
    """Write down how the champion did, tell whoever flagged, ask experts again; count what was what."""
    # Some may have been withdrawn while the model answered.
    in_force = select(Settlement.id).where(col(Settlement.id).in_(found), IN_FORCE)
    outcomes = {key: found[key] for key in session.exec(in_force)}
    mended = {key for key, one in outcomes.items() if one is Mending.CORRECTED}
    failed = outcomes.keys() - mended - asked_twice
    told = {"live": mended - _passed_before(session, mended), "checking": failed}
    session.add_all(
        Recheck(settlement_id=key, model_version_id=champion.id, passed=key in mended, reason=one.value)
        for key, one in outcomes.items()
    )
    project = session.get_one(Project, champion.project_id)
    reopened = ask_again(session, project, sorted(failed)) if failed else 0
    for state, keys in told.items():
        facts = _told(session, keys, state=state, version=champion.number)
        notices.tell(session, project.id, NoticeKind.FLAG_ANSWERED, facts)
    return Counter(outcomes.values()) + Counter(reopened=reopened)


def _passed_before(session: Session, settlements: Collection[UUID]) -> set[UUID]:
    """Return those that passed when they, or what they confirm, were asked last: of these nobody hears again."""
    rows = (
        select(Settlement.id, Recheck.passed)
        .where(col(Settlement.id).in_(settlements), col(Settlement.task_id) == AnnotationTask.id)
        .where(*is_of_alike(Recheck.settlement_id))
    )
    newest = dict(session.exec(rows.order_by(col(Recheck.id))).all())
    return {key for key, passed in newest.items() if passed}


def _told(
    session: Session, settlements: Collection[UUID], *, state: str, version: int
) -> Iterator[dict[str, Any]]:
    if not settlements:
        return
    flags = (
        select(Settlement.id, FLAG.id, FLAG.event_id)
        .join(AnnotationTask, col(AnnotationTask.id) == Settlement.task_id)
        .where(*ANSWERED, col(Settlement.id).in_(settlements), col(FLAG.withdrawn_at).is_(None))
        .order_by(col(FLAG.id))
    )
    for _, flag_id, event_id in session.exec(flags):
        yield {"feedback": str(flag_id), "event_id": str(event_id), "state": state, "model_version": version}
