"""How often a model went on from the one before, and when to train afresh on everything instead."""

from sqlmodel import Session

from retrain.types import Mode
from service.tables import ModelVersion, TrainingRun

# Each run that goes on keeps what the last ones learned only as far as it replays it.
MOST_CONTINUED = 5


def runs_continued(session: Session, model: ModelVersion) -> int:
    """Count the runs in a row, the newest first, that began at the adapter before."""
    return len(chain_of(session, model)) - 1


def chain_of(session: Session, model: ModelVersion) -> list[ModelVersion]:
    """Return a version and those whose adapters it went on from, the newest first."""
    chain = [model]
    while chain[-1].parent_id and chain[-1].training_run_id:
        if session.get_one(TrainingRun, chain[-1].training_run_id).spec.get("mode") != Mode.CONTINUE:
            break
        chain.append(session.get_one(ModelVersion, chain[-1].parent_id))
    return chain


def proposal(session: Session, model: ModelVersion) -> str:
    """Say that a consolidation run is due, or nothing."""
    count = runs_continued(session, model)
    if count < MOST_CONTINUED:
        return ""
    return (
        f"Version {model.number} goes back to {count} runs that each went on from the one before. "
        "Train the next one at the base model, on the whole set: small losses add up."
    )
