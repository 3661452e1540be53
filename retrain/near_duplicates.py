"""Finds texts that say the same in nearly the same words: for triage, for splits and for audits."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import ceil, log
from typing import TypeVar

from rensa import RMinHash, RMinHashLSH

from retrain.types import Message

K = TypeVar("K")
_MISSED, _MOST_BANDS = 0.0005, 60
_SEED = 20_251_123


class _Spaced(dict[int, int]):
    """Maps each character to itself, and punctuation to a space; filled as texts come by."""

    def __missing__(self, code: int) -> int:
        self[code] = ord(" ") if unicodedata.category(chr(code))[0] == "P" else code
        return self[code]


_SPACED = _Spaced()
# Most texts are ASCII, where one table folds case and spaces punctuation, ten times as fast.
_SPACED_ASCII = "".join(
    " " if chr(code).isspace() else chr(_SPACED[code]).lower() for code in range(128)
).encode() + bytes(128)


def clusters(texts: Sequence[str], *, threshold: float = 0.8) -> list[int]:
    """Return each text's cluster, named by the smallest index in it.

    Two texts share a cluster when they are equal after `normalise`, when their `similarity` is at least
    `threshold` (0 < threshold < 1; 1 is for equal texts alone), or when a chain of such pairs joins them.
    The partition does not depend on the order of the texts: the two texts alone decide whether a pair is looked
    at. MinHash proposes the pairs and misses fewer than 1 in 2,000 of those that lie at the threshold.
    """
    return clusters_of_normalised([normalise(text) for text in texts], threshold=threshold)


def clusters_of_normalised(texts: Sequence[str], *, threshold: float = 0.8) -> list[int]:
    """Return the `clusters` of texts that `normalise` has seen."""
    firsts: dict[str, int] = {}
    parents = [firsts.setdefault(text, index) for index, text in enumerate(texts)]
    distinct, indexes = list(firsts), list(firsts.values())
    for left, right in _candidates(distinct, threshold) if threshold < 1 else ():
        one, other = indexes[left], indexes[right]
        is_apart = root(parents, one) != root(parents, other)
        if is_apart and overlap(distinct[left], distinct[right]) >= threshold:
            join(parents, one, other)
    return [root(parents, index) for index in range(len(texts))]


def similarity(one: str, other: str) -> float:
    """Return the Jaccard index of the two texts' words and pairs of neighbouring words, after `normalise`.

    Single words let short texts match; pairs keep "dog bites man" apart from "man bites dog". Scripts that
    do not put spaces between words are compared whole.
    """
    return overlap(normalise(one), normalise(other))


def overlap(one: str, other: str) -> float:
    """Return the `similarity` of two texts that `normalise` has seen."""
    if one == other:
        return 1.0
    return _jaccard(set(_shingles(one)), set(_shingles(other)))


def rank(prompts: Mapping[K, str], prompt: str) -> list[tuple[K, float]]:
    """Return each key with the `similarity` of its prompt to one, the most similar first, equal ones as they came.

    An empty prompt is like nothing. This says what is alike, not what a model learned from.
    """
    asked = set(_shingles(normalise(prompt))) if prompt else set()
    scores = [
        (key, _jaccard(asked, set(_shingles(normalise(text)))) if text else 0.0)
        for key, text in prompts.items()
    ]
    return sorted(scores, key=lambda one: -one[1])


def nearest(prompts: Sequence[str], asked: Sequence[str | int]) -> list[float]:
    """Return the `similarity` of each text, or of each prompt named by its place, to the most similar other prompt."""
    known = [set(_shingles(normalise(text))) for text in prompts]

    def found(one: str | int) -> float:
        words = known[one] if isinstance(one, int) else set(_shingles(normalise(one)))
        return max((_jaccard(words, each) for each in known if each is not words), default=0.0)

    return [found(one) for one in asked]


def normalise(text: str) -> str:
    """Fold case and compatibility forms, turn punctuation into spaces and collapse them.

    A text of punctuation only keeps it: "?!" and "..." are not the same.
    """
    if text.isascii():
        spaced = text.encode().translate(_SPACED_ASCII).decode()
        while "  " in spaced:  # which takes a fifth of the time of words that are split and joined
            spaced = spaced.replace("  ", " ")
        return spaced.strip() or " ".join(text.split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.translate(_SPACED).split() or folded.split())


def text_of(messages: Sequence[Message]) -> str:
    """Return what is compared of a prompt: all turns but the system's, as "yes, please" needs its context."""
    return "\n".join(message.content for message in messages if message.role != "system")


def join(parents: list[int], one: int, other: int) -> None:
    """Put two indexes into one set; a set is named by its smallest index, and each starts as its own."""
    one, other = root(parents, one), root(parents, other)
    parents[max(one, other)] = min(one, other)


def root(parents: list[int], index: int) -> int:
    """Return the smallest index of this one's set, and halve the path to it on the way."""
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index


def _candidates(distinct: Sequence[str], threshold: float) -> Iterator[tuple[int, int]]:
    """Yield pairs that share a band of their MinHash sketches, each once.

    One pass over a matrix tells which texts share a band with any other; the few that do are then paired.
    """
    rows, bands = _rows_and_bands(threshold)
    permutations = rows * bands
    shingles = (_shingles(text) for text in distinct)
    matrix = RMinHash.digest_matrix_from_token_sets(shingles, permutations, _SEED)
    flags = RMinHashLSH(threshold, permutations, bands).query_duplicate_flags_matrix_one_shot(matrix)
    flagged = [index for index, flag in enumerate(flags) if flag]
    del matrix, flags
    shingles = (_shingles(distinct[index]) for index in flagged)
    index = RMinHashLSH(threshold, permutations, bands)
    for right, sketch in zip(flagged, RMinHash.from_token_sets(shingles, permutations, _SEED), strict=True):
        for left in sorted(index.query(sketch)):
            yield left, right
        index.insert(right, sketch)


def _rows_and_bands(threshold: float) -> tuple[int, int]:
    """Choose how a sketch is cut: the fewest bands that miss a pair at the threshold with a chance below `_MISSED`.

    Longer bands propose fewer pairs in vain; they are taken as long as not too many are needed.
    """
    for rows in (4, 3, 2):
        bands = ceil(log(_MISSED) / log(1 - threshold**rows))
        if bands <= _MOST_BANDS:
            break
    return rows, bands


def _jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / (len(one | other) or 1)


def _shingles(normalised: str) -> list[str]:
    words = normalised.split(" ")
    return words + [f"{one} {other}" for one, other in pairwise(words)]
