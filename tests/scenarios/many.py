"""Many rows of some 500 bytes, of which one in ten repeats another and one in twenty nearly does."""

import random

from retrain.types import Example, Kind, Message, Split
from tests.scenarios import clean

WORDS, EXACT, NEAR = 4000, 0.1, 0.05


def many_rows(count: int, *, seed: int = 0, kind: Kind = Kind.GENERATION) -> list[Example]:
    """Draw rows; equal seeds give equal rows. A label follows from how a question begins, mostly."""
    chance = random.Random(seed)
    words = [
        "".join(chance.choices("abcdefghijklmnoprstuvwy", k=chance.randrange(3, 10))) for _ in range(WORDS)
    ]
    rows: list[Example] = []
    is_labelled = kind is Kind.CLASSIFICATION
    for number in range(count):
        draw = chance.random() if rows else 1.0
        if draw < EXACT + NEAR:
            twin = rows[chance.randrange(len(rows))]
            asked = twin.prompt if draw < EXACT else f"{twin.prompt} {chance.choice(words)}"
            said = chance.choice(clean.LABELS) if is_labelled and draw < NEAR else twin.answer
        else:
            asked = " ".join(chance.choices(words, k=14)) + "?"
            answer = " ".join(_sentence(chance, words) for _ in range(5))
            said = clean.LABELS[len(asked.split()[0]) % len(clean.LABELS)] if is_labelled else answer
        rows.append(
            Example(
                key=f"row-{seed}-{number:07}",
                group=f"group-{seed}-{number:07}",
                messages=(Message("user", asked),),
                answer=said,
                kind=kind,
                label=said if is_labelled else None,
                split=chance.choices(list(Split), (80, 8, 4, 8))[0],
                source=chance.choice(clean.SOURCES),
                language="en",
                written=clean.DAY,
            )
        )
    return rows


def _sentence(chance: random.Random, words: list[str]) -> str:
    return " ".join(chance.choices(words, k=12)).capitalize() + "."
