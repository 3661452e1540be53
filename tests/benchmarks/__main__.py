"""`./run bench` lists the benches, `./run bench NAME` runs one."""

import argparse
import sys
from collections.abc import Callable, Mapping

from tests.benchmarks import (
    audit,
    bisect,
    console,
    curate,
    diff,
    evaluate,
    faults,
    forgetting,
    garbage,
    health,
    hook,
    intake,
    kill,
    kill_jobs,
    kill_training,
    labelling,
    lineage,
    loop,
    real,
    scenarios,
    slow,
    start,
    train,
    tune,
)
from tests.benchmarks.report import MissingData, Report
from tests.repetitions import BENCH, FULL

BENCHES: Mapping[str, Callable[..., Report]] = {
    "audit": audit.measure,
    "bisect": bisect.measure,
    "console": console.measure,
    "curate": curate.measure,
    "diff": diff.measure,
    "evaluate": evaluate.measure,
    "faults": faults.measure,
    "forgetting": forgetting.measure,
    "garbage": garbage.measure,
    "health": health.measure,
    "hook": hook.measure,
    "intake": intake.measure,
    "kill": kill.measure,
    "kill-jobs": kill_jobs.measure,
    "kill-training": kill_training.measure,
    "labelling": labelling.measure,
    "lineage": lineage.measure,
    "loop": loop.measure,
    "real": real.measure,
    "scenarios": scenarios.measure,
    "slow": slow.measure,
    "start": start.measure,
    "train": train.measure,
    "tune": tune.measure,
}
OPTIONS = {"audit": ("data",), "health": ("out",), "real": ("data",), "scenarios": ("out",)}


def main() -> int:
    """Run the bench that was named and return the exit status: 0 when it measured, 2 when data is missing."""
    parser = argparse.ArgumentParser(prog="./run bench")
    parser.add_argument("name", nargs="?", choices=BENCHES)
    parser.add_argument("--full", action="store_true", help="as many repetitions as before a release")
    parser.add_argument("--data", default="", help="real, audit: the folder that holds the data")
    parser.add_argument("--out", default="", help="scenarios, health: the folder for the page, the curves")
    chosen = parser.parse_args()
    if chosen.name is None:
        sys.stdout.write("".join(f"{name}\n" for name in BENCHES))
        return 0
    try:
        options = {name: getattr(chosen, name) for name in OPTIONS.get(chosen.name, ())}
        report = BENCHES[chosen.name](FULL if chosen.full else BENCH, **options)
    except MissingData as missing:
        sys.stderr.write(f"{chosen.name}: {missing}\n")
        return 2
    report.show(chosen.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
