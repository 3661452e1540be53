"""What came of both models' answers in use decides, where the project's criteria say so."""

from uuid import uuid4

import pytest
from sqlmodel import Session, select

from annotation.types import Verdict
from service import goalposts
from service.stages import intake
from service.tables import (
    Evaluation,
    EvaluationState,
    ModelState,
    ModelVersion,
    ProjectKind,
)
from tests import builders
from tests.desk import Desk

REROUTED = {"metric": "rerouted", "suite": "outcomes", "margin": 0.1, "less_is_better": True}
RIGHT, COUNT = "the plaintiff sued", 60


@pytest.fixture
def court(runtime) -> Desk:
    desk = Desk(runtime, ProjectKind.GENERATION)
    with runtime.db.transaction() as session:
        goalposts.set_criteria(session, desk.project, [REROUTED], actor="olga")
        for number in range(40):
            asked = f"sum up: {' '.join(f'{number}{letter}' for letter in 'abcdefgh')}"
            response = builders.add_response(session, desk.project, RIGHT, asked=asked)
            task = builders.add_task(session, desk.project, response)
            builders.add_settlement(session, task, verdict=Verdict.CORRECT, label=None)
    return desk


def report(session: Session, desk: Desk, model: ModelVersion, *, rerouted: int) -> None:
    for number in range(COUNT):
        asked = f"{model.number}/{number}"
        response = builders.add_response(session, desk.project, asked, model_version_id=model.id)
        new = intake.NewOutcome(
            event_id=uuid4(), response_id=str(response.id), conversation_id=None,
            name="rerouted", value=float(number < rerouted), unit="",
        )  # fmt: skip
        intake.record_outcome(session, desk.project, new, sha256="sha256:0")


def judge_again(desk: Desk, model: ModelVersion) -> Evaluation:
    desk.judge_again(model.id, RIGHT)
    with desk.runtime.db.reading() as session:
        return session.exec(select(Evaluation).order_by(Evaluation.id.desc())).first()


@pytest.mark.parametrize(("rerouted", "state"), [(6, EvaluationState.PASSED), (45, EvaluationState.REFUSED)])
def test_it_cannot_be_told_before_users_had_its_answers_and_then_by_what_came_of_them(court, rerouted, state):
    first, _ = court.judge(court.curate(test_share=0.99, validation_share=0.0, regression_share=0.0), RIGHT)
    assert first.state is EvaluationState.CANNOT_TELL
    assert "too few answers of both versions have the outcome rerouted" in first.sentence
    with court.runtime.db.transaction() as session:
        challenger = session.get_one(ModelVersion, first.model_version_id)
        assert challenger.state is ModelState.CHALLENGER
        report(session, court, session.get_one(ModelVersion, first.champion_id), rerouted=30)
        report(session, court, challenger, rerouted=rerouted)
    judged = judge_again(court, challenger)
    assert judged.state is state
    [reason] = [one for one in judged.reasons if one["suite"] == "outcomes"]
    assert (reason["champion"], reason["challenger"]) == (0.5, rerouted / COUNT)
    assert f"0.50 before, {rerouted / COUNT:.2f} now" in judged.sentence
