"""The loop with people in a real Label Studio: their answers come over by webhook, or are found without one."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr
from sqlmodel import col, select

from annotation.suggestions import SuggestionSource
from annotation.types import Answer, Cause, Verdict
from service import projects, tools
from service.projects import NewProject
from service.tables import Annotation, ConnectorKind, JobKind, ProjectKind, TaskState
from tests.chromium import offline_page
from tests.e2e.conftest import is_answering
from tests.e2e.expert import Expert
from tests.e2e.world import World, as_bundled
from tests.label_studio import LabelStudioPeople
from tests.servers import free_port
from tests.waiting import eventually

ANN, BEN, CLEO = "ann@errata.local", "ben@errata.local", "cleo@errata.local"
LABELS = ("Billing", "Cardiology", "Dermatology")
HEART, RASH, MONEY = (
    "my heart beats too fast when I climb the stairs at home",
    "these red spots on both arms <img src=x onerror=\"document.body.dataset.ran='yes'\"> itch every single night",
    "I was charged twice for the same invoice in October",
)
CORRECTED = "Keep it cool and dry, and see a doctor\nif it spreads within two days."


def corrected(label: str) -> Answer:
    return Answer(Verdict.INCORRECT, label=label, cause=Cause.MODEL)


def test_what_experts_agree_on_in_label_studio_becomes_a_training_set(clinic, ann, people, web):
    # Users flag three answers of the model, and each becomes a task.
    for prompt in (HEART, RASH, MONEY):
        clinic.flag(clinic.respond(prompt, "Billing"), comment="I was sent to the wrong place")
    clinic.triage(random_share=0.0)
    clinic.send()
    tool = clinic.tool_project()

    # An expert opens one in her browser and finds all that she needs to judge it.
    assert ann.open(tool, clinic.task(HEART)) == {
        "Context": "\u2013",
        "Prompt": HEART,
        "Response": "Billing",
        "What readers said": "wrong · I was sent to the wrong place",
    }
    assert "choose the one label that fits best" in ann.read_guidelines()
    ratings = {"factual_accuracy": 1, "coherence": 4, "conciseness": 5}
    ann.fill(Answer(Verdict.INCORRECT, label="Cardiology", cause=Cause.MODEL, ratings=ratings))
    ann.submit()

    # Label Studio tells us by webhook, which is kept and asks for her answer to be read.
    (hook,) = eventually(clinic.hooks)
    assert hook.facts["action"] == "ANNOTATION_CREATED"
    assert clinic.asked_for() == [JobKind.SYNC]
    clinic.do_what_was_asked_for()
    assert clinic.hooks() == []
    assert clinic.settlement(HEART) is None

    # A second expert agrees, and so it is settled; on another task two disagree.
    people.answer(tool, clinic.task(HEART), BEN, corrected("Cardiology"))
    people.answer(tool, clinic.task(RASH), BEN, corrected("Dermatology"))
    people.answer(tool, clinic.task(RASH), CLEO, corrected("Cardiology"))
    assert len(eventually(lambda: len(clinic.hooks()) == 3 and clinic.hooks())) == 3
    clinic.do_what_was_asked_for()
    settled = clinic.settlement(HEART)
    assert (settled.verdict, settled.label, settled.cause) == (Verdict.INCORRECT, "Cardiology", Cause.MODEL)
    assert settled.explanation == "2 of 2 annotators agree, posterior 0.99"

    # A webhook that is lost costs time and nothing else: polling finds the answers.
    web.end()
    for expert in (BEN, CLEO):
        people.answer(tool, clinic.task(MONEY), expert, Answer(Verdict.CORRECT))
    assert (clinic.hooks(), clinic.asked_for()) == ([], [])
    clinic.sync()
    assert clinic.settlement(MONEY).verdict is Verdict.CORRECT

    # What is settled is learned from; what is contested stays in sight and teaches nothing.
    clinic.curate()
    assert {prompt: row.label for prompt, row in clinic.examples().items()} == {
        HEART: "Cardiology",
        MONEY: "Billing",
    }
    assert clinic.states() == {
        HEART: TaskState.SETTLED,
        RASH: TaskState.CONTESTED,
        MONEY: TaskState.SETTLED,
    }
    assert clinic.states_of_flags() == ["corrected", "checking", "declined"]


@pytest.mark.usefixtures("web")
def test_a_response_written_in_label_studio_becomes_what_the_model_learns(letters, ann, ben, people):
    letters.flag(letters.respond(RASH, "Paint them blue."))
    letters.triage(random_share=0.0)
    letters.send()
    tool, task = letters.tool_project(), letters.task(RASH)

    better = Answer(Verdict.INCORRECT, correction=CORRECTED, cause=Cause.MODEL)
    ann.open(tool, task)
    ann.fill(better)
    ann.submit()
    ann.open(tool, task)
    eventually(lambda: (ann.chosen(), "Keep it cool" in ann.page.content()) == (2, True), 60, every=0.5)

    # Who comes second is shown nothing of it, by the task's page, by the stream of tasks and by the API.
    for shown in (ben.open(tool, task), ben.open_stream(tool)):
        assert shown["Prompt"] == RASH
        assert (ben.chosen(), "Keep it cool" in ben.page.content()) == (0, False)
        assert ben.page.evaluate("document.body.dataset.ran") is None
    assert (people.shown(task, BEN), len(people.shown(task, ANN))) == ([], 1)
    people.answer(tool, task, BEN, better)
    eventually(lambda: len(letters.hooks()) == 2)
    letters.do_what_was_asked_for()
    letters.curate()

    assert letters.settlement(RASH).correction == CORRECTED
    assert letters.examples()[RASH].answer == CORRECTED


def test_a_web_that_is_killed_while_answers_come_in_costs_none_of_them(clinic, people, web):
    for prompt in (HEART, RASH, MONEY):
        clinic.flag(clinic.respond(prompt, "Billing"))
    clinic.triage(random_share=0.0)
    clinic.send()

    def answer(prompt: str, expert: str) -> str:
        return people.answer(clinic.tool_project(), clinic.task(prompt), expert, corrected("Cardiology"))

    given = [answer(HEART, BEN)]
    eventually(clinic.hooks)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(answer, HEART, CLEO)
        os.killpg(web.children["web"].process.pid, signal.SIGKILL)
        given += [coming.result(), answer(RASH, BEN)]
    keeping_up = threading.Thread(target=web.run)
    keeping_up.start()
    given.append(answer(RASH, CLEO))
    eventually(lambda: is_answering(clinic.runtime.settings.own_url), seconds=60)
    given += [answer(MONEY, expert) for expert in (BEN, CLEO)]
    web.stop()
    keeping_up.join()

    assert 1 <= len(eventually(clinic.hooks)) < len(given)
    for _ in range(2):
        clinic.sync()
    with clinic.runtime.db.reading() as session:
        assert sorted(session.exec(select(Annotation.external_id))) == sorted(given)
    assert set(clinic.states().values()) == {TaskState.SETTLED}


@pytest.mark.usefixtures("web")
def test_what_is_suggested_stands_in_the_page_and_in_a_blind_task_it_does_not(letters, ann):
    for prompt, blind_share in ((RASH, 0.0), (HEART, 1.0)):
        with letters.runtime.db.transaction() as session:
            row = projects.find(session, letters.project.slug)
            more = {"suggestion": SuggestionSource.RESPONSE, "blind_share": blind_share}
            projects.change(session, row, **more, actor="test")
        letters.flag(letters.respond(prompt, "Paint them blue."))
        letters.triage(random_share=0.0)
        letters.send()
        ann.open(letters.tool_project(), letters.task(prompt))
        ann.fill(Answer(Verdict.INCORRECT, cause=Cause.POLICY))
        ann.submit()
    letters.sync()
    with letters.runtime.db.reading() as session:
        answers = session.exec(select(Annotation).order_by(col(Annotation.id))).all()
    assert [(answer.correction, answer.cause) for answer in answers] == [
        ("Paint them blue.", Cause.POLICY),
        (None, Cause.POLICY),
    ]


class TestJoining:
    @pytest.fixture
    def settings(self, settings, label_studio):
        return as_bundled(settings, ConnectorKind.LABEL_STUDIO, label_studio)

    def test_who_joins_by_an_invitation_answers_there_by_an_account_of_their_own(
        self, letters, browser, label_studio
    ):
        letters.flag(letters.respond(RASH, "Paint them blue."))
        letters.triage(random_share=0.0)
        letters.send()
        shown = letters.join("mia")
        mia = tools.account(letters.runtime.settings, ConnectorKind.LABEL_STUDIO, "mia")
        assert mia.password in shown and letters.tool_url() in shown
        with offline_page(browser) as page:
            there = Expert(page, label_studio.url, mia)
            there.open(letters.tool_project(), letters.task(RASH))
            there.fill(Answer(Verdict.CORRECT))
            there.submit()
        letters.sync()
        assert letters.who_answered() == ["mia"]


@pytest.fixture
def settings(settings, label_studio):
    """An installation that uses this Label Studio and can be reached by it."""
    tool = {
        "label_studio_url": label_studio.url,
        "label_studio_token": SecretStr(label_studio.admin_token),
    }
    return settings.model_copy(update={"port": free_port(), **tool})


@pytest.fixture
def clinic(runtime, client, work) -> World:
    """A project that sorts enquiries into departments."""
    new = NewProject("clinic", ProjectKind.CLASSIFICATION, "bundled:tiny", labels=LABELS)
    return World(runtime, client, work, new)


@pytest.fixture
def letters(runtime, client, work) -> World:
    """A project that answers in sentences."""
    return World(runtime, client, work, NewProject("letters", ProjectKind.GENERATION, "bundled:tiny"))


@pytest.fixture
def ann(browser, label_studio) -> Iterator[Expert]:
    """An expert who works in a browser."""
    with offline_page(browser) as page:
        yield Expert(page, label_studio.url, label_studio.accounts[0])


@pytest.fixture
def ben(browser, label_studio) -> Iterator[Expert]:
    """Another, at a browser of his own."""
    with offline_page(browser) as page:
        yield Expert(page, label_studio.url, label_studio.accounts[1])


@pytest.fixture(autouse=True)
def people(label_studio) -> Iterator[LabelStudioPeople]:
    """The other experts, who work through Label Studio's API; what each installation made there goes with it."""
    people = LabelStudioPeople(label_studio)
    yield people
    for project in (*people.projects("clinic"), *people.projects("letters")):
        people.remove_project(project)
