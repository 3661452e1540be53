"""What a tool says when it refuses, and what of that is kept."""

import pytest

from annotation.errors import ToolRefused
from annotation.exchange import refusal, without_secrets

SECRET = "9MzvlPgLYizsjEi55HPZUwFN6udXSG91"


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
