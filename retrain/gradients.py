"""Loss gradients of an adapter's weights, row by row, shrunk so that many fit into memory."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel

from retrain.base_models import load
from retrain.errors import Cancelled
from retrain.frame import encode_example
from retrain.likelihood import Row, answer_losses, log_likelihoods
from retrain.lora import adapter_weights
from retrain.types import Example, TrainingSpec

BUCKETS = 2048


def gradients(
    base: Path,
    adapter: Path,
    rows: Sequence[Example],
    *,
    spec: TrainingSpec,
    rivals: Mapping[int, str] | None = None,
    is_cancelled: Callable[[], bool],
) -> NDArray[np.float64]:
    """Return each row's loss gradient by the adapter's weights, shaped (n_rows, BUCKETS); one too long has zeros.

    Each weight is added with a sign drawn for it to a bucket drawn for it, which keeps inner products on average.
    A row with a rival, by its place, has the gradient of how much likelier that is than its answer: where a model
    chooses among labels, what all of them share (how an answer ends, say) decides nothing, but fills a plain loss.

    Raises:
        Cancelled: `is_cancelled` said so; it is asked at every row.

    Source: Weinberger et al. (2009), "Feature Hashing for Large Scale Multitask Learning".
    """
    model, tokenizer = load(base)
    adapted = PeftModel.from_pretrained(model, adapter, is_trainable=True).eval()
    weights = list(adapter_weights(adapted).values())
    generator = torch.Generator().manual_seed(spec.seed)
    count = sum(weight.numel() for weight in weights)
    buckets = torch.randint(BUCKETS, (count,), generator=generator)
    signs = torch.randint(2, (count,), generator=generator) * 2.0 - 1
    found = np.zeros((len(rows), BUCKETS))
    for place, row in enumerate(rows):
        if is_cancelled():
            raise Cancelled(f"at row {place} of {len(rows)}")
        said = [row.answer, *([rivals[place]] if rivals and place in rivals else [])]
        encoded = [encode_example(tokenizer, row.messages, one, spec.system_prompt) for one in said]
        if max(len(ids) for ids, _ in encoded) > spec.max_tokens:
            continue
        loss = _loss(adapted, [Row(ids, start, row.weight) for ids, start in encoded])
        parts = torch.autograd.grad(loss, weights)
        flat = torch.cat([part.flatten().float().cpu() for part in parts])
        found[place] = torch.zeros(BUCKETS).index_add(0, buckets, flat * signs).numpy()
    return found


def _loss(model: PeftModel, said: Sequence[Row]) -> torch.Tensor:
    """Return the loss of an answer, or by how much its rival is likelier."""
    if len(said) == 1:
        return answer_losses(model, said)[0] * said[0].weight
    likely = log_likelihoods(model, said)
    return likely[1] - likely[0]
