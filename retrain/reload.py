"""Check that an adapter answers from its files alone: ask it here and in a new process, and compare."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from retrain.errors import TrainingBroke
from retrain.generate import LanguageModel
from retrain.types import Message

PROBE_ANSWERS = ("Yes", "No", "I do not know.")
TOLERANCE = 1e-3


def probe(
    base_dir: Path, adapter_dir: Path, conversations: Sequence[Sequence[Message]], system_prompt: str
) -> list[list[float]]:
    """Return the log-likelihood of a few fixed answers, shaped (n_conversations, n_answers)."""
    model = LanguageModel.load(base_dir, system_prompt=system_prompt)
    model.add_adapter("probed", adapter_dir)
    with model.using("probed"):
        return model.score_labels(conversations, PROBE_ANSWERS)


def reload_equals(
    base_dir: Path, adapter_dir: Path, conversations: Sequence[Sequence[Message]], system_prompt: str
) -> bool:
    """Say whether a new process, with as many threads, gives these conversations the same scores as this one.

    Both read the files; that those hold what was trained is checked where they are written.

    Raises:
        TrainingBroke: the new process cannot load or run the adapter.
    """
    here = probe(base_dir, adapter_dir, conversations, system_prompt)
    there = _probe_in_new_process(
        {
            "base_dir": str(base_dir),
            "adapter_dir": str(adapter_dir),
            "conversations": [[asdict(message) for message in messages] for messages in conversations],
            "system_prompt": system_prompt,
            "threads": torch.get_num_threads(),
        }
    )
    return all(
        abs(a - b) <= TOLERANCE
        for row_here, row_there in zip(here, there, strict=True)
        for a, b in zip(row_here, row_there, strict=True)
    )


def main() -> None:
    """Answer one question: JSON on stdin, scores as JSON on stdout."""
    question = json.load(sys.stdin)
    torch.set_num_threads(question["threads"])
    conversations = [[Message(**message) for message in messages] for messages in question["conversations"]]
    base_dir, adapter_dir = Path(question["base_dir"]), Path(question["adapter_dir"])
    json.dump(probe(base_dir, adapter_dir, conversations, question["system_prompt"]), sys.stdout)


def _probe_in_new_process(question: dict[str, object]) -> list[list[float]]:
    # Run where this package lies, so that the same code is asked again.
    done = subprocess.run(
        [sys.executable, "-m", "retrain.reload"],
        input=json.dumps(question),
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise TrainingBroke(f"a new process cannot run the adapter: {done.stderr.strip()[-500:]}")
    scores: list[list[float]] = json.loads(done.stdout)
    return scores


if __name__ == "__main__":
    main()
