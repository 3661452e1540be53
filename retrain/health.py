"""Says while a run trains whether it leads anywhere: from its losses, its gradient, and answers not learned from.

Whether the loss rises or falls from one step to the next says nothing: at good learning rates and bad ones it does
either half of the time. A smoothed loss tells a run that breaks from one that learns; what it learns shows only in the
loss of answers that it does not learn from, the probe's, asked for now and then.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

SMOOTHING = 0.2  # the share of the newest step in the smoothed loss
PROBES = 10  # in a run
LEAST_STEPS = 5  # between probes, and before the smoothed loss means something
LEAST_STEPS_TO_JUDGE = 20  # how fast a run learns, and what
# Set on the first half of the recorded curves, about midway between what they tell apart.
EXPLODED = 1.5  # times what the run began with: its first loss or its first probe
PROBE_EXPLODED = 1.25  # times the first probe, with a loss above what the run began with
RISEN, RISEN_BY = 1.1, 0.02  # times the best probe, and by this share of the first
GAP = 1.5  # between the probe and the loss, in a run that learns its rows by heart
CARRIED_OVER = 0.9  # of the first probe: above it, nothing that was learned helps with other answers
FLAT = 0.95  # of the loss at the probe before
BARELY_FALLEN = 0.85  # of the first steps' loss
STEEP = 0.4  # of the first steps' gradient
LEARNED = 0.5  # nats a token: a run that begins below knows its answers, and has little to learn


class Health(StrEnum):
    """What ails a run."""

    NOT_FINITE = "not finite"
    DIVERGING = "diverging"
    OSCILLATING = "oscillating"
    OVERFITTING = "overfitting"
    MEMORISING = "memorising"
    STALLED = "stalled"
    TOO_SLOW = "too slow"


# What is wrong, what to do, and by what to multiply the learning rate where that helps.
REMEDIES = {
    Health.NOT_FINITE: ("its loss or its gradient is no number any more", 0.1),
    Health.DIVERGING: ("its loss rises above what it began with ({first:.2f}), to {loss:.2f}", 0.1),
    Health.OSCILLATING: ("the loss on validation rows comes up again, from {best:.2f} to {probe:.2f}", 0.1),
    Health.OVERFITTING: (
        (
            "it learns its rows by heart, whose loss fell to {loss:.2f} while that of validation rows rose from "
            "{best:.2f} to {probe:.2f}; take fewer epochs or more rows"
        ),
        0.3,
    ),
    Health.MEMORISING: (
        (
            "it learns its rows by heart and nothing else: their loss fell to {loss:.2f}, that of validation rows was "
            "never much better than at the start and is {probe:.2f}; look whether answers fit their questions"
        ),
        None,
    ),
    Health.STALLED: (
        (
            "its loss stays at {loss:.2f}, and on validation rows it is {probe:.2f}, no better than at the start; "
            "look whether answers fit their questions"
        ),
        None,
    ),
    Health.TOO_SLOW: ("its loss has barely fallen, from {first:.2f} to {loss:.2f}", 10),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ails a run since which step (the first is 1), in a sentence, and the learning rate to try next if any."""

    name: Health
    step: int
    sentence: str
    learning_rate: float | None


def probe_every(steps: int) -> int:
    """Return after how many steps of a run the probe is asked again."""
    return max(LEAST_STEPS, math.ceil(steps / PROBES))


class Monitor:
    """Watches one run of so many steps at a peak learning rate; equal runs hear the same.

    Without a probe only a loss that explodes is seen.
    """

    def __init__(self, learning_rate: float, steps: int, *, smoothing: float = SMOOTHING) -> None:
        self._rate, self._steps, self._smoothing = learning_rate, steps, smoothing
        self._step = 0
        self._loss = self._norm = self._begun_with = 0.0
        self._first = self._first_norm = 0.0
        self._probes: list[float] = []
        self._loss_at_probe = math.inf
        self._verdict: Verdict | None = None

    def see(self, loss: float, norm: float, probe: float | None = None) -> Verdict | None:
        """Take in a step: its loss, the norm of its gradient, and the probe's loss before it if that was asked.

        Returns the first verdict, which stays, or None while nothing ails the run.
        """
        self._step += 1
        if self._step == 1:
            self._loss, self._norm, self._begun_with = loss, norm, max(loss, probe or 0.0)
        if self._step <= LEAST_STEPS:  # one batch alone may hold nothing but rows that the model knows
            self._first += (loss - self._first) / self._step
            self._first_norm += (norm - self._first_norm) / self._step
        self._loss += self._smoothing * (loss - self._loss)
        self._norm += self._smoothing * (norm - self._norm)
        if probe is not None:
            self._probes.append(probe)
        if self._verdict is None and (found := self._find(is_probed=probe is not None)):
            self._verdict = self._tell(found)
        if probe is not None:
            self._loss_at_probe = self._loss
        return self._verdict

    def _find(self, *, is_probed: bool) -> Health | None:
        if not all(map(math.isfinite, (self._loss, self._norm, *self._probes))):
            return Health.NOT_FINITE
        if self._step > LEAST_STEPS and self._loss > EXPLODED * self._begun_with:
            return Health.DIVERGING
        if not is_probed or len(self._probes) == 1:
            return None
        return self._find_by_rise() or self._find_by_speed()

    def _find_by_rise(self) -> Health | None:
        """Tell by the loss of the rows why the probe is worse than it was."""
        first, probe, best = self._probes[0], self._probes[-1], min(self._probes)
        if probe > PROBE_EXPLODED * first and self._loss > self._begun_with:
            return Health.DIVERGING
        if min(self._probes[-2:]) < max(RISEN * best, best + RISEN_BY * first):
            return None  # one probe alone may be chance
        was_better = best < CARRIED_OVER * first
        if probe > GAP * self._loss and self._step > LEAST_STEPS_TO_JUDGE:
            return Health.OVERFITTING if was_better else Health.MEMORISING
        return Health.OSCILLATING if was_better else None

    def _find_by_speed(self) -> Health | None:
        """From half-way on, tell a run that learns from one that does not."""
        first = self._probes[0]
        if self._step < max(LEAST_STEPS_TO_JUDGE, self._steps / 2) or first < LEARNED:
            return None
        if min(self._probes) < CARRIED_OVER * first:
            return None
        if self._loss > BARELY_FALLEN * self._first and self._norm > STEEP * self._first_norm:
            return Health.TOO_SLOW
        return Health.STALLED if self._loss > FLAT * self._loss_at_probe else None

    def _tell(self, found: Health) -> Verdict:
        why, factor = REMEDIES[found]
        probes = self._probes or [math.nan]
        begun_with = self._begun_with if found is Health.DIVERGING else self._first
        told = why.format(first=begun_with, loss=self._loss, probe=probes[-1], best=min(probes))
        rate = float(f"{self._rate * factor:.2g}") if factor else None
        then = f"; try a learning rate of {rate:g}" if rate else ""
        sentence = f"The run is {found} at step {self._step} of {self._steps}: {told}{then}."
        return Verdict(found, self._step, sentence, rate)
