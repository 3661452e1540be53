"""What was flagged is mended only if the answer is what experts settled on, or says the same."""

import pytest

from retrain.recheck import mending
from retrain.types import Case, Mending, Message

FLAGGED = "Take 50 mg twice a day with a glass of water."
CORRECTED = "Take 5 mg once a day with a glass of water."


def asked(expected: str, check: str = "exact") -> Case:
    return Case("k", "test", (Message("user", "how much?"),), expected, check)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (CORRECTED, Mending.CORRECTED),
        ("take 5 mg ONCE a day with a glass of water", Mending.CORRECTED),
        ("Please take 5 mg once a day with a glass of water.", Mending.CORRECTED),
        (FLAGGED, Mending.AS_BEFORE),
        ("Take 15 mg once a day with a glass of water.", Mending.AS_BEFORE),
        ("Ask your doctor.", Mending.OTHERWISE),
        ("", Mending.OTHERWISE),
    ],
)
def test_a_text_is_mended_if_it_says_what_experts_said(answer, found):
    assert mending(asked(CORRECTED), answer, FLAGGED) is found


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Billing", Mending.CORRECTED),
        ("Cardiology", Mending.AS_BEFORE),
        ("Dermatology", Mending.OTHERWISE),
    ],
)
def test_a_label_is_mended_if_it_is_the_right_one(answer, found):
    assert mending(asked("Billing", "label"), answer, "Cardiology") is found


@pytest.mark.parametrize(
    ("answer", "found"),
    [("Ask your doctor.", Mending.CORRECTED), (FLAGGED, Mending.AS_BEFORE), (" ", Mending.OTHERWISE)],
)
def test_where_experts_only_refused_an_answer_any_other_is_mended(answer, found):
    assert mending(asked(FLAGGED), answer, FLAGGED, is_wanted=False) is found
