"""Whether answers sound as approved ones do, say something of their own, and make sense at all."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from retrain import text
from retrain.audit.tone import SIGNS
from retrain.audit.words import COLD, REGISTERS, WARM, words
from retrain.metrics.generation import repetition
from retrain.metrics.judged import Judged, Known
from retrain.metrics.metric import NOT_APPLICABLE, Floats, Metric
from retrain.near_duplicates import clusters, normalise

_GENERIC = 3
_LEAST_TRIGRAMS = 1000


def tone_distance(judged: Sequence[Judged], known: Known) -> Callable[[Judged], float]:
    """Score how far an answer's register is from the approved answers': the mean |its mark - their share of the mark|.

    Marks are those of the audit's check of tone, and warm and cold words; English, but for signs. Range 0 to 1, lower
    is better. The definition is ours.
    """
    approved = [_marks(each) for each in known.approved]
    usual = np.mean(approved, axis=0) if approved else None
    return lambda one: (
        float(np.abs(_marks(one.answer) - usual).mean()) if usual is not None else NOT_APPLICABLE
    )


def generic_answers(judged: Sequence[Judged], known: Known) -> Callable[[Judged], float]:
    """Score 1 for an answer that three or more different questions of these cases get, in nearly the same words.

    Nearly is a similarity of 0.8. Labels do not count. Range 0 to 1, lower is better. The definition is ours; cf. Li et
    al. (2016), "A Diversity-Promoting Objective Function for Neural Conversation Models", NAACL.
    """
    texts = [one for one in judged if not one.case.is_labelled]
    questions: defaultdict[int, set[str]] = defaultdict(set)
    places = dict(zip(map(id, texts), clusters([one.answer for one in texts]), strict=True))
    for one in texts:
        questions[places[id(one)]].add(normalise(one.asked))
    return lambda one: (
        float(len(questions[places[id(one)]]) >= _GENERIC) if id(one) in places else NOT_APPLICABLE
    )


def nonsense(judged: Sequence[Judged], known: Known) -> Callable[[Judged], float]:
    """Score 1 for an answer without words, with broken characters, that repeats itself by half, or of unknown sounds.

    Sounds are unknown if most of the answer's triples of letters occur nowhere in the approved answers and what the
    cases ask and expect; with fewer than 1,000 triples known, this is not looked at. Catches loops and random letters;
    misses sentences that are well formed and mean nothing. Range 0 to 1, lower is better. The definition is ours.
    """
    heard = {
        triple
        for said in (*known.approved, *(each for one in judged for each in (one.case.expected, *one.told)))
        for triple in _triples(said)
    }

    def score(one: Judged) -> float:
        said = _triples(one.answer)
        is_strange = len(heard) >= _LEAST_TRIGRAMS and said.total() > 0 and _strange(said, heard) > 0.5
        is_broken = not text.words(one.answer) or "\ufffd" in one.answer
        return float(is_broken or repetition(one, known) >= 0.5 or is_strange)

    return score


def _marks(said: str) -> Floats:
    has = words(said)
    registers = [not register.isdisjoint(has) for register in (*REGISTERS.values(), COLD, WARM)]
    return np.array([*registers, *(bool(sign.search(said)) for sign in SIGNS.values())], dtype=np.float64)


def _triples(said: str) -> Counter[str]:
    return Counter("".join(gram) for word in text.words(said) for gram in text.grams(list(word), 3))


def _strange(said: Counter[str], heard: set[str]) -> float:
    return sum(count for triple, count in said.items() if triple not in heard) / said.total()


METRICS = (
    Metric("tone_distance", 1, tone_distance, is_higher_better=False),
    Metric("generic_answers", 1, generic_answers, is_share=True, is_higher_better=False),
    Metric("nonsense", 1, nonsense, is_share=True, is_higher_better=False),
)
