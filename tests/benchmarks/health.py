"""Makes runs ill in known ways, and counts what the monitor says of those whose curves set none of its thresholds."""

import sys
from collections import Counter
from pathlib import Path
from tempfile import mkdtemp

import torch

from service.settings import Settings
from tests.benchmarks.report import Aim, Report
from tests.repetitions import Repetitions
from tests.scenarios.curves import HEALTHY, false_stops, judged, recipes, record, right, write


def measure(_: Repetitions, out: str = "") -> Report:
    """Train each run of the table, write its curve and judge; tests read the curves that are checked in."""
    torch.set_num_threads(1)  # so small a model is no faster on two
    curves = [record(*recipe, cache=Settings().cache_dir) for recipe in recipes()]
    path = Path(out or mkdtemp(prefix="errata-health-")) / "curves.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    write(curves, path)
    sys.stdout.write(f"{path}\n")
    fitted, unseen = (judged([one for one in curves if one.half == half]) for half in (0, 1))
    counted = Counter(made for made, _ in unseen)
    return Report(
        columns=("made", "curves", "labelled right"),
        rows=[(made, count, f"{right(unseen, made):.0%}") for made, count in counted.items()],
        figures={
            "curves": len(unseen),
            "healthy": counted[HEALTHY],
            "right_where_thresholds_were_set": round(right(fitted), 3),
        },
        aims={
            "right": Aim(aim=0.95, got=round(right(unseen), 3), at_least=True),
            "false_stops": Aim(aim=0.02, got=round(false_stops(unseen), 3)),
        },
    )
