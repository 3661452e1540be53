"""What trains models for comparing, and how one that was just trained scores on a test split's rows, case by case."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Protocol

from retrain.errors import EmptySplit
from retrain.examination import Model, ask, case_of
from retrain.metrics import metric_named
from retrain.metrics.judged import Answer, judged_of
from retrain.types import Case, Example, TrainingSpec
from service.answers.histories import FEWEST_CASES
from service.learning import Trainer

TRIED = "tried"


class Bench(Trainer, Protocol):
    """What a job hands over, so that this module loads without torch."""

    def open(self, base_model: str, system_prompt: str) -> Model: ...
    def harms(
        self, spec: TrainingSpec, adapter: Path, rows: Sequence[Example], cases: Sequence[Example],
        weights: Sequence[float], *, labels: Sequence[str], is_cancelled: Callable[[], bool],
    ) -> list[float]: ...  # fmt: skip
    def archived(self, code: bytes) -> "Archived": ...


class Archived(Trainer, Protocol):
    """A trainer by archived code."""

    def can_run(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Examined:
    """The rows that a metric judges, as cases, and the labels that may be answered."""

    metric: str
    rows: Sequence[Example]
    cases: Sequence[Case]
    labels: Sequence[str]

    def score(self, model: Model, adapter: Path) -> tuple[float, ...]:
        """Return for each case 1 where the adapter's answer is right, else 0; more is better, whatever the metric."""
        model.add_adapter(TRIED, adapter)
        with model.using(TRIED):
            said = ask(model, self.cases, self.labels)
        metric = metric_named(self.metric)
        cells = metric.cells(judged_of(self.cases, said))[:, 0].tolist()
        # An answer that cannot be judged any more is no right one.
        rights = [cell if metric.is_higher_better else 1 - cell for cell in cells]
        return tuple(0.0 if isnan(right) else right for right in rights)


def examined(metric: str, rows: Sequence[Example], labels: Sequence[str]) -> Examined:
    """Find out, before anything trains, which rows a metric judges.

    Raises:
        EmptySplit: too few.
    """
    cases = [case_of(row) for row in rows]
    cells = metric_named(metric).cells(judged_of(cases, {case.key: Answer(case.expected) for case in cases}))[
        :, 0
    ]
    fits = [row for row, cell in zip(rows, cells.tolist(), strict=True) if not isnan(cell)]
    if len(fits) < FEWEST_CASES:
        raise EmptySplit(f"metric {metric} judges {len(fits)} cases of the test split")
    return Examined(metric, fits, [case_of(row) for row in fits], labels)
