"""Annotators whose accuracy is known, what they answer, and what is found out about them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import uuid4

from annotation.quality import estimate, trust
from annotation.settlement import Settled, settle
from annotation.types import Answer, Cause, LabelSchema, NewTask, TaskKind, Verdict
from annotation.votes import Vote

LABELS = ("Billing", "Cardiology")
ACCURACY = {"expert": 0.95, "junior": 0.8, "adversary": 0.1}
BEGUN = datetime(2026, 3, 2, tzinfo=UTC)

Said = Mapping[tuple[str, int], Answer]


class Crowd:
    """What annotators answered, and what was right."""

    def __init__(self, truth: Sequence[str], votes: Sequence[Vote]) -> None:
        self.truth, self.votes = truth, votes
        self.trust = trust(votes, estimate(votes))

    @property
    def named(self) -> list[str]:
        """Those who count for nothing."""
        return [name for name, known in self.trust.items() if known.weight <= 0.5]

    @property
    def error(self) -> float:
        """How far the accuracy found is from the real one, at worst."""
        return max(abs(known.right.value - self.real_accuracy(name)) for name, known in self.trust.items())

    def real_accuracy(self, name: str) -> float:
        own = [vote for vote in self.votes if vote.annotator == name]
        return sum(vote.said == self.truth[int(vote.task)] for vote in own) / len(self.truth)

    def by_majority(self) -> dict[int, str | None]:
        return self._settled(bar=0.501)

    def by_posterior(self) -> dict[int, str | None]:
        return self._settled(accuracies={name: known.weight for name, known in self.trust.items()})

    def wrong(self, settled: dict[int, str | None]) -> int:
        return sum(label != self.truth[task] for task, label in settled.items())

    def _settled(self, **known) -> dict[int, str | None]:
        """What each settled task came to."""
        answers: dict[int, list[tuple[str, Answer]]] = {task: [] for task in range(len(self.truth))}
        for vote in self.votes:
            answers[int(vote.task)].append((vote.annotator, vote.answer))
        outcomes = {task: settle(given, needed=2, overlap=3, **known) for task, given in answers.items()}
        return {task: each.answer.label for task, each in outcomes.items() if isinstance(each, Settled)}


def draw(seed: int, tasks: int, accuracy: Mapping[str, float]) -> tuple[list[str], Said]:
    """Return what is right, and what each annotator says, erring as often as their accuracy tells."""
    random = Random(seed)
    truth = [random.choice(LABELS) for _ in range(tasks)]
    said = {
        (name, task): _label(random, right, rate)
        for name, rate in accuracy.items()
        for task, right in enumerate(truth)
    }
    return truth, said


def in_memory(seed: int, tasks: int, accuracy: Mapping[str, float] = ACCURACY) -> Crowd:
    truth, said = draw(seed, tasks, accuracy)
    votes = [
        Vote(str(task), name, answer, BEGUN + timedelta(minutes=task), seconds=30)
        for (name, task), answer in said.items()
    ]
    return Crowd(truth, votes)


def in_tool(connector, people, accounts: Sequence[str], *, seed: int, tasks: int) -> Crowd:
    """Ask a real tool's accounts, who answer through its API, and read what the connector pulls."""
    truth, said = draw(seed, tasks, ACCURACY)
    account_of = dict(zip(ACCURACY, accounts, strict=True))
    schema = LabelSchema(kind=TaskKind.CLASSIFICATION, labels=LABELS, ratings=())
    made = connector.set_up(slug=f"crowd-{uuid4()}", schema=schema, hook_url="", hook_secret="")
    asked = [NewTask(key=str(task), prompt=f"enquiry {task}", response="Reception") for task in range(tasks)]
    ids = connector.push(made.external_id, asked)
    for (name, task), answer in said.items():
        people.answer(made.external_id, ids[str(task)], account_of[name], answer)
    name_of = {account: name for name, account in account_of.items()}
    held = connector.pull(made.external_id, None)
    votes = [
        Vote(one.task_key, name_of[one.annotator], one.answer, one.updated_at, one.seconds_spent)
        for task in held
        for one in task.annotations
    ]
    assert len(votes) == len(said)
    return Crowd(truth, votes)


def _label(random: Random, right: str, accuracy: float) -> Answer:
    others = [label for label in LABELS if label != right]
    said = right if random.random() < accuracy else random.choice(others)
    return Answer(Verdict.INCORRECT, label=said, cause=Cause.MODEL)
