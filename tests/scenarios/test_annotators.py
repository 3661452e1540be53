"""Experts whose confusion is known answer 300 tasks: who they are is found out, and what is right."""

import pytest

from annotation.quality import estimate
from tests.scenarios.crowd import Crowd, in_memory

TASKS = 300


@pytest.fixture(scope="module", params=[1, 2, 3])
def crowd(request) -> Crowd:
    return in_memory(request.param, TASKS)


def test_what_each_really_did_is_recovered(crowd):
    assert crowd.error <= 0.05


def test_the_adversary_is_named_and_counts_for_nothing(crowd):
    assert min(crowd.trust, key=lambda name: crowd.trust[name].weight) == "adversary"
    assert crowd.named == ["adversary"]


def test_among_honest_annotators_nobody_is_named():
    assert in_memory(1, TASKS, {"expert": 0.95, "junior": 0.8, "senior": 0.9}).named == []


def test_the_posterior_settles_better_than_a_majority(crowd):
    weighed = crowd.by_posterior()
    assert crowd.wrong(weighed) < crowd.wrong(crowd.by_majority()) / 2
    assert len(weighed) > TASKS / 2


def test_the_estimate_is_right_more_often_than_a_majority(crowd):
    posteriors = estimate(crowd.votes).posteriors
    best = {int(task): max(each, key=each.get) for task, each in posteriors.items()}
    right = TASKS - crowd.wrong(best)
    majority = crowd.by_majority()
    assert right > len(majority) - crowd.wrong(majority)
