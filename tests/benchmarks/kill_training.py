"""Kill workers, work-horses and both in the middle of real trainings: one adapter each, of the same bytes."""

from pathlib import Path
from tempfile import TemporaryDirectory

from service.settings import Settings
from tests.benchmarks.installation import installation
from tests.benchmarks.report import Aim, Report
from tests.killed_runs import prepare, summary
from tests.repetitions import Repetitions
from tests.workers import crew


def measure(repetitions: Repetitions) -> Report:
    """Train once undisturbed, then kill in each way in each round."""
    with (
        installation(lease_seconds=2, retry_seconds=0, cache_dir=Settings().cache_dir) as runtime,
        TemporaryDirectory() as folder,
        crew(runtime, Path(folder)) as workers,
    ):
        trainings = prepare(workers, seed=0)
        expected = trainings.undisturbed()
        killed = [one for _ in range(repetitions.killed_trainings) for one in trainings.killed(expected)]
    bad = sum(bool(one.problems) for one in killed)
    return Report(
        columns=("killed", "times", "not one adapter of the same bytes", "trained again after, max s"),
        rows=summary(killed),
        figures={"kills": len(killed)},
        aims={"not_one_equal_adapter": Aim(aim=0, got=bad)},
    )
