"""Train one adapter: a run is a function of its `TrainingSpec`, its rows and its parent."""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import datasets
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch.nn import Parameter
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from retrain import accelerator, parallel
from retrain.base_models import BaseModel, load
from retrain.checkpoint import Checkpoint, State
from retrain.errors import Cancelled, ContextTooLong, DiskTooSmall, TrainingBroke, WrongTargets
from retrain.generate import check_base
from retrain.health import Monitor, Verdict, probe_every
from retrain.lessons import Batch, Lessons
from retrain.likelihood import Row
from retrain.steps import before_learning, learn_from, probe_loss
from retrain.types import FRAME_VERSION, Message, Mode, Progress, TrainedAdapter, TrainingSpec, sha256_of

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
GROUPED_BATCHES = 16
WARMUP_STEPS = 5
FINAL_SHARE_OF_RATE = 0.1


def train(
    spec: TrainingSpec,
    *,
    base: BaseModel,
    examples: Path,
    replay: Sequence[tuple[Sequence[Message], str]],
    probe: Sequence[tuple[Sequence[Message], str]] = (),
    output: Path,
    checkpoints: Path,
    parent: Path | None = None,
    report: Callable[[Progress], None],
    is_cancelled: Callable[[], bool],
) -> TrainedAdapter:
    """Train on a Parquet file (messages, answer, weight) and replayed answers; write the adapter to `output`.

    A run that was ended goes on from its newest checkpoint and comes to the same bytes as an undisturbed one.
    Rows of another split than `train` and, but by KTO, answers that nobody wants are left out.
    One of several processes (see `retrain.parallel`) learns from its share of each batch; the first writes for all.
    Now and then the answers of `probe` are asked for their loss; nothing is learned from them. What the monitor
    says of a step is reported, and `report` ends the run by raising.

    Raises:
        WrongBaseModel: the parent was trained on another base model.
        ContextTooLong, DiskTooSmall: the base model cannot read such rows, or the disk not hold the run.
        RowsTooLong: rows have more tokens than `max_tokens`.
        WrongTargets: the base model lacks the layers that an adapter is wanted for.
        NoQuantization: this machine cannot compute with a base of so few bits.
        EmptySplit: no row is left to train on.
        WrongMethod: the rows lack what the method learns from.
        TrainingBroke: the loss is not finite, something else than the adapter's weights could change, or the
            file written holds other weights than those trained.
        OutOfMemory: half a batch does not fit into memory either.
        Cancelled: `is_cancelled` said so; it is asked at every step.
    """
    accelerator.make_repeatable()
    model, tokenizer = load(base.directory, bits=spec.base_bits)
    _check_context(spec, base, model)
    adapted = _with_adapter(spec, base, model, parent).train()
    weights = adapter_weights(adapted)
    _check_disk(weights, checkpoints)
    start = {name: parameter.detach().clone() for name, parameter in weights.items()}
    lessons = Lessons(spec, tokenizer, _read(examples, checkpoints), replay)
    before = before_learning(adapted, spec, lessons, is_cancelled)
    optimizer = torch.optim.AdamW(weights.values(), lr=spec.learning_rate, weight_decay=0.0)
    checkpoint = Checkpoint(
        checkpoints / "checkpoint.pt", sha256_of([spec.to_json(), lessons.sha256, parallel.processes()])
    )
    state = checkpoint.restore(weights, optimizer)
    for progress in _learn(
        adapted,
        spec,
        lessons,
        before=before,
        optimizer=optimizer,
        state=state,
        asked=lessons.encoded(probe),
        is_cancelled=is_cancelled,
    ):
        report(progress)
        if not math.isfinite(progress.loss):
            raise TrainingBroke(
                f"the loss is {progress.loss}; lower the learning rate or look at the weights"
            )
        # The last step is never saved: a run that goes on has one to do, and with it tells of all before.
        is_due = state.step % spec.checkpoint_every == 0 and state.step < progress.steps
        if is_due and parallel.rank() == 0:
            checkpoint.save(weights, optimizer, state)
    _refuse_untaught(start, weights)
    facts = {
        "spec": spec.to_json(),
        "left_out": lessons.left_out,
        "precision": str(model.dtype).removeprefix("torch."),
    }
    if parallel.rank() == 0:
        _write(adapted, base, facts, output)
    return TrainedAdapter(str(output), tuple(state.losses), state.tokens, state.seconds)


def _learn(
    model: PeftModel,
    spec: TrainingSpec,
    lessons: Lessons,
    *,
    before: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    state: State,
    asked: Sequence[Row],
    is_cancelled: Callable[[], bool],
) -> Iterator[Progress]:
    """Learn step by step from where the state is, which goes with it, and yield how far the run is."""
    plan = _plan(spec, lessons.lengths)
    monitor = Monitor(spec.learning_rate, len(plan))
    for step, (loss, norm) in enumerate(zip(state.losses, state.norms, strict=True)):
        monitor.see(loss, norm, state.probes.get(step))
    begun = time.monotonic() - state.seconds
    for step in range(state.step, len(plan)):
        if is_cancelled():
            raise Cancelled(f"at step {step} of {len(plan)}")
        if asked and step % probe_every(len(plan)) == 0:
            state.probes[step] = probe_loss(model, asked, spec.batch_size)
        _set_rate(optimizer, spec.learning_rate, step, len(plan))
        chosen = [lessons[index] for index in plan[step]]
        batch = Batch(spec.method, chosen, before[plan[step]], lessons.mean_weight)
        # Each step has its own seed, so that a resumed run drops out the same activations.
        seed = spec.seed * 1_000_003 + step + (parallel.rank() << 48)
        loss, norm = learn_from(model, batch, optimizer, state, seed=seed)
        state.losses.append(loss)
        state.norms.append(norm)
        state.tokens += sum(len(row.ids) for lesson in chosen for row in lesson.rows)
        state.step, state.seconds = step + 1, time.monotonic() - begun
        yield _progress(state, len(plan), monitor.see(loss, norm, state.probes.get(step)))


def _refuse_untaught(start: Mapping[str, torch.Tensor], weights: Mapping[str, Parameter]) -> None:
    if all(torch.equal(start[name], parameter) for name, parameter in weights.items()):
        raise TrainingBroke("no weight of the adapter changed")
    if not all(parameter.isfinite().all() for parameter in weights.values()):
        raise TrainingBroke("a weight of the adapter is not finite")


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


def _with_adapter(
    spec: TrainingSpec, base: BaseModel, model: PreTrainedModel, parent: Path | None
) -> PeftModel:
    """Put a fresh adapter, or the parent's, on the base; its weights are float32 whatever the base's are."""
    if (spec.mode is Mode.CONTINUE) != (parent is not None):
        raise TrainingBroke(f"mode {spec.mode} {'with' if parent else 'without'} a parent adapter")
    if parent is not None:
        check_base(parent, base.sha256)
        return PeftModel.from_pretrained(model, parent, is_trainable=True)
    settings = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=_targets(spec, model),
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(spec.seed)
    return get_peft_model(model, settings)


def _targets(spec: TrainingSpec, model: PreTrainedModel) -> list[str]:
    """Return the layers to adapt: those named, else the usual ones, else all linear ones but the output's."""
    output = model.get_output_embeddings()
    linear = sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear | Conv1D) and module is not output
        }
    )
    if unknown := [name for name in spec.targets if name not in linear]:
        raise WrongTargets(
            f"targets: the base has no layer {', '.join(unknown)}; there are {', '.join(linear)}"
        )
    return list(spec.targets) or ([name for name in TARGETS if name in linear] or linear)


def _check_context(spec: TrainingSpec, base: BaseModel, model: PreTrainedModel) -> None:
    most = getattr(model.config, "max_position_embeddings", spec.max_tokens)
    if spec.max_tokens > most:
        raise ContextTooLong(f"max_tokens is {spec.max_tokens}, and {base.reference} reads {most}")


def _check_disk(weights: Mapping[str, Parameter], folder: Path) -> None:
    """Refuse what will not fit: a checkpoint holds the weights and two moments, and the last is kept until the next."""
    folder.mkdir(parents=True, exist_ok=True)
    size = sum(parameter.numel() * parameter.element_size() for parameter in weights.values())
    needed, free = (1 + 2 * 3) * size, shutil.disk_usage(folder).free
    if free < needed:
        raise DiskTooSmall(f"the run needs {needed} bytes for checkpoints and adapter, and {free} are free")


def _read(examples: Path, checkpoints: Path) -> datasets.Dataset:
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


def _progress(state: State, steps: int, verdict: Verdict | None) -> Progress:
    return Progress(
        state.step,
        steps,
        state.losses[-1],
        state.tokens / max(state.seconds, 1e-9),
        state.seconds,
        losses=state.losses,
        norms=state.norms,
        probes=state.probes,
        verdict=verdict,
        out_of_memory=state.out_of_memory,
    )


def _write(adapted: PeftModel, base: BaseModel, facts: Mapping[str, object], output: Path) -> None:
    """Write the adapter so that equal runs write equal bytes: no paths, no times, no set's order."""
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    weights = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    tensors = {name: tensor.contiguous().cpu() for name, tensor in weights.items()}
    save_file(tensors, partial / "adapter_model.safetensors", metadata={"format": "pt"})
    _refuse_other_weights(partial / "adapter_model.safetensors", adapter_weights(adapted))
    config = adapted.peft_config["default"].to_dict()
    config |= {
        "base_model_name_or_path": base.sha256 if Path(base.reference).exists() else base.reference,
        "target_modules": sorted(config["target_modules"]),
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
