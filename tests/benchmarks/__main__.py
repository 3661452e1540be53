"""`./run bench` lists the benches, `./run bench NAME` runs one."""

import argparse
import sys
from collections.abc import Callable, Mapping

from tests.benchmarks import audit, console, curate, garbage, hook, kill_jobs, start
from tests.benchmarks.report import MissingData, Report
from tests.repetitions import BENCH, FULL, Repetitions

BENCHES: Mapping[str, Callable[[Repetitions], Report]] = {
    "audit": audit.measure,
    "console": console.measure,
    "curate": curate.measure,
    "garbage": garbage.measure,
    "hook": hook.measure,
    "kill-jobs": kill_jobs.measure,
    "start": start.measure,
}


def main() -> int:
    """Run the bench that was named and return the exit status: 0 when it measured, 2 when data is missing."""
    parser = argparse.ArgumentParser(prog="./run bench")
    parser.add_argument("name", nargs="?", choices=BENCHES)
    parser.add_argument("--full", action="store_true", help="as many repetitions as before a release")
    chosen = parser.parse_args()
    if chosen.name is None:
        sys.stdout.write("".join(f"{name}\n" for name in BENCHES))
        return 0
    try:
        report = BENCHES[chosen.name](FULL if chosen.full else BENCH)
    except MissingData as missing:
        sys.stderr.write(f"{chosen.name}: {missing}\n")
        return 2
    report.show(chosen.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
