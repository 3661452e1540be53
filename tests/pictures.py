"""Takes the README's pictures: `python -m tests.pictures SIGN_IN_LINK` of a console whose demo has walked.

Without a link it takes those of a training set, built of messy data of its own, and of a task in Argilla.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urljoin
from uuid import UUID

from playwright.sync_api import Error, Page
from sqlmodel import Session

from annotation.argilla import ArgillaConnector
from annotation.label_schema import default_guidelines
from annotation.types import LabelSchema, NewTask, TaskKind, Verdict
from retrain.recipe import Recipe
from service import people, valkey
from service.answers.audits import blocking
from service.clock import utcnow
from service.jobs.sets import Tools
from service.runtime import Runtime
from service.stages import auditing, curation
from service.supervisor import commands
from service.tables import JobKind, Project, ProjectKind, Role, TaskPurpose, TrainingSet
from service.tools import ARGILLA, bundled
from tests import builders
from tests.benchmarks.installation import installation
from tests.benchmarks.processes import running
from tests.chromium import running_browser
from tests.scenarios import clean, text_faults
from tests.servers import free_port, running_tool, start_valkey
from tests.waiting import eventually

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


def messy_set() -> None:
    """Build a set of data with known faults, have two findings decided on, and show its page."""
    with installation(port=free_port()) as runtime:
        with runtime.db.transaction() as session:
            project = settled(session)
            job = runtime.queue.ask(session, JobKind.CURATE, project.id, project_id=project.id)
        lease = runtime.queue.lease(job)
        made = curation.run(runtime, lease, project.id, Recipe(), Tools())
        with runtime.db.transaction() as session:
            link = decided(session, project, UUID(made["id"]))
        show(runtime, f"sign-in/{link}", f"p/{project.slug}/sets/{made['id']}")


def task_in_argilla() -> None:
    """Show what an expert sees of one task there."""
    schema = LabelSchema(kind=TaskKind.GENERATION, guidelines=default_guidelines(TaskKind.GENERATION))
    task = NewTask(
        key="1",
        prompt="When is the pharmacy in the north wing open on Sundays?",
        response="The pharmacy is open around the clock, every day of the year.",
        context="Pharmacy, north wing: Monday to Saturday 8 to 20, Sundays 10 to 14.",
        reasons="wrong · I stood before a closed door",
    )
    with TemporaryDirectory() as folder, running_browser() as browser:
        queue = start_valkey(Path(folder))
        url = valkey.url(Path(folder))
        with running_tool(bundled(ARGILLA), Path(folder), ["ann"], redis_url=url) as argilla:
            members = [account.name for account in argilla.accounts]
            connector = ArgillaConnector(argilla.url, argilla.admin_token, members=members)
            made = connector.set_up(slug="clinic", schema=schema, hook_url="", hook_secret="")
            connector.push(made.external_id, [task])
            page = browser.new_context(viewport=SIZE, color_scheme="light").new_page()
            page.goto(f"{argilla.url}/sign-in")
            page.locator("[name=Username]").fill(argilla.accounts[0].name)
            page.locator("[name=Password]").fill(argilla.accounts[0].password)
            page.keyboard.press("Enter")
            page.wait_for_url(lambda here: "/sign-in" not in here)
            page.goto(made.url)
            page.get_by_text(task.prompt).wait_for()
            picture(page, "argilla")
        queue.terminate()
        queue.wait()


def settled(session: Session) -> Project:
    """Add a bank's answers, which experts found right, faults and all."""
    project = builders.add_project(session, "bank")
    project.kind = ProjectKind.GENERATION
    rows, _ = text_faults.inject(clean.rows(0, 400), 0)
    for row in rows:
        response = builders.add_response(session, project, row.answer, asked=row.prompt, source=row.source)
        task = builders.add_task(session, project, response, purpose=TaskPurpose.CORPUS)
        builders.add_settlement(session, task, verdict=Verdict.CORRECT, label=None, cause=None)
    return project


def decided(session: Session, project: Project, set_id: UUID) -> str:
    """Waive one finding that blocks and accept one repair; return a link with which to sign in."""
    olga, link = people.add_user(session, "olga", Role.ADMIN, actor="pictures")
    training_set, today = session.get_one(TrainingSet, set_id), utcnow().date()
    [first, *_] = blocking(session, training_set, today)
    until = today + timedelta(days=90)
    auditing.waive(session, project, first.id, user=olga, reason="A number we publish.", until=until)
    auditing.accept(session, project, first.id, place=0, user=olga, reason="")
    return link


def show(runtime: Runtime, sign_in: str, path: str) -> None:
    environment = {**os.environ, "ERRATA_DATA_DIR": str(runtime.settings.data_dir)}
    environment["ERRATA_PORT"] = str(runtime.settings.port)
    with running(commands(runtime.settings)["web"], environment), running_browser() as browser:
        tall = SIZE | {"height": 1100}  # down to what people decided
        page = browser.new_context(viewport=tall, color_scheme="light").new_page()
        eventually(lambda: answers(page, runtime.settings.own_url), seconds=60)
        page.goto(urljoin(runtime.settings.own_url, sign_in))
        page.get_by_role("button", name="Sign in").click()
        page.goto(urljoin(runtime.settings.own_url, path))
        picture(page, "set")


def answers(page: Page, url: str) -> bool:
    try:
        return page.goto(urljoin(url, "livez")).ok
    except Error:
        return False


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
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        messy_set()
        task_in_argilla()
