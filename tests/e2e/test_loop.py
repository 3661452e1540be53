"""The loop from top to bottom: flags become tasks, answers, a training set, an adapter, a verdict and a champion."""

from collections.abc import Callable

import pytest

from service.tables import EvaluationState
from tests.e2e.clinic import Clinic
from tests.fakes import FakeConnector
from tests.waiting import eventually


def test_the_loop_makes_a_wrong_model_better_and_can_prove_how(clinic: Clinic):
    # Users ask, and a random share of what they were told is judged by experts: that is the frozen test split.
    clinic.ask(60, flag=False)
    clinic.triage(random_share=1.0)
    clinic.experts_answer()

    # Users flag what is wrong; experts correct it; the corrections become an audited training set.
    clinic.ask(120, flag=True)
    clinic.triage(random_share=0.0)
    clinic.experts_answer()
    training_set = clinic.curate()
    assert training_set["counts"]["test"] >= 50
    assert training_set["counts"]["train"] >= 60
    assert not training_set["is_blocked"]

    # An adapter is trained on it, and its evaluation follows by itself.
    evaluation = clinic.train()
    assert evaluation.state is EvaluationState.PASSED, evaluation.sentence
    assert {"accuracy", "calibration_error", "misdirection"} <= clinic.measured(evaluation)

    # Nothing changes until a person says yes; then the challenger is live, and can be taken back.
    assert clinic.champion().number == 0
    assert clinic.who_answers() == "v0"
    clinic.approve(evaluation)
    clinic.promote()
    assert clinic.champion().number == 1
    # The same responder, never restarted, answers with it.
    eventually(lambda: clinic.who_answers() == "v1", 5)
    # Asked again, it passes what it is told to have mended; what it still errs on, experts look at once more.
    assert "live" not in clinic.states_of_flags()
    clinic.do_what_was_asked_for()
    told = clinic.states_of_flags()
    assert {"live", "declined", "corrected"} <= set(told) <= {"live", "declined", "corrected", "checking"}
    assert told.count("live") > told.count("checking")
    clinic.roll_back()
    assert clinic.champion().number == 0
    eventually(lambda: clinic.who_answers() == "v0", 5)
    assert clinic.ledger_is_intact()


@pytest.fixture
def clinic(runtime, client, work: Callable[[], None], monkeypatch) -> Clinic:
    connector = FakeConnector()
    monkeypatch.setattr("service.jobs.labelling.connect", lambda *_: connector)
    return Clinic(runtime, client, work, connector)
