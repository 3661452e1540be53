"""What is live: the history of promotions, to which each switch is appended, and who is told of it."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from service import ledger, queue, serving
from service.clock import utcnow
from service.errors import NotFound, WrongState
from service.tables import (
    Approval,
    Decision,
    Evaluation,
    Job,
    JobKind,
    ModelState,
    ModelVersion,
    Project,
    Promotion,
    PromotionKind,
    TrainingRun,
    User,
)


def take_turns(session: Session, project: Project) -> None:
    """Let decisions on one project follow each other, so that each checks what the one before left behind."""
    session.get_one(Project, project.id, with_for_update=True)


def newest_promotion(session: Session, project_id: UUID) -> Promotion:
    """Return the switch by which the present champion went live."""
    newest = select(Promotion).where(Promotion.project_id == project_id)
    return session.exec(newest.order_by(col(Promotion.seq).desc()).limit(1)).one()


def live_at(session: Session, project: Project, at: datetime | None) -> tuple[Promotion, ModelVersion]:
    """Return what was live at a moment, or is now.

    Raises:
        NotFound: the project did not exist then.
    """
    history = (
        select(Promotion, ModelVersion)
        .join(ModelVersion, col(Promotion.model_version_id) == ModelVersion.id)
        .where(Promotion.project_id == project.id)
        .order_by(col(Promotion.seq).desc())
    )
    if at is not None:
        history = history.where(Promotion.created_at <= at)
    found = session.exec(history.limit(1)).first()
    if found is None:
        raise NotFound(f"project {project.slug}: nothing was live at {at}")
    return found


def persons_missing(session: Session, project: Project, evaluation: Evaluation) -> int:
    """Return how many more persons must approve; whoever asked for the training counts, a trigger does not."""
    approved = select(Approval.user_id).where(
        Approval.evaluation_id == evaluation.id, Approval.decision == Decision.APPROVED
    )
    asked = (
        select(TrainingRun.requested_by)
        .join(ModelVersion, col(ModelVersion.training_run_id) == TrainingRun.id)
        .where(ModelVersion.id == evaluation.model_version_id)
    )
    behind = {*session.exec(approved), *session.exec(asked)} - {None}
    return max(0, project.persons_needed - len(behind))


def switch(
    session: Session,
    project: Project,
    model: ModelVersion,
    kind: PromotionKind,
    *,
    live: Promotion,
    user: User,
    reason: str,
    approval: Approval | None = None,
    facts: Mapping[str, str] = MappingProxyType({}),
) -> Promotion:
    """Append to the history what follows `live`; of two who saw that, the unique number lets one through."""
    promotion = Promotion(
        project_id=project.id,
        seq=live.seq + 1,
        kind=kind,
        model_version_id=model.id,
        approval_id=approval.id if approval else None,
        user_id=user.id,
        reason=reason,
    )
    try:
        with session.begin_nested():
            session.add(promotion)
    except IntegrityError as error:
        raise WrongState(f"project {project.slug}: somebody else changed the champion just now") from error
    before = session.get_one(ModelVersion, live.model_version_id)
    before.state, model.state = ModelState.RETIRED, ModelState.CHAMPION
    session.add(model)
    for changed in (before, model):
        mirror(session, changed)
    serving.ask(session, project.id)
    note(session, model, user=user, action=kind.value, facts={"seq": str(promotion.seq), **facts})
    return promotion


def mirror(session: Session, model: ModelVersion) -> None:
    """Have the data repository and the trackers follow what a model is now."""
    if model.training_run_id is None:
        return
    training_set = session.get_one(TrainingRun, model.training_run_id).training_set_id
    key = f"{JobKind.MIRROR}:{training_set}"
    queue.add(
        session,
        Job(
            kind=JobKind.MIRROR,
            project_id=model.project_id,
            row_id=training_set,
            unique_key=key,
            not_before=utcnow(),
        ),
    )


def note(session: Session, model: ModelVersion, *, user: User, action: str, facts: Mapping[str, str]) -> None:
    """Write into the ledger what a person did about a version."""
    ledger.append(
        session,
        actor=user.name,
        action=action,
        subject=f"v{model.number}",
        project_id=model.project_id,
        facts=dict(facts),
    )
