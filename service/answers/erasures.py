"""What erasures left their mark on: sets that lost rows, and models that had learned from them."""

from uuid import UUID

from sqlalchemy import func
from sqlmodel import Session, col, select

from retrain.types import Split
from service.tables import ModelVersion, TrainingRun, TrainingSet, TrainingSetExample


def erased_rows(session: Session, training_set: TrainingSet) -> int:
    """Count the rows that a set was frozen with and that were erased since."""
    gone = select(func.count()).where(
        TrainingSetExample.training_set_id == training_set.id, col(TrainingSetExample.erased_at).is_not(None)
    )
    return session.exec(gone).one()


def learned_from_erased(session: Session, project_id: UUID) -> set[UUID]:
    """Return the model versions that learned from rows erased since, and those that were trained on from such."""
    began = func.coalesce(TrainingRun.started_at, TrainingRun.created_at)
    taught = (
        select(TrainingRun.id)
        .join(TrainingSetExample, col(TrainingSetExample.training_set_id) == TrainingRun.training_set_id)
        .where(TrainingSetExample.split == Split.TRAIN, col(TrainingSetExample.erased_at) > began)
    )
    runs = set(session.exec(taught.where(TrainingRun.project_id == project_id).distinct()))
    marked: set[UUID] = set()
    versions = select(ModelVersion).where(ModelVersion.project_id == project_id)
    for version in session.exec(versions.order_by(col(ModelVersion.number))):
        if version.training_run_id in runs or version.parent_id in marked:
            marked.add(version.id)
    return marked
