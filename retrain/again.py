"""Trains once as a file asks, in a process of its own: how archived code is tried again."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from retrain.base_models import BaseModel
from retrain.lora import train
from retrain.types import Message, TrainingSpec


def main(asked_in: Path) -> None:
    """Train, and print what `train` returns as JSON; ends when whoever started it does."""
    asked = json.loads(asked_in.read_text())
    started_by = os.getppid()
    torch.set_num_threads(asked["threads"])  # sums in another order would make another adapter
    trained = train(
        TrainingSpec.from_json(asked["spec"]),
        base=BaseModel(**asked["base"] | {"directory": Path(asked["base"]["directory"])}),
        examples=Path(asked["examples"]),
        replay=[([Message(**turn) for turn in turns], answer) for turns, answer in asked["replay"]],
        output=Path(asked["output"]),
        checkpoints=Path(asked["checkpoints"]),
        parent=Path(asked["parent"]) if asked["parent"] else None,
        report=lambda _: None,
        is_cancelled=lambda: os.getppid() != started_by,
    )
    sys.stdout.write(f"{json.dumps(asdict(trained))}\n")


if __name__ == "__main__" and len(sys.argv) > 1:  # alone it shows whether this code loads here
    main(Path(sys.argv[1]))
