"""Finds answers that are damaged or were never answers: what a model would learn to write likewise.

Catches: HTML, wiki and template debris; answers that stop in mid-sentence where their source's others do not;
empty and nearly empty answers; placeholder text; broken encodings; answers in a language other than the row's,
or, where it names none, than most rows'.
Misses: Markdown, which may be meant; damage inside numbers and names; wrong languages in short answers or near
relatives, and a source most of whose answers are cut off. Mark-up that answers ought to hold is reported too.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from retrain.amounts import how_many
from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Check, Finding, Repair, RepairKind, drop
from retrain.audit.rows import grouped, prose
from retrain.language import guess, letters_in
from retrain.types import Example

CHECK = Check("noise", version=1)
_TAG = re.compile(
    r"</?(?:a|abbr|b|blockquote|body|br|code|div|em|font|h[1-6]|hr|i|img|li|ol|p|pre|script|small|span|strong|style"
    r"|sub|sup|table|tbody|td|th|tr|u|ul)\b[^<>]*>|<!--.*?-->",
    re.IGNORECASE | re.DOTALL,
)
_BARE_TAG = re.compile(r"</?[a-z][a-z0-9]*\s*/?>", re.IGNORECASE)
_DEBRIS = re.compile(
    r"&(?:nbsp|amp|lt|gt|quot|apos|#\d{2,5});|\[\[[^\[\]]+\]\]|\{\{(?![A-Z_\d]+\}\})[^{}]*\}\}|'''"
    r"|(?m:^=={1,4}[^=\n]+==)|\[edit\]|<ref|!?\[[^\]\n]*\]\(\s*\)|\[citation needed\]"
)
_PLACEHOLDER = re.compile(
    r"\b(?:TODO|TBD|FIXME|XXX+|(?i:lorem ipsum|dolor sit amet|placeholder text|(?:answer|text) goes here))\b"
    r"|(?i:[\[<](?:your|insert|enter|add) [^\]>\n]{1,40}[\]>])"
)
_NOTHING = re.compile(
    r"\W*(?:n/?a|none|null|nan|nil|undefined|test|todo|tbd|-+|see above|no answer|same)?\W*", re.IGNORECASE
)
_MOJIBAKE = re.compile(
    "\ufffd|Ã[\u0080-\u00bf\u0152-\u0178\u2013-\u2122]|Â[\u00a0-\u00bf]|â[\u0080-\u009f€][\u0080-\u00bf™œžŸ\u0152-\u203a\u02dc]"
    "|ï¿½|[ÐÑ][\u0080-\u00bf].?[ÐÑ]|[\u0080-\u009f]"
)
_END = re.compile(r"""[.!?…:。\uff01\uff1f।\u061f][)\]"'\u201d\u2019»*_`]*\s*$|[)\]"\u201d»|`>]\s*$""")
_ITEM = re.compile(r"(?:^|\s)(?:[-*•·\u2013|]|\d+[.)])\s[^.!?]*$")
_LANGUAGE_CHARS = 240


def find(
    examples: Sequence[Example],
    context: Context = NOTHING,
    *,
    usual: float = 0.8,
    least_letters: int = 60,
    confidence: float = 0.95,
) -> list[Finding]:
    """Return one finding per kind of damage.

    `usual` is the share of a source's answers that end as sentences do, from which the others count as cut off;
    a language counts from `least_letters` letters and the identifier's `confidence` on.
    """
    rows = prose(examples)
    empty = [row for row in rows if _NOTHING.fullmatch(row.answer)]
    rest = [row for row in rows if not _NOTHING.fullmatch(row.answer)]
    found = {
        "are empty or next to it": empty,
        "hold mark-up": _matching(
            rest, lambda text: ("<" in text and _TAG.search(text)) or _DEBRIS.search(text)
        ),
        "hold placeholder text": _matching(rest, _PLACEHOLDER.search),
        "have a broken encoding": _matching(rest, lambda text: not text.isascii() and _MOJIBAKE.search(text)),
        "stop in mid-sentence": _cut_off(rest, usual),
        "are in another language than expected": _foreign(rest, least_letters, confidence),
    }
    return [
        _finding(
            how_many(len(members), "answer", what), members, _tags(members) if what == "hold mark-up" else ()
        )
        for what, members in found.items()
        if members
    ]


def _matching(rows: Sequence[Example], is_noisy: Callable[[str], object]) -> list[Example]:
    return [row for row in rows if is_noisy(row.answer)]


def _cut_off(rows: Sequence[Example], usual: float, *, least: int = 10, sign_off: int = 3) -> list[Example]:
    """Return the rows without an end; a list needs none, nor does a signature, which ends several answers."""
    endings = Counter(_last_words(row.answer) for row in rows)
    return [
        row
        for members in grouped((row.source for row in rows), rows).values()
        if len(members) >= least
        for open_ones in [[row for row in members if not _is_ended(row.answer)]]
        if len(open_ones) <= (1 - usual) * len(members)
        for row in open_ones
        if endings[_last_words(row.answer)] < sign_off
    ]


def _is_ended(answer: str) -> bool:
    tail = answer[-300:]
    return bool(_END.search(tail) or _ITEM.search(tail))


def _last_words(text: str) -> str:
    return " ".join(text[-60:].split()[-2:])


def _foreign(rows: Sequence[Example], least_letters: int, confidence: float) -> list[Example]:
    long_enough = [row for row in rows if letters_in(row.answer[:_LANGUAGE_CHARS]) >= least_letters]
    guesses = {row.key: guess(row.answer[:_LANGUAGE_CHARS]) for row in long_enough}
    usual = Counter(language for language, _ in guesses.values()).most_common(1)
    return [
        row
        for row in long_enough
        for language, probability in [guesses[row.key]]
        if probability >= confidence and language != (row.language or usual[0][0]).split("-")[0].lower()
    ]


def _tags(rows: Iterable[Example]) -> tuple[Repair, ...]:
    """Propose to take tags out of the rows that hold nothing worse; one with attributes may quote its row."""
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        tags = {match[0] for match in _TAG.finditer(row.answer)}
        if all(map(_BARE_TAG.fullmatch, tags)) and not _DEBRIS.search(row.answer):
            for tag in tags:
                keys[tag.lower()].append(row.key)
    return tuple(
        Repair(RepairKind.REPLACE, tuple(sorted(set(members))), find=tag)
        for tag, members in sorted(keys.items())
    )


def _finding(evidence: str, rows: Sequence[Example], mended: tuple[Repair, ...]) -> Finding:
    keys = {row.key for row in rows}
    others = keys.difference(*(repair.keys for repair in mended))
    repair = "Correct the answers where they come from and settle them again, or leave the rows out."
    return CHECK.found(keys, evidence, repair, *mended, *([drop(others)] if others else []))
