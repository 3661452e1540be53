"""How fast a set is built of many settled rows, beside the plainest builder and a common one of two libraries."""

import hashlib
import json
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from datasets import Dataset, disable_progress_bars
from datasketch import MinHash, MinHashLSH

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
    disable_progress_bars()
    small, large = (_sizes(count) for count in (repetitions.settled // 10, repetitions.settled))
    small["rival"] = _rival(repetitions.settled // 10)
    growth = large["whole"] / small["whole"] / 10
    rows = repetitions.settled
    return Report(
        columns=("step", f"{rows // 10:,} rows, CPU s", f"{rows:,} rows, CPU s", "rows a CPU s"),
        rows=[_row(step, small, large, rows) for step in small],
        figures={"rows": rows, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024},
        aims={
            "rows_a_cpu_s": Aim(aim=30_000, got=round(rows / large["whole"]), at_least=True),
            "growth": Aim(aim=1.1, got=round(growth, 2)),
            "times_a_rival": Aim(aim=10, got=round(10 * small["rival"] / large["whole"], 1), at_least=True),
            "diff_s_a_million": Aim(aim=10, got=round(large["diff"] * 1e6 / rows, 1)),
        },
        ratios={
            "build_to_floor": round(large["whole"] / large["floor"], 1),
            "rival_to_build": round(10 * small["rival"] / large["whole"], 1),
        },
    )


def _row(step: str, small: dict[str, float], large: dict[str, float], rows: int) -> tuple[str, ...]:
    """Show a step's seconds; a rival works on the small size alone."""
    if step not in large:
        return step, f"{small[step]:.2f}", "", f"{rows / 10 / small[step]:,.0f}"
    return step, f"{small[step]:.2f}", f"{large[step]:.2f}", f"{rows / large[step]:,.0f}"


def _sizes(count: int) -> dict[str, float]:
    settled = clean.settled(many_rows(count))
    recipe = Recipe(validation_share=0.05, test_share=0.05)
    seconds: dict[str, float] = {}
    built = _timed(seconds, "build", lambda: build(settled, earlier=[], assigned={}, recipe=recipe))
    _timed(seconds, "fingerprint", lambda: fingerprint(built.examples, recipe.to_json()))
    with TemporaryDirectory() as folder:
        _timed(seconds, "write", lambda: parquet.write(built.examples, Path(folder) / "set.parquet"))
        seconds["whole"] = sum(seconds.values())
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
        line = orjson.dumps({"asked": row.messages[-1].content, "answer": row.answer})
        digest = hashlib.sha256(line).digest()
        if digest not in seen:
            seen.add(digest)
            files[list(Split)[digest[0] % 4]].write(line + b"\n")
    for file in files.values():
        file.close()


def _rival(count: int) -> float:
    """Do the same with `datasets` and `datasketch`, as their manuals show; return the CPU seconds."""
    rows = [{"prompt": row.prompt, "answer": row.answer} for row in many_rows(count)]
    index = MinHashLSH(threshold=0.8, num_perm=64)
    seen: set[str] = set()
    seconds: dict[str, float] = {}

    def named(row: dict[str, str]) -> dict[str, str]:
        return {"name": hashlib.sha256(json.dumps(dict(row), sort_keys=True).encode()).hexdigest()}

    def is_first(row: dict[str, str]) -> bool:
        sketch = MinHash(num_perm=64)
        sketch.update_batch([word.encode() for word in row["prompt"].lower().split()])
        if row["name"] in seen or index.query(sketch):
            return False
        seen.add(row["name"])
        index.insert(row["name"], sketch)
        return True

    with TemporaryDirectory() as folder:
        _timed(
            seconds,
            "rival",
            lambda: (
                Dataset.from_list(rows)
                .map(named)
                .filter(is_first, load_from_cache_file=False)
                .to_parquet(f"{folder}/rival.parquet")
            ),
        )
    return seconds["rival"]
