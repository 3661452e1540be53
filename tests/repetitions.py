"""How often the tests repeat what only repetition proves: little as a rule, much when REPETITIONS=full."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Repetitions:
    """Counts that the tests and the benches share."""

    kill_rounds: int  # each kills a worker, its work-horse, and both
    pending_jobs: int
    racing_threads: int = 8
    hook_calls: int = 100


CI = Repetitions(kill_rounds=2, pending_jobs=200)
FULL = Repetitions(kill_rounds=20, pending_jobs=2000)

CHOSEN = FULL if os.environ.get("REPETITIONS") == "full" else CI
