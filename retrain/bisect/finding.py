"""What a search came to, in one sentence and in facts."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from retrain.bisect.changes import Change
from retrain.intervals import Interval

SURE = 0.99  # more than that is not said: it would be of the model of chance, not of the world


class Verdict(StrEnum):
    """What is to blame: a part, several changes only together, nothing, or what no one can tell yet."""

    DATA = "data"
    CODE = "code"
    CONFIGURATION = "configuration"
    INTERACTION = "interaction"
    NONE = "none"
    CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True, slots=True)
class Cost:
    """How many configurations were tried, by how many trainings, which took so many seconds, whenever they ran."""

    configurations: int
    trainings: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RowBlame:
    """A row of a cause; `harm` is the estimated rise of the loss on lost cases by having it so.

    The rows that are `reproducing` bring the drop about together, without the others: a training showed it. Where no
    training showed how few do, it is None.
    """

    key: str
    harm: float
    reproducing: bool | None


@dataclass(frozen=True, slots=True)
class Cause:
    """Changes of which none can be spared for the harm that they do together; or all of what they have in `common`."""

    changes: tuple[Change, ...]
    rows: tuple[RowBlame, ...] = ()
    common: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict, what is to blame, how sure that is and what it cost.

    Each of several causes does harm by itself. `confidence` is 1 minus the error of all claims together, and 0 where
    nothing is claimed. `suspects` are left where a search could not tell, and `needs` is what would let it.
    """

    verdict: Verdict
    sentence: str
    drop: Interval
    cost: Cost
    causes: tuple[Cause, ...] = ()
    confidence: float = 0.0
    suspects: tuple[Change, ...] = ()
    needs: str = ""


def blaming(causes: Sequence[Cause], drop: Interval, *, cost: Cost, confidence: float) -> Finding:
    """Say what is to blame: a part, or an interaction if a cause is more than one change.

    Of causes in several parts the verdict is that of the first; the sentence names each.
    """
    verdict = Verdict(causes[0].changes[0].kind.part)
    if any(len(cause.changes) > 1 and not cause.common for cause in causes):
        verdict = Verdict.INTERACTION
    sure = f"{confidence:.0%}" if confidence < SURE else f"over {SURE:.0%}"
    sentence = f"{_all_told(causes)} made the model worse by {_points(drop)}: {sure} sure"
    return Finding(verdict, sentence, drop, cost, tuple(causes), confidence)


def excluding(drop: Interval, smallest: float, *, cost: Cost, confidence: float) -> Finding:
    """Say that nothing is to blame, as far as it matters."""
    excluded = f"a drop of {smallest * 100:g} points is excluded ({_points(drop)})"
    sentence = f"no significant regression: {excluded}"
    if drop.low > 0:
        sentence = f"worse, but by too little to be searched: {excluded}"
    return Finding(Verdict.NONE, sentence, drop, cost, confidence=confidence)


def not_telling(
    drop: Interval, why: str, *, cost: Cost, needs: str, suspects: Sequence[Change], causes: Sequence[Cause]
) -> Finding:
    """Say what is not known, what is, and what it would take."""
    seen = f"; {_all_told(causes)} was found" if causes else ""
    left = f"; to blame is one or more of: {_listed(suspects)}" if suspects else ""
    sentence = f"cannot tell: {why} ({_points(drop)}){seen}{left}; it would take {needs}"
    return Finding(
        Verdict.CANNOT_TELL, sentence, drop, cost, tuple(causes), suspects=tuple(suspects), needs=needs
    )


def _all_told(causes: Sequence[Cause]) -> str:
    return ", and by itself ".join(_told(cause) for cause in causes)


def _told(cause: Cause) -> str:
    if cause.common:
        return f"{cause.common}, in {len(cause.changes)} changes,"
    if len(cause.changes) == 1:
        return _listed(cause.changes)
    return f"the interaction of {_listed(cause.changes)}"


def _listed(changes: Sequence[Change]) -> str:
    *most, last = [f"{change.kind.value} {change.title}" for change in changes]
    return f"{', '.join(most)} and {last}" if most else last


def _points(drop: Interval) -> str:
    return f"{drop.value * 100:.1f} points, {drop.low * 100:.1f} to {drop.high * 100:.1f}, {drop.n} cases"
