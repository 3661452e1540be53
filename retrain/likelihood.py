"""How likely a model finds answers, in batches of unlike length."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from torch.nn.functional import cross_entropy


@dataclass(frozen=True, slots=True)
class Row:
    """One encoded prompt with its answer."""

    ids: list[int]
    answer_start: int
    weight: float


def answer_losses(model: PeftModel, batch: Sequence[Row]) -> torch.Tensor:
    """Return each answer's mean loss over its tokens, shaped (n_rows,)."""
    counts = torch.tensor([len(row.ids) - row.answer_start for row in batch], device=model.device)
    return -log_likelihoods(model, batch) / counts


def log_likelihoods(model: PeftModel, batch: Sequence[Row]) -> torch.Tensor:
    """Return each whole answer's log-likelihood; the wide output layer runs only where answers are predicted."""
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
    return -torch.zeros(len(batch), device=model.device).index_add(0, predicts.nonzero()[:, 0], losses)


@contextmanager
def mixed_precision(model: PeftModel) -> Iterator[None]:
    """Compute in bfloat16 where the base does; autocast casts for itself, peft's own detour would cost two copies."""
    is_mixed = model.dtype == torch.bfloat16
    autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=is_mixed)
    with autocast, disable_input_dtype_casting(model):
        yield
