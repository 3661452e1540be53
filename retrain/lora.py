"""Train one adapter: a run is a function of its `TrainingSpec`, its rows and its parent."""

import dataclasses
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.helpers import disable_input_dtype_casting
from safetensors.torch import load_file, save_file
from torch.nn import Parameter
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from retrain.base_models import BaseModel, load
from retrain.errors import Cancelled, EmptySplit, TrainingBroke
from retrain.frame import FRAME_VERSION, encode_example
from retrain.generate import check_base
from retrain.types import (
    Message,
    Mode,
    Progress,
    Split,
    TrainedAdapter,
    TrainingSpec,
    canonical_json,
    sha256_of,
)

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
GROUPED_BATCHES = 16
WARMUP_STEPS = 5
FINAL_SHARE_OF_RATE = 0.1


@dataclass(frozen=True, slots=True)
class Row:
    """One encoded example."""

    ids: list[int]
    answer_start: int
    weight: float


@dataclass(slots=True)
class State:
    """What a checkpoint keeps beside the weights and the optimizer's moments."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: list[float] = dataclasses.field(default_factory=list)


def train(
    spec: TrainingSpec,
    *,
    base: BaseModel,
    examples: Path,
    replay: Sequence[tuple[Sequence[Message], str]],
    output: Path,
    checkpoints: Path,
    parent: Path | None = None,
    report: Callable[[Progress], None],
    is_cancelled: Callable[[], bool],
) -> TrainedAdapter:
    """Train on a Parquet file (messages, answer, weight) and replayed answers; write the adapter to `output`.

    A run that was ended goes on from its newest checkpoint and comes to the same bytes as an undisturbed one.
    Rows of another split than `train`, answers that nobody wants and rows over `max_tokens` are left out.

    Raises:
        WrongBaseModel: the parent was trained on another base model.
        EmptySplit: no row is left to train on.
        TrainingBroke: the loss is not finite, something else than the adapter's weights could change, or the
            file written holds other weights than those trained.
        Cancelled: `is_cancelled` said so; it is asked at every step.
    """
    model, tokenizer = load(base.directory)
    adapted = _with_adapter(spec, base, model, parent).train()
    weights = adapter_weights(adapted)
    start = {name: parameter.detach().clone() for name, parameter in weights.items()}
    rows = Rows(spec, tokenizer, _read(examples, checkpoints), replay)
    optimizer = torch.optim.AdamW(weights.values(), lr=spec.learning_rate, weight_decay=0.0)
    checkpoint = Checkpoint(checkpoints / "checkpoint.pt", sha256_of([dataclasses.asdict(spec), rows.sha256]))
    state = checkpoint.restore(weights, optimizer)
    plan = _plan(spec, rows.lengths)
    begun = time.monotonic() - state.seconds
    for step in range(state.step, len(plan)):
        if is_cancelled():
            raise Cancelled(f"at step {step} of {len(plan)}")
        # Each step has its own seed, so that a resumed run drops out the same activations.
        torch.manual_seed(spec.seed * 1_000_003 + step)
        _set_rate(optimizer, spec.learning_rate, step, len(plan))
        batch = [rows[index] for index in plan[step]]
        loss = _step(adapted, batch, optimizer, rows.mean_weight)
        state.losses.append(loss)
        state.tokens += sum(len(row.ids) for row in batch)
        state.step, state.seconds = step + 1, time.monotonic() - begun
        speed = state.tokens / max(state.seconds, 1e-9)
        report(Progress(step + 1, len(plan), loss, speed, state.seconds))
        if state.step % spec.checkpoint_every == 0:
            checkpoint.save(weights, optimizer, state)
    if all(torch.equal(start[name], parameter) for name, parameter in weights.items()):
        raise TrainingBroke("no weight of the adapter changed")
    if not all(parameter.isfinite().all() for parameter in weights.values()):
        raise TrainingBroke("a weight of the adapter is not finite")
    facts = {
        "spec": dataclasses.asdict(spec),
        "left_out": rows.left_out,
        "precision": str(model.dtype).removeprefix("torch."),
    }
    _write(adapted, base, facts, output)
    return TrainedAdapter(str(output), tuple(state.losses), state.tokens, state.seconds)


def adapter_weights(model: torch.nn.Module) -> dict[str, Parameter]:
    """Return the trainable parameters by name.

    Raises:
        TrainingBroke: one of them lies outside the adapter, or there is none.
    """
    weights = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    foreign = [name for name in weights if ".lora_" not in name]
    if foreign or not weights:
        raise TrainingBroke(
            f"trainable outside the adapter: {foreign[:3]}" if foreign else "nothing to train"
        )
    return weights


class Rows:
    """The rows of a run, encoded as they are read: the file stays memory-mapped, only lengths are held."""

    def __init__(
        self,
        spec: TrainingSpec,
        tokenizer: PreTrainedTokenizerBase,
        table: datasets.Dataset,
        replay: Sequence[tuple[Sequence[Message], str]],
    ) -> None:
        self._tokenizer = tokenizer
        self._system_prompt = spec.system_prompt
        self._table = table
        self._replay = replay
        self._kept: list[int] = []
        self.lengths: list[int] = []
        digest, total_weight = hashlib.sha256(), 0.0
        for index in range(len(table) + len(replay)):
            row = self._encode(index)
            if row is not None and len(row.ids) <= spec.max_tokens:
                self._kept.append(index)
                self.lengths.append(len(row.ids))
                total_weight += row.weight
                digest.update(canonical_json([row.ids, row.answer_start, repr(row.weight)]))
        if total_weight == 0:
            raise EmptySplit(f"no training row of at most {spec.max_tokens} tokens has a weight")
        self.left_out = len(table) + len(replay) - len(self._kept)
        self.mean_weight = total_weight / len(self._kept)
        self.sha256 = digest.hexdigest()

    def __getitem__(self, number: int) -> Row:
        row = self._encode(self._kept[number])
        if row is None:
            raise IndexError(number)
        return row

    def _encode(self, index: int) -> Row | None:
        if index >= len(self._table):
            messages, answer = self._replay[index - len(self._table)]
            return self._row(messages, answer, 1.0)
        found: Mapping[str, Any] = self._table[index]
        if found.get("split", Split.TRAIN) != Split.TRAIN or not found.get("is_wanted", True):
            return None
        turns = [Message(turn["role"], turn["content"]) for turn in found["messages"]]
        return self._row(turns, found["answer"], found.get("weight", 1.0))

    def _row(self, messages: Sequence[Message], answer: str, weight: float) -> Row:
        ids, start = encode_example(self._tokenizer, messages, answer, self._system_prompt)
        return Row(ids, start, weight)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The newest point a run can go on from; one that another run left is not read."""

    path: Path
    run: str

    def save(self, weights: Mapping[str, Parameter], optimizer: torch.optim.Optimizer, state: State) -> None:
        """Replace the checkpoint in one step, so that there is always a whole one."""
        partial = self.path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(
                {
                    "run": self.run,
                    "state": dataclasses.asdict(state),
                    "weights": {name: parameter.detach() for name, parameter in weights.items()},
                    "optimizer": optimizer.state_dict(),
                },
                file,
            )
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)

    def restore(self, weights: Mapping[str, Parameter], optimizer: torch.optim.Optimizer) -> State:
        """Load the checkpoint into the weights and the optimizer, if this run left one."""
        if not self.path.exists():
            return State()
        saved = torch.load(self.path, weights_only=True, map_location="cpu")
        if saved["run"] != self.run:
            return State()
        with torch.no_grad():
            for name, parameter in weights.items():
                parameter.copy_(saved["weights"][name])
        optimizer.load_state_dict(saved["optimizer"])
        return State(**saved["state"])


def _with_adapter(
    spec: TrainingSpec, base: BaseModel, model: PreTrainedModel, parent: Path | None
) -> PeftModel:
    """Put a fresh adapter, or the parent's, on the base; its weights are float32 whatever the base's are."""
    if (spec.mode is Mode.CONTINUE) != (parent is not None):
        raise TrainingBroke(f"mode {spec.mode} {'with' if parent else 'without'} a parent adapter")
    if parent is not None:
        check_base(parent, base.sha256)
        return PeftModel.from_pretrained(model, parent, is_trainable=True)
    torch.manual_seed(spec.seed)
    return get_peft_model(
        model,
        LoraConfig(
            r=spec.rank,
            lora_alpha=spec.alpha,
            lora_dropout=spec.dropout,
            target_modules=TARGETS,
            task_type="CAUSAL_LM",
        ),
    )


def _read(examples: Path, checkpoints: Path) -> datasets.Dataset:
    checkpoints.mkdir(parents=True, exist_ok=True)
    datasets.disable_progress_bars()
    return datasets.Dataset.from_parquet(
        str(examples), cache_dir=str(checkpoints / "datasets"), keep_in_memory=False
    )


def _plan(spec: TrainingSpec, lengths: Sequence[int]) -> list[list[int]]:
    """Say which rows make up each step: like lengths together, so that little is padded; steps shuffled."""
    steps: list[list[int]] = []
    for epoch in range(spec.epochs):
        generator = np.random.default_rng([spec.seed, epoch])
        order = generator.permutation(len(lengths)).tolist()
        window = spec.batch_size * GROUPED_BATCHES
        order = [
            index
            for start in range(0, len(order), window)
            for index in sorted(order[start : start + window], key=lambda index: lengths[index])
        ]
        batches = [order[start : start + spec.batch_size] for start in range(0, len(order), spec.batch_size)]
        steps += [batches[number] for number in generator.permutation(len(batches))]
    return steps


def _set_rate(optimizer: torch.optim.Optimizer, peak: float, step: int, steps: int) -> None:
    """Warm up for a few steps, then fall along a cosine."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    share = FINAL_SHARE_OF_RATE + (1 - FINAL_SHARE_OF_RATE) * cosine
    for group in optimizer.param_groups:
        group["lr"] = peak * min(1.0, (step + 1) / WARMUP_STEPS) * share


def _step(
    model: PeftModel, batch: Sequence[Row], optimizer: torch.optim.Optimizer, mean_weight: float
) -> float:
    """Learn from one batch; return its loss: each answer's mean over its tokens, weighted.

    Raises:
        TrainingBroke: the loss is not finite.
    """
    # Autocast casts for itself; peft's own detour over float32 would cost two copies at each layer.
    is_mixed = model.dtype == torch.bfloat16
    autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=is_mixed)
    with autocast, disable_input_dtype_casting(model):
        losses = _answer_losses(model, batch)
    weights = losses.new_tensor([row.weight for row in batch])
    loss = (losses * weights).sum() / (len(batch) * mean_weight)
    if not math.isfinite(loss.item()):
        raise TrainingBroke(f"the loss is {loss.item()}; lower the learning rate or look at the weights")
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    return float(loss.item())


def _answer_losses(model: PeftModel, batch: Sequence[Row]) -> torch.Tensor:
    """Return each answer's mean loss; the wide output layer runs only where answers are predicted."""
    width = max(len(row.ids) for row in batch)
    ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in batch], device=model.device)
    at = torch.arange(width, device=model.device)
    ends = torch.tensor([[len(row.ids)] for row in batch], device=model.device)
    starts = torch.tensor([[row.answer_start] for row in batch], device=model.device)
    language_model: Any = model.get_base_model()
    hidden = language_model.get_decoder()(
        input_ids=ids, attention_mask=(at < ends).long(), use_cache=False
    ).last_hidden_state
    predicts = (at >= starts - 1) & (at < ends - 1)
    logits = language_model.get_output_embeddings()(hidden[predicts])
    losses = cross_entropy(logits.float(), ids.roll(-1, dims=1)[predicts], reduction="none")
    total = torch.zeros(len(batch), device=model.device).index_add(0, predicts.nonzero()[:, 0], losses)
    return total / predicts.sum(dim=1)


def _write(adapted: PeftModel, base: BaseModel, facts: Mapping[str, object], output: Path) -> None:
    """Write the adapter so that equal runs write equal bytes: no paths, no times, no set's order."""
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    weights = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    tensors = {name: tensor.contiguous().cpu() for name, tensor in weights.items()}
    save_file(tensors, partial / "adapter_model.safetensors", metadata={"format": "pt"})
    _refuse_other_weights(partial / "adapter_model.safetensors", adapter_weights(adapted))
    config = adapted.peft_config["default"].to_dict() | {
        "base_model_name_or_path": base.sha256 if Path(base.reference).exists() else base.reference,
        "target_modules": sorted(TARGETS),
        "inference_mode": True,
    }
    (partial / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True, default=str))
    record = {"base_sha256": base.sha256, "frame": FRAME_VERSION, **facts}
    (partial / "errata.json").write_text(json.dumps(record, indent=2, sort_keys=True))
    for path in partial.iterdir():
        path.chmod(0o644)
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)


def _refuse_other_weights(file: Path, trained: Mapping[str, Parameter]) -> None:
    """Compare what lies on the disk with the parameters in memory, which the file names without peft's `default`."""
    written = load_file(file)
    expected = {
        name.replace(".default.", "."): parameter.detach().cpu() for name, parameter in trained.items()
    }
    if written.keys() != expected.keys() or not all(
        torch.equal(tensor, expected[name]) for name, tensor in written.items()
    ):
        raise TrainingBroke("the adapter's file does not hold the weights that were trained")
