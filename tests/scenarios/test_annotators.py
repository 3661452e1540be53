"""Experts whose confusion is known answer 300 tasks: who they are is found out, and what is right."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from annotation.quality import consensus, trust
from annotation.settlement import Settled, settle
from annotation.types import Answer, Cause, Verdict
from annotation.votes import Vote

TASKS = 300
LABELS = ("Billing", "Cardiology")
ACCURACY = {"expert": 0.95, "junior": 0.8, "adversary": 0.1}
BEGUN = datetime(2026, 3, 2, tzinfo=UTC)


class Crowd:
    """What three annotators answered, each erring as often as their accuracy says."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        self.truth = [random.choice(LABELS) for _ in range(TASKS)]
        self.votes = [
            Vote(
                str(task), name, _label(random, right, accuracy), BEGUN + timedelta(minutes=task), seconds=30
            )
            for name, accuracy in ACCURACY.items()
            for task, right in enumerate(self.truth)
        ]
        self.trust = trust(self.votes, consensus(self.votes))

    def real_accuracy(self, name: str) -> float:
        own = [vote for vote in self.votes if vote.annotator == name]
        return sum(vote.said == self.truth[int(vote.task)] for vote in own) / TASKS

    def settled(self, **known) -> dict[int, str | None]:
        """What each settled task came to."""
        answers: dict[int, list[tuple[str, Answer]]] = {task: [] for task in range(TASKS)}
        for vote in self.votes:
            answers[int(vote.task)].append((vote.annotator, vote.answer))
        outcomes = {task: settle(given, needed=2, overlap=3, **known) for task, given in answers.items()}
        return {task: each.answer.label for task, each in outcomes.items() if isinstance(each, Settled)}

    def wrong(self, settled: dict[int, str | None]) -> int:
        return sum(label != self.truth[task] for task, label in settled.items())


def _label(random: Random, right: str, accuracy: float) -> Answer:
    others = [label for label in LABELS if label != right]
    said = right if random.random() < accuracy else random.choice(others)
    return Answer(Verdict.INCORRECT, label=said, cause=Cause.MODEL)


@pytest.fixture(scope="module", params=[1, 2, 3])
def crowd(request) -> Crowd:
    return Crowd(request.param)


def test_what_each_really_did_is_recovered(crowd):
    for name, known in crowd.trust.items():
        assert known.right.value == pytest.approx(crowd.real_accuracy(name), abs=0.05)


def test_the_adversary_is_named_and_counts_for_nothing(crowd):
    assert min(crowd.trust, key=lambda name: crowd.trust[name].weight) == "adversary"
    assert [name for name, known in crowd.trust.items() if known.weight <= 0.5] == ["adversary"]


def test_the_posterior_settles_better_than_a_majority(crowd):
    weights = {name: known.weight for name, known in crowd.trust.items()}
    majority, weighed = crowd.settled(bar=0.501), crowd.settled(accuracies=weights)
    assert crowd.wrong(weighed) < crowd.wrong(majority) / 2
    assert len(weighed) > TASKS / 2


def test_the_consensus_is_right_more_often_than_a_majority(crowd):
    posteriors = consensus(crowd.votes).posteriors
    best = {int(task): max(each, key=each.get) for task, each in posteriors.items()}
    right = TASKS - crowd.wrong(best)
    majority = crowd.settled(bar=0.501)
    assert right > len(majority) - crowd.wrong(majority)
