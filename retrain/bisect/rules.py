"""How sure a finding must be and what it may cost, known before anything is trained."""

from dataclasses import dataclass
from math import ceil, log2

from retrain.bisect.changes import History
from retrain.bisect.finding import Cost
from retrain.errors import RetrainError


class BudgetTooSmall(RetrainError):
    """So few configurations or repeats can answer nothing; allow what the message names."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How sure a finding must be, and what it may cost.

    `error` is the most that all claims of a finding may be wrong together; a drop below `smallest_drop` does not
    matter. Each configuration is trained with `seed` and the seeds that follow, at most `repeats` times; None as
    `max_configurations` allows 2·log2(changes) + 4.

    Raises:
        BudgetTooSmall: a single training has no spread to compare with, and four configurations are the least.
    """

    smallest_drop: float = 0.05
    error: float = 0.05
    repeats: int = 3
    max_configurations: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.repeats < 2:
            raise BudgetTooSmall(
                f"repeats must be at least 2 to tell a change from chance, not {self.repeats}"
            )
        if self.max_configurations is not None and self.max_configurations < 4:
            raise BudgetTooSmall(f"a budget is at least 4 configurations, not {self.max_configurations}")

    def allowed(self, n_changes: int) -> int:
        """Return how many configurations may be trained for so many changes."""
        return self.max_configurations or max(4, int(2 * log2(n_changes) + 4))


def expect(history: History, rules: Rules, *, seconds_each: float) -> tuple[Cost, Cost]:
    """Tell beforehand what one plain cause will cost, and the most that the rules allow.

    `seconds_each` is what one training and its scoring take.
    """
    most = rules.allowed(len(history.changes))
    # Good, bad, the cause and the rest are trained with every seed, what lies between mostly with one.
    likely = min(most, 6 + ceil(log2(len(history.changes))))
    trainings = min(most * rules.repeats, 4 * rules.repeats + likely - 4), most * rules.repeats
    return Cost(likely, trainings[0], trainings[0] * seconds_each), Cost(
        most, trainings[1], trainings[1] * seconds_each
    )
