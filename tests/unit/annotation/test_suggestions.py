"""What is prefilled, for whom it is not, and how far it sways."""

import random

import pytest

from annotation.suggestions import Share, agrees, anchoring, is_blind, suggested
from annotation.types import Answer, Cause, LabelSchema, TaskKind, Verdict

ONE = LabelSchema(TaskKind.CLASSIFICATION, ("Billing", "Skin"))
MANY = LabelSchema(TaskKind.CLASSIFICATION, ("Billing", "Skin"), is_multi_label=True)
TEXT = LabelSchema(TaskKind.GENERATION)


@pytest.mark.parametrize(
    ("text", "schema", "values"),
    [
        ("Skin", ONE, {"label": "Skin"}),
        ("skin", ONE, {}),
        ("Billing\nSkin", MANY, {"labels": ["Billing", "Skin"]}),
        ("Billing\nEars", MANY, {}),
        ("", MANY, {}),
        ("Ask a doctor.", TEXT, {"correction": "Ask a doctor."}),
        (" ", TEXT, {}),
        ("x" * 200_000, TEXT, {}),
        ("a", LabelSchema(TaskKind.PAIRWISE, ratings=()), {}),
    ],
)
def test_only_what_could_be_answered_is_suggested(text, schema, values):
    assert suggested(text, schema) == values


def test_the_blind_share_is_about_what_was_asked_for_and_never_changes_its_mind():
    keys = [f"task-{n}" for n in range(5000)]
    blind = [key for key in keys if is_blind(key, 0.3)]
    assert 0.27 < len(blind) / len(keys) < 0.33
    assert blind == [key for key in keys if is_blind(key, 0.3)]
    assert not any(is_blind(key, 0.0) for key in keys)
    assert all(is_blind(key, 1.0) for key in keys)


@pytest.mark.parametrize(
    ("answer", "suggestion", "agreed"),
    [
        (Answer(Verdict.CORRECT), {"label": "Billing"}, True),
        (Answer(Verdict.CORRECT), {"label": "Skin"}, False),
        (Answer(Verdict.INCORRECT, label="Skin"), {"label": "Skin"}, True),
        (Answer(Verdict.INCORRECT, labels=("Skin", "Billing")), {"labels": ["Billing", "Skin"]}, True),
        (Answer(Verdict.INCORRECT, correction="Ask  A doctor."), {"correction": "Ask a doctor."}, True),
        (Answer(Verdict.INCORRECT, cause=Cause.POLICY), {"label": "Skin"}, False),
        (Answer(Verdict.UNSURE), {"label": "Skin"}, None),
    ],
)
def test_an_answer_agrees_if_it_comes_to_what_was_suggested(answer, suggestion, agreed):
    assert agrees(answer, suggestion, "Billing") is agreed


def test_the_published_interval():
    # Newcombe (1998), table II, 56/70 against 48/80 by method 10: 0.2000 (0.0524 to 0.3339).
    shown = [(False, n < 56) for n in range(70)]
    hidden = [(True, n < 48) for n in range(80)]
    found = anchoring(shown + hidden)
    assert (found.prefilled, found.blind) == (Share(56, 70), Share(48, 80))
    assert (found.difference, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_nothing_is_compared_with_nothing():
    assert anchoring([]) is None
    assert anchoring([(False, True)]) is None


def test_experts_who_are_swayed_are_told_from_those_who_are_not():
    def experts(follow: float) -> list[tuple[bool, bool]]:
        chance = random.Random(7)
        tasks = [(is_blind(f"t{n}", 0.3), chance.random()) for n in range(1000)]
        return [(blind, luck < 0.6 + (0 if blind else follow)) for blind, luck in tasks]

    swayed, firm = anchoring(experts(0.25)), anchoring(experts(0.0))
    assert 0.1 < swayed.low < 0.25 < swayed.high
    assert firm.low < 0 < firm.high
