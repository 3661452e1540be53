"""Finds what users ask lately and training hardly holds, by comparing prompts with logged ones.

Catches: prompts that differ as a whole beyond chance, and slices of production that few training rows resemble, named
by words that many of their prompts share; it proposes to ask experts about some responses of each.
Misses: slices below one per cent of production, shifts in meaning that keep the words, texts without spaces between
words, and training prompts that production lacks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Check, Finding, Repair, RepairKind, Severity
from retrain.audit.words import fitted
from retrain.near_duplicates import text_of
from retrain.types import Example, Split

CHECK = Check("representativeness", version=2)

Floats = NDArray[np.float64]
_PERMUTATIONS = 999
_WORDS_NAMED = 4


@dataclass(frozen=True, slots=True)
class _Slice:
    """A cluster of prompts: production's and training's by key, and the words that name it."""

    asked: tuple[str, ...]
    trained: tuple[str, ...]
    words: tuple[str, ...]


def find(
    examples: Sequence[Example],
    context: Context = NOTHING,
    *,
    alpha: float = 0.01,
    cover: float = 0.25,
    least: float = 0.01,
    floor: int = 50,
    sample: int = 3000,
    sent: int = 20,
    seed: int = 0,
) -> list[Finding]:
    """Return at most one finding: that production differs from training, and where.

    Both sides need `floor` prompts; of more than `sample`, every nth is taken. A slice is under-covered when it holds
    `least` of production's prompts but, beyond chance at `alpha` after Bonferroni, less than `cover` times that share
    of training's. A difference without such a slice only informs. Of a slice, up to `sent` responses are proposed.
    """
    rows = ((text_of(row.messages), row.key) for row in examples if row.split is Split.TRAIN)
    trained = _thinned(rows, sample)
    asked = _thinned(((text, key) for key, text in context.prompts.items()), sample)
    if min(len(trained), len(asked)) < floor:
        return []
    is_asked = np.repeat([False, True], [len(trained), len(asked)])
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, max_df=0.5, token_pattern=r"[^\W\d_]{3,}")
    weights = fitted(vectorizer, [text for text, _ in (*trained, *asked)])
    if weights is None or weights.shape[1] < 2:
        return []
    words = np.array(vectorizer.get_feature_names_out(), dtype=np.str_)
    latent = TruncatedSVD(min(50, weights.shape[1] - 1), random_state=seed).fit_transform(weights)
    points, uses = normalize(latent), weights > 0
    distance, p = _distance(points, is_asked, seed)
    if p >= alpha:
        return []
    keys = [key for _, key in (*trained, *asked)]
    sizes = len(trained), len(asked)
    slices = _slices(points, is_asked, keys, uses, words, seed=seed)
    wanting = _wanting(slices, sizes, cover=cover, least=least)
    return [_finding(distance, p, _rare(wanting, sizes, alpha), sizes, sent)]


def _wanting(slices: Sequence[_Slice], sizes: tuple[int, int], *, cover: float, least: float) -> list[_Slice]:
    """Return the slices of some weight in production that hold less than `cover` times its share of training."""
    trained, asked = sizes
    return [
        part
        for part in slices
        if len(part.asked) >= max(5, least * asked)
        and len(part.trained) / trained < cover * len(part.asked) / asked
    ]


def _rare(slices: Sequence[_Slice], sizes: tuple[int, int], alpha: float) -> list[_Slice]:
    """Return the slices that are short beyond chance after Bonferroni, those most asked for first."""
    rare = (part for part in slices if _p(part, *sizes) * len(slices) < alpha)
    return sorted(rare, key=lambda part: (-len(part.asked), part.words))


def _thinned(prompts: Iterable[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    """Take every nth of the texts and keys in their order, so that the order they came in does not matter."""
    ordered = sorted(prompts)
    chosen = np.linspace(0, len(ordered) - 1, min(len(ordered), most)).astype(int)
    return [ordered[place] for place in chosen]


def _distance(points: Floats, is_asked: NDArray[np.bool_], seed: int) -> tuple[float, float]:
    """Return the distance of the two sides' means, and how often shuffled sides are as far apart.

    Source: Gretton et al. (2012), "A Kernel Two-Sample Test", JMLR 13, with a linear kernel.
    """
    rng = np.random.default_rng(seed)
    shuffled = np.array(
        [is_asked, *(rng.permutation(is_asked) for _ in range(_PERMUTATIONS))], dtype=np.float64
    )
    asked = is_asked.sum()
    inside = shuffled @ points
    gaps = np.linalg.norm(inside / asked - (points.sum(axis=0) - inside) / (len(points) - asked), axis=1)
    return float(gaps[0]), float(np.mean(gaps >= gaps[0] - 1e-12))


def _slices(
    points: Floats,
    is_asked: NDArray[np.bool_],
    keys: Sequence[str],
    uses: NDArray[np.bool_],
    words: NDArray[np.str_],
    *,
    seed: int,
) -> list[_Slice]:
    count = min(80, len(points) // 30)
    member = KMeans(count, n_init=1, random_state=seed).fit_predict(points)
    overall = np.asarray(uses.mean(axis=0)).ravel()
    slices = []
    for number in range(count):
        is_asked_here = is_asked & (member == number)
        shares = np.asarray(uses[is_asked_here].mean(axis=0)).ravel() if is_asked_here.any() else 0 * overall
        telling = np.argsort(overall - shares, kind="stable")[:_WORDS_NAMED]
        shared = telling[shares[telling] * is_asked_here.sum() >= 5]
        named = tuple(str(words[place]) for place in shared if shares[place] >= 0.2)
        asked, trained = (
            tuple(keys[place] for place in np.flatnonzero(is_side & (member == number)))
            for is_side in (is_asked, ~is_asked)
        )
        slices.append(_Slice(asked, trained, named))
    return slices


def _p(part: _Slice, trained: int, asked: int) -> float:
    table = [[len(part.asked), asked - len(part.asked)], [len(part.trained), trained - len(part.trained)]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def _finding(distance: float, p: float, rare: Sequence[_Slice], sizes: tuple[int, int], sent: int) -> Finding:
    trained, asked = sizes
    named = "; ".join(
        f"{' '.join(part.words) or 'no shared words'}: {len(part.asked) / asked:.0%} of production,"
        f" {len(part.trained) / trained:.1%} of training"
        for part in rare[:5]
    )
    return CHECK.found(
        (),
        f"production prompts lie {distance:.2f} from training's (p = {p:.3f})"
        + (f"; under-covered: {named}" if rare else ""),
        "Send more responses to such prompts to labelling.",
        *(
            Repair(RepairKind.ASK, part.asked[:: -(-len(part.asked) // sent)], find=" ".join(part.words))
            for part in rare[:5]
        ),
        severity=Severity.WARN if rare else Severity.INFO,
    )
