"""What loops with people in a real tool share: the web server that its webhooks reach, and a browser."""

import os
from collections.abc import Iterator

import httpx
import pytest

from service.supervisor import Supervisor, commands
from tests.chromium import running_browser
from tests.waiting import eventually


@pytest.fixture
def web(settings, runtime) -> Iterator[Supervisor]:
    """The web server, as `errata up` runs it."""
    names = ("data_dir", "cache_dir", "redis_url", "port")
    environment = {f"ERRATA_{name.upper()}": str(getattr(settings, name)) for name in names}
    supervisor = Supervisor(settings, lambda name, state: None)
    child = supervisor.add("web", commands(settings)["web"], os.environ | environment)
    try:
        eventually(lambda: not child.is_running or is_answering(settings.own_url), seconds=60, every=0.1)
        assert child.is_running, child.log.read_text()
        yield supervisor
    finally:
        supervisor.end()


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with running_browser() as browser:
        yield browser


def is_answering(url: str) -> bool:
    """Say whether a web server is up."""
    try:
        return httpx.get(f"{url}/livez", timeout=1, trust_env=False).is_success
    except httpx.HTTPError:
        return False
