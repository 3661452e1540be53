"""How often the same may ask, and who it is that asks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.web.rates import Rate, Rates, prefix

MINUTE = Rate(6, 60.0)


class Clock:
    """Stands still until a test moves it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_as_many_as_allowed_are_taken_and_the_next_is_told_when_to_come(clock):
    rates = Rates(clock)
    told = [rates.take([("ann", MINUTE)]) for _ in range(8)]
    assert [each.remaining for each in told] == [5, 4, 3, 2, 1, 0, 0, 0]
    assert [each.retry_after for each in told] == [0] * 6 + [10] * 2
    clock.now += told[-1].retry_after
    assert [rates.take([("ann", MINUTE)]).retry_after for _ in range(2)] == [0, 10]


def test_one_name_takes_nothing_from_another(clock):
    rates = Rates(clock)
    for _ in range(9):
        rates.take([("ann", MINUTE)])
    assert rates.take([("ben", MINUTE)]).remaining == 5


def test_what_one_limit_refuses_counts_for_none(clock):
    rates = Rates(clock)
    for _ in range(9):
        rates.take([("ann", MINUTE), ("all", Rate(20, 60.0))])
    assert rates.take([("all", Rate(20, 60.0))]).remaining == 20 - 6 - 1


def test_no_limit_is_told_of_where_none_is_set(clock):
    assert Rates(clock).take([("ann", Rate(0, 60.0))]) is None


def test_memory_does_not_grow_with_names(clock):
    rates = Rates(clock, max_names=3)
    for name in "abcde":
        rates.take([(name, MINUTE)])
    assert list(rates._full_at) == ["c", "d", "e"]


@given(st.lists(st.floats(0, 30), max_size=60))
def test_no_minute_holds_more_than_a_burst_and_what_comes_back(pauses):
    clock = Clock()
    rates, taken = Rates(clock), []
    for pause in pauses:
        clock.now += pause
        if not rates.take([("ann", MINUTE)]).retry_after:
            taken.append(clock.now)
    for start in taken:
        assert sum(start <= at < start + 60 for at in taken) <= 2 * MINUTE.count


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("somewhere", "somewhere"),
    ],
)
def test_who_has_a_whole_network_is_one(address, network):
    assert prefix(address) == network
