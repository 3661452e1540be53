"""Takes the README's pictures of a console whose demo has walked: `python -m tests.pictures SIGN_IN_LINK`."""

import sys
from pathlib import Path
from urllib.parse import urljoin

from playwright.sync_api import Page

from tests.chromium import running_browser

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "pictures"
SIZE = {"width": 1200, "height": 760}


def main(link: str) -> None:
    with running_browser() as browser:
        page = browser.new_context(viewport=SIZE, color_scheme="light").new_page()
        page.goto(link)
        page.get_by_role("button", name="Sign in").click()
        page.goto(urljoin(link, "/"))
        project = page.url
        picture(page, "overview")
        page.goto(urljoin(project, "feedback?rating=down&state=corrected"))
        picture(page, "feedback")
        page.locator("main tbody a").first.click()
        picture(page, "story")
        page.get_by_role("link", name="Handed to experts").click()
        picture(page, "task")
        page.goto(urljoin(project, "evaluations"))
        page.locator("main tbody a").first.click()
        picture(page, "evaluation")
        page.goto(urljoin(project, "models"))
        picture(page, "models")
        flag(page, project)


def flag(page: Page, project: str) -> None:
    """Ask something and be about to say what is wrong with the answer."""
    page.goto(urljoin(project, "playground"))
    page.get_by_label("Ask the champion").fill("My chest hurts when I climb the stairs. Who should I see?")
    page.get_by_role("button", name="Ask").click()
    page.get_by_role("button", name="Bad answer").first.click()
    page.get_by_role("checkbox").first.check()
    page.get_by_label("Comment").fill("This is for the heart clinic.")
    picture(page, "flag")


def picture(page: Page, name: str) -> None:
    page.wait_for_timeout(600)
    FOLDER.mkdir(exist_ok=True)
    page.screenshot(path=FOLDER / f"{name}.png")


if __name__ == "__main__":
    main(sys.argv[1])
