"""What the README tells people to copy works as it stands there."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from flask import Flask
from sqlmodel import select

from service import client
from service.tables import Response
from service.web.app import create_app
from tests import builders
from tests.browser.conftest import served
from tests.servers import free_port

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


class OpenAI:
    """What the README's lines need of OpenAI's own client."""

    def __init__(self, *, base_url, api_key):
        self.url = f"{base_url}/chat/completions"
        self.chat = SimpleNamespace(completions=self)

    def create(self, **asked):
        found = httpx.post(self.url, json=asked, timeout=60)
        return json.loads(found.text, object_hook=lambda members: SimpleNamespace(**members))


def test_ten_lines_put_any_openai_compatible_model_under_feedback(runtime, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "errata_client", client)
    monkeypatch.setitem(sys.modules, "openai", SimpleNamespace(OpenAI=OpenAI))
    with runtime.db.transaction() as session:
        key = builders.add_key(session, builders.add_project(session))
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    with served(create_app(runtime), free_port()) as errata:
        code = code.replace("http://127.0.0.1:8080", model).replace("http://127.0.0.1:8000", errata)
        names: dict = {}
        exec(code.replace("esk_...", key), names)  # noqa: S102  the README's own lines
        text, token = names["answer"]([{"role": "user", "content": "Where is my parcel?"}])
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    assert text == "On its way."
    assert token.startswith("v1.")
    with runtime.db.reading() as session:
        assert session.exec(select(Response.text)).all() == ["On its way."]


def test_five_lines_embed_the_widget():
    (page,) = re.findall(r"```html\n(.*?)```", README, re.DOTALL)
    assert len(page.strip().splitlines()) <= 5
    for needed in ("/widget/errata-feedback.js", "<errata-feedback", 'key="', 'token="'):
        assert needed in page


def test_every_picture_is_there():
    for path in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README):
        assert (Path(__file__).resolve().parents[2] / path).is_file(), path


@pytest.fixture
def model():
    """A server that speaks OpenAI's protocol."""
    app = Flask("model")

    @app.post("/v1/chat/completions")
    def complete():
        return {"choices": [{"message": {"role": "assistant", "content": "On its way."}}]}

    with served(app, free_port()) as url:
        yield url
