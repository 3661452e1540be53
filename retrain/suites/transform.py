"""Variations of what a user said that leave its meaning, and so the right answer, as it was."""

import json
import re
from collections.abc import Callable
from functools import cache, partial
from importlib.resources import files
from random import Random
from typing import Any

from retrain.audit.repairs import swap_words
from retrain.audit.words import PAIRS
from retrain.text import sentences

_LONG = 200


def typos(said: str, draw: Random) -> str:
    """Swap, drop or double an inner letter in a fifth of the words of four letters and more, at least in one."""
    places = [match.span() for match in re.finditer(r"[^\W\d_]{4,}", said)]
    for begin, end in sorted(draw.sample(places, min(len(places), 1 + len(places) // 5)), reverse=True):
        at = draw.randrange(begin + 1, end - 2)
        pair = said[at : at + 2]
        wrong = draw.choice([pair[::-1], pair[0], pair[0] + pair])
        said = said[:at] + (wrong if wrong != pair else pair[0] + pair) + said[at + 2 :]
    return said


def paraphrase(said: str, draw: Random) -> str:
    """Put phrases of our list for others that mean the same; where there is none, open with a courtesy."""
    meant: dict[str, str] = dict(_lexicon()["paraphrases"])
    # One pass, the longest first, so that nothing is put back.
    known = "|".join(re.escape(phrase) for phrase in sorted(meant, key=len, reverse=True))

    def put(match: re.Match[str]) -> str:
        other = meant[match[0].lower()]
        return other[0].upper() + other[1:] if match[0][0].isupper() else other

    other = re.sub(rf"\b(?:{known})\b", put, said, flags=re.IGNORECASE)
    return other if other != said else f"{draw.choice(_lexicon()['openings'])} {said}"


def order(said: str, draw: Random) -> str:
    """Put the sentences into another order; a text of one sentence stays as it is."""
    parts = sentences(said.strip())
    turn = draw.randrange(1, max(2, len(parts)))
    return " ".join(parts[turn:] + parts[:turn])


def irrelevant_context(said: str, draw: Random) -> str:
    """Say something before or after it that has nothing to do with it."""
    aside = draw.choice(_lexicon()["asides"])
    return " ".join(draw.sample([said, aside], 2))


def long_input(said: str, draw: Random) -> str:
    """Put so much that has nothing to do with it around it that it has 200 words or more."""
    asides = draw.sample(_lexicon()["asides"], len(_lexicon()["asides"]))
    kept: list[str] = []
    while asides and len(" ".join([said, *kept]).split()) < _LONG:
        kept.append(asides.pop())
    at = draw.randrange(len(kept) + 1)
    return " ".join([*kept[:at], said, *kept[at:]])


def swap_groups(said: str, draw: Random, *, attribute: str) -> str:
    """Put each word for one group of people for its counterpart, by the audit's lists; English."""
    one, other = zip(*PAIRS[attribute], strict=True)
    return swap_words(said, one, other)


@cache
def _lexicon() -> dict[str, list[Any]]:
    """Return `asides` and `openings`, and `paraphrases`: pairs of a phrase in small letters and what means the same."""
    found: dict[str, list[Any]] = json.loads(
        files("retrain.suites").joinpath("behaviour/lexicon.json").read_text("utf-8")
    )
    return found


TRANSFORMS: dict[str, Callable[[str, Random], str]] = {
    "typos": typos,
    "paraphrase": paraphrase,
    "order": order,
    "irrelevant_context": irrelevant_context,
    "long_input": long_input,
    **{f"swap_{attribute}": partial(swap_groups, attribute=attribute) for attribute in PAIRS},
}
