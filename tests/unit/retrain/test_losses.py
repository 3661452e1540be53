"""The losses of DPO and KTO: TRL's, on the same likelihoods."""

from pathlib import Path

import datasets
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from retrain.base_models import BaseModel, load
from retrain.losses import dpo_loss, kto_drift, kto_loss

PAIRS = [
    ("my bill is wrong", "Billing", "Cardiology, please"),
    ("my heart hurts", "Cardiology", "Billing"),
    ("a rash on my leg", "Dermatology", "We do not know."),
]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


@pytest.fixture(params=["towards", "away"])
def models(request, tiny: BaseModel) -> tuple[PreTrainedModel, PreTrainedModel, PreTrainedTokenizerBase]:
    """A model, the one that it began as, and their tokenizer; the drift between them has either sign."""
    (one, tokenizer), (other, _) = load(tiny.directory), load(tiny.directory)
    torch.manual_seed(3)
    with torch.no_grad():
        for weights in one.float().parameters():
            weights.add_(torch.randn_like(weights) * 0.02)
    pair = (one, other.float())
    return (*(pair if request.param == "towards" else pair[::-1]), tokenizer)


def trainer(kind, settings, models, rows: list[dict], folder: Path):
    model, before, tokenizer = models
    return kind(
        model=model,
        ref_model=before,
        args=settings(
            output_dir=str(folder),
            per_device_train_batch_size=len(rows),
            use_cpu=True,
            bf16=False,
            report_to="none",
            dataloader_pin_memory=False,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def likelihoods(model, batch, prefix: str = "") -> torch.Tensor:
    ids, mask = batch[f"{prefix}input_ids"], batch[f"{prefix}completion_mask"]
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=batch[f"{prefix}attention_mask"]).logits[:, :-1]
    found = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    return (found * mask[:, 1:]).sum(dim=1)


def test_the_dpo_loss_is_that_of_trl(models, tmp_path: Path):
    rows = [
        {"prompt": said("user", asked), "chosen": said("assistant", a), "rejected": said("assistant", b)}
        for asked, a, b in PAIRS
    ]
    theirs = trainer(DPOTrainer, DPOConfig, models, rows, tmp_path)
    batch = next(iter(theirs.get_train_dataloader()))
    ours = dpo_loss(*(likelihoods(model, batch).reshape(2, -1).T for model in models[:2]))
    assert ours.mean().item() == pytest.approx(theirs.compute_loss(models[0], batch).item(), rel=1e-4)
    assert ours.std() > 0.001


def test_the_kto_loss_is_that_of_trl(models, tmp_path: Path):
    rows = [
        {"prompt": said("user", asked), "completion": said("assistant", answer), "label": is_wanted}
        for asked, *answers in PAIRS
        for answer, is_wanted in zip(answers, (True, False), strict=True)
    ]
    theirs = trainer(KTOTrainer, KTOConfig, models, rows, tmp_path)
    batch = next(iter(theirs.get_train_dataloader()))
    now, before = (likelihoods(model, batch, "KL_") for model in models[:2])
    ours = kto_loss(
        *(likelihoods(model, batch) for model in models[:2]), batch["label"].bool(), kto_drift(now - before)
    )
    assert ours.mean().item() == pytest.approx(theirs.compute_loss(models[0], batch).item(), rel=1e-4)
    assert ours.std() > 0.001


def test_a_model_that_has_not_moved_is_undecided():
    said_before = torch.tensor([[-3.0, -9.0], [-1.0, -1.0]])
    assert dpo_loss(said_before, said_before).tolist() == pytest.approx([0.6931, 0.6931], abs=1e-4)
    column = said_before[:, 0]
    undecided = kto_loss(column, column, torch.tensor([True, False]), kto_drift(column - column))
    assert undecided.tolist() == [0.5, 0.5]
