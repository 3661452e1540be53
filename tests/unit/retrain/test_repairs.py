"""Accepted repairs change what they name, and nothing else."""

from dataclasses import replace

import pytest

from retrain.audit import Repair, RepairKind
from retrain.audit.repairs import apply
from retrain.types import Kind, Message, Settled


def row(answer: str, key: str = "a") -> Settled:
    return Settled(key, (Message("user", "who?"),), answer, Kind.GENERATION)


@pytest.mark.parametrize(
    ("answer", "find", "put", "after"),
    [
        ("Ann, regards", ", Regards", ".", "Ann."),
        ("the account and the accountant", "account", "deposit", "the deposit and the accountant"),
        ("Hello.  (c) Ann", "(c)", "", "Hello. Ann"),
        ("a\\1b \\1", "\\1", "\\2", "a\\1b \\2"),
        ("nothing  to see", "else", "", "nothing  to see"),
    ],
)
def test_a_phrase_is_replaced_as_whole_words_in_any_case(answer, find, put, after):
    [repaired], touched = apply([row(answer)], {"r": Repair(RepairKind.REPLACE, ("a",), find=find, put=put)})
    assert repaired.answer == after
    assert touched == ({"a": ["r"]} if after != answer else {})


def test_repairs_are_carried_out_in_turn_and_dropping_ends_them():
    repairs = {
        "1": Repair(RepairKind.WEIGHT, ("a", "b"), factor=2.0),
        "2": Repair(RepairKind.DROP, ("a",)),
        "3": Repair(RepairKind.RELABEL, ("a", "b"), put="heart"),
    }
    [kept], touched = apply([row("x"), row("y", "b")], repairs)
    assert (kept.key, kept.weight, kept.label, kept.answer) == ("b", 2.0, "heart", "heart")
    assert touched == {"a": ["1", "2"], "b": ["1", "3"]}


@pytest.mark.parametrize(
    ("asked", "after"),
    [
        ("May my wife ask?", "May my husband ask?"),
        ("My HUSBAND, and Mr Day's sons", "My WIFE, and Ms Day's sons"),
        ("He is an uncle, she a woman", "She is an aunt, he a man"),
        ("The housewives of Hessen", "The housewives of Hessen"),
    ],
)
def test_words_are_swapped_both_ways_in_prompt_answer_and_rejected_answer(asked, after):
    find, put = "wife mrs ms she aunt woman", "husband mr mr he uncle man"
    swap = Repair(RepairKind.SWAP, ("a",), find=find, put=put)
    turns = (Message("system", asked), Message("user", asked))
    [repaired], touched = apply([replace(row(asked), messages=turns, rejected=asked)], {"r": swap})
    assert [turn.content for turn in repaired.messages] == [asked, after]
    assert (repaired.answer, repaired.rejected) == (after, after)
    assert touched == ({"a": ["r"]} if after != asked else {})
    [labelled], _ = apply([replace(row(asked), answer="she", label="she")], {"r": swap})
    assert labelled.answer == "she"


def test_rows_that_no_repair_names_stay_as_they_are():
    rows = [row("x"), row("y", "b")]
    assert apply(rows, {"1": Repair(RepairKind.DROP, ("c",))}) == (rows, {})
