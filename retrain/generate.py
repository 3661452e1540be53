"""Answer and score with one base model and any number of adapters, in batches."""

import copy
import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from retrain.base_models import fingerprint, load
from retrain.errors import ForeignAdapter, WrongBaseModel
from retrain.frame import encode_answer, encode_prompt, end_of_turn
from retrain.types import Message

# Of a batch. Writing needs what was read and the last token's chances, scoring the chances after each label token.
WRITTEN_TOKENS, SCORED_TOKENS = 8192, 4096
ADAPTER_FILES = frozenset({"adapter_config.json", "adapter_model.safetensors", "errata.json"})
MAX_BATCH = 96


class LanguageModel:
    """A base model that can put adapters on and take them off.

    Outside a `using` block the base answers. One thread at a time may use it; a block holds the others back.
    Results do not depend on the other rows' order, but bfloat16 rounds differently in batches of other sizes:
    compare scores of equal sets of rows.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, system_prompt: str, sha256: str
    ) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._system_prompt = system_prompt
        self._sha256 = sha256
        self._adapters: PeftModel | None = None
        self._used: str | None = None
        self._lock = threading.RLock()

    @classmethod
    def load(cls, base_dir: Path, *, system_prompt: str, threads: int | None = None) -> "LanguageModel":
        """Load the base model; `threads` sets torch's for the whole process, else OMP_NUM_THREADS does.

        Raises:
            UnknownBaseModel: the directory holds no model that may be loaded.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        sha256 = fingerprint(base_dir)
        model, tokenizer = load(base_dir)
        return cls(model, tokenizer, system_prompt=system_prompt, sha256=sha256)

    def add_adapter(self, name: str, directory: Path) -> None:
        """Load an adapter under a name; a name in use gets the new weights.

        Raises:
            WrongBaseModel: the adapter was trained on another base model.
        """
        check_base(directory, self._sha256)
        with self._lock:
            self.remove_adapter(name)
            if self._adapters is None:
                # The adapter's weights come to the base's precision, so that nothing is cast at each layer.
                self._adapters = PeftModel.from_pretrained(
                    self._model, directory, adapter_name=name, autocast_adapter_dtype=False
                ).eval()
            else:
                self._adapters.load_adapter(directory, adapter_name=name, autocast_adapter_dtype=False)
            self._switch(self._used)

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter; an unknown name is forgotten already."""
        with self._lock:
            if self._adapters is None or name not in self._adapters.peft_config:
                return
            if self._used == name:
                self._switch(None)
            if len(self._adapters.peft_config) > 1:
                self._adapters.set_adapter(next(n for n in self._adapters.peft_config if n != name))
                self._adapters.delete_adapter(name)
            else:
                self._model = self._adapters.unload()
                self._adapters = None

    @contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """Answer with this adapter, or with the base model for None, until the block ends.

        Raises:
            KeyError: no adapter has this name.
        """
        with self._lock:
            before = self._used
            self._switch(name)
            try:
                yield
            finally:
                self._switch(before)

    def answer(self, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int) -> list[str]:
        """Answer greedily; equal calls give equal answers."""
        prompts = [
            encode_prompt(self._tokenizer, messages, self._system_prompt) for messages in conversations
        ]
        answers = [""] * len(prompts)
        shared = _shared_beginning(prompts)
        with self._lock, torch.inference_mode():
            cache = self._read(prompts[0][:shared]) if shared else None
            for batch in _batches(prompts, extra_tokens=max_new_tokens, most=WRITTEN_TOKENS):
                asked = [prompts[index] for index in batch]
                for index, text in zip(batch, self._generate(asked, cache, max_new_tokens), strict=True):
                    answers[index] = text
        return answers

    def score_labels(
        self, conversations: Sequence[Sequence[Message]], labels: Sequence[str]
    ) -> list[list[float]]:
        """Return the log-likelihood of each label as the whole answer, shaped (n_conversations, n_labels)."""
        trie = LabelTrie.of([encode_answer(self._tokenizer, label) for label in labels])
        prompts = [
            encode_prompt(self._tokenizer, messages, self._system_prompt) for messages in conversations
        ]
        scores: list[list[float]] = [[] for _ in prompts]
        shared = _shared_beginning(prompts)
        with self._lock, torch.inference_mode():
            cache = self._read(prompts[0][:shared]) if shared else None
            rests = [prompt[shared:] for prompt in prompts]
            for batch in _batches(rests, extra_tokens=len(trie.tokens), most=SCORED_TOKENS):
                rows = self._score([rests[i] for i in batch], trie, cache)
                for index, row in zip(batch, rows, strict=True):
                    scores[index] = row
        return scores

    def classify(self, conversations: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[str]:
        """Return each conversation's likeliest label; of equal ones, the first."""
        return [labels[row.index(max(row))] for row in self.score_labels(conversations, labels)]

    def _switch(self, name: str | None) -> None:
        if name is not None and (self._adapters is None or name not in self._adapters.peft_config):
            raise KeyError(name)
        if self._adapters is not None:
            tuner: Any = self._adapters.base_model
            if name is None:
                tuner.disable_adapter_layers()
            else:
                tuner.set_adapter(name, inference_mode=True)
                tuner.enable_adapter_layers()
        self._used = name

    def _generate(self, prompts: list[list[int]], beginning: Cache | None, max_new_tokens: int) -> list[str]:
        """Write behind prompts, whose beginning is read already where there is one; rows are padded behind it.

        What has ended leaves the batch: the rest costs less by it.
        """
        cache, past = _repeated(beginning, len(prompts))
        width, where = max(map(len, prompts)), self._model.device
        ids = torch.tensor([[*[0] * (width - len(one)), *one[past:]] for one in prompts], device=where)
        mask = torch.ones(len(prompts), width, dtype=torch.long, device=where)
        for row, one in enumerate(prompts):
            mask[row, past : past + width - len(one)] = 0
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, past:]
        ends = torch.tensor([end_of_turn(self._tokenizer), int(self._tokenizer.eos_token_id)], device=where)
        written: list[list[int]] = [[] for _ in prompts]
        rows = torch.arange(len(prompts), device=where)
        for _ in range(max_new_tokens):
            read = self._model.get_decoder()(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )
            cache = read.past_key_values
            chosen = self._model.get_output_embeddings()(read.last_hidden_state[:, -1]).max(-1).indices
            on = ~torch.isin(chosen, ends)
            if not on.all():
                rows, chosen, mask, positions = rows[on], chosen[on], mask[on], positions[on]
                read.past_key_values.batch_select_indices(on.nonzero()[:, 0])
            for row, token in zip(rows.tolist(), chosen.tolist(), strict=True):
                written[row].append(token)
            if not len(rows):
                break
            ids, positions = chosen[:, None], positions[:, -1:] + 1
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
        texts: list[str] = self._tokenizer.batch_decode(written, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _read(self, beginning: list[int]) -> Cache:
        """Run what all prompts open with, the system prompt at least, once for all of them."""
        ids = torch.tensor([beginning], device=self._model.device)
        cache: Cache = self._model.get_decoder()(input_ids=ids, use_cache=True).past_key_values
        return cache

    def _score(
        self, prompts: list[list[int]], trie: "LabelTrie", beginning: Cache | None
    ) -> list[list[float]]:
        """Run the rest of each prompt once, all labels behind it, each label blind to the others."""
        cache, past = _repeated(beginning, len(prompts))
        width = max(map(len, prompts))
        ids = torch.tensor([[*prompt, *[0] * (width - len(prompt)), *trie.tokens] for prompt in prompts])
        lengths = torch.tensor([[len(prompt)] for prompt in prompts])
        depths = torch.tensor(trie.depths)
        positions = torch.cat([torch.arange(width).expand(len(prompts), -1), lengths + depths], dim=1)
        seen = torch.cat([lengths - 1, torch.arange(width, ids.shape[1]).expand(len(prompts), -1)], dim=1)
        where = self._model.device
        hidden = self._model.get_decoder()(
            input_ids=ids.to(where),
            position_ids=positions.to(where) + past,
            attention_mask=_tree_mask(lengths, trie, past, self._model.dtype).to(where),
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        hidden = hidden.gather(1, seen.to(where)[..., None].expand(-1, -1, hidden.shape[-1]))
        logits = self._model.get_output_embeddings()(hidden).float()
        chances = logits[:, trie.edge_from, trie.edge_to] - logits.logsumexp(-1)[:, trie.edge_from]
        scores: list[list[float]] = (chances.double() @ trie.paths.double().to(where)).tolist()
        return scores


@dataclass(frozen=True, slots=True)
class LabelTrie:
    """All labels' tokens laid out in one row, shared beginnings once.

    Node 0 is the prompt's end and node i + 1 is `tokens[i]`. An edge is one prediction: made at node
    `edge_from`, of the token `edge_to`. `paths` says which edges make up a label, shaped (n_edges, n_labels).
    """

    tokens: list[int]
    depths: list[int]
    ancestors: torch.Tensor
    edge_from: list[int]
    edge_to: list[int]
    paths: torch.Tensor

    @classmethod
    def of(cls, labels: Sequence[Sequence[int]]) -> "LabelTrie":
        """Lay out encoded labels; each ends with its end of turn, which is predicted but never read."""
        beginnings = sorted({tuple(label[:end]) for label in labels for end in range(1, len(label))})
        node = {beginning: number for number, beginning in enumerate([(), *beginnings])}
        edges = sorted({tuple(label[: end + 1]) for label in labels for end in range(len(label))})
        return cls(
            tokens=[beginning[-1] for beginning in beginnings],
            depths=[len(beginning) - 1 for beginning in beginnings],
            ancestors=torch.tensor(
                [[later[: len(earlier)] == earlier for earlier in beginnings] for later in beginnings],
                dtype=torch.bool,
            ).reshape(len(beginnings), len(beginnings)),
            edge_from=[node[edge[:-1]] for edge in edges],
            edge_to=[edge[-1] for edge in edges],
            paths=torch.tensor(
                [[tuple(label[: len(edge)]) == edge for label in labels] for edge in edges], dtype=torch.bool
            ),
        )


def check_base(adapter: Path, base_sha256: str) -> None:
    """Compare what an adapter was trained on with the base model at hand.

    Raises:
        WrongBaseModel: they differ, or the adapter does not say.
        ForeignAdapter: its files are none that a training of ours writes.
    """
    try:
        trained_on = json.loads((adapter / "errata.json").read_bytes())["base_sha256"]
    except (FileNotFoundError, KeyError) as error:
        raise WrongBaseModel(f"{adapter} does not say which base model it belongs to") from error
    if trained_on != base_sha256:
        raise WrongBaseModel(f"{adapter} was trained on {trained_on}, not on {base_sha256}")
    _refuse_foreign(adapter)


def _refuse_foreign(adapter: Path) -> None:
    """Refuse what peft would take all the same: pickled weights, a class to import, whole layers, no numbers."""
    if others := {path.name for path in adapter.iterdir()} - ADAPTER_FILES:
        raise ForeignAdapter(f"{adapter} holds {', '.join(sorted(others))}")
    try:
        config = json.loads((adapter / "adapter_config.json").read_bytes())
        weights = load_file(adapter / "adapter_model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise ForeignAdapter(f"{adapter} cannot be read: {error}") from error
    set_by_others = [name for name in ("auto_mapping", "modules_to_save") if config.get(name)]
    if config.get("peft_type") != "LORA" or set_by_others:
        raise ForeignAdapter(f"{adapter}: {', '.join(set_by_others) or 'no LoRA'} in adapter_config.json")
    for name, tensor in weights.items():
        if ".lora_" not in name or not torch.isfinite(tensor).all():
            raise ForeignAdapter(f"{adapter}: {name} is no finite LoRA weight")


def _repeated(beginning: Cache | None, n: int) -> tuple[Cache | None, int]:
    """Return a copy of what was read, for so many rows, and its length in tokens."""
    if beginning is None:
        return None, 0
    cache = copy.deepcopy(beginning)
    cache.batch_repeat_interleave(n)
    return cache, cache.get_seq_length()


def _batches(prompts: Sequence[Sequence[int]], *, extra_tokens: int, most: int) -> Iterator[list[int]]:
    """Group rows of like length, longest first: a lack of memory shows at once; ties keep their order."""
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    while order:
        size = max(1, min(MAX_BATCH, most // (len(prompts[order[0]]) + extra_tokens)))
        yield order[:size]
        order = order[size:]


def _shared_beginning(prompts: Sequence[list[int]]) -> int:
    """Count the tokens that all prompts open with, never the last one: labels are read off it.

    A prompt by itself shares nothing: one pass over it is faster than two.
    """
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return min(len(list(same)), min(map(len, prompts)) - 1)


def _tree_mask(lengths: torch.Tensor, trie: LabelTrie, past: int, dtype: torch.dtype) -> torch.Tensor:
    """Let all see the past, prompt tokens earlier ones, and label tokens the prompt and their own beginning.

    Shaped (n_prompts, 1, width + n_nodes, past + width + n_nodes), 0 where seen.
    """
    width, nodes = int(lengths.max()), len(trie.tokens)
    seen = torch.zeros(len(lengths), width + nodes, width + nodes, dtype=torch.bool)
    seen[:, :width, :width] = torch.ones(width, width, dtype=torch.bool).tril()
    seen[:, width:, :width] = (torch.arange(width) < lengths)[:, None, :]
    seen[:, width:, width:] = trie.ancestors
    seen = torch.nn.functional.pad(seen, (past, 0), value=True)
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[:, None]
