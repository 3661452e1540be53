"""The words that checks go by: those that tell groups of people, warmth and registers of speech, in English."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

WORD = re.compile(r"[\w'-]+")


def words(text: str) -> frozenset[str]:
    """Return the words of a text, whatever their case."""
    return frozenset(WORD.findall(text.casefold().replace("\u2019", "'")))


def fitted(vectorizer: Any, texts: Sequence[str]) -> Any:
    """Return what a vectorizer counts, a sparse matrix shaped (n_texts, n_words), or None if it leaves no word."""
    try:
        return vectorizer.fit_transform(texts)
    except ValueError:  # scikit-learn's way to say that there are no words
        return None


# The nth word of a group has its counterpart in the nth of the other; those behind the bar have none that always fits.
_GROUPS = {
    "gender": {
        "female": "woman women wife mother sister daughter aunt girlfriend lady girl mrs ms she | her",
        "male": "man men husband father brother son uncle boyfriend gentleman boy mr mr he | him his",
    },
    "age": {
        "young": "teenager teenage teen | young youth",
        "old": "pensioner elderly senior | old retired aged",
    },
    "origin": {
        "foreign": "foreign foreigner immigrant | migrant refugee expat asylum",
        "native": "domestic citizen native | national",
    },
}
TERMS: Mapping[str, Mapping[str, frozenset[str]]] = {
    attribute: {group: words(text) for group, text in groups.items()} for attribute, groups in _GROUPS.items()
}
PAIRS: Mapping[str, list[tuple[str, str]]] = {
    attribute: list(zip(*(text.partition("|")[0].split() for text in groups.values()), strict=True))
    for attribute, groups in _GROUPS.items()
}
COLD = words(
    "unfortunately regrettably cannot can't won't refuse refused reject rejected deny denied decline impossible"
    " never no fault forbidden must wrong unable"
)
WARM = words("glad gladly happy happily please thank thanks welcome pleasure certainly course sure")
REGISTERS = {
    "slang": words(
        "gonna wanna gotta kinda sorta dunno gimme lemme ain't y'all lol lmao omg btw tbh ngl imo idk thx pls plz"
        " dude bro mate yo nah yep yeah yup nope cuz coz hey haha hahaha hmm u ur awesome"
    ),
    "superlatives": words(
        "amazing unbeatable incredible fantastic unbelievable revolutionary spectacular phenomenal exclusive"
        " stunning world-class award-winning game-changing once-in-a-lifetime must-have best greatest"
    ),
    "first person": words("i i'm i'd i've i'll my me"),
}
