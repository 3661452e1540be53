"""A wave is many voices in nearly the same words at nearly the same time, and nothing less."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.waves import Said, waves

NOON, DAY = datetime(2026, 1, 1, 12, tzinfo=UTC), timedelta(days=1)


def said(*whens, voice="", group=0):
    return [Said(f"{group}-{n}", voice or str(n), NOON + when * DAY, group) for n, when in enumerate(whens)]


@pytest.mark.parametrize(
    ("all_said", "keys"),
    [
        (said(0, 0.1, 0.2), [["0-0", "0-1", "0-2"]]),
        (said(0, 0.1), []),  # too few
        (said(0, 0.1, 0.2, voice="ann"), []),  # one voice
        (said(0, 0.6, 1.2), []),  # spread over time
        (said(0, 0.1) + said(0.2, group=1), []),  # in different words
        (said(0, 1, 2, 2.1, 2.2, 4), [["0-2", "0-3", "0-4"]]),  # those around it are none of it
        (said(0, 0.1, 0.2, 9, 9.1, 9.2), [["0-0", "0-1", "0-2", "0-3", "0-4", "0-5"]]),
        (said(0, 0, 0) + said(0, 0, 0, group=1), [["0-0", "0-1", "0-2"], ["1-0", "1-1", "1-2"]]),
    ],
)
def test_a_wave_needs_voices_words_and_time(all_said, keys):
    assert waves(all_said, voices=3, within=DAY) == keys


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), max_size=25), st.randoms())
def test_each_of_a_wave_and_nothing_else_stands_in_a_crowded_day(pairs, dice):
    all_said = [Said(f"{n:02}", str(who), NOON + hours * DAY / 8, 0) for n, (who, hours) in enumerate(pairs)]
    crowded = set()
    for start in all_said:
        window = [each for each in all_said if timedelta() <= each.at - start.at <= DAY]
        if len({each.voice for each in window}) >= 3:
            crowded |= {each.key for each in window}
    dice.shuffle(all_said)
    assert {key for wave in waves(all_said, voices=3, within=DAY) for key in wave} == crowded
