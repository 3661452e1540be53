"""Kill workers, work-horses and both in the middle of jobs: each job is to be done once in effect."""

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.installation import installation
from tests.benchmarks.report import Aim, Report, percentile
from tests.kills import KILLS, Killed, round_of_kills
from tests.repetitions import Repetitions
from tests.workers import crew


def measure(repetitions: Repetitions) -> Report:
    """Kill in each way in each round."""
    killed: list[Killed] = []
    with (
        installation(lease_seconds=2, retry_seconds=0) as runtime,
        TemporaryDirectory() as folder,
        crew(runtime, Path(folder)) as workers,
    ):
        project = workers.project()
        for _ in range(repetitions.kill_rounds):
            killed += round_of_kills(workers, project)
    rows = [_row(what, [one for one in killed if one.what == what]) for what in KILLS]
    bad = sum(bool(one.problems) for one in killed)
    return Report(
        columns=("killed", "times", "not once in effect", "done again after, p50 s", "max s"),
        rows=rows,
        figures={"kills": len(killed), "recovery_p50_s": percentile([one.seconds for one in killed], 50)},
        aims={"not_once_in_effect": Aim(aim=0, got=bad)},
        ratios={"once_in_effect": 1 - bad / len(killed)},
    )


def _row(what: str, killed: list[Killed]) -> tuple[object, ...]:
    seconds = [one.seconds for one in killed]
    bad = [problem for one in killed for problem in one.problems]
    return what, len(killed), ", ".join(bad) or 0, f"{percentile(seconds, 50):.1f}", f"{max(seconds):.1f}"
