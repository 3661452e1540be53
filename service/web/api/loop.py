"""The loop by hand: training sets, runs, evaluations, approvals, promotions, and the jobs they ask for."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, Self, TypeVar
from uuid import UUID

from flask import Blueprint
from pydantic import Field, model_validator
from sqlalchemy import ColumnElement
from sqlmodel import Session, SQLModel, col, select

from retrain.recipe import Recipe
from service import answers
from service.stages import promotion, training
from service.tables import (
    Bisection,
    Decision,
    Evaluation,
    Job,
    JobKind,
    ModelVersion,
    Notice,
    NoticeTarget,
    Project,
    Promotion,
    ServingTarget,
    TrainingRun,
    TrainingSet,
    Tuning,
)
from service.web.api.audits import WaiverIn
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint
from service.web.state import runtime

bp = Blueprint("loop", __name__, url_prefix="/v1")
PAGE = 100
Listed = (
    TrainingSet
    | TrainingRun
    | Evaluation
    | Promotion
    | Notice
    | NoticeTarget
    | ServingTarget
    | Bisection
    | Tuning
)
T = TypeVar("T", bound=Listed)
# As wide as the database's columns; a text is a mode.
Number = Annotated[int, Field(ge=0, lt=2**31)]
Option = (
    Annotated[int, Field(ge=-(2**31), lt=2**31)]
    | Annotated[float, Field(gt=-1e9, lt=1e9)]
    | Annotated[str, Field(pattern="^[a-z]+$")]
)
SET = r"^((sha256:)?[0-9a-f]{8,64}|[a-z0-9-]{1,64}/v[0-9]{1,9})$"


class ProjectIn(Schema):
    """The project meant."""

    project: str = Field(max_length=64)


class CurateIn(ProjectIn):
    """What a set is to be built by; what a recipe leaves out is the default."""

    recipe: dict[str, float | int | bool | str | list[str]] | None = None


class ListQuery(Schema):
    """Which project's rows, and where the page starts."""

    project: str | None = None
    cursor: UUID | None = None


class JobOut(Schema):
    """A job that was asked for, or how it ended."""

    id: UUID
    kind: str
    state: str
    progress: dict[str, Any]
    result: dict[str, Any]
    failure: str | None
    failure_code: str | None


class Page(Schema):
    """A page of rows, oldest first."""

    items: list[dict[str, Any]]
    next_cursor: str | None


class Document(Schema):
    """One row with everything that belongs to it."""

    item: dict[str, Any]


class SetIn(ProjectIn):
    """The training set meant (the newest by default), and options of the training spec."""

    training_set: str | None = Field(default=None, pattern=SET)
    options: dict[str, Option] = Field(default={}, max_length=50)


class RunIn(SetIn):
    """Train on a set with these options; a run that is only watched is not stopped, whatever its health."""

    only_watch: bool = False


class EvaluationIn(ProjectIn):
    """Judge a model version (the newest by default)."""

    model_version: Number | None = None


class EvaluationOut(Schema):
    """How a model version was judged; `verdict` is null until it was, and when judging failed.

    `waived` says who lets it be approved today though the gate did not pass it, why, and until when.
    """

    id: str
    model_version: int
    state: str
    verdict: Literal["passed", "refused", "cannot_tell"] | None
    sentence: str
    reasons: list[dict[str, Any]]
    people: dict[str, Any]
    contaminated: int
    hashes: dict[str, str]
    scores: list[dict[str, Any]]
    waived: dict[str, Any] | None


class ApprovalIn(Schema):
    """A decision, naming everything that was seen; the evaluation says which project is meant."""

    project: str | None = Field(default=None, max_length=64)
    evaluation: UUID
    model_version: Number
    adapter_sha256: str = Field(max_length=71)
    training_set: str = Field(max_length=71)
    decision: Literal["approved", "rejected"]
    reason: str = Field(min_length=1, max_length=2000)
    seconds_spent: float = Field(default=0.0, ge=0, le=1e6)


class PromotionIn(ProjectIn):
    """Promote an approved version (the newest by default), roll back to the one before, or put any one live at once.

    A rollback is refused if the champion is no longer the one of the promotion `seen_seq`. An override needs
    `model_version`, `reason` and the token of a second person who may approve.
    """

    action: Literal["promote", "rollback", "override"] = "promote"
    model_version: Number | None = None
    reason: str = Field(default="", max_length=2000)
    seen_seq: Number | None = None
    second_token: str = Field(default="", max_length=200)

    @model_validator(mode="after")
    def names_what_it_overrides(self) -> Self:
        if self.action == "override" and self.model_version is None:
            raise ValueError("model_version: name the one that is to be live")
        return self


def ask(
    session: Session,
    caller: Caller,
    kind: JobKind,
    row_id: UUID,
    *,
    project: Project,
    options: dict[str, Any] | None = None,
) -> JobOut:
    """Ask for a job; one without options is asked for once while it waits."""
    job_id = runtime().queue.ask(
        session,
        kind,
        row_id,
        project_id=project.id,
        unique_key=None if options else f"{kind}:{row_id}",
        options=options,
        actor=caller.name,
    )
    return _job_out(session.get_one(Job, job_id))


@bp.post("/training-sets")
@endpoint(access=Access.OPERATOR, body=CurateIn, returns=JobOut, status=202)
def curate(session: Session, caller: Caller, body: CurateIn) -> JobOut:
    """Ask for the next training set, by the newest one's recipe unless one is given."""
    project = caller.of_project(session, body.project)
    options = Recipe.from_json(body.recipe).to_json() if body.recipe else None
    return ask(session, caller, JobKind.CURATE, project.id, project=project, options=options)


@bp.get("/training-sets")
@endpoint(access=Access.READER, query=ListQuery, returns=Page)
def training_sets(session: Session, caller: Caller, query: ListQuery) -> Page:
    """List the project's training sets."""
    return page_of(session, caller, query, TrainingSet, _all_but("recipe", "dropped"))


@bp.post("/training-runs")
@endpoint(access=Access.OPERATOR, body=RunIn, returns=Document, status=202)
def train(session: Session, caller: Caller, body: RunIn) -> Document:
    """Ask for a training run; its evaluation follows by itself."""
    project = caller.of_project(session, body.project)
    found = answers.set_of(session, project, body.training_set)
    run = training.request(
        runtime(), session, found, body.options, is_only_watched=body.only_watch, user=caller.user
    )
    return Document(item=answers.describe_run(session, run))


@bp.get("/training-runs")
@endpoint(access=Access.READER, query=ListQuery, returns=Page)
def training_runs(session: Session, caller: Caller, query: ListQuery) -> Page:
    """List the project's training runs."""
    return page_of(session, caller, query, TrainingRun, _all_but("report"))


@bp.get("/training-runs/<uuid:run_id>")
@endpoint(access=Access.READER, returns=Document)
def training_run(session: Session, caller: Caller, run_id: UUID) -> Document:
    """Show one training run, with its progress while it goes on."""
    return Document(item=answers.describe_run(session, caller.row(session, TrainingRun, run_id)))


@bp.post("/evaluations")
@endpoint(access=Access.OPERATOR, body=EvaluationIn, returns=JobOut, status=202)
def evaluate(session: Session, caller: Caller, body: EvaluationIn) -> JobOut:
    """Ask for a model version to be judged."""
    project = caller.of_project(session, body.project)
    model = answers.find_model(session, project, body.model_version)
    return ask(session, caller, JobKind.EVALUATE, model.id, project=project)


@bp.get("/evaluations")
@endpoint(access=Access.READER, query=ListQuery, returns=Page)
def evaluations(session: Session, caller: Caller, query: ListQuery) -> Page:
    """List the project's evaluations."""
    return page_of(session, caller, query, Evaluation, partial(answers.describe_today, session))


@bp.get("/evaluations/<uuid:evaluation_id>")
@endpoint(access=Access.READER, returns=EvaluationOut)
def one_evaluation(session: Session, caller: Caller, evaluation_id: UUID) -> dict[str, Any]:
    """Show one evaluation with its verdict, reasons and scores."""
    return answers.describe_today(session, caller.row(session, Evaluation, evaluation_id))


@bp.post("/evaluations/<uuid:evaluation_id>/waivers")
@endpoint(access=Access.APPROVER, body=WaiverIn, returns=Document, status=201)
def waive_effort(session: Session, caller: Caller, body: WaiverIn, evaluation_id: UUID) -> Document:
    """Let somebody else approve what lacks nothing but time that people spent on validation."""
    found = caller.row(session, Evaluation, evaluation_id)
    project = session.get_one(Project, found.project_id)
    waiver = promotion.waive_effort(
        session, project, found.id, user=caller.person, reason=body.reason, until=body.until
    )
    return Document(item={"author": waiver.author, **waiver.content})


@bp.post("/approvals")
@endpoint(access=Access.APPROVER, body=ApprovalIn, returns=Document, status=201)
def approve(session: Session, caller: Caller, body: ApprovalIn) -> Document:
    """Approve or reject a challenger; a decision about something that has changed since is refused."""
    meant = session.get(Evaluation, body.evaluation)
    of_evaluation = session.get_one(Project, meant.project_id).slug if meant else None
    approval = promotion.decide(
        session,
        caller.of_project(session, body.project or of_evaluation),
        evaluation_id=body.evaluation,
        model_version=body.model_version,
        adapter_sha256=body.adapter_sha256,
        training_set=body.training_set,
        decision=Decision(body.decision),
        reason=body.reason,
        user=caller.person,
        seconds_spent=body.seconds_spent,
    )
    return Document(item=approval.model_dump(mode="json"))


@bp.post("/promotions")
@endpoint(access=Access.APPROVER, body=PromotionIn, returns=Document, status=201)
def promote(session: Session, caller: Caller, body: PromotionIn) -> Document:
    """Make an approved version the champion, roll back, or put a version live past gate and approval."""
    project, user = caller.of_project(session, body.project), caller.person
    if body.action == "promote":
        done = promotion.promote(session, project, model_version=body.model_version, user=user)
    elif body.action == "rollback":
        done = promotion.roll_back(session, project, reason=body.reason, user=user, seen_seq=body.seen_seq)
    else:
        done = promotion.override(
            session,
            project,
            model_version=body.model_version or 0,
            reason=body.reason,
            user=user,
            second_token=body.second_token,
        )
    return Document(
        item=answers.describe_promotion(done, session.get_one(ModelVersion, done.model_version_id))
    )


@bp.get("/promotions")
@endpoint(access=Access.READER, query=ListQuery, returns=Page)
def promotions(session: Session, caller: Caller, query: ListQuery) -> Page:
    """List what was live when."""
    return page_of(session, caller, query, Promotion, _all_but())


@bp.get("/jobs/<uuid:job_id>")
@endpoint(access=Access.READER, returns=JobOut)
def job(session: Session, caller: Caller, job_id: UUID) -> JobOut:
    """Show how far a job is."""
    return _job_out(caller.row(session, Job, job_id))


@bp.delete("/jobs/<uuid:job_id>")
@endpoint(access=Access.OPERATOR, returns=JobOut)
def cancel(caller: Caller, job_id: UUID) -> JobOut:
    """Cancel a job; its process ends within seconds and what it had not finished is not written."""
    with runtime().db.reading() as session:
        caller.row(session, Job, job_id)
    runtime().queue.cancel(job_id, actor=caller.name)
    with runtime().db.reading() as session:
        return _job_out(session.get_one(Job, job_id))


def _job_out(found: Job) -> JobOut:
    return JobOut.model_validate(found.model_dump(include=set(JobOut.model_fields)))


def _all_but(*fields: str) -> Callable[[SQLModel], dict[str, Any]]:
    return lambda row: row.model_dump(mode="json", exclude=set(fields))


def page_of(
    session: Session,
    caller: Caller,
    query: ListQuery,
    table: type[T],
    describe: Callable[[T], dict[str, Any]],
    *only: ColumnElement[bool] | bool,
) -> Page:
    """Return a page of a project's rows, or of some `only`, the oldest first."""
    project = caller.of_project(session, query.project)
    rows = select(table).where(col(table.project_id) == project.id, *only).order_by(col(table.id)).limit(PAGE)
    if query.cursor:
        rows = rows.where(col(table.id) > query.cursor)
    found = session.exec(rows).all()
    items = [describe(row) for row in found]
    return Page(items=items, next_cursor=str(found[-1].id) if len(found) == PAGE else None)
