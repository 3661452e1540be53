"""A log holds one line for each event, and no secret, whoever quotes one."""

import json
import logging

import pytest
import structlog

from service import logs, tokens
from service.secrets import Secrets

OURS = Secrets()
SECRETS = {
    "a secret key": tokens.new_secret("esk"),
    "a person's token": tokens.new_secret("eut"),
    "a one-time link": tokens.new_secret("esl"),
    "a session": tokens.new_secret("ess"),
    "a project's signing key": tokens.signing_key("clinic", "k1", OURS),
    "a target's secret": tokens.webhook_secret("target", OURS),
}
QUOTED = {name: (f"refused {secret}", secret) for name, secret in SECRETS.items()} | {
    "a database's password": (
        "cannot reach postgresql+psycopg://errata:s3same-open@db/errata",
        "s3same-open",
    ),
    "Redis' password": ("cannot reach rediss://:s3same@open@redis:6379/0", "s3same"),
    "a header": ("sent {'Authorization': 'Bearer abc.def-ghi'}", "abc.def-ghi"),
    "a header of HTTP": ("sent authorization: Basic dXNlcjp3b3Jk", "dXNlcjp3b3Jk"),
}
PLAIN = (
    "https://hooks.example/errata?x=1",
    "user@clinic.example wrote",
    "sha256:0af7651916cd43dd8448eb211c80319c",
    "the bearer of bad news",
    "12:30:05 by olga@ward",
)


@pytest.fixture(autouse=True)
def _configured():
    logs.configure()


@pytest.mark.parametrize("quoted", QUOTED)
def test_no_secret_is_written_whatever_holds_it(quoted, capfd):
    text, secret = QUOTED[quoted]
    structlog.get_logger().warning("broke", error=text, nested={"deep": [text]})
    try:
        int(text)
    except ValueError:
        structlog.get_logger().exception("broke_too")
    said = capfd.readouterr().err
    assert secret not in said
    assert len([json.loads(line) for line in said.splitlines()]) == 2
    assert secret not in logs.without_secrets(text)


@pytest.mark.parametrize("quoted", QUOTED)
def test_libraries_write_none_either(quoted, monkeypatch, capfd):
    text, secret = QUOTED[quoted]
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    logs.configure()
    logging.getLogger("library").warning("refused: %s", text)
    said = capfd.readouterr().err
    assert said.startswith('{"event": "refused: ') and secret not in said


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text):
    assert logs.without_secrets(text) == text


def test_a_line_end_begins_no_second_entry(capfd):
    structlog.get_logger().warning("broke", name='ann\r\n{"event": "forged"}\u2028x')
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "broke"
