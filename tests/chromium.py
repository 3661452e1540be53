"""A real Chromium for tests that knows no network but this machine."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HELP = "no browser: install chromium (apt-get install chromium), or set CHROME_PATH to a Chrome or Chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    # Chromium never asks a proxy for loopback; all else goes to a port where nobody listens.
    "--proxy-server=http://127.0.0.1:9",
]
SIZE = {"width": 1280, "height": 1000}


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run Chromium until the block ends; meanwhile an asyncio loop is at work in this thread."""
    program = os.environ.get("CHROME_PATH") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.fail(HELP, pytrace=False)
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program, args=ARGUMENTS) as browser,
    ):
        yield browser


@contextmanager
def offline_page(browser: Browser, *, tolerated: str = "") -> Iterator[Page]:
    """Open a page of someone who has just sat down, and see that it asks nobody but this machine.

    A `tolerated` host is asked in vain.
    """
    strangers: list[str] = []

    def note(request: Request) -> None:
        if not is_local(request.url) and urlsplit(request.url).hostname != tolerated:
            strangers.append(request.url)

    with browser.new_context(viewport=SIZE) as context:
        context.on("request", note)
        yield context.new_page()
    assert not strangers, f"the page asked {strangers}"


def is_local(url: str) -> bool:
    """Say whether an address needs no network."""
    parts = urlsplit(url)
    return parts.scheme in ("about", "blob", "data") or parts.hostname in ("127.0.0.1", "localhost")
