"""What the processor decides: where to compute, how precisely, by which attention, and on how small a base."""

import importlib.util
import os
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from retrain.errors import NoQuantization

FULL_BITS, QUANTIZED_BITS = 16, 4


def device() -> torch.device:
    """Return where to compute: the first GPU if there is one, of several processes each its own."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def precision() -> torch.dtype:
    """Return what to compute in: bfloat16 where the processor has it, else float32.

    A CPU without it imitates it: a question took four times as long there as in float32.
    """
    if device().type == "cuda":
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_it = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001  torch offers no public way to ask
    return torch.bfloat16 if has_it else torch.float32


def attention() -> str:
    """Return transformers' name for how to attend; on a CPU eager beats the masked flash kernel by a quarter."""
    return "sdpa" if device().type == "cuda" else "eager"


def quantization(bits: int) -> dict[str, Any]:
    """Return how transformers loads a base of so many bits a weight: nothing to say of the usual one.

    Source: Dettmers et al. (2023), "QLoRA: Efficient Finetuning of Quantized LLMs".

    Raises:
        NoQuantization: this machine cannot compute with such weights.
    """
    if bits == FULL_BITS:
        return {}
    if device().type != "cuda":
        raise NoQuantization(f"base_bits {bits}: this machine has no GPU that torch can use; train with 16")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise NoQuantization(f"base_bits {bits}: bitsandbytes is missing; pip install 'errata[gpu]'")
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision(),
    )
    return {"quantization_config": settings, "device_map": {"": device()}}


def make_repeatable() -> None:
    """Have a GPU add numbers up in the same order each time; a CPU does so by itself."""
    if device().type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True)
