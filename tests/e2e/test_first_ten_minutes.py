"""A newcomer's first ten minutes: from an empty data directory to a first flag, by what the pages show alone."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.chromium import offline_page, running_browser
from tests.console import PASSWORD
from tests.tree import Tree, grown
from tests.waiting import eventually

ANSWER_SECONDS = 120
QUESTION, COMMENT = "Where is my parcel?", "Shipping would know."


@pytest.fixture
def tree(tmp_path: Path, cache_dir: Path) -> Iterator[Tree]:
    """Everything at work on an empty data directory."""
    with grown(tmp_path / "data", cache_dir) as tree:
        yield tree.start()


@pytest.fixture
def page() -> Iterator[Page]:
    """A browser of someone who has just sat down."""
    with running_browser() as browser, offline_page(browser) as page:
        yield page


def test_a_newcomer_finds_the_way_from_an_empty_directory_to_a_first_flag(tree: Tree, page: Page):
    started = time.monotonic()
    page.goto(_init(tree))
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("The new one").fill(PASSWORD)
    page.get_by_role("button", name="Set it").click()
    page.get_by_role("link", name="Projects").click()
    page.get_by_role("link", name="Make the first project").click()
    _make_project(page)

    _is_told(page, "Your application needs a key to log what the model answers.")
    _follow(page, "Make a key")
    page.get_by_role("button", name="Make a key").click()
    expect(page.get_by_label("A secret key for shop")).to_have_value(re.compile("^esk_"))
    page.get_by_role("link", name="Done").click()

    _is_told(page, "Say what success is, before anything trains.")
    _follow(page, "Set criteria")
    page.locator("#criteria").get_by_role("button", name="Set it").click()
    page.get_by_role("link", name="Overview").click()

    _is_told(page, "No answer of the model is known yet.")
    _follow(page, "Ask the champion")
    page.get_by_label("Ask the champion").fill(QUESTION)
    page.get_by_role("button", name="Ask", exact=True).click()
    eventually(lambda: _is_answered(page), ANSWER_SECONDS, every=1)
    page.get_by_role("link", name="Overview").click()

    _is_told(page, "Nobody has said anything about an answer yet.")
    _follow(page, "Flag an answer")
    _flag(page)
    page.get_by_role("link", name="Feedback", exact=True).click()
    page.get_by_role("row").filter(has_text=COMMENT).get_by_role("link", name=QUESTION).click()
    expect(page.get_by_role("heading", name="A flag")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="Answered by version 0")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="Flagged as wrong")).to_be_visible()
    page.get_by_role("link", name="Overview").click()
    _is_told(page, "Nothing waits for you.")
    sys.stdout.write(f"from an empty directory to a first flag: {time.monotonic() - started:.1f} s\n")


def test_who_starts_it_on_an_empty_directory_is_told_how_to_get_in(tree: Tree):
    lines = iter(tree.process.stderr.readline, "")
    assert any("errata init --admin" in line for line in lines)


def _init(tree: Tree) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", "init", "--admin", "olga", "--json"],
        env=tree.environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return json.loads(done.stdout)["sign_in_url"]


def _make_project(page: Page) -> None:
    page.get_by_label("Name").fill("shop")
    page.get_by_label("What its model does").select_option("chooses one of some labels")
    page.get_by_label("Labels", exact=True).fill("Refund, Shipping, Account")
    page.get_by_label("Base model").fill("bundled:tiny")
    page.get_by_label("Experts work in").select_option("no tool: answers are imported as files")
    page.get_by_role("button", name="Make it").click()


def _is_told(page: Page, sentence: str) -> None:
    """The overview names the one thing to do now."""
    expect(page.get_by_role("region", name="What to do now")).to_contain_text(sentence)


def _follow(page: Page, button: str) -> None:
    page.get_by_role("region", name="What to do now").get_by_role("link", name=button).click()


def _is_answered(page: Page) -> bool:
    """While the models are still being loaded, the page keeps the question and offers to send it again."""
    again = page.get_by_role("button", name="Send it")
    if again.is_visible():
        again.click()
    return page.get_by_role("heading", name="Version 0").is_visible()


def _flag(page: Page) -> None:
    page.get_by_role("link", name="The last conversation").click()
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_label("Comment").fill(COMMENT)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status").filter(has_text="Sent. Thank you.")).to_be_visible()
