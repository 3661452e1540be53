"""What reports on annotators are made from; pages and stages may hold it, for it loads nothing heavy."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from annotation.types import Abstention, Answer, Verdict


@dataclass(frozen=True, slots=True)
class Vote:
    """One annotator's newest answer to one task."""

    task: str
    annotator: str
    answer: Answer
    at: datetime
    seconds: float = 0.0

    @property
    def said(self) -> str:
        """What they came to, as one of few."""
        return in_short(self.answer.verdict, self.answer.label, self.answer.labels)

    @property
    def week(self) -> str:
        """The week in which they said it."""
        return week_of(self.at)


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
