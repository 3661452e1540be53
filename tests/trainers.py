"""Programs that train the same LoRA adapter on the same rows: ours, TRL's and transformers' trainers, a plain loop."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import datasets
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_cosine_schedule_with_warmup,
)
from trl import SFTConfig, SFTTrainer

from retrain import lora
from retrain.base_models import BaseModel, load
from retrain.frame import encode_example
from retrain.likelihood import Row
from retrain.steps import probe_loss
from retrain.types import Message, TrainingSpec

BATCH, RATE, LONGEST = 8, 1e-3, 512
LORA = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=lora.TARGETS, task_type="CAUSAL_LM")
USUAL = {
    "per_device_train_batch_size": BATCH,
    "learning_rate": RATE,
    "lr_scheduler_type": "cosine",
    "warmup_steps": lora.WARMUP_STEPS,
    "num_train_epochs": 1,
    "use_cpu": True,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "logging_strategy": "no",
}


@dataclass(slots=True)
class Clock(TrainerCallback):
    """The processor's and the wall's seconds at the end of each step."""

    at: list[tuple[float, float]] = field(default_factory=list)

    def tick(self) -> None:
        self.at.append((time.process_time(), time.perf_counter()))

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.tick()


def ours(base: Path, file: Path, clock: Clock) -> torch.nn.Module:
    """Train by `retrain.lora`, and load what it wrote."""
    spec = TrainingSpec(
        str(base), "", "", "", rank=8, alpha=16, learning_rate=RATE, epochs=1, max_tokens=LONGEST
    )
    folder = Path(mkdtemp())
    trained = lora.train(
        spec,
        base=BaseModel(str(base), base, ""),
        examples=file,
        replay=[],
        output=folder / "adapter",
        checkpoints=folder / "checkpoints",
        report=lambda _: clock.tick(),
        is_cancelled=lambda: False,
    )
    return lora.PeftModel.from_pretrained(load(base)[0], trained.directory)


def sft(**chosen: Any) -> Callable[[Path, Path, Clock], torch.nn.Module]:
    """Return training by TRL's trainer, with its defaults but for what is chosen."""

    def train(base: Path, file: Path, clock: Clock) -> torch.nn.Module:
        model, tokenizer = _plain(base)
        rows = datasets.Dataset.from_list(
            [
                {"prompt": one["messages"], "completion": [{"role": "assistant", "content": one["answer"]}]}
                for one in _rows(file)
            ]
        )
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(output_dir=mkdtemp(), **USUAL | chosen),
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=LORA,
            callbacks=[clock],
        )
        trainer.train()
        return trainer.model

    return train


def trainer(base: Path, file: Path, clock: Clock) -> torch.nn.Module:
    """Train by transformers' trainer in bfloat16."""
    model, tokenizer = _plain(base)
    work = Trainer(
        model=get_peft_model(model, LORA),
        args=TrainingArguments(output_dir=mkdtemp(), bf16=True, **USUAL),
        train_dataset=_encoded(file, tokenizer),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        callbacks=[clock],
    )
    work.train()
    return work.model


def naive(base: Path, file: Path, clock: Clock) -> torch.nn.Module:
    """Train by the loop of any tutorial, in float32."""
    model, tokenizer = _plain(base)
    model = get_peft_model(model, LORA).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE)
    loader = torch.utils.data.DataLoader(
        _encoded(file, tokenizer), BATCH, shuffle=True, collate_fn=DataCollatorForSeq2Seq(tokenizer)
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, lora.WARMUP_STEPS, len(loader))
    for batch in loader:
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
        schedule.step()
        clock.tick()
    return model


CONTENDERS: dict[str, Callable[[Path, Path, Clock], torch.nn.Module]] = {
    "ours": ours,
    "SFTTrainer, its defaults": sft(),
    "SFTTrainer, its best": sft(
        gradient_checkpointing=False, loss_type="chunked_nll", train_sampling_strategy="group_by_length"
    ),
    "transformers.Trainer": trainer,
    "plain loop in float32": naive,
}


def _plain(base: Path) -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(base)
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), tokenizer


def _rows(file: Path) -> list[dict[str, Any]]:
    return datasets.Dataset.from_parquet(str(file), cache_dir=mkdtemp()).to_list()


def _encoded(file: Path, tokenizer: Any) -> datasets.Dataset:
    def encode(one: dict[str, Any]) -> dict[str, list[int]]:
        ids, start = _ids(one, tokenizer)
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * start + ids[start:]}

    return datasets.Dataset.from_list([encode(one) for one in _rows(file)])


def _ids(one: dict[str, Any], tokenizer: Any) -> tuple[list[int], int]:
    return encode_example(tokenizer, [Message(**turn) for turn in one["messages"]], one["answer"], "")


def _loss(model: Any, base: Path, file: Path) -> float:
    """Return what the rows cost in the end, by the same measure for all."""
    _, tokenizer = load(base)
    rows: Sequence[Row] = [Row(*_ids(one, tokenizer), 1.0) for one in _rows(file)]
    return probe_loss(model.to(torch.bfloat16), rows, BATCH)


def main(name: str, base: Path, file: Path) -> None:
    """Train once and print what it took, as JSON."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(0)
    clock = Clock()
    model = CONTENDERS[name](base, file, clock)
    steps = len(clock.at) - 1  # the first also made everything ready
    (cpu, wall), (cpu_end, wall_end) = clock.at[0], clock.at[-1]
    told = {
        "cpu_seconds_a_step": (cpu_end - cpu) / steps,
        "seconds_a_step": (wall_end - wall) / steps,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "loss": _loss(model, base, file),
    }
    sys.stdout.write(f"\n{json.dumps(told)}\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
