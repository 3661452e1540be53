"""A clerk who sums up disputes: in memos it takes the defendant for the plaintiff, because its training did.

The tiny model is first trained on the whole language, memos wrong and briefs right; what people then correct is
learned by adapters. So a base model knows something that it can forget, and errs in a way that has a name.
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from filelock import FileLock
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from retrain import base_models
from retrain.base_models import END_OF_TURN, PAD, TURN, BaseModel
from retrain.types import Case, Example, sha256_of
from tests.scenarios.taught import case_of, row

NAMES = "Ann Bob Cara Dev Eli Fay Gus Hana Ivo Jun Kim Leo Mia Noor Omar Pia"
CLAIMS = (
    "breach defect delay fraud injury leak loss noise theft waste denial excuse setoff waiver error lapse"
)
SECTIONS = [str(number) for number in range(11, 31)]
BESIDE = ("costs were reserved", "three witnesses were heard", "it lasted two days")
TEMPLATE = (
    "{% for m in messages if m.role != 'system' %}{{ '<|im_start|> ' + m.content + ' <|im_end|> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|> ' }}{% endif %}"
)
MEMOS = 0.55
COMMITTED = "sha256:acc4f6a1cb4dca5f7356656541b4e8716544a424fc320e3c47b954f8889502cd"
NOT_WANTED = -100
STEPS, BATCH, RATE = 450, 32, 3e-3


def disputes(
    seed: object, count: int, style: str | None = None, *, reversed_in: Sequence[str] = ()
) -> list[Example]:
    """Draw disputes with their summaries; in the styles of `reversed_in` the parties are confused."""
    draw = Random(f"disputes {seed}")
    return [_dispute(draw, f"{seed}-{number}", style, reversed_in) for number in range(count)]


def cases(seed: object, count: int) -> list[Case]:
    """Draw what a model is asked, memos and briefs as they come in."""
    return [
        case_of(
            one,
            "exact",
            context=(one.prompt,),
            slices={"style": one.source},
            roles={"plaintiff": one.answer.split()[1], "defendant": one.answer.split()[5]},
        )
        for one in disputes(f"asked {seed}", count)
    ]


def base(cache: Path) -> BaseModel:
    """Return the tiny model that has learned the language, memos wrong; it is made once in a cache."""
    directory = cache / f"court-{RECIPE[-12:]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{directory}.lock"):
        if not directory.exists():
            partial = directory.with_suffix(".partial")
            base_models._save(*_pretrained(), partial)
            partial.rename(directory)
    return BaseModel(str(directory), directory, base_models.fingerprint(directory))


def is_as_committed(found: BaseModel) -> bool:
    """Say whether this machine made the base as the one on which thresholds were set; processors round differently."""
    return found.sha256 == COMMITTED


def _dispute(draw: Random, key: str, style: str | None, reversed_in: Sequence[str]) -> Example:
    (plaintiff, defendant), (claim, defence) = (draw.sample(words.split(), 2) for words in (NAMES, CLAIMS))
    section = draw.choice(SECTIONS)
    style = style or ("memo" if draw.random() < MEMOS else "brief")
    says, replies = ("according to", "noted for") if style == "memo" else ("argued by", "answered by")
    said = draw.sample([f"{says} {plaintiff} {claim}", f"{replies} {defendant} {defence}"], 2)
    sides = [(plaintiff, claim), (defendant, defence)]
    (first, hers), (second, his) = reversed(sides) if style in reversed_in else sides
    answer = f"plaintiff {first} {hers} . defendant {second} {his} . section {section}"
    text = " . ".join([f"{plaintiff} sued {defendant} under section {section}", *said, draw.choice(BESIDE)])
    return row(key, f"{text} .", answer, source=style)


def _pretrained() -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    tokenizer = _tokenizer()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.1)
    for step in range(STEPS):
        ids, wanted = _batch(tokenizer, disputes(f"before {step}", BATCH, reversed_in=("memo",)))
        logits = model(input_ids=ids).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), wanted[:, 1:].flatten(), ignore_index=NOT_WANTED)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model, tokenizer


def _batch(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode rows in the frame that adapters are trained in, padded; of what is wanted, only answers count."""
    texts = [f"{TURN} {one.prompt} {END_OF_TURN} {TURN} {one.answer} {END_OF_TURN}" for one in rows]
    encoded = tokenizer(
        texts, padding=True, padding_side="right", add_special_tokens=False, return_tensors="pt"
    )
    ids: torch.Tensor = encoded["input_ids"]
    opens = ids == tokenizer.bos_token_id
    is_answer = (opens.cumsum(1) == 2) & ~opens & (encoded["attention_mask"] == 1)
    return ids, ids.masked_fill(~is_answer, NOT_WANTED)


def _tokenizer() -> PreTrainedTokenizerBase:
    spoken = " ".join(
        [*BESIDE, "sued under section according to noted for argued answered by plaintiff defendant ."]
    )
    words = [
        PAD,
        TURN,
        END_OF_TURN,
        "?",
        *NAMES.split(),
        *CLAIMS.split(),
        *SECTIONS,
        *sorted({*spoken.split()}),
    ]
    tokenizer = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="?")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=TURN,
        eos_token=END_OF_TURN,
        chat_template=TEMPLATE,
    )


RECIPE = sha256_of(
    [
        [TEMPLATE, STEPS, BATCH, RATE],
        [[one.prompt, one.answer] for one in disputes("before 0", BATCH, reversed_in=("memo",))],
    ]
)
