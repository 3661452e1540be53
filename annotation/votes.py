"""What reports on annotators are made from; pages and stages may hold it, for it loads nothing heavy."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from annotation.types import Abstention, Answer, Verdict

AT_ONCE = timedelta(seconds=1)  # what is sent within it was sent by one click
PAUSE = timedelta(minutes=30)  # who answers nothing for so long did something else


@dataclass(frozen=True, slots=True)
class Vote:
    """One annotator's newest answer to one task: what they `said`, as one of few, and in which week."""

    task: str
    annotator: str
    answer: Answer
    at: datetime
    seconds: float = 0.0
    said: str = field(init=False)
    week: str = field(init=False)

    def __post_init__(self) -> None:
        # Worked out once: a report asks some twenty times.
        object.__setattr__(self, "said", in_short(self.answer.verdict, self.answer.label, self.answer.labels))
        object.__setattr__(self, "week", week_of(self.at))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task came to, as a `Vote` says it, when, and how long it took since the task was made."""

    said: str
    at: datetime
    hours_waited: float


def in_short(verdict: Verdict | Abstention, label: str | None, labels: Sequence[str] = ()) -> str:
    """Return the label that was given, or the labels, or else the verdict."""
    return label or ", ".join(sorted(labels)) or verdict.value


def week_of(at: datetime) -> str:
    """Name the week that a moment lies in, such as 2026-W07."""
    year, week, _ = at.isocalendar()
    return f"{year}-W{week:02}"


@dataclass(frozen=True, slots=True)
class Repeat:
    """What an annotator said of an item, and what of the same weeks later, without being told."""

    annotator: str
    before: str
    after: str


def told_apart(
    votes: Sequence[Vote], copies: Mapping[str, str], persons: Mapping[str, str], *, gap: timedelta
) -> tuple[list[Vote], list[Repeat]]:
    """Part what tells of an item, or of somebody who never saw it, from what tells how far one agrees with oneself.

    To a copy, a person's first word on its item is a vote like any other. A later one is a repeat if at least `gap`
    lies between it and the one before, and else counts for nothing: it may be remembered.

    Args:
        votes: one for each annotator and task.
        copies: which task each copy asks once more.
        persons: who an annotator is, where several accounts are one person's.
        gap: how long it takes to forget an answer.
    """
    kept: list[Vote] = []
    repeats: list[Repeat] = []
    last: dict[tuple[str, str], Vote] = {}
    for vote in sorted(votes, key=lambda vote: (vote.at, vote.task)):
        own = persons.get(vote.annotator, vote.annotator), copies.get(vote.task, vote.task)
        earlier, last[own] = last.get(own), vote
        if vote.task not in copies or earlier is None:
            kept.append(vote)
        elif vote.at - earlier.at >= gap:
            repeats.append(Repeat(vote.annotator, earlier.said, vote.said))
    return kept, repeats


def pace(given: Iterable[tuple[str, str, datetime]]) -> dict[tuple[str, str], float]:
    """Return for how many seconds at most annotators had their answers in hand: since they answered last.

    For a tool that tells no times. What was sent at once shares that time; after a pause nothing is known.

    Args:
        given: task, annotator and time of each answer.
    """
    by: defaultdict[str, list[tuple[datetime, str]]] = defaultdict(list)
    for task, annotator, at in given:
        by[annotator].append((at, task))
    seconds: dict[tuple[str, str], float] = {}
    for annotator, own in by.items():
        clicks: list[list[tuple[datetime, str]]] = []
        for at, task in sorted(own):
            if not clicks or at - clicks[-1][0][0] > AT_ONCE:
                clicks.append([])
            clicks[-1].append((at, task))
        for before, sent in pairwise(clicks):
            spent = sent[0][0] - before[0][0]
            if spent <= PAUSE:
                each = spent.total_seconds() / len(sent)
                seconds.update({(task, annotator): each for _, task in sent})
    return seconds
