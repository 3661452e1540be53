"""A host's backend logs its model's answers by our client, and nothing that is wrong with intake reaches its users."""

import asyncio
import json
import logging
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from flask import Flask, Response, request
from sqlmodel import select

from service import client as errata_client
from service import tables, tokens
from service.client import Errata, IntakeError, wrap
from service.web.app import create_app
from tests import builders
from tests.browser.conftest import served
from tests.servers import free_port

ASKED = [{"role": "user", "content": "who bills me?"}]
ALONE = """
import importlib.metadata, json, sys
from types import SimpleNamespace as It
import errata_client
say = lambda **asked: It(model="m-1", choices=[It(message=It(content="Cardiology"))])
model = It(chat=It(completions=It(create=say)))
client = errata_client.wrap(model, errata_client.Errata(sys.argv[1], sys.argv[2]))
said = client.chat.completions.create(messages=[{"role": "user", "content": "who bills me?"}])
installed = [each.name for each in importlib.metadata.distributions()]
print(json.dumps([installed, said.choices[0].message.content, said.feedback_token]))
"""


class Model:
    """An OpenAI-compatible client in memory; what it was asked stands in `asked`."""

    def __init__(self, *, content: str | None = "Cardiology", is_async: bool = False) -> None:
        self.asked: dict = {}
        self.content = content
        create = self._create_later if is_async else self._create
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=create))

    def _create(self, **asked):
        self.asked = asked
        if asked.get("stream"):
            return iter([piece(each) for each in ("Cardio", None, "logy")])
        message = SimpleNamespace(role="assistant", content=self.content)
        return SimpleNamespace(model="m-1", choices=[SimpleNamespace(message=message)])

    async def _create_later(self, **asked):
        answer = self._create(**asked)
        return in_turn(answer) if asked.get("stream") else answer


def piece(content):
    delta = SimpleNamespace(content=content)
    return SimpleNamespace(model="m-1", choices=[SimpleNamespace(index=0, delta=delta)])


async def in_turn(pieces):
    for each in pieces:
        yield each


@pytest.fixture
def project(runtime):
    with runtime.db.transaction() as session:
        return builders.add_project(session)


@pytest.fixture
def errata(runtime, project) -> Iterator[Errata]:
    """The client of a running service's project."""
    with runtime.db.transaction() as session:
        key = builders.add_key(session, project)
    with served(create_app(runtime), free_port()) as url:
        yield Errata(url, key, patience=10)


@pytest.fixture
def logged(runtime):
    """Return what was logged so far."""

    def read():
        with runtime.db.reading() as session:
            return session.exec(select(tables.Response)).all()

    return read


def test_the_wheel_alone_in_an_empty_environment_logs_answers(runtime, errata, logged, tmp_path):
    source, home = tmp_path / "source", tmp_path / "venv"
    shutil.copytree(Path(errata_client.__file__).parent, source)
    build = f"from setuptools import build_meta; print(build_meta.build_wheel({str(tmp_path)!r}))"
    built = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=True
    )
    wheel = tmp_path / built.stdout.splitlines()[-1]
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    (packages,), python = home.glob("lib/python*/site-packages"), home / "bin" / "python"
    zipfile.ZipFile(wheel).extractall(packages)  # a wheel of one package is installed so
    said = subprocess.run(
        [python, "-I", "-c", ALONE, errata._url, errata._key], capture_output=True, text=True, check=True
    )
    installed, text, token = json.loads(said.stdout)
    assert (installed, text, token[:3]) == (["errata-client"], "Cardiology", "v1.")
    assert [(row.text, row.model_version) for row in logged()] == [("Cardiology", "m-1")]


def test_an_answer_is_logged_with_its_token_beside_it(errata, logged):
    client = wrap(Model(), errata)
    said = client.chat.completions.create(model="m", messages=ASKED, errata={"subject": "ann"})
    (row,) = logged()
    assert said.choices[0].message.content == row.text
    assert (row.messages, row.model_version, row.subject) == (ASKED, "m-1", "ann")
    given = errata.feedback("down", feedback_token=said.feedback_token, reasons=["wrong"])
    assert given["status_url"]


def test_a_stream_is_logged_once_it_has_ended(errata, logged):
    stream = wrap(Model(), errata).chat.completions.create(messages=ASKED, stream=True)
    first = next(stream)
    assert (first.choices[0].delta.content, stream.feedback_token, logged()) == ("Cardio", None, [])
    assert len(list(stream)) == 2
    assert stream.feedback_token.startswith("v1.")
    assert [row.text for row in logged()] == ["Cardiology"]


def test_asynchronous_clients_are_logged_alike(errata, logged):
    async def ask():
        client = wrap(Model(is_async=True), errata)
        whole = await client.chat.completions.create(messages=ASKED)
        stream = await client.chat.completions.create(messages=ASKED, stream=True)
        return whole.feedback_token, len([each async for each in stream]), stream.feedback_token

    token, pieces, streamed = asyncio.run(ask())
    assert token.startswith("v1.") and pieces == 3 and streamed.startswith("v1.")
    assert [row.text for row in logged()] == ["Cardiology", "Cardiology"]


def test_turns_of_tools_become_what_the_answer_was_made_from(errata, logged):
    parts = [{"type": "text", "text": "who bills me?"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": parts},
        SimpleNamespace(role="assistant", content=None, tool_calls=[{}]),
        {"role": "tool", "tool_call_id": "1", "content": "bills: cardiology"},
    ]
    wrap(Model(), errata).chat.completions.create(messages=messages)
    (row,) = logged()
    assert [(turn["role"], turn["content"]) for turn in row.messages] == [
        ("system", "be brief"),
        ("user", "who bills me?"),
    ]
    assert [passage["text"] for passage in row.context] == ["bills: cardiology"]
    called = wrap(Model(content=None), errata).chat.completions.create(messages=ASKED)
    assert (called.feedback_token, len(logged())) == (None, 1)


@pytest.mark.parametrize("trouble", ["down", "raises", "hangs", "talks nonsense", "redirects", "refuses"])
def test_trouble_with_intake_never_breaks_an_answer(trouble, caplog):
    with intake_in(trouble) as (url, seen):
        errata = Errata(url, "esk_x", timeout=0.2, tries=2, patience=0.3)
        client = wrap(Model(), errata)
        with caplog.at_level(logging.WARNING, "errata_client"):
            said = client.chat.completions.create(messages=ASKED)
            stream = client.chat.completions.create(messages=ASKED, stream=True)
            told = [each.choices[0].delta.content for each in stream]
            assert errata.flush()
    assert said.choices[0].message.content == "Cardiology" and told == ["Cardio", None, "logy"]
    assert said.feedback_token is stream.feedback_token is None
    assert "an answer was not logged" in caplog.text
    assert "who bills" not in caplog.text and "esk_x" not in caplog.text
    assert "elsewhere" not in seen


def test_what_the_client_does_not_understand_breaks_no_answer_either(caplog):
    client = wrap(Model(), Errata("http://127.0.0.1:9", "esk_x"))
    for messages, facts in (([], {}), (5, {}), (ASKED, {"metadata": object()}), (ASKED, {"messages": 5})):
        caplog.clear()
        said = client.chat.completions.create(messages=messages, errata=facts)
        assert (said.choices[0].message.content, said.feedback_token) == ("Cardiology", None)
        assert "an answer was not logged" in caplog.text
    assert client._errata.log_response(ASKED, object()) is None
    strange = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=lambda **asked: 5)))
    answer = wrap(strange, client._errata).chat.completions.create(messages=ASKED)
    assert (answer.answer, answer.feedback_token, copy(answer).answer) == (5, None, 5)


def test_with_trouble_feedback_says_so_and_is_sent_again_under_the_same_id():
    with intake_in("raises") as (url, seen):
        errata = Errata(url, "esk_x", tries=3)
        with pytest.raises(IntakeError, match="503") as failed:
            errata.feedback("down", response_id="chat-1")
    assert not failed.value.is_refusal
    assert len(seen) == 3 and len({each["event_id"] for each in seen}) == 1
    with intake_in("refuses") as (url, seen), pytest.raises(IntakeError, match="422 invalid_request /rating"):
        Errata(url, "esk_x", tries=3).feedback("sideways", response_id="chat-1")
    assert len(seen) == 1


def test_a_retried_answer_is_logged_once(runtime, errata, logged):
    """The first try is stored, and its answer lost on the way."""
    app, lost = create_app(runtime), []

    @app.after_request
    def lose(response):
        if lost:
            return response
        lost.append(response.status_code)
        return Response(status=502)

    with served(app, free_port()) as url:
        assert Errata(url, errata._key, patience=10).log_response(ASKED, "Cardiology").startswith("v1.")
    assert (lost, len(logged())) == ([201], 1)


def test_with_the_projects_key_no_answer_waits_for_its_token(runtime, project, logged):
    kid = project.token_keys[0]["kid"]
    token_key = tokens.signing_key(project.slug, kid, runtime.secrets)
    with intake_in("hangs") as (url, _):
        errata = Errata(
            url, "esk_x", project=project.slug, token_key=token_key, timeout=0.2, tries=1, patience=60
        )
        token = errata.log_response(ASKED, "Cardiology", external_id="chat-1", subject="ann")
        errata.flush()
    read = tokens.verify(token, {kid: token_key}, now=time.time())
    assert (read.response, read.subject) == ("chat-1", "ann")


def test_a_slow_intake_gathers_no_more_than_its_share_of_threads(monkeypatch, caplog):
    monkeypatch.setattr(errata_client.intake, "MAX_UNSENT", 1)
    with intake_in("hangs") as (url, _):
        errata = Errata(url, "esk_x", timeout=0.3, tries=1, patience=0.01)
        assert [errata.log_response(ASKED, str(uuid4())) for _ in range(2)] == [None, None]
        assert errata.flush()
    assert "this one is not logged" in caplog.text


@contextmanager
def intake_in(trouble: str):
    """An intake in trouble: its address, and what it was sent."""
    app, seen = Flask("intake"), []
    refused = {"code": "invalid_request", "detail": "who bills me?", "errors": [{"pointer": "/rating"}]}
    answers = {
        "raises": ("busy", 503, {"Retry-After": "0"}),
        "talks nonsense": ("[]", 200),
        "redirects": ("", 302, {"Location": "/elsewhere"}),
        "refuses": (refused, 422),
    }

    @app.route("/<path:path>", methods=["GET", "POST"])
    def answer(path):
        seen.append(path if path == "elsewhere" else request.get_json())
        return answers[trouble]

    if trouble in answers:
        with served(app, free_port()) as url:
            yield url, seen
    else:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = free_port() if trouble == "down" else silent.getsockname()[1]
            yield f"http://127.0.0.1:{port}", seen
