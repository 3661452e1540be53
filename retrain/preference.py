"""Which of two models people prefer, asked of no more people than needed, and which answer stands first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import lgamma, log

from retrain.types import sha256_of

# A Beta(10, 10) prior expects differences of some ten points: two models 15 points apart need some 70 judgements.
_PRIOR = 10.0
_STEPS = 50


class Preferred(StrEnum):
    """What judgements come to; `EQUAL` means less apart than matters, `OPEN` that more must be asked."""

    CHALLENGER = "challenger"
    CHAMPION = "champion"
    EQUAL = "equal"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Preference:
    """How often the challenger was preferred, ties apart, with limits that hold whenever one looks."""

    rate: float
    low: float
    high: float
    wins: int
    losses: int
    ties: int
    preferred: Preferred

    @property
    def n(self) -> int:
        """How many comparisons were judged."""
        return self.wins + self.losses + self.ties


def preference(
    wins: int, losses: int, ties: int = 0, *, confidence: float = 0.9, matters: float = 0.1
) -> Preference:
    """Return what the comparisons judged so far say; a rate of one half without any that has a winner.

    The limits are those of a confidence sequence: they may be looked at after each judgement and still miss the
    truth in at most 1 - `confidence` of all evaluations, which no fixed-size interval does. `matters` is how far from
    one half a rate must be to count.

    Source: Robbins (1970), "Statistical Methods Related to the Law of the Iterated Logarithm"; the mixture of a
    binomial with a Beta prior as in Howard et al. (2021), "Time-uniform, nonparametric, nonasymptotic confidence
    sequences", Annals of Statistics 49.
    """
    decided = wins + losses
    rate = wins / decided if decided else 0.5
    low, high = _limits(wins, losses, rate, confidence)
    if low > 0.5 or high < 0.5:
        preferred = Preferred.CHALLENGER if low > 0.5 else Preferred.CHAMPION
    else:
        is_near = low > 0.5 - matters and high < 0.5 + matters
        preferred = Preferred.EQUAL if is_near else Preferred.OPEN
    return Preference(rate, low, high, wins, losses, ties, preferred)


def order(cases: Mapping[str, Mapping[str, str]], *, seed: int) -> list[str]:
    """Return the cases' keys in the order in which people are asked: drawn by slice in turn, rare ones first.

    `cases` gives each key's slices by name. A case belongs to the rarest slice that it has.
    """
    sizes: dict[tuple[str, str], int] = {}
    for slices in cases.values():
        for pair in slices.items():
            sizes[pair] = sizes.get(pair, 0) + 1
    groups: dict[tuple[str, str], list[str]] = {}
    for key in sorted(cases, key=lambda key: sha256_of([seed, key])):
        rarest = min(cases[key].items(), key=lambda pair: (sizes[pair], pair), default=("", ""))
        groups.setdefault(rarest, []).append(key)
    ranked = sorted(groups, key=lambda pair: (len(groups[pair]), pair))
    return list(_in_turn([groups[pair] for pair in ranked]))


def is_challenger_first(place: int, *, seed: int) -> bool:
    """Say whether the challenger's answer is shown as a; of each two neighbours in the order it is one.

    Which one of the two is drawn, so that nobody can guess it from the last.
    """
    coin = int(sha256_of([seed, place // 2])[-1], 16) % 2 == 0
    return coin if place % 2 == 0 else not coin


def _in_turn(groups: Sequence[Sequence[str]]) -> Iterator[str]:
    for place in range(max(map(len, groups), default=0)):
        yield from (group[place] for group in groups if place < len(group))


def _limits(wins: int, losses: int, rate: float, confidence: float) -> tuple[float, float]:
    """Return the rates that the judgements do not refute, by bisection from each end to what was seen."""
    refuted = log(1 / (1 - confidence))
    mixed = _log_beta(_PRIOR + wins, _PRIOR + losses) - _log_beta(_PRIOR, _PRIOR)

    def limit(end: float) -> float:
        out, inside = end, rate
        for _ in range(_STEPS):
            middle = (out + inside) / 2
            if mixed - wins * log(middle) - losses * log(1 - middle) > refuted:
                out = middle
            else:
                inside = middle
        return out

    # What was seen lies within the limits, also where a rate of 0 or 1 cannot be refuted.
    return (limit(0.0) if wins else 0.0), (limit(1.0) if losses else 1.0)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
