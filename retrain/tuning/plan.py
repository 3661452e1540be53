"""What a search for better settings may change, by which sampler, for how long, and which trial is the best.

Read by those who only ask for a search or show one, so nothing here is heavy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from retrain.errors import RetrainError
from retrain.intervals import Interval
from retrain.worth import HOUR

WATTS_PER_CORE = 10.0  # an estimate of what one busy core draws, its share of the machine included
Number = int | float
E = TypeVar("E", bound=StrEnum)


class WrongPlan(RetrainError):
    """A search cannot go as asked; correct what the message names."""


class Sampler(StrEnum):
    """Who chooses the next trial's settings.

    Source: Bergstra et al. (2011) for TPE; Hansen & Ostermeier (2001) for CMA-ES; Deb et al. (2002) for NSGA-II.
    """

    TPE = "tpe"
    CMA_ES = "cma-es"
    NSGA_II = "nsga-ii"
    RANDOM = "random"


class Pruner(StrEnum):
    """Who ends a trial early: below the median of the others at the same point, or not among the best half (ASHA).

    Source: Golovin et al. (2017) for the median rule; Li et al. (2020) for ASHA.
    """

    MEDIAN = "median"
    ASHA = "asha"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Range:
    """From where to where a setting is searched; a logarithmic one looks at 1 to 10 as often as at 10 to 100."""

    low: Number
    high: Number
    is_log: bool = False

    def reaching(self, value: Number) -> "Range":
        """Return the range that also holds a value."""
        return Range(min(self.low, value), max(self.high, value), self.is_log)


SPACE = {
    "learning_rate": Range(1e-5, 1e-2, is_log=True),
    "batch_size": Range(2, 32, is_log=True),
    "epochs": Range(1, 8),
    "rank": Range(2, 64, is_log=True),
    "alpha": Range(4, 128, is_log=True),
    "dropout": Range(0.0, 0.3),
    "replay_earlier": Range(0.0, 1.0),
    "replay_general": Range(0, 80),
}


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search may spend: trials, seconds of all trials together, watt hours by `WATTS_PER_CORE`, and money.

    A machine's hour costs `compute_hour` of `currency`; 0 where nobody said what it costs.
    """

    trials: int = 12
    seconds: float | None = None
    watt_hours: float | None = None
    cost: float | None = None
    compute_hour: float = 0.0
    currency: str = ""

    @property
    def most_seconds(self) -> float | None:
        """How long all trials together may take, by what is said of that and by what the cost pays for."""
        paid = None if self.cost is None else self.cost / self.compute_hour * HOUR
        return min((each for each in (self.seconds, paid) if each is not None), default=None)


@dataclass(frozen=True, slots=True)
class Plan:
    """One search. Trials begin with `start`, then try each of `earlier`; what is not `searched` stays as it starts.

    `most_forgotten` is the share of general knowledge that the best trial may lose.
    """

    start: Mapping[str, Number]
    searched: Sequence[str] = tuple(SPACE)
    earlier: Sequence[Mapping[str, Number]] = ()
    sampler: Sampler = Sampler.TPE
    pruner: Pruner = Pruner.MEDIAN
    budget: Budget = field(default_factory=Budget)
    most_forgotten: float = 0.05
    seed: int = 0

    @property
    def space(self) -> dict[str, Range]:
        """The range of each searched setting, which holds where the search starts."""
        return {name: SPACE[name].reaching(self.start[name]) for name in self.searched}


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial as it is told: `score` on the validation split, `kept` of general knowledge, as shares of 1.

    `curve` is the loss of the validation answers at shares of the run. `failure` says why a trial ended early.
    """

    number: int
    state: str
    settings: Mapping[str, Number]
    score: Interval | None = None
    kept: Interval | None = None
    curve: Sequence[tuple[float, float]] = ()
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    failure: str = ""

    @property
    def forgotten(self) -> float:
        """The share of general knowledge that is gone."""
        return 1 - self.kept.value if self.kept else 0.0


class GivenUp(Exception):
    """A trial was ended early; the message says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a whole trial came to: its score, of which more is better if `is_higher_better`, and what it kept and cost.

    `kept` is None where the base model knows nothing that could be forgotten, and `known` names the general questions
    that it answers rightly, so that it is asked them once a search.
    """

    score: Interval
    is_higher_better: bool
    kept: Interval | None
    seconds: float
    cpu_seconds: float
    known: Sequence[str] = ()


Watch = Callable[[float, float], None]
"""Is told at which share of a run what the validation loss is; raises `GivenUp` to end the trial."""
Run = Callable[[Mapping[str, Number], Watch, float | None], Outcome]
"""Trains and scores settings, within so many seconds if there is a limit."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has come to so far: all trials, and by setting the share of the spread that it explains.

    It `goes_on` while another worker is at a trial.
    """

    tried: Sequence[Tried]
    importance: Mapping[str, float]
    goes_on: bool


def read_plan(document: Mapping[str, Any]) -> Plan:
    """Read a plan from JSON.

    Raises:
        WrongPlan: with the field and value that cannot be.
    """
    budget, searched = Budget(**document["budget"]), document["searched"]
    if not 1 <= budget.trials <= 1000:
        raise WrongPlan(f"trials: from 1 to 1000 can be tried, not {budget.trials}")
    for name in ("seconds", "watt_hours", "cost"):
        if (spent := getattr(budget, name)) is not None and not spent > 0:
            raise WrongPlan(f"{name}: a budget of {spent:g} allows no trial")
    if budget.cost is not None and not budget.compute_hour > 0:
        raise WrongPlan("cost: the project's rates do not say what a machine's hour costs (compute_hour)")
    if strange := [name for name in searched if name not in SPACE]:
        raise WrongPlan(f"search: {strange[0]!r} cannot be searched; there are {', '.join(SPACE)}")
    chosen = {"sampler": _one_of(Sampler, document, "sampler"), "pruner": _one_of(Pruner, document, "pruner")}
    return Plan(**{**document, **chosen, "budget": budget, "searched": searched or tuple(SPACE)})


def best_of(tried: Sequence[Tried], *, is_higher_better: bool, most_forgotten: float) -> Tried | None:
    """Return the trial with the best score among those that forget no more than allowed, or among all if none does.

    Of equal ones it is the one that forgets less, then the one that took less time.
    """
    scored = [one for one in tried if one.score]
    sign = 1 if is_higher_better else -1

    def rank(one: Tried) -> tuple[float, float, float]:
        return (sign * one.score.value if one.score else 0.0, -one.forgotten, -one.cpu_seconds)

    return max([one for one in scored if one.forgotten <= most_forgotten] or scored, key=rank, default=None)


def watt_hours(cpu_seconds: float) -> float:
    """Return an estimate of the energy that so much processor time takes."""
    return cpu_seconds * WATTS_PER_CORE / HOUR


def _one_of(choices: type[E], document: Mapping[str, Any], name: str) -> E:
    try:
        return choices(document[name])
    except ValueError as error:
        raise WrongPlan(f"{name}: there is no {document[name]!r}; there are {', '.join(choices)}") from error
