"""Choosing what deserves a person's time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.triage import Case, Flag, Urgency, expected_values, prioritise, random_share, with_estimates

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def flag(key, group, severity=1.0, minutes=0, **more):
    return Flag(key=key, group=group, severity=severity, at=NOON + timedelta(minutes=minutes), **more)


def groups(*flags):
    return [case.group for case in prioritise(flags)]


FLAGS = st.builds(flag, st.uuids().map(str), st.sampled_from("abc"), st.floats(0, 9), st.integers(0, 99))


def test_flags_of_one_group_become_one_case():
    cases = prioritise([flag("late", "g", severity=3, minutes=5), flag("early", "g", severity=1)])
    assert cases == [Case("g", ("early", "late"), Urgency(3, 2, 1, 1), since=NOON)]
    assert cases[0].urgency.priority == 6


def test_many_mild_flags_outweigh_a_severe_one():
    assert groups(flag("x", "severe", severity=2.5), *(flag(str(n), "mild") for n in range(3))) == [
        "mild",
        "severe",
    ]


def test_an_unsure_answer_comes_before_a_sure_one_and_one_of_which_nothing_is_known_between():
    assert groups(
        flag("a", "sure", confidence=0.9), flag("b", "unknown"), flag("c", "guess", confidence=0.1)
    ) == [
        "guess",
        "unknown",
        "sure",
    ]


def test_flags_of_a_kind_that_taught_something_come_before_flags_that_did_not():
    values = expected_values([({"wrong"}, True)] * 8 + [({"slow"}, False)] * 8 + [({"wrong", "slow"}, True)])
    assert values == {"wrong": pytest.approx(20 / 11), "slow": pytest.approx(4 / 11)}
    flags = [flag(reason, reason, value=values.get(reason, 1.0)) for reason in ("slow", "new", "wrong")]
    assert groups(*flags) == ["wrong", "new", "slow"]


def test_flags_whose_rows_a_model_gained_most_by_come_first_and_by_rank_alone():
    values, worth = {"wrong": 1.0, "slow": 1.0}, {"wrong": 0.001, "slow": 900.0, "rude": -3.0}
    assert with_estimates(values, worth) == {"rude": 0.5, "wrong": 1.0, "slow": 1.5}
    assert with_estimates(values, {"wrong": 5.0}) == values
    assert with_estimates(values, {}) == values


def test_of_equally_urgent_cases_the_oldest_comes_first():
    assert groups(flag("b", "new", minutes=1), flag("a", "old")) == ["old", "new"]


@given(st.lists(FLAGS, max_size=12), st.randoms())
def test_the_order_of_flags_does_not_matter(flags, random):
    assert prioritise(random.sample(flags, len(flags))) == prioritise(flags)


@given(st.lists(FLAGS, max_size=12))
def test_every_flag_is_in_one_case(flags):
    assert sorted(key for case in prioritise(flags) for key in case.keys) == sorted(f.key for f in flags)


@given(st.lists(st.text(), unique=True), st.lists(st.text(), unique=True), st.floats(0, 1))
def test_added_keys_change_no_earlier_choice(earlier, added, share):
    chosen = random_share(earlier, share, "seed")
    assert [k for k in random_share([*earlier, *added], share, "seed") if k in earlier][
        : len(chosen)
    ] == chosen


@given(st.lists(st.text()), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_contains_a_smaller_one(keys, one, other):
    small, large = sorted((one, other))
    assert set(random_share(keys, small, "seed")) <= set(random_share(keys, large, "seed"))


def test_the_share_is_about_what_was_asked_for():
    keys = [f"key {n}" for n in range(10_000)]
    assert 900 < len(random_share(keys, 0.1, "seed")) < 1100
    assert random_share(keys, 0, "seed") == []
    assert random_share(keys, 1, "seed") == keys


def test_another_seed_chooses_others():
    keys = [f"key {n}" for n in range(100)]
    assert random_share(keys, 0.5, "one") != random_share(keys, 0.5, "two")
