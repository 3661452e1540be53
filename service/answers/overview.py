"""What an operator asks first: where things wait, how often the model is wrong, and what the time went into.

Each figure goes along an index and stops at a bound, so that it costs the same however much there is.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ScalarSelect, Select, Subquery, func
from sqlalchemy import select as select_columns
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from retrain.intervals import Interval, wilson
from service import comparisons, projects
from service.answers import newest_set
from service.settlements import MAY_SETTLE
from service.tables import (
    Annotation,
    AnnotationTask,
    Approval,
    AttackSession,
    Evaluation,
    EvaluationState,
    Feedback,
    Job,
    JobKind,
    JobState,
    ModelState,
    ModelVersion,
    Part,
    Project,
    Promotion,
    PromotionKind,
    Rating,
    Response,
    RunState,
    Settlement,
    Source,
    TaskState,
    TimeEntry,
    TrainingRun,
    TrainingSet,
)
from service.tables.base import first_id

COUNTED = 10_000
VERSIONS, NEWEST_RESPONSES = 8, 1_000
MACHINE_WORK = (JobKind.CURATE, JobKind.TRAIN, JobKind.EVALUATE)
DAY, MONTH = timedelta(days=1), timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Stop:
    """One stage of the loop: how much waits there, since when, and how much went through in a day.

    A figure of `COUNTED` means at least that many.
    """

    stage: str
    waits: str
    waiting: int
    oldest: datetime | None
    passed: int
    is_at_work: bool


@dataclass(frozen=True, slots=True)
class FlagRate:
    """How often a model version's newest responses were flagged, and when it went live."""

    number: int
    rate: Interval | None
    live_at: datetime | None
    is_champion: bool


@dataclass(frozen=True, slots=True)
class Effort:
    """Seconds spent in the last 30 days, by people or machines, on each part of the work."""

    who: str
    data: float
    training: float
    validation: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.data + self.training + self.validation


def loop(session: Session, project: Project, *, now: datetime) -> list[Stop]:
    """Return every stage in the order in which data flows."""
    day = now - DAY
    untriaged = _of(Feedback, project).where(
        col(Feedback.triaged_at).is_(None), col(Feedback.response_id).is_not(None)
    )
    asked = _of(AnnotationTask, project).where(
        col(AnnotationTask.state).in_((TaskState.SELECTED, TaskState.SENT)), MAY_SETTLE
    )
    newest = newest_set(session, project.id)
    unlearned = _of(Settlement, project).where(col(Settlement.withdrawn_at).is_(None))
    if newest:
        unlearned = unlearned.where(col(Settlement.id) >= first_id(newest.created_at))
    runs = _of(TrainingRun, project).where(col(TrainingRun.state).in_((RunState.REQUESTED, RunState.RUNNING)))
    unjudged = _of(Evaluation, project).where(col(Evaluation.state) == EvaluationState.RUNNING)
    busy = set(
        session.exec(select(Job.kind).where(Job.project_id == project.id, Job.state == JobState.LEASED))
    )

    # That the base model answers from the first minute was nobody's decision.
    switched = _of(Promotion, project).where(col(Promotion.kind) != PromotionKind.FIRST)
    stages: list[tuple[str, str, Select[Any], Select[Any], set[JobKind]]] = [
        ("intake", "flags and thumbs up to look at", untriaged, _of(Feedback, project), {JobKind.TRIAGE}),
        ("labelling", "tasks with experts", asked, _of(Settlement, project), {JobKind.SEND, JobKind.SYNC}),
        (
            "curation",
            "settled answers not yet in a set",
            unlearned,
            _of(TrainingSet, project),
            {JobKind.CURATE},
        ),
        ("training", "runs asked for or at work", runs, _of(TrainingRun, project), {JobKind.TRAIN}),
        ("evaluation", "challengers being judged", unjudged, _of(Evaluation, project), {JobKind.EVALUATE}),
        ("promotion", "passed, waiting for a person", undecided(project), switched, set()),
    ]
    figures = iter(
        _together(
            session,
            [
                figure
                for _, _, waiting, passed, _ in stages
                for figure in (
                    _count(waiting),
                    _oldest(waiting),
                    _count(passed.where(passed.selected_columns.id >= first_id(day))),
                )
            ],
        )
    )
    return [
        Stop(stage, waits, next(figures), next(figures), next(figures), bool(busy & kinds))
        for stage, waits, _, _, kinds in stages
    ]


def flag_rates(session: Session, project: Project) -> list[FlagRate]:
    """Return how often the newest responses of each of the newest versions were flagged, oldest version first."""
    live = (
        select_columns(col(Promotion.model_version_id), func.max(Promotion.created_at).label("at"))
        .where(col(Promotion.project_id) == project.id)
        .group_by(col(Promotion.model_version_id))
        .subquery()
    )
    rows = session.execute(
        select_columns(ModelVersion, live.c.at)
        .join(live, live.c.model_version_id == ModelVersion.id)
        .where(col(ModelVersion.project_id) == project.id)
        .order_by(col(ModelVersion.number).desc())
        .limit(VERSIONS)
    ).all()
    counts = _together(session, [count for model, _ in rows for count in _asked_and_flagged(model)])
    return [
        FlagRate(
            model.number, wilson(flagged, asked) if asked else None, at, model.state is ModelState.CHAMPION
        )
        for (model, at), asked, flagged in reversed(list(zip(rows, counts[::2], counts[1::2], strict=True)))
    ]


def effort(session: Session, project: Project, *, now: datetime) -> list[Effort]:
    """Return what people and what machines spent their time on, by what they wrote down of it."""
    since = now - MONTH
    tasks = newest_tasks(project)
    annotated = (
        select_columns(col(Annotation.seconds_spent))
        .join(tasks, col(Annotation.task_id) == tasks.c.id)
        .where(col(Annotation.created_at) > since)
    )
    validated = [
        select_columns(col(table.seconds_spent)).where(
            col(table.project_id) == project.id, col(table.created_at) > since
        )
        for table in (AttackSession, Approval)
    ]
    noted = {
        part: select_columns(col(TimeEntry.seconds_spent)).where(
            col(TimeEntry.project_id) == project.id,
            col(TimeEntry.part) == part,
            col(TimeEntry.created_at) > since,
        )
        for part in Part
    }
    compared = comparisons.seconds_comparing(project.id, since)
    spent = [annotated, compared, *validated, *noted.values()]
    answering, comparing, attacking, approving, *told = _together(
        session, [_sum(seconds) for seconds in spent]
    )
    elsewhere = dict(zip(noted, map(float, told), strict=True))
    machine = _job_seconds(session, project, since)
    return [
        Effort(
            "people",
            data=answering + elsewhere[Part.DATA],
            training=elsewhere[Part.TRAINING],
            validation=comparing + attacking + approving + elsewhere[Part.VALIDATION],
        ),
        Effort("machines", machine[JobKind.CURATE], machine[JobKind.TRAIN], machine[JobKind.EVALUATE]),
    ]


def newest_tasks(project: Project) -> Subquery:
    """Return the ids of a project's newest tasks, for figures about what experts answered."""
    # What a sample settled for a whole corpus was put before nobody.
    admitted = (
        select(Settlement.id)
        .where(Settlement.task_id == AnnotationTask.id, col(Settlement.admission_id).is_not(None))
        .exists()
    )
    ids = select_columns(col(AnnotationTask.id)).where(
        col(AnnotationTask.project_id) == project.id, ~admitted, MAY_SETTLE
    )
    return ids.order_by(col(AnnotationTask.id).desc()).limit(COUNTED).subquery()


def undecided(project: Project) -> Select[Any]:
    """Return the passed evaluations, newest and against today's champion, that nobody has decided on."""
    later = aliased(Evaluation)
    decided = select(Approval.id).where(Approval.evaluation_id == Evaluation.id).exists()
    replaced = (
        select(later.id)
        .where(later.model_version_id == Evaluation.model_version_id, col(later.id) > Evaluation.id)
        .exists()
    )
    champion = select(ModelVersion.id).where(
        ModelVersion.project_id == project.id, ModelVersion.state == ModelState.CHAMPION
    )
    return (
        select_columns(Evaluation)
        .join(ModelVersion, col(Evaluation.model_version_id) == ModelVersion.id)
        .where(
            col(Evaluation.project_id) == project.id,
            col(Evaluation.state) == EvaluationState.PASSED,
            ~decided,
        )
        .where(~replaced, col(Evaluation.champion_id).in_(champion))
        .where(col(ModelVersion.state) == ModelState.CHALLENGER)
        .order_by(col(Evaluation.id).desc())
    )


def _of(table: Any, project: Project) -> Select[Any]:
    return select_columns(table).where(table.project_id == project.id)


def _together(session: Session, figures: Sequence[ScalarSelect[Any]]) -> Sequence[Any]:
    """Return single figures by one statement: what each of many would cost is mostly the asking."""
    return session.execute(select_columns(*figures)).one() if figures else ()


def _count(rows: Select[Any]) -> ScalarSelect[Any]:
    bounded = rows.with_only_columns(rows.selected_columns.id).order_by(None).limit(COUNTED).subquery()
    return select_columns(func.count()).select_from(bounded).scalar_subquery()


def _oldest(rows: Select[Any]) -> ScalarSelect[Any]:
    oldest = rows.with_only_columns(rows.selected_columns.created_at).order_by(None)
    return oldest.order_by(rows.selected_columns.id).limit(1).scalar_subquery()


def _sum(seconds: Select[Any]) -> ScalarSelect[Any]:
    bounded = seconds.limit(COUNTED).subquery()
    return select_columns(func.coalesce(func.sum(bounded.c.seconds_spent), 0)).scalar_subquery()


def _asked_and_flagged(model: ModelVersion) -> tuple[ScalarSelect[Any], ScalarSelect[Any]]:
    """Return how many of a version's newest answers there are, and how many of them were flagged."""
    # What operators ask and flag in the playground says nothing about users.
    tried = select(Source.id).where(Source.project_id == model.project_id, Source.name == projects.PLAYGROUND)
    newest = (
        select_columns(col(Response.id))
        .where(col(Response.model_version_id) == model.id, col(Response.source_id).not_in(tried))
        .order_by(col(Response.id).desc())
        .limit(NEWEST_RESPONSES)
        .subquery()
    )
    flagged = (
        select_columns(func.count(func.distinct(Feedback.response_id)))
        .join(newest, newest.c.id == Feedback.response_id)
        .where(col(Feedback.rating) == Rating.DOWN, col(Feedback.withdrawn_at).is_(None))
        .where(col(Feedback.is_trusted), col(Feedback.held_for).is_(None))
    )
    return select_columns(func.count()).select_from(newest).scalar_subquery(), flagged.scalar_subquery()


def _job_seconds(session: Session, project: Project, since: datetime) -> Mapping[JobKind, float]:
    """Return how long jobs were at work, by kind."""
    ended = session.execute(
        select_columns(col(Job.kind), col(Job.started_at), col(Job.finished_at))
        .where(col(Job.project_id) == project.id, col(Job.kind).in_(MACHINE_WORK))
        .where(col(Job.finished_at) > since, col(Job.started_at).is_not(None))
        .limit(COUNTED)
    ).all()
    seconds: dict[JobKind, float] = defaultdict(float)
    for kind, started, finished in ended:
        seconds[kind] += (finished - started).total_seconds()
    return seconds
