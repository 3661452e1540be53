"""Makes runs ill in known ways, and counts what the monitor says of those whose curves set none of its thresholds."""

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import mkdtemp

import torch

from service.settings import Settings
from tests.benchmarks.report import Aim, Report
from tests.repetitions import FULL, Repetitions
from tests.scenarios.curves import (
    HEALTHY,
    OF_SMOLLM2,
    RECORDED,
    Curve,
    false_stops,
    judged,
    recipes,
    recipes_of_smollm2,
    record,
    recorded,
    right,
    write,
)


def measure(repetitions: Repetitions, out: str = "") -> Report:
    """Train each run of the table, write its curve and judge; tests read the curves that are checked in.

    SmolLM2's are read from there, too, unless all are to be made again.
    """
    torch.set_num_threads(1)  # so small a model is no faster on two
    folder = Path(out or mkdtemp(prefix="errata-health-"))
    curves = _made(recipes(), folder / RECORDED.name)
    of_smollm2 = recorded(OF_SMOLLM2)
    if repetitions is FULL:
        of_smollm2 = _made(recipes_of_smollm2(), folder / OF_SMOLLM2.name)
    fitted = judged(one for one in curves if one.half == 0)
    unseen = judged([*(one for one in curves if one.half == 1), *of_smollm2])
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


def _made(asked: Iterable[tuple[str, int, str, float, int]], path: Path) -> list[Curve]:
    """Train each, write their curves and say where."""
    curves = [record(*recipe, cache=Settings().cache_dir) for recipe in asked]
    path.parent.mkdir(parents=True, exist_ok=True)
    write(curves, path)
    sys.stdout.write(f"{path}\n")
    return curves
