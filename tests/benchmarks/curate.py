"""How fast a set is built of many settled rows, beside the plainest builder and a common one of two libraries."""

import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from datasets import Dataset, disable_progress_bars
from datasketch import MinHash, MinHashLSH

from retrain import parquet
from retrain.recipe import Recipe
from retrain.streaming import stream
from retrain.training_set import build, fingerprint
from retrain.types import Kind, Message, Settled, Split
from tests.benchmarks.report import Aim, Report
from tests.repetitions import Repetitions
from tests.scenarios.many import many_rows

PARTITION = 10_000
SHARES = {"validation_share": 0.05, "test_share": 0.05}
STREAMED = Recipe(**SHARES)
EXACT = Recipe(**SHARES, near_threshold=1.0)


def measure(repetitions: Repetitions) -> Report:
    """Build sets of several sizes from a file."""
    sizes = repetitions.settled
    with TemporaryDirectory() as folder:
        files = {size: _file(Path(folder) / f"{size}.jsonl", size) for size in sizes}
        steps = {
            "set": {size: _apart(partial(_stream, STREAMED, file)) for size, file in files.items()},
            "set, exact duplicates alone": {
                size: _apart(partial(_stream, EXACT, file)) for size, file in files.items()
            },
            "set, built in memory": {size: _apart(partial(_build, files[size])) for size in sizes[:2]},
            "floor": {size: _apart(partial(_floor, file)) for size, file in files.items()},
            "rival": {sizes[0]: _apart(partial(_rival, files[sizes[0]]))},
        }
    return _report(sizes, steps)


def _report(sizes: tuple[int, ...], steps: Mapping[str, Mapping[int, tuple[float, int]]]) -> Report:
    rate = {
        step: {size: size / seconds for size, (seconds, _) in each.items()} for step, each in steps.items()
    }
    usual = sizes[1]
    growth = max(rate["set"][one] / rate["set"][other] for one, other in pairwise(sizes))
    return Report(
        columns=("step", *(f"{size:,} rows, CPU s" for size in sizes), "rows a CPU s", "peak MB"),
        rows=[
            (
                step,
                *(f"{each[size][0]:.2f}" if size in each else "" for size in sizes),
                f"{list(rate[step].values())[-1]:,.0f}",
                max(peak for _, peak in each.values()),
            )
            for step, each in steps.items()
        ],
        figures={
            "rows": usual,
            "peak_mb": steps["set"][usual][1],
            # The floor, too, knows exact duplicates alone.
            "times_the_floor_exact": round(
                rate["floor"][usual] / rate["set, exact duplicates alone"][usual], 1
            ),
        },
        aims={
            "rows_a_cpu_s": Aim(aim=30_000, got=round(rate["set"][usual]), at_least=True),
            "rows_a_cpu_s_exact": Aim(
                aim=60_000, got=round(rate["set, exact duplicates alone"][usual]), at_least=True
            ),
            "peak_mb": Aim(aim=1500, got=steps["set"][usual][1]),
            "growth": Aim(aim=1.1, got=round(growth, 2)),
            "times_the_floor": Aim(aim=2, got=round(rate["floor"][usual] / rate["set"][usual], 1)),
            "times_a_rival": Aim(
                aim=10, got=round(rate["set"][sizes[0]] / rate["rival"][sizes[0]], 1), at_least=True
            ),
        },
    )


def _apart(work: Callable[[], float]) -> tuple[float, int]:
    """Do a step in a process of its own; return its CPU seconds and the most memory the process had, in MB."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_weighed, work).result()


def _weighed(work: Callable[[], float]) -> tuple[float, int]:
    seconds = work()
    # Not `getrusage`: its figure begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return seconds, int(status.split("VmHWM:")[1].split()[0]) // 1024


def _file(path: Path, count: int) -> Path:
    with path.open("wb") as file:
        for row in many_rows(count):
            asked = {"key": row.key, "asked": row.prompt, "answer": row.answer, "source": row.source}
            file.write(orjson.dumps(asked) + b"\n")
    return path


def _settled(line: bytes) -> Settled:
    row = orjson.loads(line)
    messages = (Message("user", row["asked"]),)
    return Settled(row["key"], messages, row["answer"], Kind.GENERATION, source=row["source"])


def _partitions(path: Path) -> Iterator[list[Settled]]:
    with path.open("rb") as file:
        while part := [_settled(line) for line in islice(file, PARTITION)]:
            yield part


def _stream(recipe: Recipe, path: Path) -> float:
    """Read, deduplicate, split, name and write a set."""
    to = path.with_suffix(".parquet")
    return _timed(lambda: stream(_partitions(path), to, kind=Kind.GENERATION, assigned={}, recipe=recipe))


def _build(path: Path) -> float:
    """Do what `errata curate` does once it has read the database, the audit aside."""
    rows = [row for part in _partitions(path) for row in part]

    def all_of_it() -> None:
        examples = build(rows, earlier=[], assigned={}, recipe=STREAMED).examples
        fingerprint(examples, STREAMED.to_json())
        parquet.write(examples, path.with_suffix(".built"))

    return _timed(all_of_it)


def _floor(path: Path) -> float:
    """Do the least that any builder does: leave out exact duplicates, split by hash, write lines."""
    return _timed(lambda: _least(path))


def _least(path: Path) -> None:
    seen = set()
    files = {split: path.with_suffix(f".{split}").open("wb") for split in Split}
    for line in path.open("rb"):
        row = orjson.loads(line)
        written = orjson.dumps({"asked": row["asked"], "answer": row["answer"]})
        digest = hashlib.sha256(written).digest()
        if digest not in seen:
            seen.add(digest)
            files[list(Split)[digest[0] % 4]].write(written + b"\n")
    for file in files.values():
        file.close()


def _rival(path: Path) -> float:
    """Do the same with `datasets` and `datasketch`, as their manuals show."""
    disable_progress_bars()
    index = MinHashLSH(threshold=0.8, num_perm=64)
    seen: set[str] = set()

    def named(row: dict[str, str]) -> dict[str, str]:
        return {"name": hashlib.sha256(json.dumps([row["asked"], row["answer"]]).encode()).hexdigest()}

    def is_first(row: dict[str, str]) -> bool:
        sketch = MinHash(num_perm=64)
        sketch.update_batch([word.encode() for word in row["asked"].lower().split()])
        if row["name"] in seen or index.query(sketch):
            return False
        seen.add(row["name"])
        index.insert(row["name"], sketch)
        return True

    def all_of_it() -> None:
        rows = [orjson.loads(line) for line in path.open("rb")]
        kept = Dataset.from_list(rows).map(named).filter(is_first, load_from_cache_file=False)
        kept.to_parquet(path.with_suffix(".rival"))

    return _timed(all_of_it)


def _timed(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
