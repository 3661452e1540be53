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


@pytest.fixture(scope="module")
def repaired(taught, spoilt):
    return taught(mended(spoilt), orders(UNSEEN)[1], epochs=5)


def gained(before, now):
    better = next(one for one in compared(orders(UNSEEN)[1], before, now).reasons if one.rule == "better")
    return better.challenger - better.champion


def test_training_on_the_repaired_set_beats_the_unrepaired_one(unrepaired, repaired):
    assert compared(orders(UNSEEN)[1], unrepaired, repaired).verdict is Verdict.PASSED


def test_another_seed_in_place_of_repairs_gains_less_than_half_as_much(taught, spoilt, unrepaired, repaired):
    again = taught(spoilt, orders(UNSEEN)[1], epochs=5, seed=UNSEEN + 1000)
    assert gained(unrepaired, again) < gained(unrepaired, repaired) / 2


def test_where_nothing_is_wrong_nothing_is_repaired():
    sound = clean.settled(orders(UNSEEN)[0])
    assert mended(sound) == sound


def test_sixty_clean_rows_beat_six_hundred_noisy_ones(taught):
    sound, few, held_out = fields(UNSEEN)
    noisy = taught(clean.settled(made_noisy(sound, UNSEEN)), held_out, epochs=2)
    assert (
        compared(held_out, noisy, taught(clean.settled(few), held_out, epochs=20)).verdict is Verdict.PASSED
    )
