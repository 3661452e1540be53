"""The loop from top to bottom: flags become tasks, answers, a training set, an adapter, a verdict and a champion."""

from collections.abc import Callable
from random import Random

import pytest

from annotation.types import Answer, Verdict
from service import responder
from service.projects import NewProject
from service.tables import EvaluationState, ProjectKind
from tests.e2e.world import World
from tests.fakes import FakeConnector
from tests.waiting import eventually

WORDS = {
    "Billing": ["invoice", "money", "charged", "bill"],
    "Cardiology": ["heart", "chest", "beats", "pulse"],
    "Dermatology": ["skin", "rash", "itches", "spots"],
}
FILLERS = (
    "please today since yesterday my again the help morning about always never week doctor asked told mother father "
    "work home night walk very little much after before lunch dinner phone letter went came still hope think"
)


def test_the_loop_makes_a_wrong_model_better_and_can_prove_how(clinic: "Clinic"):
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

    # Nothing changes until a person says yes; then the challenger is live, and can be taken back.
    assert clinic.champion().number == 0
    assert clinic.who_answers() == "v0"
    clinic.approve(evaluation)
    clinic.promote()
    assert clinic.champion().number == 1
    # The same responder, never restarted, answers with it.
    eventually(lambda: clinic.who_answers() == "v1", 5)
    assert set(clinic.states_of_flags()) == {"live", "declined", "corrected"}
    clinic.roll_back()
    assert clinic.champion().number == 0
    assert clinic.ledger_is_intact()


class Clinic(World):
    """Users ask by chance, and two experts who know the truth answer in a tool in memory."""

    def __init__(self, runtime, client, work, connector) -> None:
        new = NewProject(
            slug="clinic", kind=ProjectKind.CLASSIFICATION, base_model="bundled:tiny", labels=list(WORDS)
        )
        super().__init__(runtime, client, work, new)
        self.responder = responder.create_app(runtime).test_client()
        self.connector = connector
        self.random = Random(0)
        self.truth: dict[str, str] = {}

    def who_answers(self) -> str:
        question = {"project": "clinic", "messages": [{"role": "user", "content": "my skin itches"}]}
        answer = self.responder.post("/answer", json=question)
        assert answer.json["text"] in WORDS
        return answer.json["model_version"]

    def ask(self, count: int, *, flag: bool) -> None:
        for _ in range(count):
            label = self.random.choice(list(WORDS))
            text = " ".join([*self.random.sample(FILLERS.split(), 6), *self.random.sample(WORDS[label], 2)])
            self.truth[text] = label
            said = self.random.choice(list(WORDS))
            token = self.respond(text, said)
            if flag and (said != label or self.random.random() < 0.1):
                self.flag(token)

    def experts_answer(self) -> None:
        self.send()
        (tool_project,) = self.connector.projects
        for task_id, task in self.connector.projects[tool_project].tasks.items():
            right = self.truth[task.shown["prompt"]]
            answer = (
                Answer(Verdict.CORRECT)
                if task.shown["response"] == right
                else Answer(Verdict.INCORRECT, label=right, cause="model")
            )
            for expert in ("ann", "ben"):
                self.connector.answer(tool_project, task_id, expert, answer)
        self.sync()


@pytest.fixture
def clinic(runtime, client, work: Callable[[], None], monkeypatch) -> Clinic:
    connector = FakeConnector()
    monkeypatch.setattr("service.jobs.labelling.connect", lambda runtime, tool: connector)
    return Clinic(runtime, client, work, connector)
