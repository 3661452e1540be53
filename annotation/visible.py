"""Shows what hides in a text, on pages, in tools and in terminals."""

import json
import unicodedata
from typing import Any

KEPT = frozenset("\n\t")
SELECTORS = frozenset(map(chr, range(0xFE00, 0xFE10)))  # say how the letter before looks
JOINERS = frozenset("\u200c\u200d") | SELECTORS
# Letters and marks by their category, which show nothing; in the last range whole texts can hide.
BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0") | frozenset(
    map(chr, range(0xE0100, 0xE01F0))
)


CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}


def written(document: Any) -> str:
    """Return a document as JSON that a terminal can show: some take more than JSON escapes by itself for commands."""
    return json.dumps(document, ensure_ascii=False, default=str).translate(CONTROLS)


def visible(text: str) -> str:
    """Return a text in which characters that hide, or turn the direction of others, are told by their number.

    Joiners and selectors stay beside letters that are not ASCII: some scripts and emoji are written with them.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(text, place, letter) for place, letter in enumerate(text))


def places(text: str) -> list[int]:
    """Return, for each character of `visible(text)`, where in the text it comes from."""
    return [place for place, letter in enumerate(text) for _ in range(len(_shown(text, place, letter)))]


def _shown(text: str, place: int, letter: str) -> str:
    if letter in JOINERS:
        before, after = text[max(0, place - 1) : place], text[place + 1 : place + 2]
        is_run = letter in SELECTORS and before in SELECTORS
        if not is_run and not (before + after).replace(letter, "").isascii():
            return letter
    elif letter in KEPT or (
        letter not in BLANK and unicodedata.category(letter) not in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
    ):
        return letter
    return f"⟦U+{ord(letter):04X}⟧"
