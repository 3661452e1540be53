"""The loop from top to bottom: flags become tasks, answers, a training set, an adapter, a verdict and a champion."""

from collections.abc import Callable
from random import Random
from uuid import uuid4

import pytest
from sqlmodel import select

from annotation.types import Answer, Verdict
from service import answers, ledger, projects
from service.stages import promotion, training
from service.tables import (
    Decision,
    Evaluation,
    EvaluationState,
    JobKind,
    KeyKind,
    ModelVersion,
    ProjectKind,
    Role,
)
from tests.fakes import FakeConnector

WORDS = {
    "Billing": ["invoice", "money", "charged", "bill"],
    "Cardiology": ["heart", "chest", "beats", "pulse"],
    "Dermatology": ["skin", "rash", "itches", "spots"],
}
FILLERS = [
    "please",
    "today",
    "since",
    "yesterday",
    "my",
    "again",
    "the",
    "help",
    "morning",
    "about",
    "always",
    "never",
    "week",
    "doctor",
    "asked",
    "told",
    "mother",
    "father",
    "work",
    "home",
    "night",
    "walk",
    "very",
    "little",
    "much",
    "after",
    "before",
    "lunch",
    "dinner",
    "phone",
    "letter",
    "went",
    "came",
    "still",
    "hope",
    "think",
]
CRITERIA = [{"metric": "accuracy", "suite": "test", "margin": 0.1}]
TEACHABLE = {"learning_rate": 1e-2, "epochs": 8, "replay_general": 0}


def test_the_loop_makes_a_wrong_model_better_and_can_prove_how(world: "World"):
    # Users ask, and a random share of what they were told is judged by experts: that is the frozen test split.
    world.ask(60, flag=False)
    world.triage(random_share=1.0)
    world.experts_answer()

    # Users flag what is wrong; experts correct it; the corrections become an audited training set.
    world.ask(120, flag=True)
    world.triage(random_share=0.0)
    world.experts_answer()
    training_set = world.curate()
    assert training_set["counts"]["test"] >= 50
    assert training_set["counts"]["train"] >= 60
    assert not training_set["is_blocked"]

    # An adapter is trained on it, and its evaluation follows by itself.
    evaluation = world.train()
    assert evaluation.state is EvaluationState.PASSED, evaluation.sentence

    # Nothing changes until a person says yes; then the challenger is live, and can be taken back.
    assert world.champion().number == 0
    world.approve(evaluation)
    world.promote()
    assert world.champion().number == 1
    assert set(world.states_of_flags()) == {"live", "declined"}
    world.roll_back()
    assert world.champion().number == 0
    assert world.ledger_is_intact()


class World:
    """One project with its users, experts and operator."""

    def __init__(self, runtime, client, work, connector) -> None:
        self.runtime, self.client, self.work, self.connector = runtime, client, work, connector
        self.random = Random(0)
        self.truth: dict[str, str] = {}
        self.flags: list[str] = []
        new = projects.NewProject(
            slug="clinic", kind=ProjectKind.CLASSIFICATION, base_model="bundled:tiny", labels=list(WORDS)
        )
        with runtime.db.transaction() as session:
            self.project = projects.create(session, new, actor="test")
            projects.set_criteria(session, self.project, CRITERIA, actor="test")
            self.key = projects.add_key(session, self.project, KeyKind.SECRET, [], actor="test")
            self.public_key = projects.add_key(session, self.project, KeyKind.PUBLIC, [], actor="test")
            self.operator, _ = projects.add_user(session, "olga", Role.APPROVER, actor="test")

    def ask(self, count: int, *, flag: bool) -> None:
        for _ in range(count):
            label = self.random.choice(list(WORDS))
            text = " ".join([*self.random.sample(FILLERS, 6), *self.random.sample(WORDS[label], 2)])
            self.truth[text] = label
            said = self.random.choice(list(WORDS))
            token = self._log(text, said)
            if flag and (said != label or self.random.random() < 0.1):
                self._flag(token)

    def triage(self, *, random_share: float) -> None:
        with self.runtime.db.transaction() as session:
            project = projects.find(session, "clinic")
            projects.change(session, project, random_share=random_share, actor="test")
        self._do(JobKind.TRIAGE)

    def experts_answer(self) -> None:
        self._do(JobKind.SEND)
        (tool_project,) = self.connector.projects
        for task_id, task in self.connector.projects[tool_project].tasks.items():
            right = self.truth[task.prompt]
            answer = (
                Answer(Verdict.CORRECT)
                if task.response == right
                else Answer(Verdict.INCORRECT, label=right, cause="model")
            )
            for expert in ("ann", "ben"):
                self.connector.answer(tool_project, task_id, expert, answer)
        self._do(JobKind.SYNC)

    def curate(self) -> dict:
        self._do(JobKind.CURATE)
        with self.runtime.db.reading() as session:
            return answers.describe_set(session, answers.newest_set(session, self.project.id))

    def train(self) -> Evaluation:
        with self.runtime.db.transaction() as session:
            newest = answers.newest_set(session, self.project.id)
            training.request(self.runtime, session, newest, TEACHABLE, user=self.operator)
        self.work()
        with self.runtime.db.reading() as session:
            return session.exec(select(Evaluation)).one()

    def approve(self, evaluation: Evaluation) -> None:
        with self.runtime.db.transaction() as session:
            seen = promotion.what_to_approve(session, evaluation)
            promotion.decide(
                session,
                self.project,
                evaluation_id=evaluation.id,
                model_version=1,
                adapter_sha256=seen["adapter"],
                training_set=seen["training_set"],
                decision=Decision.APPROVED,
                reason="better on what users ask",
                user=self.operator,
            )

    def promote(self) -> None:
        with self.runtime.db.transaction() as session:
            promotion.promote(session, self.project, model_version=None, user=self.operator)

    def roll_back(self) -> None:
        with self.runtime.db.transaction() as session:
            promotion.roll_back(session, self.project, reason="rehearsal", user=self.operator)

    def champion(self) -> ModelVersion:
        with self.runtime.db.reading() as session:
            return training.champion_of(session, self.project.id)

    def states_of_flags(self) -> list[str]:
        headers = {"Authorization": f"Bearer {self.key}"}
        return [item["state"] for item in self.client.get("/v1/feedback", headers=headers).json["items"]]

    def ledger_is_intact(self) -> bool:
        with self.runtime.db.reading() as session:
            return not list(ledger.broken(session))

    def _log(self, text: str, said: str) -> str:
        body = {"messages": [{"role": "user", "content": text}], "response": said}
        answer = self.client.post("/v1/responses", json=body, headers={"Authorization": f"Bearer {self.key}"})
        assert answer.status_code == 201, answer.text
        return answer.json["feedback_token"]

    def _flag(self, token: str) -> None:
        body = {
            "key": self.public_key,
            "feedback_token": token,
            "event_id": str(uuid4()),
            "rating": "down",
            "reasons": ["wrong"],
        }
        answer = self.client.post("/v1/feedback", json=body)
        assert answer.status_code == 201, answer.text

    def _do(self, kind: JobKind) -> None:
        with self.runtime.db.transaction() as session:
            self.runtime.queue.ask(session, kind, self.project.id, project_id=self.project.id)
        self.work()


@pytest.fixture
def world(runtime, client, work: Callable[[], None], monkeypatch) -> World:
    connector = FakeConnector()
    monkeypatch.setattr("service.jobs.labelling.connector_for", lambda runtime, lease: connector)
    return World(runtime, client, work, connector)
