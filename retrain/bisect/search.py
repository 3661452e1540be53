"""Finds the smallest set of changes, then of rows, that loses what the bad model lost.

Data are told from code and configuration first, by the good ones under the bad others and the reverse. Then each
member of the set is found by a binary search over prefixes of the suspects, the next beside those found before
(Zeller & Hildebrandt 2002, "Simplifying and Isolating Failure-Inducing Input", with the search of Junker's QuickXplain
2004): m members take about m·log2(n) configurations, less where an estimate of harm puts them first. What is found is
confirmed from both sides: alone it must be bad, and without it all others must be good.
"""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from itertools import accumulate

from retrain.bisect.changes import Change, Configuration, History, Part
from retrain.bisect.finding import (
    Cause,
    Finding,
    RowBlame,
    blaming,
    excluding,
    not_telling,
)
from retrain.bisect.rules import Rules
from retrain.bisect.trials import HALF, Drop, OutOfBudget, Scores, Step, Trials

Train = Callable[[Configuration, int], Scores]
# Says by how much learning each row would raise the loss on cases that weigh so much; a row that is not named has 0.
Harm = Callable[[Sequence[str], Sequence[float]], Mapping[str, float]]
_CLAIMS = 3  # there is a drop, the cause makes it, without the cause there is none
_ROW_STEPS = 3
_REPAIRED = 0.75  # of what was lost is had again


def find(
    history: History,
    train: Train,
    *,
    harm: Harm | None = None,
    remembered: MutableMapping[str, Scores] | None = None,
    rules: Rules | None = None,
    progress: Callable[[Step], None] = lambda _: None,
) -> Finding:
    """Say which changes made the model worse.

    `train` makes a configuration's training with a seed and scores it; what it raises ends the search, as does what
    `progress` raises, and a search with the same `remembered` goes on from there. Without `harm` suspects come in
    the order of the history, and no rows are named.

    Raises:
        BrokenHistory: trainings were not scored on the same cases.
    """
    rules = rules or Rules()
    trials = Trials(
        history, train, remembered={} if remembered is None else remembered, rules=rules, progress=progress
    )
    drop = trials.drop()
    least = rules.error / _CLAIMS
    if drop.missed <= least:
        return excluding(drop.interval, rules.smallest_drop, cost=trials.cost, confidence=1 - drop.missed)
    if drop.by_chance > least:
        why = "the models do not differ clearly"
        return not_telling(drop.interval, why, cost=trials.cost, needs=drop.needs, suspects=[], causes=[])
    return _Search(trials, harm).blame(drop)


class _Search:
    """One search for causes, once it is clear that there is something to find."""

    def __init__(self, trials: Trials, harm: Harm | None) -> None:
        self.trials, self.history = trials, trials.history
        self.suspects: Sequence[Change] = self.history.changes
        rows = sorted({row for one in self.history.changes for row in (*one.added, *one.removed)})
        self.harm = harm(rows, trials.lost.tolist()) if harm else {}
        harms = {one.id: max(0.0, sum(self._harms(one).values())) for one in self.history.changes}
        self.harmful, whole, n = harms, sum(harms.values()) or 1.0, len(harms)
        self.middle = HALF
        self.tried: dict[frozenset[str], bool] = {}
        # Half of the belief is shared out equally: an estimate that errs may cost a training, never the answer.
        self.weights = {name: each / whole / 2 + 1 / (2 * n) for name, each in harms.items()}

    def blame(self, drop: Drop) -> Finding:
        """Find causes until without them nothing is bad, and confirm them."""
        causes: list[Cause] = []
        rules, why = self.trials.rules, "what was found could not be confirmed"
        needs = f"more than {rules.repeats} repeats"
        try:
            left = self._take_causes(causes)
            doubt = drop.by_chance + self._doubt(causes, left)
            suspects: Sequence[Change] = _changes(causes)
        except OutOfBudget as spent:
            doubt, suspects, why = 1.0, self.suspects, str(spent)
            needs = f"more than {self.trials.allowed} configurations"
        if doubt > rules.error:
            return not_telling(
                drop.interval, why, cost=self.trials.cost, needs=needs, suspects=suspects, causes=causes
            )
        blamed = [replace(cause, rows=self._rows(cause)) for cause in causes]
        return blaming(blamed, drop.interval, cost=self.trials.cost, confidence=1 - doubt)

    def _take_causes(self, causes: list[Cause]) -> list[Change]:
        """Add causes until the changes left lose little, and return these; each round seeks half of what is lost."""
        left, kept = list(self.history.changes), 0.0
        while True:
            self.middle = (1 + kept) / 2
            self.tried = {frozenset(): False, self.history.making(left).changes: True}
            found, common = self._smallest(left)
            named = self.history.named(one.id for one in found)
            causes += [Cause(tuple(named), common=common)] if common else self._apart(named)
            left = self.history.without(_changes(causes))
            rest = self.trials.kept(self.history.making(left))
            if not left or rest.value >= _REPAIRED or rest.high >= 1:
                return left
            kept = rest.value

    def _apart(self, changes: Sequence[Change]) -> list[Cause]:
        """Return changes as one cause, or each as one if what they do together is what they do alone, added up."""
        ids = frozenset(change.id for change in changes)
        alone = sum(1 - self.trials.seen_to_keep(change, ids) for change in changes)
        if len(changes) > 1 and alone >= _REPAIRED:
            return [Cause((change,)) for change in changes]
        return [Cause(tuple(changes))]

    def _doubt(self, causes: Sequence[Cause], left: Sequence[Change]) -> float:
        """Return the chance that the causes are not bad, one of several does nothing, or the rest is not good."""
        made = self.trials.doubt(self.history.making(_changes(causes)), HALF)
        if len(causes) > 1:
            made += sum(self.trials.doubt(self.history.making(each.changes), _REPAIRED) for each in causes)
        return made + 1 - self.trials.doubt(self.history.making(left), HALF)

    def _smallest(self, changes: Sequence[Change]) -> tuple[list[Change], str]:
        """Return a set of changes that is bad, and was not without any one of them; or all of what they have in common.

        An annotator who spoiled a few rows of each batch is one suspect, and no interaction of batches.
        """
        found: list[Change] = []
        suspects = among = self._of_one_part(changes)
        while suspects and not (found and self._is_bad(found)):
            for common in sorted(found[0].shared) if len(found) == 1 else ():
                kin = [one for one in among if common in one.shared]
                if self._is_spread(kin) and len(kin) < len(among) and self._is_bad(kin):
                    return kin, common
            last = self._last_needed(found, suspects)
            found, suspects = [*found, suspects[last]], suspects[:last]
        return found, ""

    def _is_spread(self, kin: Sequence[Change]) -> bool:
        """Say whether three changes or more do their share of harm, as estimated: two may interact as any."""
        harms = [self.harmful[one.id] for one in kin]
        return len(kin) > 2 and min(harms) > sum(harms) / (2 * len(kin))

    def _last_needed(self, found: Sequence[Change], suspects: Sequence[Change]) -> int:
        """Return the place of the suspect with which the first suspects, beside what was found, become bad."""
        weights = [self.weights[one.id] for one in suspects]
        firsts = [[*found, *suspects[:n]] for n in range(len(suspects) + 1)]
        low, high = 0, len(suspects)
        while high - low > 1:
            known = {n: self._known(firsts[n]) for n in range(low + 1, high)}
            low = max((n for n, is_bad in known.items() if is_bad is False), default=low)
            high = min((n for n, is_bad in known.items() if is_bad and n > low), default=high)
            self.suspects = [*found, *suspects[low:high]]
            self.trials.n_suspects = len(self.suspects)
            if high - low > 1:
                middle = _middle(weights, low, high)
                low, high = (low, middle) if self._is_bad(firsts[middle]) else (middle, high)
        self.trials.n_suspects = len(found) + 1
        return high - 1

    def _of_one_part(self, changes: Sequence[Change]) -> list[Change]:
        """Return data alone, or code and configuration alone, if these are bad by themselves; most harmful first.

        If neither is, both have a share, and those of code and configuration come last: few are soon searched.
        """
        ordered = sorted(changes, key=lambda one: -self.weights[one.id])
        data = [one for one in ordered if one.kind.part is Part.DATA]
        others = [one for one in ordered if one.kind.part is not Part.DATA]
        for part in (data, others):
            if data and others and self._is_bad(part):
                return part
        return [*data, *others]

    def _is_bad(self, changes: Sequence[Change]) -> bool:
        known = self._known(changes)
        if known is None:
            configuration = self.history.making(changes)
            known = self.tried[configuration.changes] = self.trials.is_bad(configuration, self.middle)
        return known

    def _known(self, changes: Sequence[Change]) -> bool | None:
        """Say what follows for these changes from what was tried: fewer than good are good, more than bad are bad.

        Where that is not so, the search takes a wrong turn, and what it finds is not confirmed.
        """
        made = self.history.making(changes).changes
        if any(made <= tried for tried, is_bad in self.tried.items() if not is_bad):
            return False
        return True if any(made >= tried for tried, is_bad in self.tried.items() if is_bad) else None

    def _harms(self, change: Change) -> dict[str, float]:
        """Return by how much the loss rises with each row of a change: one that is missed harms by its absence."""
        added = {row: self.harm.get(row, 0.0) for row in change.added}
        return added | {row: -self.harm.get(row, 0.0) for row in change.removed}

    def _rows(self, cause: Cause) -> tuple[RowBlame, ...]:
        """Return the rows that harm, worst first, after trying how few of them bring the drop about.

        All that the cause's changes touch do: that was confirmed.
        """
        harms = {row: harm for one in cause.changes for row, harm in self._harms(one).items() if harm > 0}
        ranked = sorted(harms, key=lambda row: (-harms[row], row))
        given = {row for one in cause.changes for row in (*one.added, *one.removed)}
        needed = {row for one in self.history.changes for row in (*one.added, *one.removed)} - given
        low, high = 0, len(ranked)
        enough = high if given == set(ranked) else None
        for _ in range(_ROW_STEPS if len(ranked) > 1 else 0):
            middle = _middle([harms[row] for row in ranked], low, high)
            try:
                is_enough = self.trials.is_bad(
                    self.history.making(cause.changes, only={*needed, *ranked[:middle]}), HALF
                )
            except OutOfBudget:
                break
            low, high, enough = (low, middle, middle) if is_enough else (middle, high, enough)
            if high - low < 2:
                break
        return tuple(
            RowBlame(row, harms[row], None if enough is None else place < enough)
            for place, row in enumerate(ranked)
        )


def _changes(causes: Sequence[Cause]) -> list[Change]:
    return [change for cause in causes for change in cause.changes]


def _middle(weights: Sequence[float], low: int, high: int) -> int:
    """Return where low..high is parted so that both sides weigh most nearly the same; neither is empty."""
    sums = list(accumulate(weights[low:high]))
    return low + min(range(1, high - low), key=lambda at: abs(sums[at - 1] - sums[-1] / 2))
