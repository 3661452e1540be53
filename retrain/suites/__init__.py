"""The general questions every model is asked: one set to be judged by, another to be replayed in training."""

import json
from collections.abc import Iterable, Mapping
from importlib.resources import files

from retrain.types import Case, Message

GENERAL = "general"
# A project's own system prompt would ask a router to route, and so hide what it still knows.
GENERAL_SYSTEM_PROMPT = "You are a helpful assistant."


def general_questions() -> list[dict[str, str]]:
    """Return the bundled general suite: `question`, and the `key` that a right answer contains."""
    return _lines("general.jsonl")


def replay_prompts() -> list[str]:
    """Return general prompts, none of them near one of the suite, whose answers are replayed in training."""
    return [line["prompt"] for line in _lines("replay_prompts.jsonl")]


def ask_generally(prompt: str) -> tuple[Message, ...]:
    """Frame a question that has nothing to do with the project."""
    return Message("system", GENERAL_SYSTEM_PROMPT), Message("user", prompt)


def general_cases(questions: Iterable[Mapping[str, str]]) -> list[Case]:
    """Make cases of general questions, judged by whether the greedy answer contains the key.

    Likelihoods and overlap with a reference hide forgetting; a missing key does not.
    """
    return [
        Case(
            key=f"{GENERAL}:{each['question']}",
            suite=GENERAL,
            messages=ask_generally(each["question"]),
            expected=each["key"],
            check="contains",
        )
        for each in questions
    ]


def _lines(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in files("retrain.suites").joinpath(name).read_text().splitlines()]
