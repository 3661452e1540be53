"""The one frame around a conversation that training, evaluation and answering share."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from retrain.types import Message

MARK = "the answer stands here"


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], system_prompt: str
) -> list[int]:
    """Encode a conversation up to where the model's answer begins.

    A conversation that opens with a system turn keeps its own; `system_prompt` opens any other.
    """
    text = tokenizer.apply_chat_template(
        _turns(tokenizer, messages, system_prompt), add_generation_prompt=True, tokenize=False
    )
    return _encode(tokenizer, str(text))


def encode_example(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], answer: str, system_prompt: str
) -> tuple[list[int], int]:
    """Encode a prompt with its answer; return the ids and where the answer starts.

    The prompt's ids are exactly those of `encode_prompt`, and the last id is `end_of_turn`.
    """
    prompt = encode_prompt(tokenizer, messages, system_prompt)
    return prompt + encode_answer(tokenizer, answer), len(prompt)


def encode_answer(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """Encode an answer by itself, up to and with the end of its turn."""
    return [*_encode(tokenizer, _without_marks(tokenizer, answer)), end_of_turn(tokenizer)]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that the chat template puts after an answer; a tokenizer's `eos` need not be it."""
    turns = [{"role": "user", "content": ""}, {"role": "assistant", "content": MARK}]
    tail = str(tokenizer.apply_chat_template(turns, tokenize=False)).rpartition(MARK)[2]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return next(
        (token for token in _encode(tokenizer, tail) if token in special), int(tokenizer.eos_token_id)
    )


def _turns(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], system_prompt: str
) -> list[dict[str, str]]:
    opening = [] if messages[0].role == "system" else [Message("system", system_prompt)]
    return [
        {"role": message.role, "content": _without_marks(tokenizer, message.content)}
        for message in [*opening, *messages]
    ]


def _without_marks(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Blank out the tokens that mark turns, or a text could end its own turn and speak for somebody else."""
    for token in tokenizer.added_tokens_decoder.values():
        if token.special:
            text = text.replace(token.content, " ")
    return text


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids
