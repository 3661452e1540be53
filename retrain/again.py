"""Trains once as a file asks, in a process of its own: archived code, or one of several processes of a run."""

import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from retrain import parallel
from retrain.base_models import BaseModel
from retrain.errors import RetrainError
from retrain.lora import train
from retrain.types import Message, Progress, TrainedAdapter, TrainingSpec

SECONDS_TO_BE_HEARD = 2


def main(asked_in: Path, *, tells: bool) -> int:
    """Train and print what `train` returns as JSON, and before it each step if wanted; end when the starter does."""
    asked = json.loads(asked_in.read_text())
    torch.set_num_threads(asked["threads"])  # sums in another order would make another adapter
    if tells:
        threading.Thread(target=_end_when_left_alone, daemon=True).start()
    parallel.join()
    try:
        trained = _train(asked, tells=tells)
    except RetrainError as error:
        if not tells:
            raise
        time.sleep(min(parallel.rank(), 1))  # lines of several at once could mix
        _tell({"error": type(error).__name__, "arguments": error.__reduce__()[1]})
        time.sleep(SECONDS_TO_BE_HEARD)  # the launcher ends all where one does
        return 1
    if parallel.rank() == 0:
        _tell(asdict(trained))
    return 0


def _train(asked: dict[str, Any], *, tells: bool) -> TrainedAdapter:
    started_by = os.getppid()
    known = 0

    def report(progress: Progress) -> None:
        nonlocal known
        if tells and parallel.rank() == 0:
            _tell(parallel.news(progress, known))
        known = progress.step

    return train(
        TrainingSpec.from_json(asked["spec"]),
        base=BaseModel(**asked["base"] | {"directory": Path(asked["base"]["directory"])}),
        examples=Path(asked["examples"]),
        replay=_answers(asked["replay"]),
        probe=_answers(asked.get("probe", ())) if parallel.rank() == 0 else (),
        output=Path(asked["output"]),
        checkpoints=Path(asked["checkpoints"]),
        parent=Path(asked["parent"]) if asked["parent"] else None,
        report=report,
        is_cancelled=lambda: os.getppid() != started_by,
    )


def _answers(said: list[Any]) -> list[tuple[list[Message], str]]:
    return [([Message(**turn) for turn in turns], answer) for turns, answer in said]


def _end_when_left_alone() -> None:
    """End at once when the pipe closes that whoever started the run holds, lest two write the same files."""
    sys.stdin.read()
    os._exit(1)


def _tell(facts: object) -> None:
    sys.stdout.write(f"{json.dumps(facts)}\n")
    sys.stdout.flush()


if __name__ == "__main__" and len(sys.argv) > 1:  # alone it shows whether this code loads here
    sys.exit(main(Path(sys.argv[1]), tells=sys.argv[2:] == [parallel.TELL]))
