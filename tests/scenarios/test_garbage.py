"""Garbage data makes a garbage model, and an audit is more than decoration: shown by what the tiny model learns."""

from functools import partial

import pytest

from retrain.gate import Verdict
from tests.scenarios import clean, text_faults
from tests.scenarios.garbage import answers, compared, fields, made_noisy, mended, orders

UNSEEN = 10  # settings were fixed on seeds 0 to 4


@pytest.fixture(scope="module")
def taught(cache_dir):
    return partial(answers, seed=UNSEEN, cache=cache_dir)


@pytest.fixture(scope="module")
def spoilt():
    return clean.settled(text_faults.inject(orders(UNSEEN)[0], UNSEEN)[0])


@pytest.fixture(scope="module")
def unrepaired(taught, spoilt):
    return taught(spoilt, orders(UNSEEN)[1], epochs=5)


def test_training_on_the_repaired_set_beats_the_unrepaired_one(taught, spoilt, unrepaired):
    held_out = orders(UNSEEN)[1]
    repaired = taught(mended(spoilt), held_out, epochs=5)
    assert compared(held_out, unrepaired, repaired).verdict is Verdict.PASSED


def test_another_seed_in_place_of_repairs_is_no_better(taught, spoilt, unrepaired):
    held_out = orders(UNSEEN)[1]
    again = taught(spoilt, held_out, epochs=5, seed=UNSEEN + 1000)
    assert compared(held_out, unrepaired, again).verdict is not Verdict.PASSED


def test_where_nothing_is_wrong_nothing_is_repaired():
    sound = clean.settled(orders(UNSEEN)[0])
    assert mended(sound) == sound


def test_sixty_clean_rows_beat_six_hundred_noisy_ones(taught):
    sound, few, held_out = fields(UNSEEN)
    noisy = taught(clean.settled(made_noisy(sound, UNSEEN)), held_out, epochs=2)
    assert (
        compared(held_out, noisy, taught(clean.settled(few), held_out, epochs=20)).verdict is Verdict.PASSED
    )
