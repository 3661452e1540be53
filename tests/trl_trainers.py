"""A program of a team that has files in TRL's formats: it trains one step on each and says what was there to learn."""

import json
import sys
from pathlib import Path

import datasets
import torch
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

from retrain.base_models import load

TRAINERS = {
    "sft": (SFTTrainer, SFTConfig, ["labels"]),
    "preference": (DPOTrainer, DPOConfig, ["chosen_ids", "rejected_ids"]),
    "kto": (KTOTrainer, KTOConfig, ["completion_ids", "label"]),
}


def learned(file: Path, base: Path) -> list[list[object]]:
    """Return, by row, what the trainer wants said, or never said, once a step has changed the model."""
    trainer, settings, columns = TRAINERS[file.stem]
    model, tokenizer = load(base)
    before = torch.cat([weights.detach().clone().flatten() for weights in model.parameters()])
    work = trainer(
        model=model,
        args=settings(
            output_dir=str(file.parent / "out"),
            max_steps=1,
            per_device_train_batch_size=2,
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
        ),
        train_dataset=datasets.Dataset.from_json(str(file), cache_dir=str(file.parent / "cache")),
        processing_class=tokenizer,
    )
    work.train()
    after = torch.cat([weights.detach().flatten() for weights in model.parameters()])
    if torch.equal(before, after):
        raise SystemExit(f"{file.name}: nothing was learned")
    return [[_said(row[name], tokenizer) for name in columns] for row in work.train_dataset]


def _said(column, tokenizer) -> object:
    if not isinstance(column, list):
        return column
    return tokenizer.decode([token for token in column if token >= 0], skip_special_tokens=True).strip()


if __name__ == "__main__":
    directory, *files = map(Path, sys.argv[1:])
    sys.stdout.write(f"\n{json.dumps({file.stem: learned(file, directory) for file in files})}")
