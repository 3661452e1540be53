"""What people prefer of two models: a project of its own, whose responses are what both answered to the same cases."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from math import sqrt
from statistics import fmean, stdev
from typing import Any
from uuid import UUID

from sqlalchemy import exists, func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from annotation.questions import BEST_RATING
from annotation.types import Verdict
from retrain.intervals import z_of
from retrain.preference import is_challenger_first, order
from retrain.types import Case, sha256_of
from service import projects
from service.clock import utcnow
from service.projects import NewProject
from service.queue import JobQueue
from service.settlements import IN_FORCE
from service.tables import (
    Annotation,
    AnnotationTask,
    ConnectorKind,
    Evaluation,
    EvaluationState,
    JobKind,
    ModelState,
    ModelVersion,
    Project,
    ProjectKind,
    Response,
    Settlement,
    Source,
    TaskPurpose,
    TaskState,
    TrainingSetExample,
)

MAX_SLUG = 40
MIDDLE = (1 + BEST_RATING) / 2
OPEN = (TaskState.SELECTED, TaskState.SENT)


@dataclass(frozen=True, slots=True)
class Tally:
    """How an evaluation's comparisons stand; those that people could not agree on, or would not judge, are ties."""

    wins: int
    losses: int
    ties: int
    asked: int
    waiting: int


def prepare(
    session: Session,
    evaluation: Evaluation,
    cases: Sequence[Case],
    answers: Mapping[str, Mapping[str, str]],
    *,
    tool: str,
    most: int,
) -> None:
    """Keep what both models answered as responses that people can be asked about, in the order of asking.

    Equal answers are ties that nobody needs to be asked about. A copy names the response that its case came from, so
    that an erasure finds it; of one that was erased meanwhile nothing is kept.
    """
    project = _project_for(session, session.get_one(Project, evaluation.project_id), ConnectorKind(tool))
    source_id = session.exec(select(Source.id).where(Source.project_id == project.id)).one()
    originals, by_key = _originals(session, evaluation), {case.key: case for case in cases}
    differ = {key for key in by_key if answers["champion"][key] != answers["challenger"][key]}
    evaluation.people = {"tool": tool, "identical": len(by_key) - len(differ)}
    asked = order({key: by_key[key].slices for key in differ & originals.keys()}, seed=evaluation.seed)
    models = {"challenger": evaluation.model_version_id, "champion": evaluation.champion_id}
    for (place, key), who in product(enumerate(asked[:most]), models):
        session.add(
            Response(
                project_id=project.id,
                source_id=source_id,
                model_version_id=models[who],
                external_id=f"{evaluation.id}/{place:06}/{who}",
                messages=[asdict(message) for message in by_key[key].messages],
                text=answers[who][key],
                body_sha256=sha256_of([key, answers[who][key]]),
                copy_of_id=originals[key],
                attributes=dict(by_key[key].slices),
                may_train=False,
                triaged_at=utcnow(),
            )
        )


def _originals(session: Session, evaluation: Evaluation) -> dict[str, UUID]:
    """Return, by content hash, the responses of which the evaluation's set was made and that are still there."""
    rows = (
        select(TrainingSetExample.content_sha256, AnnotationTask.response_id)
        .join(Settlement, col(TrainingSetExample.settlement_id) == Settlement.id)
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .where(TrainingSetExample.training_set_id == evaluation.training_set_id)
        .where(col(TrainingSetExample.erased_at).is_(None))
    )
    return dict(session.exec(rows).all())


def ask_for_count(session: Session, queue: JobQueue, evaluation_id: UUID, project_id: UUID) -> None:
    """Have somebody look at what people said so far."""
    key = f"{JobKind.COMPARE}:{evaluation_id}"
    queue.ask(session, JobKind.COMPARE, evaluation_id, project_id=project_id, unique_key=key)


def ask_more(session: Session, evaluation: Evaluation, count: int) -> int:
    """Ask about the next cases, each model's answer first as often as the other's; return how many there were."""
    named = f"{evaluation.id}/"
    responses = select(Response).where(
        col(Response.external_id).startswith(named), col(Response.erased_at).is_(None)
    )
    pairs: defaultdict[int, dict[str, Response]] = defaultdict(dict)
    for response in session.exec(responses.order_by(col(Response.external_id))):
        _, digits, who = str(response.external_id).split("/")
        pairs[int(digits)][who] = response
    tasks = select(AnnotationTask.response_id).where(AnnotationTask.evaluation_id == evaluation.id)
    asked = set(session.exec(tasks))
    places = [
        place
        for place, pair in sorted(pairs.items())
        if len(pair) == 2 and not asked & {each.id for each in pair.values()}
    ][:count]
    for place in places:
        first, second = (
            ("challenger", "champion")
            if is_challenger_first(place, seed=evaluation.seed)
            else ("champion", "challenger")
        )
        project_id = pairs[place][first].project_id
        schema_id, guidelines_id = projects.questions(session, project_id)
        session.add(
            AnnotationTask(
                project_id=project_id,
                response_id=pairs[place][first].id,
                rival_id=pairs[place][second].id,
                evaluation_id=evaluation.id,
                purpose=TaskPurpose.HUMAN_EVALUATION,
                schema_id=schema_id,
                guidelines_id=guidelines_id,
                priority=0.0,
                connector=session.get_one(Project, project_id).connector,
            )
        )
    return len(places)


def tally_of(session: Session, evaluation: Evaluation) -> Tally:
    """Count what people said so far."""
    rows = session.execute(
        select_columns(
            col(AnnotationTask.state), col(Settlement.verdict), _challenger_is_a(evaluation), _said_nothing()
        )
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .join(Settlement, (col(Settlement.task_id) == AnnotationTask.id) & IN_FORCE, isouter=True)
        .where(col(AnnotationTask.evaluation_id) == evaluation.id)
    ).all()
    said: Counter[str] = Counter()
    for state, verdict, is_a, said_nothing in rows:
        if verdict in (Verdict.A, Verdict.B):
            said["wins" if (verdict is Verdict.A) == is_a else "losses"] += 1
        elif verdict is not None or said_nothing or state is TaskState.CONTESTED:
            said["ties"] += 1
    return Tally(
        wins=said["wins"],
        losses=said["losses"],
        ties=said["ties"],
        asked=len(rows),
        waiting=sum(
            state in OPEN and verdict is None and not said_nothing for state, verdict, _, said_nothing in rows
        ),
    )


def ratings_of(
    session: Session, evaluation: Evaluation, *, confidence: float = 0.9
) -> dict[str, dict[str, Any]]:
    """Return by how much people prefer the challenger in each respect: from -1 to 1, with normal limits.

    A rating with fewer than two answers has no limits and is left out.
    """
    rows = session.execute(
        select_columns(
            col(Annotation.task_id),
            col(Annotation.annotator_id),
            col(Annotation.ratings),
            _challenger_is_a(evaluation),
        )
        .join(AnnotationTask, col(Annotation.task_id) == AnnotationTask.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .where(col(AnnotationTask.evaluation_id) == evaluation.id)
        .where(col(Annotation.withdrawn_at).is_(None), col(Annotation.set_aside).is_(None))
        .order_by(col(Annotation.revised_at), col(Annotation.id))
    )
    newest = {(task, annotator): (ratings, is_a) for task, annotator, ratings, is_a in rows}
    given: defaultdict[str, list[float]] = defaultdict(list)
    for ratings, is_a in newest.values():
        for name, rating in ratings.items():
            given[name].append((rating - MIDDLE) / (MIDDLE - 1) * (-1 if is_a else 1))
    found = {}
    for name, values in sorted(given.items()):
        if len(values) > 1:
            mean, half = fmean(values), z_of(confidence) * stdev(values) / sqrt(len(values))
            found[name] = {"value": mean, "low": mean - half, "high": mean + half, "n": len(values)}
    return found


def is_about(
    evaluation: Evaluation, judged_by: Mapping[str, UUID], champion: ModelVersion, challenger: ModelVersion
) -> bool:
    """Tell whether people already compare what would be judged, by what it would be judged by."""
    wanted = {**judged_by, "champion_id": champion.id}
    is_adapter = evaluation.hashes.get("adapter") == (challenger.adapter_sha256 or "")
    is_open = challenger.state is ModelState.CHALLENGER and is_adapter
    return is_open and all(getattr(evaluation, name) == id_ for name, id_ in wanted.items())


def give_up(session: Session, evaluation: Evaluation, *, why: str) -> None:
    """End an evaluation without a verdict, since what people would say of it decides nothing any more."""
    evaluation.state, evaluation.failure, evaluation.finished_at = EvaluationState.FAILED, why, utcnow()
    evaluation.sentence = None  # of machines, which pages would show in place of why
    stop_asking(session, evaluation)


def stop_asking(session: Session, evaluation: Evaluation) -> None:
    """Withdraw what is not answered yet: no tool gets it any more, and it counts as nobody's work."""
    tasks = select(AnnotationTask).where(
        AnnotationTask.evaluation_id == evaluation.id, col(AnnotationTask.state).in_(OPEN)
    )
    for task in session.exec(tasks):
        task.state = TaskState.WITHDRAWN


def seconds_comparing(project_id: UUID, since: Any) -> Any:
    """Select the seconds that people spent on comparing a project's models."""
    return (
        select_columns(col(Annotation.seconds_spent))
        .join(AnnotationTask, col(Annotation.task_id) == AnnotationTask.id)
        .join(Evaluation, col(AnnotationTask.evaluation_id) == Evaluation.id)
        .where(col(Evaluation.project_id) == project_id, col(Annotation.created_at) > since)
    )


def _said_nothing() -> Any:
    """Say whether somebody skipped the task or would not judge it: nobody else is asked."""
    answers = (
        col(Annotation.task_id) == AnnotationTask.id,
        col(Annotation.verdict).is_(None),
        col(Annotation.withdrawn_at).is_(None),
    )
    return exists().where(*answers)


def _challenger_is_a(evaluation: Evaluation) -> Any:
    return func.coalesce(col(Response.model_version_id) == evaluation.model_version_id, False)


def _project_for(session: Session, project: Project, tool: ConnectorKind) -> Project:
    """Return the project in which people compare this one's models, in this tool."""
    found = session.exec(
        select(Project).where(Project.compares_id == project.id, Project.connector == tool)
    ).first()
    if found is None:
        # A slug has at most 64 characters, and two may begin alike.
        short = (
            project.slug if len(project.slug) <= MAX_SLUG else f"{project.slug[:32]}-{project.id.hex[-7:]}"
        )
        slug = f"{short}-compared-{tool.value}"
        new = NewProject(
            slug,
            ProjectKind.COMPARISON,
            project.base_model,
            connector=tool,
            overlap=1,
            needed=1,
        )
        found = projects.create(session, new, actor="gate")
        found.compares_id = project.id
    return found
