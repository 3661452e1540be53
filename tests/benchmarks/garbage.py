"""How much the tiny model gains from repairs and from few clean rows, on seeds that no setting was fixed on.

The gate compares two models by the questions that they were asked. Of two trainings that differ by their seed alone one
is a better model than the other, and now and then the gate says so rightly: that is luck in training, which more
questions cannot tell from repairs and more trainings can. So what repairs gain is tested over the seeds, a pair
each, and so is what another seed gains.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from scipy.stats import ttest_1samp

from retrain.gate import Judgement, Reason
from tests.benchmarks.report import Aim, Report
from tests.repetitions import Repetitions
from tests.scenarios import clean, text_faults
from tests.scenarios.garbage import HELD_OUT, answers, compared, fields, made_noisy, mended, orders

REPAIRED, AGAIN = "repaired, after unrepaired", "unrepaired with another seed, after unrepaired"
FEW, SOUND = "60 clean rows, after 600 noisy", "60 clean rows, after 520 clean"


def measure(repetitions: Repetitions) -> Report:
    """Train on both sets of each comparison, and on those of its control, and let the gate judge."""
    seeds = range(10, 10 + repetitions.taught_seeds)
    with TemporaryDirectory() as cache:
        found = [_repairs(seed, Path(cache)) | _few(seed, Path(cache)) for seed in seeds]
    reasons = {name: [_better(each[name]) for each in found] for name in found[0]}
    passed = {name: mean(one.met for one in each) for name, each in reasons.items()}
    return Report(
        columns=("trained on", f"right of {HELD_OUT} before", "now", "better by the gate"),
        rows=[
            (name, *_right(each), f"{sum(one.met for one in each)} of {len(seeds)}")
            for name, each in reasons.items()
        ],
        figures={"seeds": len(seeds), "held_out": HELD_OUT},
        aims={
            "repaired_better": Aim(aim=0.95, got=passed[REPAIRED], at_least=True),
            "repaired_by_chance": Aim(aim=0.05, got=_by_chance(reasons[REPAIRED])),
            "again_by_chance": Aim(aim=0.05, got=_by_chance(reasons[AGAIN]), at_least=True),
            "few_clean_better": Aim(aim=0.95, got=passed[FEW], at_least=True),
            "few_clean_better_than_many": Aim(aim=0.0, got=passed[SOUND]),
        },
    )


def _repairs(seed: int, cache: Path) -> dict[str, Judgement]:
    sound, held_out = orders(seed)
    spoilt = clean.settled(text_faults.inject(sound, seed)[0])
    unrepaired, again = (
        answers(spoilt, held_out, epochs=5, seed=each, cache=cache) for each in (seed, seed + 1000)
    )
    repaired = answers(mended(spoilt), held_out, epochs=5, seed=seed, cache=cache)
    return {
        REPAIRED: compared(held_out, unrepaired, repaired),
        AGAIN: compared(held_out, unrepaired, again),
    }


def _few(seed: int, cache: Path) -> dict[str, Judgement]:
    sound, few, held_out = fields(seed)
    said, noisy, many = (
        answers(clean.settled(rows), held_out, epochs=epochs, seed=seed, cache=cache)
        for rows, epochs in ((few, 20), (made_noisy(sound, seed), 2), (sound, 2))
    )
    return {FEW: compared(held_out, noisy, said), SOUND: compared(held_out, many, said)}


def _better(judgement: Judgement) -> Reason:
    return next(reason for reason in judgement.reasons if reason.rule == "better")


def _by_chance(reasons: Sequence[Reason]) -> float:
    """Return how often trainings without a difference gain as much over as many seeds: p of a one-sided paired test."""
    gains = [one.challenger - one.champion for one in reasons]
    return round(float(ttest_1samp(gains, 0.0, alternative="greater").pvalue), 4)


def _right(reasons: Sequence[Reason]) -> tuple[str, str]:
    """Say the mean, lowest and highest count of right answers."""
    counts = [
        [round(getattr(one, name) * HELD_OUT) for one in reasons] for name in ("champion", "challenger")
    ]
    before, now = (f"{mean(each):.0f} ({min(each)} to {max(each)})" for each in counts)
    return before, now
