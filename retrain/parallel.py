"""One run in several processes: each learns from its share of every batch, and the gradients are added up."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import torch
import torch.distributed as dist

from retrain import errors
from retrain.accelerator import device
from retrain.base_models import BaseModel
from retrain.errors import Cancelled, TrainingBroke
from retrain.health import Health, Verdict
from retrain.types import Message, Progress, TrainedAdapter, TrainingSpec

TELL = "tell"
POLL_SECONDS = 0.5
GRACE_SECONDS = 3.0
WHY_CHARS = 300


def train(
    spec: TrainingSpec,
    *,
    processes: int,
    base: BaseModel,
    replay: Sequence[tuple[Sequence[Message], str]],
    probe: Sequence[tuple[Sequence[Message], str]] = (),
    output: Path,
    report: Callable[[Progress], None],
    is_cancelled: Callable[[], bool],
    **paths: Path | None,
) -> TrainedAdapter:
    """Train as `lora.train` does, in so many processes of this machine; they end with this one.

    The batch stays what the spec says, so that the curve is that of one process but for rounding.

    Raises:
        RetrainError: as `lora.train`.
        TrainingBroke: a process died.
    """
    threads = max(1, torch.get_num_threads() // processes)
    file = write_order(spec, base=base, replay=replay, probe=probe, output=output, threads=threads, **paths)
    # Torch's launcher gives each process its rank and ends all where one dies.
    command = [
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        f"--log-dir={output.with_name('launched')}",  # else it leaves a folder in the system's
        "-m",
        "retrain.again",
    ]
    with output.with_name("processes.log").open("w+b") as log:
        process = subprocess.Popen(  # noqa: S603 - no shell, and the command is ours
            [sys.executable, "-m", *command, str(file), TELL],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        try:
            return _listen(process, report, is_cancelled, log)
        finally:
            _end(process)


def write_order(
    spec: TrainingSpec,
    *,
    base: BaseModel,
    replay: Sequence[tuple[Sequence[Message], str]],
    probe: Sequence[tuple[Sequence[Message], str]] = (),
    output: Path,
    threads: int,
    **paths: Path | None,
) -> Path:
    """Write beside the output what `retrain.again` reads, and return the file."""
    said = {
        name: [[[asdict(turn) for turn in messages], answer] for messages, answer in answers]
        for name, answers in (("replay", replay), ("probe", probe))
    }
    order = {"spec": spec.to_json(), "base": asdict(base), "output": output, "threads": threads}
    file = output.with_name("asked.json")
    file.write_text(json.dumps(order | said | paths, default=str))
    return file


def _listen(
    process: "subprocess.Popen[bytes]",
    report: Callable[[Progress], None],
    is_cancelled: Callable[[], bool],
    log: IO[bytes],
) -> TrainedAdapter:
    """Pass on what the first process tells, until it has trained."""
    losses: list[float] = []
    norms: list[float] = []
    for line in _lines(process, is_cancelled):
        told = json.loads(line)
        if "error" in told:
            raise getattr(errors, told["error"])(*told["arguments"])
        if "directory" in told:
            return TrainedAdapter(**told | {"losses": tuple(told["losses"])})
        losses += told["losses"]
        norms += told["norms"]
        probes = {int(step): loss for step, loss in told.pop("probes").items()}
        verdict = told.pop("verdict")
        if verdict:
            verdict = Verdict(**verdict | {"name": Health(verdict["name"])})
        report(Progress(**told | {"losses": losses, "norms": norms, "probes": probes, "verdict": verdict}))
    status = process.wait()
    log.seek(0)
    errors_said = [line for line in log.read().decode(errors="replace").splitlines() if "Error" in line]
    why = errors_said[0].strip()[:WHY_CHARS] if errors_said else "it said nothing"
    raise TrainingBroke(f"a training process ended with status {status}: {why}")


def _lines(process: "subprocess.Popen[bytes]", is_cancelled: Callable[[], bool]) -> Iterator[bytes]:
    """Yield what a process prints, line by line, until it prints no more."""
    assert process.stdout is not None  # noqa: S101  it was asked for
    unread = b""
    while True:
        if is_cancelled():
            raise Cancelled("the processes were asked to end")
        if not select.select([process.stdout], [], [], POLL_SECONDS)[0]:
            continue
        if not (read := os.read(process.stdout.fileno(), 1 << 16)):
            return
        *lines, unread = (unread + read).split(b"\n")
        yield from (line for line in lines if line.startswith(b"{"))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End what is left: the processes see their standard input close, the launcher hears a signal."""
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018  they were asked for
    process.stdin.close()
    process.stdout.close()
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def join() -> None:
    """Meet the other processes of this run, if it has any."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        on_gpu = device().type == "cuda"
        if not on_gpu:  # a name of this machine may lead anywhere
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        has_own_gpu = on_gpu and int(os.environ["LOCAL_WORLD_SIZE"]) <= torch.cuda.device_count()
        dist.init_process_group("nccl" if has_own_gpu else "gloo")


def rank() -> int:
    """Return which of the run's processes this is; the first alone writes and tells."""
    return dist.get_rank() if dist.is_initialized() else 0


def processes() -> int:
    """Return how many processes the run has."""
    return dist.get_world_size() if dist.is_initialized() else 1


def add_up(tensors: Sequence[torch.Tensor]) -> None:
    """Replace each tensor by the sum of all processes' tensors."""
    if not dist.is_initialized():
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def news(progress: Progress, known: int) -> Mapping[str, Any]:
    """Return as JSON what of a step is new to whoever knows so many steps."""
    facts = asdict(progress)
    return facts | {"losses": facts["losses"][known:], "norms": facts["norms"][known:]}
