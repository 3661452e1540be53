"""Trains in a process that may not have more memory than half a batch takes, and prints what came of it."""

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
ALLOWED = 360 * 2**20  # bytes; a batch of so many rows takes half as much again, half a batch three quarters


def main(folder: Path, cache: Path) -> None:
    """Train a batch of which half fits, one of which half does not, and the first without a limit."""
    torch.set_num_threads(1)
    accelerator.precision = lambda: torch.float32  # in bfloat16 a batch takes less, and oneDNN more beside it
    _train(folder, cache, rows=1, words=1)  # loads what is loaded once
    with _little_memory():
        told = {"short": _train(folder, cache), "too_short": _train(folder, cache, rows=8 * ROWS)}
    told |= {"free": _train(folder, cache)}  # last, for the allocator keeps what it once had
    sys.stdout.write(json.dumps(told))


def _train(folder: Path, cache: Path, *, rows: int = ROWS, words: int = WORDS) -> dict[str, Any]:
    tiny = locate("bundled:tiny", cache)
    spec = TrainingSpec(
        tiny.reference, tiny.sha256, "", "Answer.", batch_size=rows, epochs=1, max_tokens=2000, dropout=0.0
    )
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


@contextmanager
def _little_memory() -> Iterator[None]:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ALLOWED, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
