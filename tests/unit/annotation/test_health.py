"""A precise diagnosis of a tool, from what its server answers."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from annotation.health import argilla_health, label_studio_health
from annotation.types import Health
from tests.servers import free_port

LEGACY = "0" * 40


def jwt(kind: str) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"token_type": kind}).encode()).decode().rstrip("=")
    return f"e30.{claims}.x"


@contextmanager
def server(**answers: tuple[int, object]) -> Iterator[str]:
    """Answer each path's last part with a status and a document; everything else is not found."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("content-length") or 0))
            name = self.path.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
            status, document = answers.get(name, (404, {}))
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  the name is the library's

        def log_message(self, *_):
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{served.server_port}"
    finally:
        served.shutdown()
        thread.join()
        served.server_close()


LS, AR = {"version": (200, {"release": "1.23.2"})}, {"version": (200, {"version": "2.8.0"})}
WHO = {"whoami": (200, {"email": "admin@x"})}


@pytest.mark.parametrize(
    ("token", "answers", "problem"),
    [
        (LEGACY, LS | {"whoami": (401, {})}, "the legacy token is not accepted"),
        ("short", LS | {"whoami": (401, {})}, "neither a legacy nor a personal access token"),
        (jwt("access"), LS, "lasts five minutes"),
        (jwt("refresh"), LS | {"refresh": (401, {})}, "the personal access token is not accepted"),
        (LEGACY, LS | WHO | {"projects": (403, {})}, "the account admin@x may not see projects"),
        (LEGACY, {"version": (200, {"release": "1.9.2"})}, "Label Studio 1.9.2 is not supported"),
        (LEGACY, AR, "what answers there is not Label Studio"),
        (LEGACY, {"version": (200, b"<html>")}, "what answers there is not Label Studio"),
        (LEGACY, {"version": (502, {})}, "Label Studio answers 502"),
    ],
)
def test_what_is_wrong_with_label_studio_is_said(token, answers, problem):
    with server(**answers) as url:
        health = label_studio_health(url, token)
    assert problem in health.problem
    assert health.remedy


@pytest.mark.parametrize(
    ("key", "answers", "problem"),
    [
        ("x", AR | {"me": (401, {})}, "the API key is not accepted"),
        (jwt("access"), AR | {"me": (401, {})}, "a session's token, not an API key"),
        ("x", AR | {"me": (200, {"username": "ann", "role": "annotator"})}, "ann is an annotator"),
        ("x", {"version": (200, {"version": "1.29.0"})}, "Argilla 1.29.0 is not supported"),
        ("x", LS, "what answers there is not Argilla"),
    ],
)
def test_what_is_wrong_with_argilla_is_said(key, answers, problem):
    with server(**answers) as url:
        health = argilla_health(url, key)
    assert problem in health.problem
    assert health.remedy


def test_a_tool_that_is_well_has_no_problem():
    projects = {"projects": (200, {}), "refresh": (200, {"access": "a"})}
    with server(**LS, **WHO, **projects) as url:
        assert label_studio_health(url, LEGACY) == label_studio_health(url, jwt("refresh"))
        assert label_studio_health(url, LEGACY) == Health("1.23.2", "admin@x")
    with server(**AR, me=(200, {"username": "olga", "role": "owner"})) as url:
        assert argilla_health(url, "x") == Health("2.8.0", "olga")


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "label-studio", "http://[", ""])
def test_an_address_where_nothing_answers_has_a_remedy(url):
    url = url.replace("{port}", str(free_port()))
    for health in (label_studio_health(url, "x"), argilla_health(url, "x")):
        assert health.problem
        assert health.remedy
        assert not health.version
