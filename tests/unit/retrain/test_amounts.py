"""One thing is said to be one."""

import pytest

from retrain.amounts import how_many


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 rows hold a name"), (1, "1 row holds a name"), (2000, "2,000 rows hold a name")],
)
def test_the_verb_goes_with_the_noun(count, said):
    assert how_many(count, "row", "hold a name") == said


@pytest.mark.parametrize(
    ("does", "said"),
    [("", "1 row"), ("wait", "1 row waits"), ("are left", "1 row is left"), ("have one", "1 row has one")],
)
def test_one_of_a_kind(does, said):
    assert how_many(1, "row", does) == said


def test_a_thing_that_was_named_before_need_not_be_named_again():
    assert (how_many(1, "", "inform"), how_many(2, "", "inform")) == ("1 informs", "2 inform")
