"""How fast a set is built of many settled rows, beside the plain floor of reading, hashing and writing them."""

import hashlib
import json
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from retrain import parquet
from retrain.recipe import Recipe
from retrain.training_set import Settled, build, diff, fingerprint
from retrain.types import Split
from tests.benchmarks.report import Aim, Report
from tests.repetitions import Repetitions
from tests.scenarios import clean
from tests.scenarios.many import many_rows


def measure(repetitions: Repetitions) -> Report:
    """Build, name, write and compare sets of two sizes."""
    small, large = (_sizes(count) for count in (repetitions.settled // 10, repetitions.settled))
    growth = large["build"] / small["build"] / 10
    rows = repetitions.settled
    return Report(
        columns=("step", f"{rows // 10:,} rows, CPU s", f"{rows:,} rows, CPU s", "rows a CPU s"),
        rows=[
            (step, f"{small[step]:.2f}", f"{large[step]:.2f}", f"{rows / large[step]:,.0f}") for step in large
        ],
        figures={"rows": rows, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024},
        aims={
            "rows_a_cpu_s": Aim(aim=30_000, got=round(rows / large["build"]), at_least=True),
            "growth": Aim(aim=1.1, got=round(growth, 2)),
            "diff_s_a_million": Aim(aim=10, got=round(large["diff"] * 1e6 / rows, 1)),
        },
        ratios={"build_to_floor": round(large["build"] / large["floor"], 1)},
    )


def _sizes(count: int) -> dict[str, float]:
    settled = clean.settled(many_rows(count))
    recipe = Recipe(validation_share=0.05, test_share=0.05)
    seconds: dict[str, float] = {}
    built = _timed(seconds, "build", lambda: build(settled, earlier=[], assigned={}, recipe=recipe))
    _timed(seconds, "fingerprint", lambda: fingerprint(built.examples, recipe.to_json()))
    with TemporaryDirectory() as folder:
        _timed(seconds, "write", lambda: parquet.write(built.examples, Path(folder) / "set.parquet"))
        _timed(seconds, "floor", lambda: _floor(settled, Path(folder)))
    _timed(seconds, "diff", lambda: diff(built.examples, built.examples[count // 100 :]))
    return seconds


def _timed(seconds: dict[str, float], step: str, work: Callable[[], Any]) -> Any:
    started = time.process_time()
    result = work()
    seconds[step] = time.process_time() - started
    return result


def _floor(settled: Sequence[Settled], folder: Path) -> None:
    """Do the least that any builder does: leave out exact duplicates, split by hash, write lines."""
    seen = set()
    files = {split: (folder / f"{split}.jsonl").open("wb") for split in Split}
    for row in settled:
        line = json.dumps({"asked": row.messages[-1].content, "answer": row.answer}).encode()
        digest = hashlib.sha256(line).digest()
        if digest not in seen:
            seen.add(digest)
            files[list(Split)[digest[0] % 4]].write(line + b"\n")
    for file in files.values():
        file.close()
