"""How often tests and benches repeat what only repetition proves; REPETITIONS=bench or full has tests do more."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Repetitions:
    """The counts of one undertaking."""

    kill_rounds: int  # each kills a worker, a work-horse, and both
    pending_jobs: int
    hook_calls: int
    starts: int
    page_views: int
    audit_seeds: int
    settled: tuple[int, ...]  # rows that sets are built of; the first also by rivals
    waiting_tasks: int = 1000  # while a tool is away
    crowd_tasks: int = 12  # each answered by three in each tool
    hook_seconds: int = 2
    tool_stories: int = 30  # of what people and networks do to a tool
    racing_threads: int = 8
    races: int = 4  # for the champion, and another time for a rollback
    mutations: int = 100  # of a ledger
    taught_seeds: int = 5  # six trainings each
    simulated: int = 200  # evaluations by people
    pasts: int = 8  # histories of each fault
    spoiled_clinics: int = 0  # on SmolLM2
    scenario_seeds: int = 1  # on the tiny model
    real_questions: tuple[int, int] = (200, 400)  # to judge by and to learn from
    trials: int = 12  # of each search for settings
    killed_trainings: int = 2  # rounds, each in three ways
    trained_rows: int = 96  # by each way to train
    training_rounds: int = 1
    exam_questions: int = 96
    compared_rows: int = 64  # twice by each, to compare their losses
    compared_seeds: int = 3
    exam_cases: int = 1000
    server_kills: int = 30  # under clients that try again, on each kind of database
    stored_flags: int = 10_000  # beside an empty installation
    load_rounds: int = 1
    load_seconds: float = 1
    slow_bodies: int = 20
    slow_headers: int = 50
    slow_seconds: float = 4
    sybil_flags: int = 1  # by each of a campaign's 300 accounts
    flipped_bits: int = 100  # of an adapter
    killed_migrations: int = 2
    requests_of_a_soak: int = 50
    requests_per_operation: int = 2  # as the API is described, and as many otherwise


CI = Repetitions(
    kill_rounds=2, pending_jobs=200, hook_calls=20, starts=1, page_views=1, audit_seeds=2, settled=(100, 1000)
)
BENCH = Repetitions(
    kill_rounds=20,
    pending_jobs=200,
    hook_calls=100,
    starts=5,
    page_views=20,
    audit_seeds=20,
    settled=(10_000, 100_000),
    waiting_tasks=10_000,
    crowd_tasks=300,
    hook_seconds=60,
    tool_stories=1000,
    simulated=2000,
    killed_trainings=20,
    races=100,
    mutations=1000,
    server_kills=1000,
    stored_flags=100_000,
    load_rounds=5,
    load_seconds=3,
    slow_bodies=200,
    slow_headers=1000,
    slow_seconds=60,
    sybil_flags=10,
    flipped_bits=1000,
    killed_migrations=50,
    requests_of_a_soak=20_000,
    requests_per_operation=30,
)
FULL = Repetitions(
    kill_rounds=200,
    pending_jobs=2000,
    hook_calls=1000,
    starts=50,
    page_views=200,
    audit_seeds=20,
    settled=(100_000, 1_000_000, 4_000_000),
    waiting_tasks=10_000,
    crowd_tasks=300,
    hook_seconds=60,
    tool_stories=1000,
    taught_seeds=20,
    simulated=2000,
    pasts=40,
    spoiled_clinics=1,
    scenario_seeds=5,
    killed_trainings=167,
    trained_rows=192,
    training_rounds=3,
    races=1000,
    mutations=1000,
    compared_rows=160,
    compared_seeds=5,
    server_kills=1000,
    stored_flags=1_000_000,
    load_rounds=9,
    load_seconds=5,
    slow_bodies=200,
    slow_headers=1000,
    slow_seconds=60,
    sybil_flags=10,
    flipped_bits=1000,
    killed_migrations=50,
    requests_of_a_soak=200_000,
    requests_per_operation=300,
)

CHOSEN = {"ci": CI, "bench": BENCH, "full": FULL}[os.environ.get("REPETITIONS", "ci")]
