"""One LoRA epoch of SmolLM2 on the same rows and one core: ours, TRL's and transformers' trainers, a plain loop."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
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
from tests.trainers import BATCH, CONTENDERS

SIDE = 2048  # of the matrices whose product shows what the processor can do
OPERATIONS_A_WEIGHT = 4  # a token's: forward, and backward to the adapters; the base has no gradient


def measure(repetitions: Repetitions) -> Report:
    """Let each contender train in a process of its own, in turn, and take the better of its rounds."""
    base = locate("bundled:smollm2", Settings().cache_dir / "models")
    rows = [
        Example(one.text, one.text, (Message("user", one.text),), _answer(one), Kind.GENERATION)
        for one in enquiries.load(0)[: repetitions.trained_rows]
    ]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "rows.parquet"
        parquet.write(rows, file)
        rounds = [
            {name: _run(name, base.directory, file) for name in CONTENDERS}
            for _ in range(repetitions.training_rounds)
        ]
    found = {name: min((one[name] for one in rounds), key=_cost) for name in CONTENDERS}
    tokens = _tokens(base.directory, rows) * BATCH / len(rows)
    speeds = {name: tokens / _cost(one) for name, one in found.items()}
    ours, peak = speeds["ours"], _peak()
    reached = ours * OPERATIONS_A_WEIGHT * facts_of(base).parameters / peak
    ratios = {name: round(ours / speed, 2) for name, speed in speeds.items() if name != "ours"}
    losses = [one["loss"] for one in found.values()]
    return Report(
        columns=("trained by", "tokens a CPU second", "CPU s a step", "s a step", "peak MB", "loss after"),
        rows=[
            (
                name,
                f"{speeds[name]:.0f}",
                f"{_cost(one):.2f}",
                f"{one['seconds_a_step']:.2f}",
                f"{one['peak_mb']:.0f}",
                f"{one['loss']:.3f}",
            )
            for name, one in found.items()
        ],
        figures={
            "rows": len(rows),
            "tokens_a_step": round(tokens),
            "ours_tokens_a_cpu_second": round(ours),
            "gemm_peak_gflops": round(peak / 1e9),
            "is_bfloat16": int(precision() is torch.bfloat16),
            "loss_ours_over_least": round(found["ours"]["loss"] / min(losses), 3),
        },
        ratios=ratios,
        aims={
            "over_sft_trainer": Aim(aim=2.5, got=ratios["SFTTrainer, its defaults"], at_least=True),
            "over_its_best": Aim(aim=1.3, got=ratios["SFTTrainer, its best"], at_least=True),
            "over_plain": Aim(aim=3.5, got=ratios["plain loop in float32"], at_least=True),
            **(
                {"of_gemm_peak": Aim(aim=0.4, got=round(reached, 2), at_least=True)}
                if precision() is torch.bfloat16
                else {}
            ),
        },
    )


def _cost(told: dict[str, float]) -> float:
    return told["cpu_seconds_a_step"]


def _answer(enquiry: enquiries.Enquiry) -> str:
    """Return an answer about as long as its question, of which the end cannot be guessed from the beginning."""
    return f"{enquiry.department} will take care of this, since you wrote: {enquiry.text}"


def _tokens(base: Path, rows: list[Example]) -> int:
    _, tokenizer = load(base)
    return sum(len(encode_example(tokenizer, row.messages, row.answer, "")[0]) for row in rows)


def _run(name: str, base: Path, file: Path) -> dict[str, float]:
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tests.trainers", name, str(base), str(file)]
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
