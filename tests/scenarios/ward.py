"""The clinic of the loop's own test, run through the HTTP API by its operator's token."""

from collections.abc import Sequence
from itertools import pairwise
from uuid import uuid4

from retrain.types import Split
from service import goalposts
from tests.e2e.clinic import WORDS, Clinic
from tests.fakes import FakeConnector

ENOUGH = [{"metric": "accuracy", "suite": "test", "target": 0.4}]  # two departments of three will do


class Ward(Clinic):
    """An operator who trains, decides, promotes and rolls back, and users who mean harm."""

    def __init__(self, runtime, client, work) -> None:
        super().__init__(runtime, client, work, FakeConnector())
        with runtime.db.transaction() as session:
            goalposts.set_criteria(session, self.project, ENOUGH, actor="test")

    def judge_by(self, count: int) -> None:
        """Have answers drawn at random, that nobody flagged, judged by experts: they become the test split."""
        self.ask(count, flag=False)
        self.triage(random_share=1.0)
        self.experts_answer()

    def correct(self, count: int, about: Sequence[str] = tuple(WORDS)) -> None:
        """Have flagged answers corrected."""
        self.ask(count, flag=True, about=about)
        self.triage(random_share=0.0)
        self.experts_answer()

    def approve(self, evaluation: dict):
        seen = evaluation["hashes"]
        return self.post(
            "approvals",
            evaluation=evaluation["id"],
            model_version=evaluation["model_version"],
            adapter_sha256=seen["adapter"],
            training_set=seen["training_set"],
            decision="approved",
            reason="better on what users ask",
        )

    def go_live(self, evaluation: dict) -> None:
        assert self.approve(evaluation).status_code == 201
        assert self.post("promotions").status_code == 201

    def canaries(self) -> list[tuple[str, str]]:
        """Return what is answered to fixed questions, and by which version."""
        questions = [f"{first} and {then}" for words in WORDS.values() for first, then in pairwise(words)]
        return [self._answer(question) for question in questions]

    def attack(self, prompts: Sequence[str], said: str, instead: str) -> None:
        """Flag right answers as wrong, from three browsers, with a wrong correction."""
        for number, prompt in enumerate(prompts):
            self.truth[prompt] = said
            body = {
                "key": self.public_key,
                "feedback_token": self.respond(prompt, said),
                "event_id": str(uuid4()),
                "rating": "down",
                "reasons": ["wrong"],
                "correction": instead,
                "session": f"browser-{number % 3}",
            }
            assert self.client.post("/v1/feedback", json=body).status_code == 201

    def splits(self) -> dict[str, Split]:
        """Return the newest set's splits, by prompt."""
        return {prompt: example.split for prompt, example in self.examples().items()}

    def _answer(self, question: str) -> tuple[str, str]:
        asked = {"project": "clinic", "messages": [{"role": "user", "content": question}]}
        told = self.responder.post("/answer", json=asked).json
        return told["text"], told["model_version"]
