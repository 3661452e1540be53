"""How long a second start takes, when everything is set up already."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.report import Aim, MissingData, Report, percentile
from tests.repetitions import Repetitions

ROOT = Path(__file__).resolve().parent.parent.parent
LAUNCHED = (ROOT / "run", "errata", "--help")
DIRECT = (sys.executable, "-P", "-m", "service.cli", "--help")
AIM_MS = 500


def measure(repetitions: Repetitions) -> Report:
    """Start the command line through the launcher and without it; the first start of each does not count."""
    times = {
        "./run errata --help": _times(LAUNCHED, repetitions.starts),
        "python -m service.cli --help": _times(DIRECT, repetitions.starts),
    }
    launched, direct = (percentile(values, 50) for values in times.values())
    return Report(
        columns=("command", "starts", "p50 ms", "max ms"),
        rows=[
            (name, len(values), f"{percentile(values, 50):.0f}", f"{max(values):.0f}")
            for name, values in times.items()
        ],
        figures={"launched_p50_ms": round(launched), "direct_p50_ms": round(direct)},
        aims={"launcher_ms": Aim(aim=AIM_MS, got=round(launched - direct))},
        ratios={"launched_to_direct": round(launched / direct, 2)},
    )


def _times(command: Sequence[Path | str], count: int) -> list[float]:
    return [_milliseconds(command) for _ in range(count + 1)][1:]


def _milliseconds(command: Sequence[Path | str]) -> float:
    started = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if ended.returncode != 0:
        raise MissingData(f"{command} ended with {ended.returncode}: {ended.stderr.strip()}")
    return (time.perf_counter() - started) * 1000
