"""No source and no person supplies more of the training rows than the recipe allows."""

from collections import Counter

import pytest

from retrain.caps import beyond_caps
from retrain.recipe import BrokenRecipe, Recipe


def kept(rows, recipe):
    """Return what stays of rows, each a source and a person, and the reasons why others go."""
    sources, persons = zip(*rows, strict=True)
    gone = beyond_caps(range(len(rows)), sources=sources, persons=persons, recipe=recipe)
    return [row for at, row in enumerate(rows) if at not in gone], set(gone.values())


def rows(count, *, source="production", person=""):
    return [(source, person)] * count


def test_one_person_has_at_most_their_share_of_the_training_rows():
    given = rows(60, person="troll") + rows(10, person="ann") + rows(20)
    left, reasons = kept(given, Recipe(subject_cap=0.25))
    assert Counter(person for _, person in left) == {"troll": 10, "ann": 10, "": 20}
    assert reasons == {"subject cap"}  # names nobody
    assert kept(given, Recipe()) == (given, set())


def test_rows_of_nobody_known_are_not_one_person():
    given = rows(90) + rows(10, person="ann")
    assert kept(given, Recipe(subject_cap=0.1)) == (given, set())
    assert kept(rows(90), Recipe(subject_cap=0.1)) == (rows(90), set())


def test_both_caps_hold_at_once():
    given = rows(50, source="mail", person="troll") + rows(20, source="mail") + rows(40, source="chat")
    left, _ = kept(given, Recipe(source_cap=0.5, subject_cap=0.2))
    assert Counter(source for source, _ in left).most_common(1)[0][1] <= 0.5 * len(left)
    assert sum(person == "troll" for _, person in left) <= 0.2 * len(left)


def test_persons_who_cannot_all_stay_under_the_cap_are_refused():
    with pytest.raises(BrokenRecipe, match="subject_cap: 2 subjects cannot"):
        kept(rows(5, person="ann") + rows(5, person="ben"), Recipe(subject_cap=0.4))
