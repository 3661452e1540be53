"""Trains in a process that may not have the memory that a batch takes, and prints what came of it.

Start it with `MALLOC`, so that memory once freed is free: its heap keeps none of a tensor's.
"""

import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from retrain import accelerator
from retrain.base_models import locate
from retrain.errors import OutOfMemory
from retrain.lora import train
from retrain.types import Progress, TrainingSpec
from tests.unit.retrain.conftest import write_rows

ROWS, WORDS = 64, 150
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
SHARE = 0.75  # of what a batch takes: too little for it, and enough for half beside what the first try left behind


def main(folder: Path, cache: Path) -> None:
    """Train a batch without a limit, then with one that half of it fits into and half of a larger one does not."""
    torch.set_num_threads(1)
    accelerator.precision = lambda: torch.float32  # in bfloat16 a batch takes less, and oneDNN more beside it
    _train(folder / "first", cache, rows=1, words=1)  # loads what is loaded once
    before = _address_space("VmSize")
    told = {"free": _train(folder / "free", cache)}
    # Processors take unlike amounts for the same batch, so that the limit follows what was seen.
    taken = _address_space("VmPeak") - before
    with _limit(_address_space("VmSize") + int(taken * SHARE)):
        told["short"] = _train(folder / "short", cache)
        told["too_short"] = _train(folder / "too_short", cache, rows=8 * ROWS)
    sys.stdout.write(json.dumps(told))


@contextmanager
def _limit(allowed: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def _train(folder: Path, cache: Path, *, rows: int = ROWS, words: int = WORDS) -> dict[str, Any]:
    tiny = locate("bundled:tiny", cache)
    spec = TrainingSpec(
        tiny.reference, tiny.sha256, "", "Answer.", batch_size=rows, epochs=1, max_tokens=2000, dropout=0.0
    )
    folder.mkdir(exist_ok=True)
    steps: list[Progress] = []
    try:
        train(
            spec,
            base=tiny,
            examples=write_rows(folder / f"{rows}.parquet", [("word " * words, "Billing")] * rows),
            replay=[],
            output=folder / "adapter",
            checkpoints=folder / f"checkpoints-{rows}",
            report=steps.append,
            is_cancelled=lambda: False,
        )
    except OutOfMemory as error:
        return {"failure": str(error)}
    last = steps[-1]
    return {"losses": last.losses, "norms": last.norms, "out_of_memory": last.out_of_memory}


def _address_space(name: str) -> int:
    """Return one of the kernel's figures of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
