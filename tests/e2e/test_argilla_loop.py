"""The loop with people in a real Argilla: blind, in a browser, and their answers come over by webhook."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from annotation.types import Answer, Cause, Verdict
from service import tools
from service.argilla_server import ensure_accounts
from service.projects import NewProject
from service.tables import ConnectorKind, ProjectKind, Role, TaskState
from tests.argilla import ArgillaPeople
from tests.chromium import offline_page
from tests.console import person
from tests.e2e.world import World, as_bundled
from tests.servers import free_port
from tests.waiting import eventually

HOSTILE = "<img src=x onerror=\"document.body.dataset.ran='yes'\">"
RASH = f"these red spots on both arms {HOSTILE} itch every single night"
RASH_AS_SHOWN = RASH.replace("<", "\uff1c")
HEART = "my heart beats too fast on the stairs"
CORRECTED = "Keep it cool and dry, and see a doctor."
BETTER = Answer(
    Verdict.INCORRECT,
    correction=CORRECTED,
    cause=Cause.MODEL,
    ratings={"factual_accuracy": 2, "coherence": 4},
)


def test_what_experts_write_in_argilla_becomes_what_the_model_learns(letters, argilla, ann, ben, people):
    for prompt in (RASH, HEART):
        letters.flag(letters.respond(prompt, "Paint them blue."), comment=f"{HOSTILE} this is dangerous")
    letters.triage(random_share=0.0)
    letters.send()
    ensure_accounts(argilla.url, argilla.data_dir, ("ann", "ben"))

    # An expert opens the project in her browser, finds what she needs, and answers.
    tool = letters.tool_project()
    shown = ann.open(letters.tool_url(), RASH_AS_SHOWN)
    assert all(
        text in shown
        for text in (
            RASH_AS_SHOWN,
            "Paint them blue.",
            f"wrong (Mark what is wrong in the response) · {HOSTILE} this is dangerous".replace(
                "<", "\uff1c"
            ),
        )
    )
    assert ann.page.evaluate("document.body.dataset.ran") is None
    ann.fill(BETTER)
    assert (ann.chosen(), CORRECTED in ann.page.content()) == (4, True)
    ann.submit()

    # Argilla tells us by a signed webhook, which asks for her answer to be read.
    assert [hook.source for hook in eventually(letters.hooks)] == ["argilla"]
    letters.do_what_was_asked_for()
    assert letters.settlement(RASH) is None

    # A second expert is shown nothing of it, agrees, and so it is settled; another task is discarded by both.
    assert RASH_AS_SHOWN in ben.open(letters.tool_url(), RASH_AS_SHOWN)
    assert (ben.chosen(), CORRECTED in ben.page.content()) == (0, False)
    assert people.shown(tool, letters.task(RASH), "ben") == []
    people.answer(tool, letters.task(RASH), "ben", BETTER)
    people.skip(tool, letters.task(HEART), "ann")
    eventually(lambda: len(letters.hooks()) >= 2)
    letters.do_what_was_asked_for()
    letters.sync()
    settled = letters.settlement(RASH)
    assert (settled.verdict, settled.correction, settled.cause) == (Verdict.INCORRECT, CORRECTED, Cause.MODEL)
    assert letters.states() == {RASH: TaskState.SETTLED, HEART: TaskState.SENT}

    # How long they took, Argilla does not say, and neither do we.
    annotators = person(letters.runtime, Role.AUDITOR, password="").get("/p/letters/annotators").text
    assert annotators.count("<td>\u2013</td><td>100 %") == 2

    letters.curate()
    assert {prompt: row.answer for prompt, row in letters.examples().items()} == {RASH: CORRECTED}


class TestJoining:
    @pytest.fixture
    def settings(self, settings, argilla):
        return as_bundled(settings, ConnectorKind.ARGILLA, argilla)

    @pytest.fixture
    def letters(self, runtime, client, work, web):
        """A project of another name: the tests share one Argilla, where a name is a workspace with its records."""
        return World(runtime, client, work, answering_in_sentences("messages"))

    def test_who_joins_by_an_invitation_answers_there_by_an_account_of_their_own(
        self, letters, browser, argilla, people
    ):
        letters.flag(letters.respond(RASH, "Paint them blue."))
        letters.triage(random_share=0.0)
        letters.send()
        shown = letters.join("mia")
        mia = tools.account(letters.runtime.settings, ConnectorKind.ARGILLA, "mia")
        assert mia.password in shown and letters.tool_url() in shown
        with offline_page(browser, tolerated="fonts.googleapis.com") as page:
            there = Expert(page, argilla.url, mia)
            there.open(letters.tool_url(), RASH_AS_SHOWN)
            there.fill(BETTER)
            there.submit()
            letters.sync()
            assert letters.who_answered() == ["mia"]

            # What an owner writes there as HTML is run: so would be what users write, were it sent as it is.
            assert page.evaluate("document.body.dataset.ran") is None
            people.add_by_hand(letters.tool_project(), prompt=HOSTILE, response="!")
            page.goto(letters.tool_url())
            assert eventually(lambda: page.evaluate("document.body.dataset.ran")) == "yes"


class Expert:
    """Reads and answers records in Argilla as a person would, by what the page shows."""

    def __init__(self, page, url, account) -> None:
        self.page = page
        page.goto(f"{url}/sign-in")
        page.locator("[name=Username]").fill(account.name)
        page.locator("[name=Password]").fill(account.password)
        page.keyboard.press("Enter")
        page.wait_for_url(lambda here: "/sign-in" not in here)

    def open(self, url: str, prompt: str) -> str:
        """Turn to the record that asks about a prompt, and return what is shown of it."""
        self.page.goto(url)
        record = self.page.locator(".record").filter(has_text="What readers said")
        record.wait_for()
        if prompt not in record.inner_text():
            self.page.get_by_role("button", name="Next").click()
            record.filter(has_text=prompt).wait_for()
        return record.inner_text()

    def fill(self, answer: Answer) -> None:
        for name, choice in (("verdict", answer.verdict), ("cause", answer.cause)):
            self._question(name).get_by_text(str(choice), exact=True).click()
        self._question("correction").locator("[contenteditable=true]").fill(answer.correction)
        for name, rating in answer.ratings.items():
            self._question(name).get_by_text(str(rating), exact=True).click()

    def chosen(self) -> int:
        """Count the choices that are made in the page."""
        return self.page.locator("input:checked").count()

    def submit(self) -> None:
        with self.page.expect_response(lambda got: _answers(got.request)) as answer:
            self.page.get_by_role("button", name="Submit").click()
        assert answer.value.ok, answer.value.text()

    def _question(self, name: str):
        return self.page.get_by_label(f"Question: {name}", exact=True)


def _answers(request) -> bool:
    return request.method in ("POST", "PUT") and "/responses" in request.url


@pytest.fixture
def settings(settings, argilla):
    """An installation that uses this Argilla and can be reached by it."""
    tool = {"argilla_url": argilla.url, "argilla_api_key": SecretStr(argilla.admin_token)}
    return settings.model_copy(update={"port": free_port(), **tool})


@pytest.fixture
def letters(runtime, client, work, web) -> World:
    """A project that answers in sentences."""
    return World(runtime, client, work, answering_in_sentences("letters"))


def answering_in_sentences(slug: str) -> NewProject:
    return NewProject(slug, ProjectKind.GENERATION, "bundled:tiny", connector=ConnectorKind.ARGILLA)


@pytest.fixture
def ann(browser, argilla) -> Iterator[Expert]:
    """An expert who works in a browser; Argilla's page asks for fonts that it does without."""
    with offline_page(browser, tolerated="fonts.googleapis.com") as page:
        yield Expert(page, argilla.url, argilla.accounts[0])


@pytest.fixture
def ben(browser, argilla) -> Iterator[Expert]:
    """Another, at a browser of his own."""
    with offline_page(browser, tolerated="fonts.googleapis.com") as page:
        yield Expert(page, argilla.url, argilla.accounts[1])


@pytest.fixture
def people(argilla) -> ArgillaPeople:
    """The other experts, who work through Argilla's API."""
    return ArgillaPeople(argilla)
