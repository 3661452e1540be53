"""Takes the README's pictures: `python -m tests.pictures SIGN_IN_LINK` of a console whose demo has walked.

Without a link it takes those of a small clinic's messy data, its audit and its sets, and of a task in Argilla.
"""

import csv
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urljoin
from uuid import UUID

from playwright.sync_api import Error, Page
from sqlmodel import Session, select

from annotation.argilla import ArgillaConnector
from annotation.label_schema import default_guidelines
from annotation.types import LabelSchema, NewTask, TaskKind
from service import glossary, jobs, people, projects, sources, valkey
from service.answers.audits import findings_of
from service.answers.corpora import find_source
from service.runtime import Runtime
from service.stages import auditing, corpus
from service.supervisor import commands
from service.tables import (
    AnnotationTask,
    Job,
    JobKind,
    JobState,
    Project,
    ProjectKind,
    Role,
    TaskState,
    TrainingSet,
    User,
)
from service.tools import ARGILLA, bundled
from tests import clinic_papers
from tests.benchmarks.installation import installation
from tests.benchmarks.processes import running
from tests.chromium import running_browser
from tests.servers import free_port, running_tool, start_valkey
from tests.waiting import eventually

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "pictures"
SIZE = {"width": 1200, "height": 760}
PROMPT = "You answer what patients ask a small clinic about its services."
TRUSTED = ("noise", "outdated", "terminology")
PAPERS = {
    "faq": (clinic_papers.faq, None),
    "brochures": (clinic_papers.marketing, datetime(2014, 12, 31, tzinfo=UTC)),
    "memos": (clinic_papers.memos, None),
    "news": (clinic_papers.news, None),
}


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


def data() -> None:
    """Import what a clinic has, audit it, build two sets with repairs between them, and show those pages."""
    with installation(port=free_port()) as runtime:
        with runtime.db.transaction() as session:
            project = clinic(session)
            olga, link = people.add_user(session, "olga", Role.ADMIN, actor="pictures")
        for name in ("faq", "brochures", "memos"):
            import_paper(runtime, project, name)
        audit = done(runtime, JobKind.CORPUS, project, options={"audit": True}).id
        judge(runtime, project, "faq", "brochures", "memos")
        first = UUID(done(runtime, JobKind.CURATE, project).result["id"])
        decide(runtime, project, first, olga)
        import_paper(runtime, project, "news")
        judge(runtime, project, "news")
        second = done(runtime, JobKind.CURATE, project).result["id"]
        home = f"p/{project.slug}"
        pages = {
            "set": (f"{home}/sets/{first}?check=noise", 1060),  # down to what people decided
            "diff": (f"{home}/sets/{second}/diff", 660),
            "audit": (f"{home}/audits/{audit}", 940),
        }
        show(runtime, f"sign-in/{link}", pages)


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


def clinic(session: Session) -> Project:
    new = projects.NewProject("clinic", ProjectKind.GENERATION, "bundled:tiny", system_prompt=PROMPT)
    project = projects.create(session, new, actor="pictures")
    known = {"description": PROMPT, "terms": {"appointment": ["time slot"]}}
    glossary.set_glossary(session, project, known, actor="pictures")
    return project


def done(
    runtime: Runtime, kind: JobKind, project: Project, *, row: UUID | None = None, options: dict | None = None
) -> Job:
    """Do a job as a worker would."""
    with runtime.db.transaction() as session:
        asked = runtime.queue.ask(session, kind, row or project.id, project_id=project.id, options=options)
    jobs.perform(runtime, runtime.queue.lease(asked))
    with runtime.db.reading() as session:
        job = session.get_one(Job, asked)
    assert job.state is JobState.DONE, job.failure
    return job


def import_paper(runtime: Runtime, project: Project, name: str) -> None:
    """Import a kind of paper from a file."""
    rows, valid_to = PAPERS[name]
    file = runtime.settings.data_dir / f"{name}.csv"
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([("question", "answer"), *rows()])
    with runtime.db.transaction() as session:
        source = sources.ensure_source(
            session, project, sources.NewSource(name, "our own", valid_to=valid_to)
        )
        options = sources.import_options(session, str(file), {}, actor="olga")
    done(runtime, JobKind.CORPUS, project, row=source.id, options=options)


def judge(runtime: Runtime, project: Project, *names: str) -> None:
    """Have two experts find all rows of these sources right."""
    with runtime.db.transaction() as session:
        for name in names:
            corpus.draw_sample(session, find_source(session, project, name), actor="olga")
        tasks = session.exec(select(AnnotationTask).where(AnnotationTask.state == TaskState.SELECTED)).all()
    answers = [
        {"response_id": str(task.response_id), "annotator": annotator, "verdict": "correct"}
        for task in tasks
        for annotator in ("ann", "ben")
    ]
    done(runtime, JobKind.IMPORT, project, options={"answers": answers})


def decide(runtime: Runtime, project: Project, set_id: UUID, olga: User) -> None:
    """Accept all that some checks propose."""
    with runtime.db.transaction() as session:
        for finding in findings_of(session, session.get_one(TrainingSet, set_id)):
            for place in range(len(finding.proposals) if finding.check in TRUSTED else 0):
                auditing.accept(session, project, finding.id, place=place, user=olga, reason="")


def show(runtime: Runtime, sign_in: str, pages: Mapping[str, tuple[str, int]]) -> None:
    environment = {**os.environ, "ERRATA_DATA_DIR": str(runtime.settings.data_dir)}
    environment["ERRATA_PORT"] = str(runtime.settings.port)
    with running(commands(runtime.settings)["web"], environment), running_browser() as browser:
        page = browser.new_context(viewport=SIZE, color_scheme="light").new_page()
        eventually(lambda: answers(page, runtime.settings.own_url), seconds=60)
        page.goto(urljoin(runtime.settings.own_url, sign_in))
        page.get_by_role("button", name="Sign in").click()
        for name, (path, height) in pages.items():
            page.set_viewport_size(SIZE | {"height": height})
            page.goto(urljoin(runtime.settings.own_url, path))
            picture(page, name)


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
        data()
        task_in_argilla()
