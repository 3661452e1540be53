"""After many runs that each went on from the one before, a run from the base model is proposed."""

import pytest
from sqlmodel import select

from retrain.types import Mode
from service.answers.consolidation import MOST_CONTINUED, runs_continued
from service.tables import ModelState, ModelVersion, Project, Role, TrainingRun
from tests import builders
from tests.console import person
from tests.integration.test_people import quick_hashes

__all__ = ["quick_hashes"]


@pytest.fixture
def clinic(runtime) -> Project:
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
        builders.add_criteria(session, project)
    return project


def chain(runtime, project: Project, modes: list[Mode]) -> ModelVersion:
    """Add versions that follow from each other; the last is the champion."""
    with runtime.db.transaction() as session:
        parent = session.exec(select(ModelVersion).where(ModelVersion.number == 0)).one()
        parent.state = ModelState.RETIRED
        for number, mode in enumerate(modes, start=1):
            made = builders.add_challenger(session, project, number=number)
            session.get_one(TrainingRun, made.training_run_id).spec = {"mode": mode}
            made.parent_id, parent = parent.id, made
        parent.state = ModelState.CHAMPION
    return parent


@pytest.mark.parametrize(
    ("modes", "count"),
    [
        ([Mode.FRESH], 0),
        ([Mode.FRESH, Mode.CONTINUE, Mode.CONTINUE], 2),
        ([Mode.FRESH, Mode.CONTINUE, Mode.FRESH, Mode.CONTINUE], 1),
    ],
)
def test_runs_in_a_row_count_from_the_last_fresh_one(runtime, clinic, modes, count):
    made = chain(runtime, clinic, modes)
    with runtime.db.reading() as session:
        assert runs_continued(session, made) == count


@pytest.mark.parametrize("short", [0, 1])
def test_the_models_page_proposes_a_fresh_run_when_there_were_many(runtime, clinic, short):
    chain(runtime, clinic, [Mode.FRESH, *[Mode.CONTINUE] * (MOST_CONTINUED - short)])
    page = person(runtime, Role.OPERATOR, project=clinic).get("/p/clinic/models").text
    assert ("Train the next one at the base model" in page) == (not short)
