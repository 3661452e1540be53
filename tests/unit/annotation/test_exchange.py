"""What a tool says when it refuses, and what of that is kept."""

import pytest

from annotation.argilla import _answer, _held
from annotation.argilla_results import to_values
from annotation.errors import ToolRefused
from annotation.exchange import as_written, refusal, shown, without_html, without_secrets
from annotation.types import Answer, NewTask, Verdict

HIDDEN = "pay\u202e \x1b]52;c;eA==\x07\u200b"
SECRET = "9MzvlPgLYizsjEi55HPZUwFN6udXSG91"


def test_experts_see_what_hides_in_a_task():
    seen = shown(NewTask("1", prompt=HIDDEN, response=HIDDEN, context=HIDDEN, reasons=f"wrong · {HIDDEN}"))
    for text in seen.values():
        assert "pay⟦U+202E⟧ ⟦U+001B⟧]52;c;eA==⟦U+0007⟧⟦U+200B⟧" in text
    plain = NewTask("1", prompt="Ärztin, 👩‍⚕️", response="می\u200cکنم\n\tx")
    assert (shown(plain)["prompt"], shown(plain)["response"]) == (plain.prompt, plain.response)


@pytest.mark.parametrize(
    "told",
    [
        '{{"token": "{}", "id": 7}}',
        "{{'task_data_password': '{}'}}",
        "api_key={}&page=2",
        "Authorization: Token {}",
        "the header said Bearer {} and was refused",
        "headers={{'X-Errata-Secret': '{}'}}, status_code: 400",
    ],
)
def test_a_secret_in_what_a_tool_says_is_not_kept(told):
    kept = str(refusal("the tool", 400, told.format(SECRET), remedies={}))
    assert SECRET not in kept
    assert "[secret]" in kept


def test_what_else_a_tool_says_is_kept_to_the_letter():
    told = '{"detail": "Token is invalid", "project": ["label_config: no tag Text"], "basic": 3}'
    assert without_secrets(told) == told
    assert isinstance(refusal("the tool", 400, told, remedies={400: "ask"}), ToolRefused)
    assert str(refusal("the tool", 400, told, remedies={400: "ask"})).endswith(": ask")


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("<img src=x onerror=alert(1)>", "\uff1cimg src=x onerror=alert(1)>"),
        ("</p><!-- <?x &lt; &#60; <B>", "\uff1c/p>\uff1c!-- \uff1c?x \uff06lt; \uff06#60; \uff1cB>"),
        ("1 < 2 & a<3 && b", "1 < 2 & a<3 && b"),
    ],
)
def test_what_a_page_would_take_for_html_opens_nothing_and_stays_as_long(text, sent):
    assert (without_html(text), len(sent), as_written(sent)) == (sent, len(text), text)
    asked, by_hand = (
        _held({"id": "1", "external_id": key, "fields": {"prompt": sent}}, {}) for key in ("7", "")
    )
    assert (asked.shown, by_hand.shown) == ({"prompt": text}, {"prompt": sent})


def test_what_an_expert_copies_from_argillas_page_is_taken_as_it_was_written():
    text = "Ask R&D, use <b> or AT&T."
    assert without_html(text) != text
    values = to_values(Answer(Verdict.INCORRECT, correction=without_html(text)))
    answer, problem = _answer({"status": "submitted", "values": values}, "")
    assert (answer.correction, problem) == (text, None)
