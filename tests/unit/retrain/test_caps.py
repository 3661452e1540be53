"""No source and no person supplies more of the training rows than the recipe allows."""

from collections import Counter

import pytest

from retrain.caps import within_caps
from retrain.recipe import BrokenRecipe, Recipe
from retrain.types import Example, Kind, Message, Split


def rows(
    count: int, *, source: str = "production", person: str = "", split: Split = Split.TRAIN
) -> list[Example]:
    return [
        Example(
            key=f"{source}-{person}-{split}-{number}",
            group=str(number),
            messages=(Message("user", f"question {number}"),),
            answer="yes",
            kind=Kind.GENERATION,
            source=source,
            person=person,
            split=split,
        )
        for number in range(count)
    ]


def test_one_person_has_at_most_their_share_of_the_training_rows():
    given = (
        rows(60, person="troll")
        + rows(10, person="ann")
        + rows(20)
        + rows(5, person="troll", split=Split.TEST)
    )
    kept, dropped = within_caps(given, Recipe(subject_cap=0.25))
    trained = Counter(row.person for row in kept if row.split is Split.TRAIN)
    assert trained == {"troll": 10, "ann": 10, "": 20}
    assert sum(row.split is Split.TEST for row in kept) == 5
    assert {reason for _, reason in dropped} == {"subject cap"}  # names nobody
    assert within_caps(given, Recipe()) == (given, [])


def test_rows_of_nobody_known_are_not_one_person():
    given = rows(90) + rows(10, person="ann")
    assert within_caps(given, Recipe(subject_cap=0.1)) == (given, [])
    assert within_caps(rows(90), Recipe(subject_cap=0.1)) == (rows(90), [])


def test_both_caps_hold_at_once():
    given = rows(50, source="mail", person="troll") + rows(20, source="mail") + rows(40, source="chat")
    recipe = Recipe(source_cap=0.5, subject_cap=0.2)
    kept, dropped = within_caps(given, recipe)
    assert len(kept) + len(dropped) == len(given)
    assert Counter(row.source for row in kept).most_common(1)[0][1] <= 0.5 * len(kept)
    assert sum(row.person == "troll" for row in kept) <= 0.2 * len(kept)


def test_persons_who_cannot_all_stay_under_the_cap_are_refused():
    with pytest.raises(BrokenRecipe, match="subject_cap: 2 subjects cannot"):
        within_caps(rows(5, person="ann") + rows(5, person="ben"), Recipe(subject_cap=0.4))
