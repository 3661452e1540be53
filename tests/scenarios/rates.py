"""A learning rate that is guessed too high: the run is stopped, and what is proposed instead is tried."""

from functools import partial
from typing import Any

from retrain.health import Verdict
from tests.scenarios import court
from tests.scenarios.figures import Figures, chosen, fact, score
from tests.scenarios.taught import Learner, hear, watched

TOO_HIGH, TRIED = 0.05, 2
SETTINGS: dict[str, Any] = {"rank": 16, "alpha": 32, "batch_size": 16, "epochs": 4}
ROWS, PROBED = 240, 32


def too_high(seed: int, learner: Learner, *, is_watched: bool = True) -> Figures:
    """Correct the clerk's memos at the guessed rate, then, where that is stopped, at the rates that are proposed."""
    rows, probe = court.disputes(f"{seed} rate", ROWS), court.disputes(f"{seed} probe", PROBED)
    base, rate, stops = court.base(learner.cache), TOO_HIGH, list[Verdict]()
    while is_watched and len(stops) <= TRIED:
        found = watched(base, rows, probe, seed=seed, learning_rate=rate, **SETTINGS)
        if found is None:
            break
        stops.append(found)
        rate = found.learning_rate or rate
    asked = court.cases(seed, learner.cases)
    heard = hear(base, rows, asked, seed=seed, learning_rate=rate, **SETTINGS)
    return {
        "stopped": fact(bool(stops) and stops[0].learning_rate is not None),
        "proposals_suffice": fact(len(stops) <= TRIED),
        "right": score(heard, "exact_match", seed),
        "memos_right": score(chosen(heard, style="memo"), "exact_match", seed),
    }


never_stopped = partial(too_high, is_watched=False)
