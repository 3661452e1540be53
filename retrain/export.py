"""Turns a set's examples into the rows that other trainers read."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from retrain.choosing import has_placeholder
from retrain.errors import RetrainError
from retrain.near_duplicates import text_of
from retrain.types import Example, Form, Kind, Message, Split, canonical_json, content_hash

Row = dict[str, Any]
TRAINING_SPLITS = (Split.TRAIN, Split.VALIDATION)


class NothingToExport(RetrainError):
    """The set has no row that this format can hold; take another format or other splits."""


class MixedSplits(RetrainError):
    """Rows that models are judged by would stand among those they learn from; export them to a file of their own."""


class BrokenEntities(RetrainError):
    """An extraction answer is no JSON array of objects; correct the settlement that the message names."""


class Format(StrEnum):
    """What a file is for: a TRL trainer, a classifier, OpenAI's fine-tuning, or `datasets`."""

    SFT = "sft"
    PREFERENCE = "preference"
    KTO = "kto"
    CLASSIFICATION = "classification"
    OPENAI = "openai"
    OPENAI_PREFERENCE = "openai-preference"
    PARQUET = "parquet"


class LeftOut(StrEnum):
    """Why an example is not in a file."""

    SPLIT = "split"
    NO_WEIGHT = "no_weight"
    PLACEHOLDER = "placeholder"
    FORM = "form"


@dataclass(frozen=True, slots=True)
class Export:
    """A file's rows, made of `examples` examples, and how many were left out, by reason.

    `weights_lost` counts the examples in it whose weight is not 1 and that its format cannot weigh.
    """

    rows: tuple[Row, ...]
    examples: int
    left_out: Mapping[LeftOut, int]
    weights_lost: int


def export(
    examples: Iterable[Example],
    wanted: Format,
    *,
    system_prompt: str = "",
    splits: Sequence[Split] = TRAINING_SPLITS,
) -> Export:
    """Return the rows of a file, in the order of their examples' content hashes.

    A conversation that opens with a system turn keeps its own; `system_prompt` opens any other. Left out are
    examples of other splits, without weight, whose wanted answer holds a placeholder, or of another form than
    the format needs. Weights above zero are in `PARQUET` alone: no other format knows them.

    Raises:
        NothingToExport: no example is left.
        MixedSplits: the splits hold what models learn from and what they are judged by.
        BrokenEntities: an extraction answer cannot be read.
    """
    if set(splits) & set(TRAINING_SPLITS) and not set(splits) <= set(TRAINING_SPLITS):
        raise MixedSplits(f"one file cannot hold {' and '.join(splits)}")
    rows: list[Row] = []
    left_out: Counter[LeftOut] = Counter()
    taken = weights_lost = 0
    for example in sorted(examples, key=content_hash):
        reason = _reason(example, splits)
        made = [] if reason else FORMATS[wanted](_canonical(example), system_prompt)
        if made:
            rows += made
            taken += 1
            weights_lost += wanted is not Format.PARQUET and example.weight != 1
        else:
            left_out[reason or LeftOut.FORM] += 1
    if not rows:
        counts = ", ".join(f"{reason} {count}" for reason, count in left_out.items())
        raise NothingToExport(
            f"no example fits format {wanted} (left out: {counts or 'none, the set is empty'})"
        )
    return Export(tuple(rows), taken, dict(left_out), weights_lost)


def sft(example: Example, system_prompt: str) -> list[Row]:
    """Return a conversational prompt and completion, for TRL's `SFTTrainer`.

    Source: TRL's documentation, "Dataset formats and types", prompt-completion.
    """
    if not example.is_wanted:
        return []
    return [{"prompt": _prompt(example, system_prompt), "completion": _said(example.answer)}]


def preference(example: Example, system_prompt: str) -> list[Row]:
    """Return a better and a worse answer to one prompt, for TRL's `DPOTrainer`.

    Source: TRL's documentation, "Dataset formats and types", preference with explicit prompt.
    """
    if example.form is not Form.PREFERENCE:
        return []
    prompt, chosen, rejected = _pair(example, system_prompt)
    return [{"prompt": prompt, "chosen": chosen, "rejected": rejected}]


def kto(example: Example, system_prompt: str) -> list[Row]:
    """Return each answer by itself and whether it is wanted, for TRL's `KTOTrainer`; a preference yields two.

    Source: TRL's documentation, "Dataset formats and types", unpaired preference.
    """
    answers = [(example.answer, example.is_wanted)]
    if example.form is Form.PREFERENCE:
        answers.append((example.rejected or "", False))
    prompt = _prompt(example, system_prompt)
    return [
        {"prompt": prompt, "completion": _said(answer), "label": is_wanted} for answer, is_wanted in answers
    ]


def classification(example: Example, system_prompt: str) -> list[Row]:
    """Return a text and its label's name, for a classifier; all turns but the system's make the text."""
    if example.label is None or not example.is_wanted:
        return []
    return [{"text": text_of(example.messages), "label": example.label}]


def openai(example: Example, system_prompt: str) -> list[Row]:
    """Return a whole conversation, its last turn the answer.

    Source: OpenAI's guide "Supervised fine-tuning", data format.
    """
    if not example.is_wanted:
        return []
    return [{"messages": _prompt(example, system_prompt) + _said(example.answer)}]


def openai_preference(example: Example, system_prompt: str) -> list[Row]:
    """Return a better and a worse answer to one prompt.

    Source: OpenAI's guide "Direct preference optimization", data format.
    """
    if example.form is not Form.PREFERENCE:
        return []
    prompt, chosen, rejected = _pair(example, system_prompt)
    return [{"input": {"messages": prompt}, "preferred_output": chosen, "non_preferred_output": rejected}]


def content(example: Example, system_prompt: str) -> list[Row]:
    """Return what `retrain.parquet` writes: the whole content, whatever its form and without the project's prompt."""
    return [example.content]


FORMATS: dict[Format, Callable[[Example, str], list[Row]]] = {
    Format.SFT: sft,
    Format.PREFERENCE: preference,
    Format.KTO: kto,
    Format.CLASSIFICATION: classification,
    Format.OPENAI: openai,
    Format.OPENAI_PREFERENCE: openai_preference,
    Format.PARQUET: content,
}


def to_jsonl(rows: Iterable[Row]) -> bytes:
    """Return one canonical JSON document a line."""
    return b"".join(canonical_json(row) + b"\n" for row in rows)


def canonical_entities(text: str) -> str:
    """Return entities (a JSON array of objects) as canonical JSON: sorted, each once.

    Raises:
        BrokenEntities: the text is something else.
    """
    try:
        entities = json.loads(text)
        if not isinstance(entities, list) or not all(isinstance(entity, dict) for entity in entities):
            raise BrokenEntities(f"entities are a JSON array of objects, not {type(entities).__name__}")
        return f"[{','.join(sorted({canonical_json(entity).decode() for entity in entities}))}]"
    except (ValueError, RecursionError) as broken:
        raise BrokenEntities(f"entities are a JSON array of objects: {broken}") from broken


def _reason(example: Example, splits: Sequence[Split]) -> LeftOut | None:
    """Say why no format may hold the example; a label is the project's own word, whatever it looks like."""
    if example.split not in splits:
        return LeftOut.SPLIT
    if example.weight <= 0:
        return LeftOut.NO_WEIGHT
    if example.is_wanted and example.label is None and has_placeholder(example.answer):
        return LeftOut.PLACEHOLDER
    return None


def _canonical(example: Example) -> Example:
    if example.kind is not Kind.EXTRACTION or not example.is_wanted:
        return example
    try:
        return replace(example, answer=canonical_entities(example.answer))
    except BrokenEntities as broken:
        raise BrokenEntities(f"settlement {example.key}: {broken}") from broken


def _prompt(example: Example, system_prompt: str) -> list[Row]:
    is_opened = example.messages[0].role == "system" or not system_prompt
    opening = () if is_opened else (Message("system", system_prompt),)
    return [asdict(message) for message in (*opening, *example.messages)]


def _pair(example: Example, system_prompt: str) -> tuple[list[Row], list[Row], list[Row]]:
    """Return a prompt, the better and the worse answer to it."""
    return _prompt(example, system_prompt), _said(example.answer), _said(example.rejected or "")


def _said(answer: str) -> list[Row]:
    return [asdict(Message("assistant", answer))]
