"""Near duplicates: what counts as the same text, and that order has no say."""

import random
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.near_duplicates import clusters, normalise, similarity, text_of
from retrain.types import Message

WORDS = ["pain", "in", "my", "left", "knee", "since", "the", "fall", "on", "monday", "and", "it", "swells"]
SENTENCE = "i would like to move my appointment with the knee clinic to next friday please"


def test_case_width_punctuation_and_spacing_make_no_difference():
    assert normalise("  Chest\u00a0PAIN -- help!!") == normalise("\uff43hest pain, help") == "chest pain help"


def test_a_text_of_punctuation_only_stays_itself():
    assert clusters(["?!", "...", "?!", ""]) == [0, 1, 0, 3]


def test_one_added_word_makes_a_near_duplicate():
    assert clusters([SENTENCE, "Is the car park open?", f"Hello, {SENTENCE}"]) == [0, 1, 0]


def test_short_texts_that_differ_in_the_word_that_matters_stay_apart():
    assert clusters(["my knee hurts", "my eye hurts", "knee", "eye"]) == [0, 1, 2, 3]


def test_word_order_matters():
    assert similarity("dog bites man", "man bites dog") == 3 / 7


def test_similarity_is_the_jaccard_index_of_words_and_pairs():
    assert similarity("a b c", "a b d") == 3 / 7


def test_the_system_prompt_is_not_compared():
    turns = (Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Hello"))
    assert text_of(turns) == "Hi\nHello"


def test_sketches_are_the_same_in_every_process():
    code = "from rensa import RMinHash; print(RMinHash.from_token_sets([['a', 'b']], 8, 1)[0].digest())"
    runs = {subprocess.check_output([sys.executable, "-c", code], env={"PYTHONHASHSEED": s}) for s in "12"}
    assert len(runs) == 1


@settings(deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), max_size=25),
    st.integers(0, 2**16),
)
def test_the_partition_does_not_depend_on_order(texts, seed):
    order = list(range(len(texts)))
    random.Random(seed).shuffle(order)
    shuffled = clusters([texts[index] for index in order])
    assert _partition(range(len(texts)), clusters(texts)) == _partition(order, shuffled)


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join), max_size=20))
def test_every_pair_at_the_threshold_is_found(texts):
    found = clusters(texts)
    pairs = [(i, j) for j in range(len(texts)) for i in range(j) if similarity(texts[i], texts[j]) >= 0.8]
    assert all(found[i] == found[j] for i, j in pairs)


def test_pairs_near_the_threshold_are_found_among_many():
    rng = random.Random(5)
    originals = [[f"w{rng.randrange(5000)}" for _ in range(15)] for _ in range(400)]
    edited = [[*words[:7], "changed", *words[8:]] for words in originals]
    found = clusters([" ".join(words) for words in originals + edited])
    assert similarity(" ".join(originals[0]), " ".join(edited[0])) == 26 / 32
    assert [found[400 + i] for i in range(400)] == found[:400]


def _partition(indexes, names):
    members = {}
    for index, name in zip(indexes, names, strict=True):
        members.setdefault(name, set()).add(index)
    return {frozenset(each) for each in members.values()}
