"""Choosing what deserves a person's time."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from annotation.triage import Case, Flag, prioritise, random_share

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def flag(key, group, severity=1.0, minutes=0):
    return Flag(key=key, group=group, severity=severity, at=NOON + timedelta(minutes=minutes))


def groups(*flags):
    return [case.group for case in prioritise(flags)]


FLAGS = st.builds(flag, st.uuids().map(str), st.sampled_from("abc"), st.floats(0, 9), st.integers(0, 99))


def test_flags_of_one_group_become_one_case():
    cases = prioritise([flag("late", "g", severity=3, minutes=5), flag("early", "g", severity=1)])
    assert cases == [Case(group="g", keys=("early", "late"), priority=6.0, since=NOON)]


def test_many_mild_flags_outweigh_a_severe_one():
    assert groups(flag("x", "severe", severity=2.5), *(flag(str(n), "mild") for n in range(3))) == [
        "mild",
        "severe",
    ]


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
