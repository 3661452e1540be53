"""How well the audit finds faults, on seeds that no threshold was fixed on, and how fast it is over many rows."""

import time
from collections.abc import Sequence
from functools import reduce
from operator import add

from retrain.audit import Context
from retrain.audit.checks import CHECKS
from retrain.audit.context import Validity
from retrain.embedding import encode
from retrain.types import Example, Kind
from tests.benchmarks.report import Aim, Report
from tests.repetitions import Repetitions
from tests.scenarios import clean
from tests.scenarios.many import many_rows
from tests.scenarios.scores import Found, false_alarms, faults_found

ROWS = 100_000


def measure(repetitions: Repetitions) -> Report:
    """Score every check, then time each on many rows."""
    seeds = range(10, 10 + repetitions.audit_seeds)
    found = [faults_found(seed) for seed in seeds]
    totals = {fault: reduce(add, (each[fault] for each in found), Found()) for fault in found[0]}
    alarms = [names for seed in seeds for names in false_alarms(seed).values()]
    seconds = _seconds()
    share = sum(map(bool, alarms)) / len(alarms)
    return Report(
        columns=("fault or check", "recall", "precision", "CPU s of 100,000 rows"),
        rows=[
            *((fault, f"{one.recall:.3f}", f"{one.precision:.3f}", "") for fault, one in totals.items()),
            *((f"check {name}", "", "", f"{each:.1f}") for name, each in seconds.items()),
        ],
        figures={
            "seeds": len(seeds),
            "rows": ROWS,
            "false_alarms": round(share, 4),
            "sound_sets": len(alarms),
        },
        aims={
            "lowest_recall": Aim(
                aim=0.9, got=round(min(one.recall for one in totals.values()), 3), at_least=True
            ),
            "lowest_precision": Aim(
                aim=0.8, got=round(min(one.precision for one in totals.values()), 3), at_least=True
            ),
            "false_alarms": Aim(aim=0.05, got=round(share, 4)),
            "audit_cpu_s": Aim(aim=180, got=round(sum(seconds.values()), 1)),
        },
        ratios={},
    )


def _seconds() -> dict[str, float]:
    rows = [*many_rows(ROWS // 2), *many_rows(ROWS // 2, seed=1, kind=Kind.CLASSIFICATION)]
    context = _context(rows)
    seconds = {}
    for name, check in CHECKS.items():
        started = time.process_time()
        check.find(rows, context)
        seconds[name] = time.process_time() - started
    return seconds


def _context(rows: Sequence[Example]) -> Context:
    """Return something of all that a check may look at, so that none has an easy time."""
    return Context(
        today=clean.DAY,
        description="Answers the customers of a bank.",
        glossary={rows[0].prompt.split()[0]: rows[1].prompt.split()[:2]},
        validity=[Validity(rows[2].prompt.split()[0], valid_to=clean.DAY)],
        earlier=rows[: ROWS // 10],
        known=[row.key for row in rows[::2]],
        prompts={f"asked-{number}": row.prompt for number, row in enumerate(rows[::10])},
        doubts={row.key: 0.5 for row in rows[::100]},
        encode=encode,
    )
