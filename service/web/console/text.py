"""How texts are shown: nothing in them hides or acts, and two of them side by side show where they differ."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from difflib import SequenceMatcher
from typing import Any

from markupsafe import Markup, escape

from annotation.visible import visible
from service.clock import utcnow

MAX_WORDS = 2000
MAX_LINE = 160
HASH = re.compile(r"(sha256:[0-9a-f]{8})[0-9a-f]{56}")
UNITS = ((86_400 * 2, 86_400, "days"), (3600 * 2, 3600, "h"), (120, 60, "min"), (0, 1, "s"))


def finalize(value: Any) -> Any:
    """Show every value of every template in that way; what was made for a page, as `Markup`, stays as it is."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return "\u2013" if value is None else value


def line(value: Any) -> Any:
    """Return a text's beginning on one line, hashes by theirs, for a list; other values stay as they are."""
    if not isinstance(value, str):
        return value
    whole = HASH.sub(r"\1…", " ".join(value.split()))
    return whole if len(whole) <= MAX_LINE else f"{whole[:MAX_LINE]}…"


def exact(text: str) -> Markup:
    """Return a text for a form's field, where it must stay what it is."""
    return escape(text)


def moment(at: datetime | None) -> Markup:
    """Return a time as people count it, with the clock's on hover."""
    if at is None:
        return Markup("\u2013")
    seconds = (utcnow() - at).total_seconds()
    told = f"in {age(-seconds)}" if seconds < 0 else f"{age(seconds)} ago"
    clock = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(at.isoformat(), clock, told)


def age(seconds: float) -> str:
    """Return a duration in its natural unit."""
    return next(f"{seconds / size:.0f} {name}" for least, size, name in UNITS if seconds >= least)


def word_diff(old: str, new: str) -> list[tuple[str, str]]:
    """Return `new` against `old` as pieces `(same|removed|added, text)`, word by word; a very long text is cut."""
    before, after = _words(old), _words(new)
    cut = [("same", " […]")] if len(before) == MAX_WORDS or len(after) == MAX_WORDS else []
    return [*_pieces(before, after), *cut]


def _pieces(before: list[str], after: list[str]) -> Iterator[tuple[str, str]]:
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            yield "same", "".join(before[a:b])
            continue
        if a < b:
            yield "removed", "".join(before[a:b])
        if c < d:
            yield "added", "".join(after[c:d])


def _words(text: str) -> list[str]:
    return re.findall(r"\s+|\w+|[^\w\s]", text)[:MAX_WORDS]
