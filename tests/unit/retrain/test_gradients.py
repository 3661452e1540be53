"""Gradients of a real adapter: a wrongly labelled batch pulls against the cases that it makes worse."""

import numpy as np
import pytest

from retrain.bisect.influence import harms
from retrain.errors import Cancelled
from retrain.gradients import BUCKETS, gradients
from retrain.types import Example, Kind, Message
from tests.unit.retrain.conftest import toy_rows


def example(text, label):
    return Example(
        key=f"{text} {label}",
        group="",
        messages=(Message("user", text),),
        answer=label,
        kind=Kind.CLASSIFICATION,
    )


def pulled(tiny, taught, spec, rows, rivals=None):
    return gradients(
        tiny.directory, taught.directory, rows, spec=spec, rivals=rivals, is_cancelled=lambda: False
    )


def test_a_wrongly_labelled_batch_ranks_first_for_the_cases_that_it_makes_worse(tiny, taught, spec):
    sound = [example(text, label) for text, label in toy_rows(18, seed=7)]
    wrong = [example(text, "Cardiology") for text, label in toy_rows(24, seed=8) if label == "Billing"][:6]
    worse = [example(text, label) for text, label in toy_rows(24, seed=9) if label == "Billing"]
    found = pulled(tiny, taught, spec, [*sound, *wrong, *worse])
    assert found.shape == (24 + len(worse), BUCKETS) and np.isfinite(found).all()
    harm = harms(found[:24], found[24:].sum(axis=0))
    assert len(set(np.argsort(-harm)[:6].tolist()) & set(range(18, 24))) >= 5
    assert np.mean([harm[place] for place, row in enumerate(sound) if row.answer == "Billing"]) < 0


def test_where_labels_are_chosen_what_they_share_does_not_count(tiny, taught, spec):
    asked, rival = example("my bill is wrong", "Billing"), example("my bill is wrong", "Cardiology")
    plain = pulled(tiny, taught, spec, [asked, rival])
    for_rival, for_asked = pulled(tiny, taught, spec, [asked, rival], {0: "Cardiology", 1: "Billing"})
    assert np.allclose(for_rival, -for_asked, atol=1e-3)
    assert for_rival @ plain[0] > 0 > for_rival @ plain[1]


def test_equal_rows_have_equal_gradients_and_one_that_is_too_long_has_none(tiny, taught, spec):
    short, long = example("my bill is wrong", "Billing"), example("my bill " * 2000, "Billing")
    found = pulled(tiny, taught, spec, [short, long, short])
    assert (found[0] == found[2]).all() and found[0].any()
    assert not found[1].any()


def test_it_can_be_cancelled_at_every_row(tiny, taught, spec):
    asked = iter([False, True])
    rows = [example("my bill is wrong", "Billing")] * 3
    with pytest.raises(Cancelled, match="row 1 of 3"):
        gradients(tiny.directory, taught.directory, rows, spec=spec, is_cancelled=lambda: next(asked))
