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
EPOCHS_OF_SAME = 2
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
IN_OUR_ORDER = {"train_sampling_strategy": "sequential", "lr_scheduler_type": "constant", "warmup_steps": 0}


@dataclass(frozen=True, slots=True)
class Course:
    """What is learned: rows of a file, by each contender its own way, or the same by all.

    Then all have our encoding, masks, order, schedule and start of the adapter, and a fair loss can be compared.
    """

    base: Path
    file: Path
    seed: int = 0
    is_same: bool = False

    @property
    def spec(self) -> TrainingSpec:
        return TrainingSpec(
            str(self.base),
            "",
            "",
            "",
            rank=8,
            alpha=16,
            learning_rate=RATE,
            epochs=EPOCHS_OF_SAME if self.is_same else 1,
            max_tokens=LONGEST,
            seed=self.seed,
        )

    def encoded(self, tokenizer: Any) -> datasets.Dataset:
        """Return the rows as all trainers take them, in the order in which they are learned if that is given."""
        rows = [_ids(one, tokenizer) for one in _rows(self.file)]
        if self.is_same:
            steps = lora._plan(self.spec, [len(ids) for ids, _ in rows])
            rows = [rows[number] for step in steps for number in step]
        return datasets.Dataset.from_list(
            [
                {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * start + ids[start:]}
                for ids, start in rows
            ]
        )

    def settings(self, chosen: dict[str, Any]) -> dict[str, Any]:
        return USUAL | chosen | (IN_OUR_ORDER if self.is_same else {})

    def callbacks(self, clock: "Clock") -> list[TrainerCallback]:
        return [clock, OurSchedule()] if self.is_same else [clock]


class OurSchedule(TrainerCallback):
    """Sets each step's learning rate to what it is in our runs."""

    def on_step_begin(self, _args: Any, state: Any, _control: Any, *, optimizer: Any, **_: Any) -> None:
        lora._set_rate(optimizer, RATE, state.global_step, state.max_steps)


@dataclass(slots=True)
class Clock(TrainerCallback):
    """The processor's and the wall's seconds at the end of each step."""

    at: list[tuple[float, float]] = field(default_factory=list)

    def tick(self) -> None:
        self.at.append((time.process_time(), time.perf_counter()))

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.tick()


def ours(course: Course, clock: Clock) -> torch.nn.Module:
    """Train by `retrain.lora`, and load what it wrote."""
    folder = Path(mkdtemp())
    trained = lora.train(
        course.spec,
        base=BaseModel(str(course.base), course.base, ""),
        examples=course.file,
        replay=[],
        output=folder / "adapter",
        checkpoints=folder / "checkpoints",
        report=lambda _: clock.tick(),
        is_cancelled=lambda: False,
    )
    return lora.PeftModel.from_pretrained(load(course.base)[0], trained.directory)


def sft(**chosen: Any) -> Callable[[Course, Clock], torch.nn.Module]:
    """Return training by TRL's trainer, with its defaults but for what is chosen."""

    def train(course: Course, clock: Clock) -> torch.nn.Module:
        model, tokenizer = _plain(course.base)
        rows = course.encoded(tokenizer) if course.is_same else _conversations(course.file)
        trainer = SFTTrainer(
            model=_adapted(model, course),
            args=SFTConfig(output_dir=mkdtemp(), **course.settings(chosen)),
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=course.callbacks(clock),
        )
        trainer.train()
        return trainer.model

    return train


def trainer(course: Course, clock: Clock) -> torch.nn.Module:
    """Train by transformers' trainer in bfloat16."""
    model, tokenizer = _plain(course.base)
    work = Trainer(
        model=_adapted(model, course),
        args=TrainingArguments(output_dir=mkdtemp(), bf16=True, **course.settings({})),
        train_dataset=course.encoded(tokenizer),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        callbacks=course.callbacks(clock),
    )
    work.train()
    return work.model


def naive(course: Course, clock: Clock) -> torch.nn.Module:
    """Train by the loop of any tutorial, in float32."""
    model, tokenizer = _plain(course.base)
    model = _adapted(model, course).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE)
    loader = torch.utils.data.DataLoader(
        course.encoded(tokenizer),
        BATCH,
        shuffle=not course.is_same,
        collate_fn=DataCollatorForSeq2Seq(tokenizer),
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, lora.WARMUP_STEPS, len(loader))
    for step, batch in enumerate(loader):
        if course.is_same:
            lora._set_rate(optimizer, RATE, step, len(loader))
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
        schedule.step()
        clock.tick()
    return model


CONTENDERS: dict[str, Callable[[Course, Clock], torch.nn.Module]] = {
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


def _adapted(model: Any, course: Course) -> Any:
    torch.manual_seed(course.seed)
    return get_peft_model(model, LORA)


def _conversations(file: Path) -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [
            {"prompt": one["messages"], "completion": [{"role": "assistant", "content": one["answer"]}]}
            for one in _rows(file)
        ]
    )


def _ids(one: dict[str, Any], tokenizer: Any) -> tuple[list[int], int]:
    return encode_example(tokenizer, [Message(**turn) for turn in one["messages"]], one["answer"], "")


def _loss(model: Any, base: Path, file: Path) -> float:
    """Return what the rows cost in the end, by the same measure for all."""
    _, tokenizer = load(base)
    rows: Sequence[Row] = [Row(*_ids(one, tokenizer), 1.0) for one in _rows(file)]
    return probe_loss(model.to(torch.bfloat16), rows, BATCH)


def main(name: str, course: Course, held_out: Path) -> None:
    """Train once and print what it took and came to, as JSON."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(course.seed)
    clock = Clock()
    model = CONTENDERS[name](course, clock)
    steps = len(clock.at) - 1  # the first also made everything ready
    (cpu, wall), (cpu_end, wall_end) = clock.at[0], clock.at[-1]
    told = {
        "cpu_seconds_a_step": (cpu_end - cpu) / steps,
        "seconds_a_step": (wall_end - wall) / steps,
        "steps": len(clock.at),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "loss": _loss(model, course.base, held_out),
    }
    sys.stdout.write(f"\n{json.dumps(told)}\n")


if __name__ == "__main__":
    who, base, file, held_out, seed, is_same = sys.argv[1:]
    main(who, Course(Path(base), Path(file), int(seed), is_same == "same"), Path(held_out))
