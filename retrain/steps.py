"""One step of a training run: what a batch costs the model by each method, and what the model learns of it."""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from peft import PeftModel

from retrain import parallel
from retrain.checkpoint import State
from retrain.errors import Cancelled, OutOfMemory
from retrain.lessons import Batch, Lesson, Lessons
from retrain.likelihood import Row, answer_losses, log_likelihoods, mixed_precision
from retrain.losses import dpo_loss, kto_drift, kto_loss
from retrain.types import Method, TrainingSpec

T = TypeVar("T")
OUT_OF_MEMORY = re.compile("allocate memory|could not create a primitive$")  # torch's allocator, oneDNN


def before_learning(
    model: PeftModel, spec: TrainingSpec, lessons: Lessons, is_cancelled: Callable[[], bool]
) -> torch.Tensor:
    """Return how likely the model finds each lesson's rows before it learns, shaped (n_lessons, 2); 0 where unused.

    A fresh adapter changes nothing yet and a parent's is as it was, so that no second model is needed.

    Raises:
        Cancelled: `is_cancelled` said so; it is asked at every batch.
    """
    before = torch.zeros(len(lessons), 2, device=model.device)
    order = sorted(range(len(lessons)), key=lambda number: lessons.lengths[number])
    model.eval()
    for start in range(0, len(order) if spec.method is not Method.SFT else 0, spec.batch_size):
        if is_cancelled():
            raise Cancelled("before the first step")
        numbers = order[start : start + spec.batch_size]
        with torch.no_grad(), mixed_precision(model):
            said, others = _likelihoods(model, [lessons[number] for number in numbers])
        before[numbers, 0], before[numbers, 1] = said, others
    model.train()
    return before


def _losses(model: PeftModel, batch: Batch, drift: torch.Tensor) -> torch.Tensor:
    """Return each lesson's loss, shaped (n_lessons,); every wanted answer is learned, and DPO adds its pairs' margin.

    Source: Pang et al. (2024), "Iterative Reasoning Preference Optimization", equation 1.
    """
    lessons, before = batch.lessons, batch.before
    rows = [lesson.row for lesson in lessons]
    if batch.method is Method.SFT:
        return answer_losses(model, rows)
    if batch.method is Method.KTO:
        is_wanted = torch.tensor([lesson.is_wanted for lesson in lessons], device=model.device)
        return kto_loss(log_likelihoods(model, rows), before[:, 0], is_wanted, drift)
    said, others = _likelihoods(model, lessons)
    counts = said.new_tensor([len(lesson.row.ids) - lesson.row.answer_start for lesson in lessons])
    is_pair = said.new_tensor([lesson.other is not None for lesson in lessons])
    return -said / counts + is_pair * dpo_loss(torch.stack([said, others], dim=1), before)


def _likelihoods(model: PeftModel, batch: Sequence[Lesson]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-likelihoods of the lessons' answers and of the others, 0 where there is none."""
    rows = [lesson.row for lesson in batch]
    others = {place: lesson.other for place, lesson in enumerate(batch) if lesson.other is not None}
    found = log_likelihoods(model, [*rows, *others.values()])
    places = torch.tensor(list(others), dtype=torch.long, device=model.device)
    said = found[: len(rows)]
    return said, torch.zeros_like(said).index_add(0, places, found[len(rows) :])


def learn_from(
    model: PeftModel, batch: Batch, optimizer: torch.optim.Optimizer, state: State, *, seed: int
) -> tuple[float, float]:
    """Learn from one batch, in halves from the first that memory does not hold on; return loss and gradient norm.

    Raises:
        OutOfMemory: half of it does not fit either.
    """
    drift = torch.zeros(1, device=model.device)
    if batch.method is Method.KTO:
        # Told once for all, however many processes and parts the batch is learned in.
        gain = _fitting(partial(_gain, model, batch), batch, state, seed=seed)
        parallel.add_up([gain])
        drift = kto_drift(gain)
    step = partial(_step, model, batch, optimizer, drift)
    return _fitting(step, batch, state, seed=seed)


def _fitting(act: Callable[[int], T], batch: Batch, state: State, *, seed: int) -> T:
    """Do with a batch what is to be done in one part, or in two where memory does not hold it."""
    refused, size = "", len(batch.lessons)
    for parts in (2,) if state.out_of_memory else (1, 2):
        torch.manual_seed(seed)
        try:
            return act(parts)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            refused = str(error).partition("\n")[0]
        # Outside of the handler, whose traceback would keep the tensors.
        torch.cuda.empty_cache()
        if parts == 1:
            state.out_of_memory = (
                f"At step {state.step + 1} a batch of {size} did not fit into memory ({refused}); "
                "from there on each is taken in two halves, whose gradients are added up."
            )
    raise OutOfMemory(f"half a batch of {size} rows does not fit into memory: {refused}")


def _own_parts(batch: Batch, parts: int) -> list[Batch]:
    """Return this process's share of a batch in parts: each halves its own, whatever the others do."""
    shares = batch.parted(parallel.processes())[parallel.rank() : parallel.rank() + 1]
    return [part for share in shares for part in share.parted(parts)]


def _gain(model: PeftModel, batch: Batch, parts: int) -> torch.Tensor:
    """Return what this process's share adds to the mean gain of the lessons' other rows since the run began."""
    total = torch.zeros(1, device=model.device)
    for part in _own_parts(batch, parts):
        others = [lesson.other for lesson in part.lessons if lesson.other is not None]
        with torch.no_grad(), mixed_precision(model):
            total += (log_likelihoods(model, others) - part.before[:, 1]).sum() / len(batch.lessons)
    return total


def _step(
    model: PeftModel, batch: Batch, optimizer: torch.optim.Optimizer, drift: torch.Tensor, parts: int
) -> tuple[float, float]:
    """Learn from one batch; return its loss and the gradient's norm before it was clipped.

    The loss is the lessons' mean, weighted; what is not finite changes no weight.
    """
    optimizer.zero_grad()
    total = torch.zeros(1, device=model.device)
    for part in _own_parts(batch, parts):
        with mixed_precision(model):
            losses = _losses(model, part, drift)
        weights = losses.new_tensor([lesson.row.weight for lesson in part.lessons])
        loss = (losses * weights).sum() / (len(batch.lessons) * batch.mean_weight)
        loss.backward()
        total += loss.detach()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    parallel.add_up([total, *(_gradient(parameter) for parameter in parameters)])
    if not math.isfinite(total.item()):
        return total.item(), math.nan
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, 1.0))
    if math.isfinite(norm):
        optimizer.step()
    return total.item(), norm


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    """Return the gradient, which is nothing where this process had no share of the batch."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _is_out_of_memory(error: Exception) -> bool:
    """Tell the GPU's error, and the CPU's two, which have no class of their own, from others."""
    is_named = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return is_named or bool(OUT_OF_MEMORY.search(str(error)))


def probe_loss(model: PeftModel, rows: Sequence[Row], batch_size: int) -> float:
    """Return the mean loss of answers that are not learned from."""
    model.eval()
    with torch.no_grad(), mixed_precision(model):
        batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        loss = torch.cat([answer_losses(model, batch) for batch in batches]).mean().item()
    model.train()
    return loss
