"""The health monitor, on recorded curves of runs whose fault is known."""

from collections.abc import Iterable
from itertools import pairwise

import pytest

from retrain.health import Health, Monitor, Verdict, probe_every
from tests.scenarios.curves import HEALTHY, OF_SMOLLM2, Curve, false_stops, judge, judged, recorded, right

CURVES = recorded()
FITTED, UNSEEN = ([one for one in CURVES if one.half == half] for half in (0, 1))
LEAST_RIGHT, MOST_FALSE_STOPS = 0.95, 0.02


def watch(
    losses: Iterable[float], probes: Iterable[float] = (), *, norm: float = 1.0, steps: int = 60
) -> Verdict | None:
    """Let a monitor see made-up losses, with a probe wherever one is due."""
    monitor, verdict, asked = Monitor(1e-3, steps), None, iter(probes)
    for step, loss in enumerate(losses):
        probe = next(asked, None) if step % probe_every(steps) == 0 else None
        verdict = monitor.see(loss, norm, probe)
    return verdict


def sign_flips(curve: Curve) -> float:
    """Return how often the loss turns from falling to rising or back."""
    losses = [loss for loss in curve.losses if loss is not None]
    rises = [later > earlier for earlier, later in pairwise(losses)]
    turns = [one != next_one for one, next_one in pairwise(rises)]
    return sum(turns) / max(len(turns), 1)


@pytest.mark.parametrize("curves", [FITTED, UNSEEN], ids=["fitted", "unseen"])
def test_runs_are_labelled_as_they_were_made(curves):
    said = judged(curves)
    assert len(said) == 60
    assert right(said) >= LEAST_RIGHT
    assert false_stops(said) <= MOST_FALSE_STOPS


def test_a_language_models_runs_are_labelled_as_they_were_made():
    """By batches of a few rows, some of them answers of its own, its loss is far noisier than a tiny model's."""
    said = judged(recorded(OF_SMOLLM2))
    assert len(said) == 36
    assert right(said) >= LEAST_RIGHT
    assert false_stops(said) == 0


def test_no_run_stands_in_both_halves():
    fitted, unseen = ({(one.task, one.made, one.learning_rate) for one in half} for half in (FITTED, UNSEEN))
    assert not fitted & unseen
    assert not {one.seed for one in FITTED} & {one.seed for one in UNSEEN}


def test_the_sign_flips_of_a_loss_tell_nothing():
    ill = [(one.made != HEALTHY, sign_flips(one)) for one in CURVES]
    best = max(
        sum(is_ill == (flips > bar) for is_ill, flips in ill) / len(ill)
        for bar in {flips for _, flips in ill}
    )
    assert best < LEAST_RIGHT


def test_without_a_probe_only_what_explodes_is_seen():
    said = judged(UNSEEN, lambda one: getattr(judge(one, with_probe=False), "name", None))
    assert right(said) < LEAST_RIGHT
    assert false_stops(said) <= MOST_FALSE_STOPS
    assert {told for _, told in said} <= {HEALTHY, Health.DIVERGING, Health.NOT_FINITE}


def test_a_verdict_names_step_reason_and_remedy():
    assert watch([1.0] * 5 + [4.0] * 5) == Verdict(
        Health.DIVERGING,
        6,
        "The run is diverging at step 6 of 60: its loss rises above what it began with (1.00), to 1.60; "
        "try a learning rate of 0.0001.",
        1e-4,
    )


def test_the_first_verdict_stays():
    broken = [1.0] * 5 + [4.0] * 5
    assert watch([*broken, *[0.1] * 40]) == watch(broken)


@pytest.mark.parametrize(("losses", "norm"), [([1.0, float("nan")], 1.0), ([1.0, 1.0], float("inf"))])
def test_what_is_no_number_ends_a_run_at_once(losses, norm):
    found = watch(losses, norm=norm)
    assert found is not None
    assert (found.name, found.learning_rate) == (Health.NOT_FINITE, 1e-4)


def test_a_run_that_knows_its_answers_is_not_too_slow():
    assert watch([2.0] * 60, [2.0] * 10).name is Health.TOO_SLOW
    assert watch([0.4] * 60, [0.4] * 10) is None


def test_a_few_steps_say_nothing_of_what_is_learned():
    by_heart, ever_worse = [1.0 / step for step in range(1, 21)], [1.0, 1.1, 1.3, 1.5]
    assert watch(by_heart, ever_worse, steps=20) is None
    assert watch([*by_heart, *[0.05] * 5], [*ever_worse, 1.7], steps=25).name is Health.MEMORISING
