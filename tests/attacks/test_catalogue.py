"""The catalogue has every attack once, and what it names is there."""

import pytest

from tests.attacks.catalogue import ATTACKS
from tests.shown import node_id


def test_each_attack_has_one_entry():
    assert [one.number for one in ATTACKS] == list(range(1, 119))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: str(one.number))
def test_what_shows_it_is_there_or_it_says_why_nothing_is(attack):
    assert attack.what and attack.expected
    assert bool(attack.shown_by) != bool(attack.otherwise)
    assert all(node_id(reference) for reference in attack.shown_by)


def test_few_attacks_aim_at_what_is_not_there():
    assert [one.number for one in ATTACKS if one.otherwise] == [74, 92, 103]
