"""Fixtures of tests in a real browser: the application behind a real server, and pages that report what they break."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Thread

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from playwright.sync_api import Browser, Page
from werkzeug.serving import make_server

from service.runtime import Runtime
from service.settings import Settings
from service.web.app import create_app
from tests.browser.stranger import Reader, reading
from tests.chromium import offline_page, running_browser
from tests.servers import free_port

REPORT = """addEventListener("securitypolicyviolation", (event) =>
    console.error("Content Security Policy", event.effectiveDirective, event.blockedURI, event.sample));"""


@contextmanager
def served(app: Flask, port: int) -> Iterator[str]:
    """Serve an application until the block ends, and say where."""
    server = make_server("127.0.0.1", port, app, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium; it ends with its module, since two of them, or one and asyncio, do not go together."""
    with running_browser() as browser:
        yield browser


@contextmanager
def watched_page(browser: Browser) -> Iterator[Page]:
    """Open a page of someone who has just sat down; afterwards nothing may have gone wrong in it."""
    wrongs: list[str] = []
    with offline_page(browser) as page:
        page.add_init_script(REPORT)
        page.on("pageerror", lambda error: wrongs.append(str(error)))
        page.on("console", lambda said: "Content Security Policy" in said.text and wrongs.append(said.text))
        page.on("dialog", lambda dialog: (wrongs.append(dialog.message), dialog.dismiss()))
        yield page
    assert not wrongs


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of someone who has just sat down."""
    with watched_page(browser) as page:
        yield page


@pytest.fixture
def another_page(browser: Browser) -> Iterator[Page]:
    """A page of somebody else, on a computer of their own."""
    with watched_page(browser) as page:
        yield page


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings of an installation that browsers reach."""
    return settings.model_copy(update={"port": free_port()})


@pytest.fixture
def site(runtime: Runtime) -> Iterator[str]:
    """The application behind a real server: its address."""
    with served(create_app(runtime), runtime.settings.port) as url:
        yield url


@pytest.fixture
def reader(page: Page, site: str, runtime: Runtime) -> Iterator[Reader]:
    """A reader of somebody else's page before they have said anything."""
    with reading(page, runtime, site) as reader:
        yield reader


@pytest.fixture
def axe() -> Callable[..., list[str]]:
    """Return what axe-core finds serious or critical in a page, by all of its rules or by some."""

    def findings(page: Page, rules: Sequence[str] = ()) -> list[str]:
        only = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
        found = Axe().run(page, options={"resultTypes": ["violations"], **only})
        grave = [rule for rule in found.response["violations"] if rule["impact"] in ("serious", "critical")]
        return [f"{rule['id']}: {node['target']} {node['html']}" for rule in grave for node in rule["nodes"]]

    return findings
