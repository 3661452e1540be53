"""One LoRA epoch of SmolLM2 on the same rows and one core: ours, TRL's and transformers' trainers, a plain loop.

Each trains its own way, by which its speed is told; then some learn the very same, by which losses can be compared.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import torch

from retrain import parquet
from retrain.accelerator import precision
from retrain.base_models import facts_of, load, locate
from retrain.frame import encode_example
from retrain.types import Example, Kind, Message
from service.demo import enquiries
from service.settings import Settings
from tests.benchmarks.report import Aim, Report
from tests.repetitions import Repetitions
from tests.trainers import BATCH, CONTENDERS, Course

ROWS = "rows.parquet"
SIDE = 2048  # of the matrices whose product shows what the processor can do
COMPARED = ("ours", "SFTTrainer, its best", "transformers.Trainer")
HELD_OUT = 48
OPERATIONS_A_WEIGHT = 4  # a token's: forward, and backward to the adapters; the base has no gradient


def measure(repetitions: Repetitions) -> Report:
    """Let each contender train in a process of its own, in turn, and take the better of its rounds."""
    base = locate("bundled:smollm2", Settings().cache_dir / "models")
    with TemporaryDirectory() as folder:
        rows = _write(Path(folder) / ROWS, 0, repetitions.trained_rows)
        course = Course(base.directory, Path(folder) / ROWS)
        rounds = [
            {name: _run(name, course, course.file) for name in CONTENDERS}
            for _ in range(repetitions.training_rounds)
        ]
    found = {name: min((one[name] for one in rounds), key=_cost) for name in CONTENDERS}
    same = compared(base.directory, repetitions)
    tokens = _tokens(base.directory, rows) * BATCH / len(rows)
    speeds = {name: tokens / _cost(one) for name, one in found.items()}
    ours, peak = speeds["ours"], _peak()
    reached = ours * OPERATIONS_A_WEIGHT * facts_of(base).parameters / peak
    ratios = {name: round(ours / speed, 2) for name, speed in speeds.items() if name != "ours"}
    return Report(
        columns=(
            "trained by",
            "tokens a CPU second",
            "CPU s a step",
            "s a step",
            "peak MB",
            "same, held out",
        ),
        rows=[
            (
                name,
                f"{speeds[name]:.0f}",
                f"{_cost(one):.2f}",
                f"{one['seconds_a_step']:.2f}",
                f"{one['peak_mb']:.0f}",
                same.told(name),
            )
            for name, one in found.items()
        ],
        figures={
            "rows": len(rows),
            "tokens_a_step": round(tokens),
            "ours_tokens_a_cpu_second": round(ours),
            "gemm_peak_gflops": round(peak / 1e9),
            "is_bfloat16": int(precision() is torch.bfloat16),
            **same.figures,
        },
        ratios=ratios,
        aims={
            "over_sft_trainer": Aim(aim=2.5, got=ratios["SFTTrainer, its defaults"], at_least=True),
            "over_its_best": Aim(aim=1.3, got=ratios["SFTTrainer, its best"], at_least=True),
            "over_plain": Aim(aim=3.5, got=ratios["plain loop in float32"], at_least=True),
            **same.aims,
            **(
                {"of_gemm_peak": Aim(aim=0.4, got=round(reached, 2), at_least=True)}
                if precision() is torch.bfloat16
                else {}
            ),
        },
    )


@dataclass(frozen=True, slots=True)
class Compared:
    """The loss of answers that nobody learned, by one measure, after the same steps: by trainer, one a seed."""

    losses: Mapping[str, Sequence[float]]

    @property
    def spread(self) -> float:
        """How far apart another seed alone puts the losses of any one trainer."""
        return max(max(losses) - min(losses) for losses in self.losses.values())

    @property
    def apart(self) -> float:
        """How far our mean loss is from the farthest other's."""
        ours = mean(self.losses["ours"])
        return max(abs(mean(losses) - ours) for losses in self.losses.values())

    def told(self, name: str) -> str:
        """Return the mean and the range of one trainer's losses."""
        if name not in self.losses:
            return "-"
        of = self.losses[name]
        return f"{mean(of):.3f} ({min(of):.3f} to {max(of):.3f})"

    @property
    def figures(self) -> dict[str, float]:
        """All losses, by trainer and seed."""
        return {
            f"held_out_{name}_{seed}": round(loss, 4)
            for name, losses in self.losses.items()
            for seed, loss in enumerate(losses)
        }

    @property
    def aims(self) -> dict[str, Aim]:
        """Equal within noise: no farther apart than seeds are."""
        return {"losses_apart": Aim(aim=round(self.spread, 4), got=round(self.apart, 4))}


def compared(base: Path, repetitions: Repetitions) -> Compared:
    """Have some learn the same rows, encoded, masked, ordered and scheduled alike, with several seeds."""
    with TemporaryDirectory() as folder:
        learned, held_out = (Path(folder) / name for name in (ROWS, "held-out.parquet"))
        _write(learned, 0, repetitions.compared_rows)
        _write(held_out, repetitions.compared_rows, HELD_OUT)
        seeds = range(repetitions.compared_seeds)
        return Compared(
            {
                name: [
                    _run(name, Course(base, learned, seed, is_same=True), held_out)["loss"] for seed in seeds
                ]
                for name in COMPARED
            }
        )


def _write(file: Path, first: int, count: int) -> list[Example]:
    """Write rows on so many of the demo's enquiries."""
    rows = [
        Example(one.text, one.text, (Message("user", one.text),), _answer(one), Kind.GENERATION)
        for one in enquiries.load(0)[first : first + count]
    ]
    parquet.write(rows, file)
    return rows


def _cost(told: dict[str, float]) -> float:
    return told["cpu_seconds_a_step"]


def _answer(enquiry: enquiries.Enquiry) -> str:
    """Return an answer about as long as its question, of which the end cannot be guessed from the beginning."""
    return f"{enquiry.department} will take care of this, since you wrote: {enquiry.text}"


def _tokens(base: Path, rows: list[Example]) -> int:
    _, tokenizer = load(base)
    return sum(len(encode_example(tokenizer, row.messages, row.answer, "")[0]) for row in rows)


def _run(name: str, course: Course, held_out: Path) -> dict[str, float]:
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    asked = (name, course.base, course.file, held_out, course.seed, "same" if course.is_same else "own")
    command = [sys.executable, "-m", "tests.trainers", *map(str, asked)]
    done = subprocess.run(command, env=alone, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def _peak() -> float:
    """Return the operations a second of the best of some large products, on one core, in what training computes in."""
    torch.set_num_threads(1)
    one, other = (torch.randn(SIDE, SIDE, dtype=precision()) for _ in range(2))
    taken = []
    for _ in range(5):
        begun = time.process_time()
        one @ other
        taken.append(time.process_time() - begun)
    return 2 * SIDE**3 / min(taken)
