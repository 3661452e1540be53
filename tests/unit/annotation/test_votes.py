"""What is said of the same item twice: a vote of somebody else, a repeat, or nothing."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from annotation.types import Answer, Cause, Verdict
from annotation.votes import Repeat, Vote, pace, told_apart

THEN, WEEKS = datetime(2026, 1, 1, tzinfo=UTC), timedelta(weeks=4)
RIGHT, WRONG = (
    Answer(Verdict.CORRECT),
    Answer(Verdict.INCORRECT, label="Billing", cause=Cause.MODEL),
)
COPIES = {"again": "first", "later": "first"}


def vote(task: str, annotator: str, answer: Answer = RIGHT, *, after: timedelta = timedelta()) -> Vote:
    return Vote(task, annotator, answer, THEN + after)


@pytest.mark.parametrize(
    ("after", "repeats"), [(WEEKS, [Repeat("ann", "correct", "Billing")]), (WEEKS - timedelta(hours=1), [])]
)
def test_a_later_word_is_a_repeat_once_the_first_may_be_forgotten(after, repeats):
    first, again = vote("first", "ann"), vote("again", "ann", WRONG, after=after)
    assert told_apart([first, again], COPIES, {}, gap=WEEKS) == ([first], repeats)


def test_somebody_elses_first_word_is_a_vote_and_their_second_a_repeat_of_it():
    votes = [vote("again", "cem"), vote("first", "ann"), vote("later", "cem", after=WEEKS)]
    assert told_apart(votes, COPIES, {}, gap=WEEKS) == (votes[:2], [Repeat("cem", "correct", "correct")])


def test_two_accounts_of_one_person_are_one():
    votes = [vote("first", "ann"), vote("again", "cem", after=WEEKS)]
    assert told_apart(votes, COPIES, {"ann": "A", "cem": "A"}, gap=WEEKS)[0] == votes[:1]
    assert told_apart(votes, COPIES, {"ann": "A", "cem": "B"}, gap=WEEKS)[0] == votes


def test_the_order_in_which_votes_are_read_changes_nothing():
    votes = [
        vote("first", "ann"),
        vote("again", "ann", WRONG, after=WEEKS),
        vote("later", "ann", after=2 * WEEKS),
    ]
    told = {str(told_apart(mixed, COPIES, {}, gap=WEEKS)) for mixed in permutations(votes)}
    assert len(told) == 1
    assert len(told_apart(votes, COPIES, {}, gap=WEEKS)[1]) == 2


def test_without_a_clock_an_answer_takes_what_lies_since_the_last_and_one_click_shares_it():
    times = {"a": 0, "b": 40, "c": 70, "d": 70.5, "e": 71, "f": 71 + 31 * 60}
    given = [(task, "ann", THEN + timedelta(seconds=at)) for task, at in times.items()]
    told = pace([*reversed(given), ("b", "ben", THEN)])
    assert told == {("b", "ann"): 40, ("c", "ann"): 10, ("d", "ann"): 10, ("e", "ann"): 10}
