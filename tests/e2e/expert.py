"""An expert at work in Label Studio, in a browser."""

import re

from playwright.sync_api import TimeoutError as NotThere

from annotation.types import Answer

SHOWN = ("Context", "Prompt", "Response", "What readers said")
PLACEHOLDER = "What should have been said"


class Expert:
    """Reads and answers tasks as a person would, by what the page shows."""

    def __init__(self, page, url: str, account) -> None:
        self.page, self.url = page, url
        page.goto(f"{url}/user/login/")
        page.locator("[name=email]").fill(account.email)
        page.locator("[name=password]").fill(account.password)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(lambda here: "/user/login" not in here)

    def open(self, project: str, task: str) -> dict[str, str]:
        """Open a task and return what is shown of it, by heading."""
        return self._go(f"{project}/data?task={task}")

    def open_stream(self, project: str) -> dict[str, str]:
        """Have Label Studio choose a task, and return what is shown of it."""
        return self._go(f"{project}/data?labeling=1")

    def chosen(self) -> int:
        """Count the choices that are made in the page, each of which has a key."""
        return self.page.get_by_role("radio", checked=True, name=re.compile(r"\[.\]$")).count()

    def read_guidelines(self) -> str:
        """Open the guidelines, and close them."""
        self.page.get_by_role("button", name="Instructions").click()
        dialog = self.page.get_by_text("Ratings run from 1")
        text = dialog.inner_text()
        self.page.keyboard.press("Escape")
        dialog.wait_for(state="hidden")
        return text

    def fill(self, answer: Answer) -> None:
        for choice in filter(None, (answer.verdict, answer.label, answer.cause)):
            # The page shows each choice with its key.
            self.page.get_by_role("radio", name=re.compile(rf"^{re.escape(choice)}(\[.\])?$")).click()
        if answer.correction is not None:
            self.page.get_by_placeholder(PLACEHOLDER).fill(answer.correction)
        for name, rating in answer.ratings.items():
            heading = self.page.get_by_role("heading", name=name.replace("_", " ").capitalize())
            stars = heading.locator("xpath=following::*[@role='radiogroup'][1]").get_by_role("radio")
            stars.nth(rating - 1).click()

    def submit(self) -> None:
        with self.page.expect_response(lambda got: _makes_annotation(got.request)) as answer:
            self.page.get_by_role("button", name="Submit").click()
        assert answer.value.ok, answer.value.text()

    def _go(self, where: str) -> dict[str, str]:
        self.page.goto(f"{self.url}/projects/{where}")
        try:
            return self._read(15_000)
        except NotThere:
            self.page.reload()  # now and then the tool's page opens a task before it has loaded any
            return self._read(30_000)

    def _read(self, timeout: int) -> dict[str, str]:
        return {title: self._text_below(title, timeout) for title in SHOWN}

    def _text_below(self, title: str, timeout: int) -> str:
        heading = self.page.get_by_role("heading", name=title, exact=True)
        box = heading.locator("xpath=following-sibling::*[1]")
        return box.filter(has_text=re.compile(r"\S")).inner_text(timeout=timeout).strip()


def _makes_annotation(request) -> bool:
    return request.method == "POST" and re.search(r"/tasks/\d+/annotations", request.url) is not None
