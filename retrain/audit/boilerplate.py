"""Finds passages that many answers share whatever was asked, which the model would learn to append everywhere.

Catches: greetings, footers and disclaimers that stand word for word, but for their numbers, in many answers
beside other text; templates of eight or more fixed words with gaps around them.
Misses: passages in fewer rows than the floor, reworded ones, and those that go with one kind of question, as
these may be its answer. An answer that is nothing but the passage is left alone.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Check, Finding, Repair, RepairKind
from retrain.audit.rows import prose
from retrain.types import Example

CHECK = Check("boilerplate", version=1)
_GREETING = re.compile(r"\s*(?:[^\W\d]+\s+){1,6}[^\W\d]+,(?=\s)")
_BREAK = re.compile(r"(?<=[.!?])\s+|\s*\n\s*")
_NUMBER = re.compile(r"\d+")
_FIXED_WORDS = 8
_SAMPLED = 20_000
_LITERAL_ROWS = 5


def find(
    examples: Sequence[Example],
    context: Context = NOTHING,
    *,
    floor: int = 10,
    share: float = 0.01,
    template_share: float = 0.04,
) -> list[Finding]:
    """Return one finding per passage that stands in `floor` rows and in this share of all.

    A template needs a larger share, as answers on one matter share more words than sentences.
    """
    rows = prose(examples)
    passages = {row.key: _passages(row.answer) for row in rows}
    shared = _shared_passages(passages, max(floor, share * len(rows)))
    templates = _templates(passages, shared, max(floor, template_share * len(rows)))
    asked = {row.key: set(row.prompt.casefold().split()) for row in rows}
    counts = Counter(chain.from_iterable(asked.values()))
    return [
        CHECK.found(
            members,
            f"{len(members)} answers share the passage {name!r}",
            "Take the passage out of these answers; what every response must say belongs into the program.",
            *_replacements(name, members, passages),
        )
        for name, members in sorted((shared | templates).items())
        if not _is_foretold(members, asked, counts)
    ]


def _passages(answer: str) -> list[str]:
    """Split an answer into sentences and lines, and its opening words from the sentence after them."""
    opening = _GREETING.match(answer)
    cut = opening.end() if opening else 0
    parts = [answer[:cut], *_BREAK.split(answer[cut:])]
    return [part.strip() for part in parts if " " in part.strip()]


def _masked(passage: str) -> str:
    return _NUMBER.sub("0", passage.casefold())


def _shared_passages(passages: Mapping[str, Sequence[str]], least: float) -> dict[str, list[str]]:
    """Return the keys of the rows of each passage that enough rows hold beside something else."""
    members: defaultdict[str, list[str]] = defaultdict(list)
    for key, parts in passages.items():
        if len(parts) > 1:
            for part in sorted(set(map(_masked, parts))):
                members[part].append(key)
    return {part: keys for part, keys in members.items() if len(keys) >= least}


def _templates(
    passages: Mapping[str, Sequence[str]], shared: Mapping[str, object], least: float
) -> dict[str, list[str]]:
    """Return the keys of the rows of each run of fixed words; a sample says which runs to look for."""
    step = max(1, len(passages) // _SAMPLED)
    sampled = [
        [_masked(part).split() for part in passages[key] if _masked(part) not in shared]
        for key in list(passages)[::step]
    ]
    counts = Counter(run for parts in sampled for run in {run for words in parts for run in _runs(words)})
    first = (
        next((run for run in _runs(words) if counts[run] >= least / step), "")
        for parts in sampled
        for words in parts
    )
    common = [run for run, count in sorted(Counter(first).items()) if run and count >= least / step]
    members: defaultdict[str, list[str]] = defaultdict(list)
    for key, parts in passages.items() if common else ():
        text = " ".join(_masked(" ".join(parts)).split())
        for run in common:
            if run in text:
                members[run].append(key)
    return {run: keys for run, keys in members.items() if len(keys) >= least}


def _runs(words: Sequence[str]) -> Iterator[str]:
    return (" ".join(words[at : at + _FIXED_WORDS]) for at in range(len(words) - _FIXED_WORDS + 1))


def _is_foretold(members: Sequence[str], asked: Mapping[str, set[str]], counts: Counter[str]) -> bool:
    """Tell whether most of these prompts share a word that is rarer by far elsewhere: one kind of question."""
    inside = Counter(chain.from_iterable(asked[key] for key in members))
    return any(
        count >= 0.5 * len(members) and count / len(members) >= 3 * counts[word] / len(asked)
        for word, count in inside.items()
    )


def _replacements(
    name: str, members: Iterable[str], passages: Mapping[str, Sequence[str]]
) -> tuple[Repair, ...]:
    """Propose to remove each spelling that several rows share; one of a single row would quote that row."""
    spellings: defaultdict[str, list[str]] = defaultdict(list)
    for key in members:
        for part in {part for part in passages[key] if _masked(part) == name}:
            spellings[part].append(key)
    return tuple(
        Repair(RepairKind.REPLACE, tuple(keys), find=part)
        for part, keys in sorted(spellings.items())
        if len(keys) >= _LITERAL_ROWS
    )
