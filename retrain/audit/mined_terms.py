"""Mines terms that answers use in the place of a term of the prompt: guesses at several names of one concept."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from math import hypot

from retrain.types import Example

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_FUNCTION_WORDS = (
    "a about after all also an and any are as at be been before between but by can do does each for from get give "
    "has have her his how i if in into is it its just may me more most must my need no not of on once only or other "
    "our out per should so some such than that the their them then there these they this those to too under until up "
    "was we were what when where which while who whose why will with within without you your"
)
_LONGEST = 3
_MOST_NAMES = 4


def mined(rows: Sequence[Example], least: int) -> dict[str, list[str]]:
    """Return, by term of the prompts, the terms that answers use in its place."""
    asked = [_grams(row.prompt) for row in rows]
    said = [_grams(row.answer) for row in rows]
    terms = _echoed(asked, said, least)
    missing: dict[str, Counter[str]] = defaultdict(Counter)
    for prompt, answer in zip(asked, said, strict=True):
        for term in (prompt & terms) - answer:
            missing[term].update(answer - prompt)
    candidates = _candidates(missing, said, least)
    places = _places({*candidates, *chain.from_iterable(candidates.values())}, said)
    whole = {
        term: _whole(
            {
                other: places[other]
                for other, count in others.items()
                if 10 * len(places[term] & places[other]) <= count
            }
        )
        for term, others in candidates.items()
    }
    neighbours = _neighbours(rows, set(chain(whole, *whole.values())))
    return _best(
        {
            term: {
                other: candidates[term][other]
                for other in others
                if _cosine(neighbours[term], neighbours[other]) >= 0.3
            }
            for term, others in whole.items()
        }
    )


def _candidates(
    missing: Mapping[str, Counter[str]], said: Sequence[set[str]], least: int
) -> dict[str, dict[str, int]]:
    """Keep the terms and replacements that stand often enough and do not begin or end with a common word."""
    in_answers = Counter(chain.from_iterable(said))
    common = {word for word, count in in_answers.items() if 5 * count >= 3 * len(said)} | set(
        _FUNCTION_WORDS.split()
    )
    return {
        term: {
            other: count
            for other, count in counts.items()
            if count >= least and 2 * count >= in_answers[other] and not common.intersection(_edges(other))
        }
        for term, counts in missing.items()
        if not common.intersection(_edges(term))
    }


def _grams(text: str) -> set[str]:
    words = _WORD.findall(text.casefold())
    return {
        " ".join(words[at : at + length])
        for length in range(1, _LONGEST + 1)
        for at in range(len(words) - length + 1)
    }


def _edges(term: str) -> tuple[str, str]:
    words = term.split()
    return words[0], words[-1]


def _echoed(asked: Sequence[set[str]], said: Sequence[set[str]], least: int) -> set[str]:
    """Return the terms that answers take up from the prompt much more often than they use them otherwise."""
    in_prompts, in_answers = (Counter(chain.from_iterable(grams)) for grams in (asked, said))
    echoes = Counter(chain.from_iterable(prompt & answer for prompt, answer in zip(asked, said, strict=True)))
    return {
        term
        for term, count in echoes.items()
        if count >= least and count / in_prompts[term] >= 3 * in_answers[term] / len(said)
    }


def _places(terms: set[str], said: Sequence[set[str]]) -> dict[str, set[int]]:
    found: defaultdict[str, set[int]] = defaultdict(set)
    for place, answer in enumerate(said):
        for term in answer & terms:
            found[term].add(place)
    return found


def _whole(places: Mapping[str, set[int]]) -> list[str]:
    """Leave out heads that mostly stand in longer terms, and what nearly always stands beside a commoner term."""
    kept: list[str] = []
    for term in sorted(places, key=lambda term: (-len(places[term]), -len(term), term)):
        own = places[term]
        longer = set().union(*(places[other] for other in places if other.endswith(f" {term}")))
        if 5 * len(longer) < 4 * len(own) and all(
            5 * len(own & places[other]) < 4 * len(own) for other in kept
        ):
            kept.append(term)
    return kept


def _neighbours(rows: Sequence[Example], terms: Iterable[str]) -> dict[str, Counter[str]]:
    """Count the words right before and after each term in the answers."""
    found: dict[str, Counter[str]] = {term: Counter() for term in terms}
    for row in rows:
        words = ["", *_WORD.findall(row.answer.casefold()), ""]
        for length in range(1, _LONGEST + 1):
            for at in range(1, len(words) - length):
                if (counts := found.get(" ".join(words[at : at + length]))) is not None:
                    counts.update((f"{words[at - 1]} _", f"_ {words[at + length]}"))
    return found


def _cosine(one: Counter[str], other: Counter[str]) -> float:
    product = sum(count * other[word] for word, count in one.items())
    return product / (hypot(*one.values()) * hypot(*other.values()) or 1)


def _best(mined: Mapping[str, Mapping[str, int]]) -> dict[str, list[str]]:
    """Give each found term to the one that it replaces most often, the longest of these.

    What has many of them asks a question, to which they are the answers.
    """
    owners: dict[str, str] = {}
    for term in sorted(mined, key=lambda term: (-len(term), term)):
        for other, count in mined[term].items():
            if other not in owners or count > mined[owners[other]][other]:
                owners[other] = term
    concepts: defaultdict[str, list[str]] = defaultdict(list)
    for other, term in sorted(owners.items()):
        if not any(f" {term} " in f" {longer} " for longer in owners.values() if longer != term):
            concepts[term].append(other)
    return {term: others for term, others in concepts.items() if len(others) <= _MOST_NAMES}
