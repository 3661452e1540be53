"""How near an answer is to the approved one, and whether it keeps to what it was given."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from rouge_score.rouge_scorer import RougeScorer

from retrain import text
from retrain.metrics.judged import Judged, Known
from retrain.metrics.metric import NOT_APPLICABLE, Metric, alone

_CHRF_ORDER, _CHRF_BETA = 6, 2
_LINKS = frozenset(
    [",", ":", "(", ")", "is", "was", "are", "the", "a", "an", "as", "named", "called", "being"]
)


class _Words:
    """Words of any script for ROUGE, whose own tokenizer knows ASCII only and scores other texts 0."""

    def tokenize(self, said: str) -> list[str]:
        return text.words(said)


_ROUGE = {name: RougeScorer([name], tokenizer=_Words()) for name in ("rouge1", "rouge2", "rougeL")}


def exact_match(one: Judged, known: Known) -> float:
    """Score 1 for the expected text but for case, compatibility forms and spacing. Range 0 to 1, higher is better."""
    return float(text.folded(one.answer) == text.folded(one.case.expected))


def contains_key(one: Judged, known: Known) -> float:
    """Score 1 if the answer holds the expected words in order, whole, in any case. Range 0 to 1, higher is better."""
    return float(text.contains_any(one.answer, [one.case.expected]))


def token_f1(one: Judged, known: Known) -> float:
    """Score the harmonic mean of precision and recall of words, as bags; articles count.

    Range 0 to 1, higher is better.
    Source: Rajpurkar et al. (2016), "SQuAD: 100,000+ Questions for Machine Comprehension of Text", EMNLP.
    """
    given, wanted = text.words(one.answer), text.words(one.case.expected)
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / max(1, len(given) + len(wanted))


def rouge(one: Judged, known: Known, *, name: str) -> float:
    """Score the F1 of words (1), pairs of words (2) or the longest common subsequence (L), without stemming.

    Range 0 to 1, higher is better. Source: Lin (2004), "ROUGE: A Package for Automatic Evaluation of Summaries".
    """
    return float(_ROUGE[name].score(one.case.expected, one.answer)[name].fmeasure)


def chrf(one: Judged, known: Known) -> float:
    """Score the F2 of character n-grams up to 6, spaces left out, averaged over the lengths that both texts have.

    F2 = 5·P·R / (4·P + R) of the mean precision P and mean recall R. Range 0 to 1, higher is better.
    Source: Popović (2015), "chrF: character n-gram F-score for automatic MT evaluation", WMT; as in sacrebleu.
    """
    given, wanted = ("".join(each.split()) for each in (one.answer, one.case.expected))
    shares = []
    for length in range(1, _CHRF_ORDER + 1):
        left, right = (Counter(text.grams(list(each), length)) for each in (given, wanted))
        if left and right:
            hits = (left & right).total()
            shares.append((hits / left.total(), hits / right.total()))
    if not any(hits for hits, _ in shares):
        return 0.0
    precision, recall = (sum(column) / len(shares) for column in zip(*shares, strict=True))
    return float((1 + _CHRF_BETA**2) * precision * recall / (_CHRF_BETA**2 * precision + recall))


def length_ratio(one: Judged, known: Known) -> float:
    """Score the shorter of answer and approved answer over the longer, in words. Range 0 to 1, higher is better."""
    given, wanted = len(text.words(one.answer)), len(text.words(one.case.expected))
    return min(given, wanted) / max(given, wanted, 1) if wanted else NOT_APPLICABLE


def repetition(one: Judged, known: Known) -> float:
    """Score which part of the answer's runs of four words had been said before: 1 - distinct / all.

    Range 0 to 1, lower is better. Source: Welleck et al. (2020), "Neural Text Generation with Unlikelihood Training",
    ICLR (seq-rep-4).
    """
    runs = text.grams(text.words(one.answer), 4)
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def groundedness(one: Judged, known: Known) -> float:
    """Score which part of the answer's content words stands in the case's context; other words for it count as not.

    Range 0 to 1, higher is better. Source: Adlakha et al. (2024), "Evaluating Correctness and Faithfulness of
    Instruction-Following Models for Question Answering", TACL (K-Precision).
    """
    said = text.content_words(one.answer)
    if not one.case.context or not said:
        return NOT_APPLICABLE
    given = {word for each in one.case.context for word in text.words(each)}
    return sum(word in given for word in said) / len(said)


def invented_entities(one: Judged, known: Known) -> float:
    """Score which part of the identifiers that the answer names is neither in the catalogue nor in what it was told.

    Identifiers are what the project's patterns match: statutes and codes unless it says otherwise. An answer that names
    none does not count. Range 0 to 1, lower is better.
    """
    if not known.catalogue and not one.case.context:
        return NOT_APPLICABLE
    exists = {_spelled(name) for name in known.catalogue} | {
        _spelled(name) for each in one.told for name in _identifiers(each, known)
    }
    named = {_spelled(name) for name in _identifiers(one.answer, known)}
    return len(named - exists) / len(named) if named else NOT_APPLICABLE


def role_conflation(one: Judged, known: Known) -> float:
    """Score 1 if the answer gives a role to another role's party: "Boyd, the plaintiff" where Boyd is the defendant.

    A role has the party beside it, with nothing but commas, articles or "is" between; of two it is the one before.
    Applies where the case says who is who, and the answer joins a role with a party. Misses pronouns and passives.
    Range 0 to 1, lower is better.
    """
    roles = {role.casefold(): name.casefold() for role, name in one.case.roles.items()}
    names = {name: name for name in roles.values()}
    surnames = Counter(name.split()[-1] for name in names)
    names |= {name.split()[-1]: name for name in roles.values() if surnames[name.split()[-1]] == 1}
    known_first = "|".join(re.escape(each) for each in sorted([*names, *roles], key=len, reverse=True))
    tokens = re.findall(rf"\b(?:{known_first})\b|[^\W_]+|[^\w\s]", one.answer.casefold())
    parties = {at: names[token] for at, token in enumerate(tokens) if token in names}
    found = []
    for at in (at for at, token in enumerate(tokens) if token in roles):
        party = next((place for place in _beside(tokens, at) if place in parties), None)
        if party is not None:
            found.append(parties.pop(party) != roles[tokens[at]])
    return float(any(found)) if found else NOT_APPLICABLE


def _beside(tokens: Sequence[str], at: int) -> Iterator[int]:
    """Yield the next place before and the next one behind that are no mere links."""
    for places in (range(at - 1, -1, -1), range(at + 1, len(tokens))):
        yield from [place for place in places if tokens[place] not in _LINKS][:1]


def _identifiers(said: str, known: Known) -> set[str]:
    return {match[0] for pattern in known.identifiers for match in re.finditer(pattern, said)}


def _spelled(name: str) -> str:
    """Spell an identifier in one way: "Section 12" and "§ 12" are the same."""
    section = re.sub(r"^(?:§+|sections?|paragraphs?)\s*", "§", text.folded(name))
    return re.sub(r"[\s-]", "", re.sub(r"^(?:articles?|art\.)\s*", "art", section))


METRICS = (
    Metric("exact_match", 1, alone(exact_match), is_share=True),
    Metric("contains_key", 1, alone(contains_key), is_share=True),
    Metric("token_f1", 1, alone(token_f1)),
    Metric("rouge_1", 1, alone(partial(rouge, name="rouge1"))),
    Metric("rouge_2", 1, alone(partial(rouge, name="rouge2"))),
    Metric("rouge_l", 1, alone(partial(rouge, name="rougeL"))),
    Metric("chrf", 1, alone(chrf)),
    Metric("length_ratio", 1, alone(length_ratio)),
    Metric("repetition", 1, alone(repetition), is_higher_better=False),
    Metric("groundedness", 1, alone(groundedness)),
    Metric("invented_entities", 1, alone(invented_entities), is_higher_better=False),
    Metric("role_conflation", 1, alone(role_conflation), is_share=True, is_higher_better=False),
)
