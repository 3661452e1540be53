"""The demo project's data keeps its promises: counts, shares, variety, and sets that stay apart."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DATA = ROOT / "service" / "demo" / "data"
SUITES = ROOT / "retrain" / "suites"
REGISTERS = {"lay", "clinical", "terse", "misspelt", "emotional"}
SHAPE = {"id", "text", "department", "register", "ambiguous", "also", "red_flag"}
NEAR_DUPLICATE = 0.5


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


ENQUIRIES = rows(DATA / "enquiries.jsonl")
HARD = rows(DATA / "hard.jsonl")
DEPARTMENTS = {row["name"]: row["takes"] for row in json.loads((DATA / "departments.json").read_text())}
QUESTIONS = rows(SUITES / "general.jsonl")
REPLAYED = [row["prompt"] for row in rows(SUITES / "replay_prompts.jsonl")]


def words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.lower()))


def trigrams(text: str) -> frozenset[tuple[str, ...]]:
    found = words(text)
    return frozenset(zip(found, found[1:], found[2:], strict=False)) or frozenset([found])


def near_duplicates(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs whose word 3-grams have a Jaccard similarity of `NEAR_DUPLICATE` or more."""
    grams = {text: trigrams(text) for text in texts}
    holders = defaultdict(list)
    for text, found in grams.items():
        for gram in found:
            holders[gram].append(text)
    sharing = {pair for together in holders.values() for pair in combinations(together, 2)}
    return [
        (one, other)
        for one, other in sharing
        if len(grams[one] & grams[other]) >= NEAR_DUPLICATE * len(grams[one] | grams[other])
    ]


def texts(enquiries: list[dict]) -> list[str]:
    return [row["text"] for row in enquiries]


def test_there_are_enough_of_everything():
    assert len(ENQUIRIES) >= 760
    assert len(HARD) >= 60
    assert len(QUESTIONS) >= 40
    assert len(REPLAYED) >= 120


@pytest.mark.parametrize(("enquiries", "shape"), [(ENQUIRIES, SHAPE), (HARD, SHAPE | {"trick"})])
def test_every_enquiry_has_the_same_shape(enquiries, shape):
    for row in enquiries:
        assert row.keys() == shape
        assert row["register"] in REGISTERS
        assert row["department"] in DEPARTMENTS
        assert (row["also"] is not None) == row["ambiguous"]
        assert 4 <= len(row["text"].split()) <= 45


def test_ids_are_unique():
    ids = [row["id"] for row in ENQUIRIES + HARD]
    assert len(set(ids)) == len(ids)


def test_twelve_departments_are_told_apart_by_their_first_word():
    assert len({name.split()[0] for name in DEPARTMENTS}) == len(DEPARTMENTS) == 12
    assert all(DEPARTMENTS.values())


def test_departments_and_registers_are_about_evenly_spread():
    departments = Counter(row["department"] for row in ENQUIRIES)
    registers = Counter(row["register"] for row in ENQUIRIES)
    assert departments.keys() == DEPARTMENTS.keys()
    assert all(50 <= count <= 75 for count in departments.values())
    assert registers.keys() == REGISTERS
    assert min(registers.values()) >= 100


def test_about_one_in_twenty_is_ambiguous_between_two_departments():
    ambiguous = [row for row in ENQUIRIES if row["ambiguous"]]
    assert 0.04 <= len(ambiguous) / len(ENQUIRIES) <= 0.07
    assert all(row["also"] in DEPARTMENTS.keys() - {row["department"]} for row in ambiguous)


def test_red_flags_are_rare_and_belong_to_emergency():
    flagged = [row for row in ENQUIRIES if row["red_flag"]]
    assert len(flagged) >= 24
    assert 0.025 <= len(flagged) / len(ENQUIRIES) <= 0.05
    assert all(row["department"] == "Emergency" and not row["ambiguous"] for row in flagged)


def test_hard_enquiries_show_every_trick_and_department():
    tricks = Counter(row["trick"] for row in HARD)
    assert tricks.keys() == {"sarcasm", "double_negation", "litotes"}
    assert min(tricks.values()) >= 15
    assert {row["department"] for row in HARD} == DEPARTMENTS.keys()


def test_no_two_enquiries_are_near_duplicates():
    assert len(set(texts(ENQUIRIES + HARD))) == len(ENQUIRIES + HARD)
    assert near_duplicates(texts(ENQUIRIES + HARD)) == []


def test_enquiries_hold_no_address_or_number_to_ring():
    reachable = re.compile(r"@|https?:|www\.|\d[\d ()-]{6,}")
    assert [text for text in texts(ENQUIRIES + HARD) if reachable.search(text)] == []


def test_general_keys_are_not_given_away_by_their_question():
    for row in QUESTIONS:
        key = re.compile(rf"(?<!\w){re.escape(row['key'])}(?!\w)", re.IGNORECASE)
        assert not key.search(row["question"]), row


def test_general_questions_and_replayed_prompts_are_disjoint():
    questions = {row["question"] for row in QUESTIONS}
    assert len({words(text) for text in [*questions, *REPLAYED]}) == len(QUESTIONS + REPLAYED)
    pairs = near_duplicates([*questions, *REPLAYED])
    assert [pair for pair in pairs if len(questions.intersection(pair)) == 1] == []


def test_guidelines_name_every_department():
    guidelines = (DATA / "guidelines.md").read_text(encoding="utf-8")
    assert [name for name in DEPARTMENTS if f"| {name} |" not in guidelines] == []
