"""Rows that many tests need, each with as little as the tables allow."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, text
from sqlmodel import Session, col, select

from annotation.types import Cause, Verdict
from retrain.types import Mending, sha256_of
from service import api_keys, people, projects
from service.stages import intake
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    ConnectorKind,
    Document,
    DocumentKind,
    Erasure,
    Evaluation,
    EvaluationState,
    Feedback,
    KeyKind,
    ModelState,
    ModelVersion,
    Project,
    ProjectKind,
    Promotion,
    Rating,
    Recheck,
    Response,
    Role,
    RunState,
    Score,
    Settlement,
    TaskFlag,
    TaskPurpose,
    TaskState,
    ToolProject,
    TrainingRun,
    TrainingSet,
    User,
)

LABELS = ("Billing", "Cardiology")
CRITERIA = [{"metric": "accuracy", "suite": "test", "margin": 0.1}]


def add_project(
    session: Session,
    slug: str = "clinic",
    *,
    tool_project: str | None = None,
    labels: Sequence[str] = LABELS,
) -> Project:
    """A project with the documents that `errata projects create` gives it, and no criteria."""
    new = projects.NewProject(
        slug=slug,
        kind=ProjectKind.CLASSIFICATION,
        base_model="bundled:tiny",
        labels=labels,
        connector=ConnectorKind.LABEL_STUDIO,
    )
    project = projects.create(session, new, actor="test")
    if tool_project:
        place(session, project, tool_project)
    return project


def place(
    session: Session,
    project: Project,
    external_id: str,
    *,
    tool: ConnectorKind = ConnectorKind.LABEL_STUDIO,
    url: str | None = None,
    hook_secret: str | None = None,
) -> None:
    """Say that a project is in an annotation tool."""
    session.add(
        ToolProject(
            project_id=project.id,
            connector=tool,
            external_id=external_id,
            url=url,
            hook_secret=hook_secret,
        )
    )


def add_criteria(session: Session, project: Project, *, margin: float = 0.1) -> Document:
    """The project's next criteria."""
    content = {"criteria": [CRITERIA[0] | {"margin": margin}]}
    return projects.add_document(session, project, DocumentKind.CRITERIA, content, actor="test")


def add_key(
    session: Session, project: Project, kind: KeyKind = KeyKind.SECRET, origins: Sequence[str] = ()
) -> str:
    """An API key's secret."""
    return api_keys.add(session, project, kind, origins, actor="test")


def add_person(session: Session, role: Role, name: str = "") -> tuple[User, str]:
    """A person and their bearer token."""
    user, _ = people.add_user(session, name or role.value, role, actor="test")
    return user, people.add_token(session, user.name, actor="test")


def add_set(session: Session, project: Project, *, version: int = 1) -> TrainingSet:
    """A training set without examples."""
    training_set = TrainingSet(
        project_id=project.id,
        version=version,
        fingerprint=sha256_of([project.slug, version]),
        artifact=sha256_of("a file"),
        recipe={},
        counts={"train": 60, "test": 50},
    )
    session.add(training_set)
    session.flush()
    return training_set


def add_challenger(session: Session, project: Project, *, number: int = 1) -> ModelVersion:
    """A trained model version, with the set and the run that it comes from; the project needs criteria."""
    run = TrainingRun(
        project_id=project.id,
        training_set_id=add_set(session, project, version=number).id,
        criteria_id=newest(session, project, DocumentKind.CRITERIA),
        state=RunState.FINISHED,
        spec={},
        seed=0,
    )
    model = ModelVersion(
        project_id=project.id,
        number=number,
        base_model=project.base_model,
        training_run_id=run.id,
        adapter_sha256=sha256_of(["adapter", number]),
        state=ModelState.CHALLENGER,
    )
    session.add(run)
    session.flush()
    session.add(model)
    session.flush()
    return model


def add_evaluation(
    session: Session, project: Project, model: ModelVersion, state: EvaluationState = EvaluationState.PASSED
) -> Evaluation:
    """The gate's verdict on a model version, by today's documents and champion."""
    live = select(Promotion).where(Promotion.project_id == project.id).order_by(col(Promotion.seq).desc())
    evaluation = Evaluation(
        project_id=project.id,
        model_version_id=model.id,
        champion_id=session.exec(live).first().model_version_id,
        training_set_id=session.get_one(TrainingRun, model.training_run_id).training_set_id,
        criteria_id=newest(session, project, DocumentKind.CRITERIA),
        rules_id=newest(session, project, DocumentKind.GATE_RULES),
        suite_id=newest(session, project, DocumentKind.SUITE),
        state=state,
        sentence="better on what users ask",
        report=sha256_of("a report"),
    )
    session.add(evaluation)
    session.flush()
    return evaluation


def add_score(session: Session, evaluation: Evaluation, metric: str = "accuracy") -> Score:
    """One figure of the challenger on the test split."""
    figures = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 50}
    score = Score(
        evaluation_id=evaluation.id,
        model_version_id=evaluation.model_version_id,
        suite="test",
        metric=metric,
        **figures,
    )
    session.add(score)
    return score


def add_response(
    session: Session, project: Project, text: str = "Cardiology", *, asked: str = "who bills me?", **more: Any
) -> Response:
    """An answer of the model; `more` are columns of its row."""
    new = intake.NewResponse(messages=[{"role": "user", "content": asked}], response=text, **more)
    return intake.log_response(session, project, new, sha256=sha256_of([asked, text]))[0]


def add_flag(
    session: Session,
    project: Project,
    response: Response,
    *reasons: str,
    rating: Rating = Rating.DOWN,
    **more: Any,
) -> Feedback:
    """A user's word on an answer, a flag by default; `more` are columns of its row."""
    new = intake.NewFeedback(event_id=uuid4(), rating=rating, reasons=list(reasons), **more)
    ref = str(response.id)
    return intake.record_feedback(session, project, new, response_ref=ref, subject=None, sha256="sha256:0")[0]


def add_task(
    session: Session, project: Project, response: Response, *, flag: Feedback | None = None, **more: Any
) -> AnnotationTask:
    """A task for experts, caused by a flag if there is one; `more` are columns of its row."""
    purpose = TaskPurpose.FLAG if flag else TaskPurpose.RANDOM
    facts = {"purpose": purpose, "priority": 1.0, "connector": project.connector} | more
    task = AnnotationTask(
        project_id=project.id,
        response_id=response.id,
        flag_id=flag.id if flag else None,
        schema_id=newest(session, project, DocumentKind.LABEL_SCHEMA),
        guidelines_id=newest(session, project, DocumentKind.GUIDELINES),
        **facts,
    )
    session.add(task)
    session.flush()
    if flag:
        session.add(TaskFlag(task_id=task.id, feedback_id=flag.id))
        session.flush()
    return task


def add_annotation(session: Session, task: AnnotationTask, annotator: Annotator, **more: Any) -> Annotation:
    """An annotator's answer to a task; `more` are columns of its row."""
    facts = {"external_id": str(uuid4()), "revised_at": task.created_at} | more
    annotation = Annotation(task_id=task.id, annotator_id=annotator.id, **facts)
    session.add(annotation)
    session.flush()
    return annotation


def add_settlement(session: Session, task: AnnotationTask, **more: Any) -> Settlement:
    """What a task's answers come to: the model was wrong, by default."""
    facts = {
        "verdict": Verdict.INCORRECT,
        "label": LABELS[0],
        "cause": Cause.MODEL,
        "agreeing": 2,
        "asked": 2,
    }
    settlement = Settlement(
        project_id=task.project_id, task_id=task.id, explanation="both agree", **facts | more
    )
    task.state = TaskState.SETTLED
    session.add_all([settlement, task])
    session.flush()
    return settlement


def add_recheck(session: Session, settlement_id: UUID, model_id: UUID, *, passed: bool = True) -> Recheck:
    """That a version was asked again what it was taught, and passed by default."""
    outcome = Mending.CORRECTED if passed else Mending.AS_BEFORE
    recheck = Recheck(
        settlement_id=settlement_id, model_version_id=model_id, passed=passed, reason=outcome.value
    )
    session.add(recheck)
    session.flush()
    return recheck


def add_erasure(session: Session, subject: str) -> Erasure:
    """A person's wish to be forgotten in every project, of which nothing is done yet."""
    wish = Erasure(subject=subject, salted="sha256:salted", actor="ada")
    session.add(wish)
    session.flush()
    return wish


def forget_history(connection: Connection) -> None:
    """Take away what makes the database refuse to change history, as somebody who owns it can."""
    for table in ("ledger_entry", "promotion", "approval"):
        if connection.dialect.name == "sqlite":
            for event in ("update", "delete"):
                connection.execute(text(f"DROP TRIGGER {table}_refuses_{event}"))
        else:
            connection.execute(text(f"DROP TRIGGER {table}_refuses_changes ON {table}"))


def successor(session: Session, project: Project, kind: DocumentKind) -> Document:
    """A next version of a document, to be added; it says the same, but is another one."""
    found = projects.current(session, project.id, kind)
    copied = found.model_dump(exclude={"id", "created_at"})
    return Document(**copied | {"version": found.version + 1, "sha256": sha256_of([found.sha256, "changed"])})


def newest(session: Session, project: Project, kind: DocumentKind) -> UUID:
    """The id of a document's newest version."""
    return projects.current(session, project.id, kind).id
