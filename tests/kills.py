"""One round of kills: a worker, a work-horse, and both, each in the middle of a job."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from uuid import UUID

from tests.waiting import eventually
from tests.workers import STEPS, Crew, kill_both, kill_child, kill_parent

KILLS: Mapping[str, Callable[[BaseProcess], None]] = {
    "worker": kill_parent,
    "work-horse": kill_child,
    "both": kill_both,
}


@dataclass(frozen=True, slots=True)
class Killed:
    """What became of a job in whose middle something was killed."""

    what: str
    seconds: float
    problems: tuple[str, ...]


def round_of_kills(crew: Crew, project: UUID) -> list[Killed]:
    """Kill once in each way, bring the workers back, wait for the jobs and check each."""
    crew.staff(len(KILLS))
    jobs = [crew.ask(project, hold=True) for _ in KILLS]
    attempts = [crew.holding(job) for job in jobs]
    of_horse = {child: process for process in crew.workers for child in crew.horses(process)}
    started = time.monotonic()
    for kill, attempt in zip(KILLS.values(), attempts, strict=True):
        kill(of_horse[attempt.pid])
        eventually(lambda attempt=attempt: not attempt.is_alive, seconds=5)
    crew.finish(jobs)
    seconds = time.monotonic() - started
    return [Killed(what, seconds, _problems(crew, job)) for what, job in zip(KILLS, jobs, strict=True)]


def _problems(crew: Crew, job: UUID) -> tuple[str, ...]:
    attempts = crew.attempts(job)
    facts = {
        "steps lost or doubled": crew.steps(job) != list(range(STEPS)),
        "not killed in its middle": len(attempts) < 2,
        "attempts overlapped": not all(attempt.is_alone for attempt in attempts),
    }
    return tuple(name for name, is_so in facts.items() if is_so)
