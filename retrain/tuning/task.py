"""All that a trial of a search can know, and what its adapter comes to on that."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from retrain.errors import RetrainError
from retrain.examination import Model, ask, case_of, known_to_base
from retrain.intervals import Interval
from retrain.metrics import CHECKS
from retrain.metrics.judged import Known, judged_of
from retrain.metrics.statistics import measure
from retrain.types import Case, Example, Split

SEEN = (Split.TRAIN, Split.VALIDATION)
TRIED = "tried"


class UnseenRows(RetrainError):
    """A search for settings was handed rows that only an evaluation may read: it would fit the settings to the test."""


@dataclass(frozen=True, slots=True)
class Task:
    """Rows to learn from and to be judged by, the `earlier` contents among them, and general questions.

    `is_known` says that the base model was heard to answer all of these rightly.

    Raises:
        UnseenRows: a row is of another split than train or validation.
    """

    rows: Sequence[Example]
    earlier: frozenset[str]
    general: Sequence[Case]
    metric: str
    labels: Sequence[str]
    known: Known
    is_known: bool = False

    def __post_init__(self) -> None:
        """Refuse what a search must not see."""
        if others := sorted({row.split.value for row in self.rows} - {split.value for split in SEEN}):
            raise UnseenRows(f"rows of {', '.join(others)} in a search for settings")

    @property
    def judging(self) -> list[Example]:
        """The validation rows whose right answer is known."""
        return [row for row in self.rows if row.split is Split.VALIDATION and row.is_wanted]

    def knowing(self, keys: Collection[str]) -> "Task":
        """Return the task for later trials, which need not ask the base model what it knows."""
        return replace(self, general=[case for case in self.general if case.key in keys], is_known=True)

    def score(self, model: Model, adapter: Path) -> tuple[Interval, Interval | None, list[str]]:
        """Return an adapter's score on the validation split, the share of general knowledge kept, and what that was.

        Raises:
            EmptySplit: the metric judges no validation row.
        """
        cases = [case_of(row) for row in self.judging]
        known = self.general if self.is_known else known_to_base(self.general, ask(model, self.general, ()))
        model.add_adapter(TRIED, adapter)
        with model.using(TRIED):
            said = {**ask(model, cases, self.labels), **ask(model, known, ())}
        score = measure(judged_of(cases, said), self.metric, seed=0, known=self.known)
        kept = measure(judged_of(known, said), CHECKS[known[0].check], seed=0) if known else None
        return score, kept, [case.key for case in known]
