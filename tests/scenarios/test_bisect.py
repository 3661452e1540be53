"""Faults put into histories are found by training, on seeds that nothing was fixed on; the bench runs 40 of them.

On a language model a sample: the bench bisects it with a change of code and of a setting as well.
"""

from random import Random

import pytest

from retrain.bisect.finding import Verdict
from retrain.bisect.rules import Rules
from retrain.bisect.search import find
from retrain.bisect.value import check
from tests.benchmarks import spoiled
from tests.scenarios.flags import flagged, hidden_found
from tests.scenarios.histories import (
    UNSEEN,
    Fault,
    blamed,
    by_chance,
    is_right,
    past,
    precision,
    restless,
    without,
)

RESTLESS = range(UNSEEN, UNSEEN + 8)


def searched(one):
    return find(one.history, one.train, harm=one.harm)


@pytest.mark.parametrize(("fault", "seed"), [(fault, UNSEEN) for fault in Fault] + [(Fault.PAIR, UNSEEN + 1)])
def test_what_is_guilty_is_named_within_the_budget(fault, seed):
    one = past(fault, seed)
    finding = searched(one)
    assert is_right(one, finding), finding.sentence
    assert finding.cost.configurations <= Rules().allowed(len(one.history.changes))
    assert not (one.wrong and finding.causes) or precision(one, finding) >= 0.8


def test_with_the_guilty_batch_taken_out_nothing_is_blamed():
    one = past(Fault.POISON, UNSEEN)
    assert blamed(searched(one)) == one.guilty
    assert searched(without(one, *one.guilty)).verdict is Verdict.NONE


def test_by_an_estimate_that_is_chance_the_batch_is_found_and_too_many_sound_rows_come_first():
    one = past(Fault.POISON, UNSEEN)
    finding = find(one.history, one.train, harm=by_chance, rules=Rules(max_configurations=20))
    assert blamed(finding) == one.guilty
    assert precision(one, finding) < 0.8 <= precision(one, searched(one))


def test_one_half_of_an_interaction_is_harmless():
    one = past(Fault.PAIR, UNSEEN)
    assert searched(without(one, min(one.guilty))).verdict in (Verdict.NONE, Verdict.CANNOT_TELL)


def test_without_the_estimate_of_harm_the_batch_is_found_and_no_rows_are_named():
    one = past(Fault.POISON, UNSEEN)
    finding = find(one.history, one.train, rules=Rules(max_configurations=20))
    assert blamed(finding) == one.guilty
    assert finding.causes[0].rows == ()


def test_without_repeats_chance_is_taken_for_a_regression():
    brief = Rules(max_configurations=4)
    pasts = [restless(seed) for seed in RESTLESS]
    repeated = [find(one.history, one.train, rules=brief) for one in pasts]
    once = [find(one.history, lambda made, _, one=one: one.train(made, 0), rules=brief) for one in pasts]
    assert not any(finding.drop.low > 0 for finding in repeated)
    assert any(finding.drop.low > 0 for finding in once)


@pytest.mark.usefixtures("unreloaded")
def test_on_a_language_model_a_poisoned_batch_and_its_wrong_rows_are_named_and_without_it_nothing():
    sound, poisoned = spoiled.search(spoiled.TINY, [Fault.NONE, Fault.POISON])
    assert sound.is_right, sound.told["sentence"]
    assert poisoned.is_right, poisoned.told["sentence"]
    assert poisoned.precision >= 0.9  # two thirds of what the mail box sent are wrong, so chance gives 0.67
    assert poisoned.told["cost"]["configurations"] <= Rules().allowed(4)


def test_hidden_valuable_flags_stand_among_the_first_and_by_chance_they_would_not():
    assert hidden_found(UNSEEN) >= 8
    found = flagged(UNSEEN)
    assert len(found.valuable & set(Random(UNSEEN).sample(found.flags, 30))) < 8


def test_what_sources_are_worth_agrees_with_what_leaving_them_out_costs():
    found = flagged(UNSEEN)
    measured, agreement = check(found.values(found.sources()), found.train_without, sample=5)
    assert agreement >= 0.6
    assert measured[0].group == "source-0" and measured[0].measured.low > 0


def test_flags_that_are_all_the_same_have_no_order_that_a_check_could_confirm():
    found = flagged(UNSEEN)
    groups = {f"part-{place}": [] for place in range(5)}
    _, agreement = check(
        found.values(groups), lambda _, seed: found.train_without(None, seed), sample=3, repeats=1
    )
    assert agreement == 0
