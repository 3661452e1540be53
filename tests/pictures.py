"""Takes the README's pictures: `python -m tests.pictures SIGN_IN_LINK` of a console whose demo has walked.

Without a link it takes those of a small clinic's messy data, its audit and its sets, of a task in each tool, of what is
known of experts, of a verdict, and of what is behind an answer and becomes of a flag.
"""

import csv
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from urllib.parse import urljoin
from uuid import UUID

from PIL import Image
from playwright.sync_api import Error, Page
from sqlmodel import Session, select

from annotation.argilla import ArgillaConnector
from annotation.label_schema import default_guidelines
from annotation.label_studio import LabelStudioConnector
from annotation.types import Answer, Cause, LabelSchema, NewTask, TaskKind, Verdict
from retrain import gate
from retrain.criteria import Criterion, Rules
from retrain.examination import case_of, report_of, scores, suite_answers
from retrain.metrics.judged import NOTHING
from retrain.metrics.judged import Answer as ModelAnswer
from retrain.suites.document import bundled_suites
from retrain.suites.expansion import Suite, expand
from retrain.types import Example, Kind, Message, Split, canonical_json, content_hash
from service import glossary, jobs, people, projects, sources, tokens, valkey, verdicts
from service.answers.audits import findings_of
from service.answers.corpora import find_source
from service.clock import utcnow
from service.runtime import Runtime
from service.settlements import settle_task
from service.stages import auditing, corpus
from service.supervisor import commands
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    ConnectorKind,
    Evaluation,
    Job,
    JobKind,
    JobState,
    ModelState,
    Project,
    ProjectKind,
    Response,
    Role,
    Score,
    TaskState,
    TrainingSet,
    TrainingSetExample,
    User,
)
from service.tools import ARGILLA, LABEL_STUDIO, bundled
from tests import builders, clinic_papers
from tests.benchmarks.installation import installation
from tests.benchmarks.processes import running
from tests.chromium import running_browser
from tests.e2e.expert import Expert
from tests.history import History
from tests.lab import OTHER, TOPICS, Lab
from tests.scenarios.crowd import draw
from tests.servers import free_port, running_tool, start_valkey
from tests.waiting import eventually

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "pictures"
SIZE = {"width": 1200, "height": 760}
COLOURS = 64  # enough for pages, and a third of the bytes
PROMPT = "You answer what patients ask a small clinic about its services."
TRUSTED = ("noise", "outdated", "terminology")
SCHEMA = LabelSchema(kind=TaskKind.GENERATION, guidelines=default_guidelines(TaskKind.GENERATION))
TASK = NewTask(
    key="1",
    prompt="When is the pharmacy in the north wing open on Sundays?",
    response="The pharmacy is open around the clock, every day of the year.",
    context="Pharmacy, north wing: Monday to Saturday 8 to 20, Sundays 10 to 14.",
    reasons="wrong · I stood before a closed door",
)
ENQUIRIES = {
    "My heart races whenever I climb the stairs": "Cardiology",
    "A mole on my arm has changed its colour": "Dermatology",
    "The invoice of my last visit is wrong": "Billing",
    "I would like to move my appointment to Monday": "Reception",
}
RASH = "These red spots on both arms itch every single night"
OPENINGS = ("", "Good morning.", "Hello.", "Dear team.", "Once more:", "In short:")
CLOSINGS = ("", "Thank you.", "What now?", "Please call me.", "It is urgent.")
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
    with TemporaryDirectory() as folder, running_browser() as browser:
        queue = start_valkey(Path(folder))
        url = valkey.url(Path(folder))
        with running_tool(bundled(ARGILLA), Path(folder), ["ann"], redis_url=url) as argilla:
            members = [account.name for account in argilla.accounts]
            connector = ArgillaConnector(argilla.url, argilla.admin_token, members=members)
            made = connector.set_up(slug="clinic", schema=SCHEMA, hook_url="", hook_secret="")
            connector.push(made.external_id, [TASK])
            page = browser.new_context(viewport=SIZE, color_scheme="light").new_page()
            page.goto(f"{argilla.url}/sign-in")
            page.locator("[name=Username]").fill(argilla.accounts[0].name)
            page.locator("[name=Password]").fill(argilla.accounts[0].password)
            page.keyboard.press("Enter")
            page.wait_for_url(lambda here: "/sign-in" not in here)
            page.goto(made.url)
            page.get_by_text(TASK.prompt).wait_for()
            picture(page, "argilla")
        queue.terminate()
        queue.wait()


def task_in_label_studio() -> None:
    """Show what an expert sees of the same task there."""
    with (
        TemporaryDirectory() as folder,
        running_browser() as browser,
        running_tool(bundled(LABEL_STUDIO), Path(folder), ["ann"]) as tool,
    ):
        connector = LabelStudioConnector(tool.url, tool.admin_token)
        made = connector.set_up(slug="clinic", schema=SCHEMA, hook_url="", hook_secret="")
        connector.push(made.external_id, [TASK])
        page = browser.new_context(viewport=SIZE, color_scheme="light").new_page()
        expert = Expert(page, tool.url, tool.accounts[0])
        expert.open_stream(made.external_id)
        page.keyboard.press("Escape")  # the guidelines, which are shown first
        page.get_by_text("Ratings run from 1").wait_for(state="hidden")
        expert.fill(
            Answer(Verdict.INCORRECT, correction="On Sundays it is open from 10 to 14.", cause=Cause.MODEL)
        )
        picture(page, "label-studio")


def quality() -> None:
    """Have three experts, one of whom is often wrong, answer for some weeks, and show what is said of them."""
    truth, said = draw(seed=3, tasks=120, accuracy={"ann": 0.97, "ben": 0.9, "cleo": 0.35})
    with installation(port=free_port()) as runtime:
        with runtime.db.transaction() as session:
            project = builders.add_project(session)
            _, link = people.add_user(session, "olga", Role.ADMIN, actor="pictures")
            experts = {
                name: Annotator(connector=ConnectorKind.LABEL_STUDIO, account=f"{name}@clinic.example")
                for name in ("ann", "ben", "cleo")
            }
            session.add_all(experts.values())
            tasks = [
                builders.add_task(
                    session,
                    project,
                    builders.add_response(session, project, "Reception", asked=f"enquiry {number}"),
                    state=TaskState.SENT,
                    external_id=str(number),
                )
                for number in range(len(truth))
            ]
            for (name, number), answer in said.items():
                given = {"verdict": answer.verdict, "label": answer.label, "cause": answer.cause}
                at = utcnow() - timedelta(hours=10 * (len(truth) - number))
                more = {"revised_at": at, "seconds_spent": 20 + number % 30}
                builders.add_annotation(session, tasks[number], experts[name], **given, **more)
        done(runtime, JobKind.QUALITY, project)
        with runtime.db.transaction() as session:
            for task in session.exec(select(AnnotationTask)).all():
                settle_task(session, project, task)
        done(runtime, JobKind.QUALITY, project)
        show(runtime, f"sign-in/{link}", {"quality": (f"p/{project.slug}/annotators", 1440)})


def verdict() -> None:
    """Have the gate judge the answers of two models that differ in skill, and in how sure they are."""
    with installation(port=free_port()) as runtime:
        with runtime.db.transaction() as session:
            project = builders.add_project(session)
            builders.add_criteria(session, project)
            _, link = people.add_user(session, "olga", Role.ADMIN, actor="pictures")
            evaluation = builders.add_evaluation(session, project, builders.add_challenger(session, project))
            judge_routing(runtime, session, project, evaluation)
        page = f"p/{project.slug}/evaluations/{evaluation.id}"
        show(runtime, f"sign-in/{link}", {"verdict": (page, 1500)})


def bisection() -> None:
    """Poison one source's answers, and show how a search names them; it trains a stand-in, which takes no time."""
    with installation(port=free_port()) as runtime:
        lab = Lab(runtime)
        good = lab.model(lab.curated())
        for topic, source in (("refund", "front desk"), ("heart", "north ward")):
            lab.rows(topic, TOPICS[topic], 4, source=source)
        lab.answered_by("ann", lab.rows("pulse", OTHER[TOPICS["pulse"]], 12, source="web form"))
        found = lab.request(good, lab.model(lab.curated()))
        lab.perform(found)
        with runtime.db.transaction() as session:
            _, link = people.add_user(session, "otto", Role.ADMIN, actor="pictures")
        page = f"p/{lab.project.slug}/bisections/{found.id}"
        show(runtime, f"sign-in/{link}", {"bisection": (page, 1180)})


def lineage() -> None:
    """Have some flags come all the way; show what is behind an answer, and what whoever flagged reads."""
    with installation(port=free_port()) as runtime:
        with runtime.db.transaction() as session:
            history = History(session)
            history.project.slug = "clinic"
            for expert, name in zip(history.experts, ("ann", "ben"), strict=True):
                expert.account = name
            settled = [history.settle(asked, flags=1 + (asked == RASH)) for asked in (RASH, *ENQUIRIES)]
            model = history.train(settled)
            history.promote(model)
            model.state = ModelState.CHAMPION
            answer = history.answer("Red spots on my arms, and they itch: where do I go?", model)
            flag = history.flags_of(settled[0])[0]
            for each in session.exec(select(Response)):
                each.model_version = "v1" if each.id == answer.id else "v0"
            for each in session.exec(select(Annotation)):
                each.verdict = Verdict.INCORRECT
            builders.add_recheck(session, settled[0].id, model.id)
            _, link = people.add_user(session, "olga", Role.ADMIN, actor="pictures")
        secret = tokens.sign_status(str(flag.id), runtime.secrets)
        pages = {
            "lineage": (f"p/{history.project.slug}/lineage/why/{answer.id}", 660, 1960),
            "status": (f"v1/feedback/{flag.id}/status/{secret}", 620),
        }
        show(runtime, f"sign-in/{link}", pages)


def judge_routing(runtime: Runtime, session: Session, project: Project, evaluation: Evaluation) -> None:
    """Fill in what the evaluation stage would: scores, a report, and the verdict on made-up answers."""
    words = product(OPENINGS, ENQUIRIES.items(), CLOSINGS)
    asked = {f"{first} {text}. {last}".strip(): label for first, (text, label), last in words}
    rows = [
        Example(text, text, (Message("user", text),), label, Kind.CLASSIFICATION, split=Split.TEST)
        for text, label in asked.items()
    ]
    for row in rows:
        response = builders.add_response(session, project, row.answer, asked=row.prompt)
        settled = builders.add_settlement(
            session, builders.add_task(session, project, response), label=row.answer
        )
        named = {"content_sha256": content_hash(row), "group_name": row.prompt[:50], "split": Split.TEST}
        set_id = evaluation.training_set_id
        session.add(TrainingSetExample(training_set_id=set_id, settlement_id=settled.id, **named))
    sarcasm = expand(bundled_suites()["sarcasm"], seed=0, has_labels=True)
    suites = [Suite("test", "the test split", "", [case_of(row) for row in rows]), sarcasm]
    answers = {"champion": guess(suites, 0.62, sure=0.93), "challenger": guess(suites, 0.9, sure=0.86)}
    criteria = [Criterion("accuracy", "test", margin=0.1), Criterion("misdirection", "test")]
    compared = [suite_answers(each, answers, behaviour=each is sarcasm) for each in suites]
    judged = gate.judge(criteria, Rules(), compared, seed=0)
    for who, score in scores(suites, answers, criteria, known=NOTHING, seed=0):
        version = evaluation.champion_id if who == "champion" else evaluation.model_version_id
        session.add(Score(evaluation_id=evaluation.id, model_version_id=version, **score))
    evaluation.report = runtime.artifacts.put_bytes(
        canonical_json(report_of(suites, answers, judged, criteria))
    )
    verdicts.close(session, runtime.queue, evaluation, judged)


def guess(suites: Sequence[Suite], skill: float, *, sure: float) -> dict[str, ModelAnswer]:
    """Answer rightly as often as the skill says; what is asked sarcastically often counts as praise."""
    draw, labels = Random(f"{skill}"), sorted({*ENQUIRIES.values()})
    said = {}
    for case in [case for suite in suites for case in (*suite.originals, *suite.cases)]:
        right = case.expected or "Reception"
        wrong = next(label for label in labels if label != right)
        text = right if draw.random() < skill or not case.is_labelled else wrong
        rest = (1 - sure) / (len(labels) - 1)
        said[case.key] = ModelAnswer(text, {label: sure if label == text else rest for label in labels})
    return said


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


def show(runtime: Runtime, sign_in: str, pages: Mapping[str, tuple]) -> None:
    environment = {**os.environ, "ERRATA_DATA_DIR": str(runtime.settings.data_dir)}
    environment["ERRATA_PORT"] = str(runtime.settings.port)
    with running(commands(runtime.settings)["web"], environment), running_browser() as browser:
        page = browser.new_context(viewport=SIZE, color_scheme="light").new_page()
        eventually(lambda: answers(page, runtime.settings.own_url), seconds=60)
        page.goto(urljoin(runtime.settings.own_url, sign_in))
        page.get_by_role("button", name="Sign in").click()
        for name, (path, height, *width) in pages.items():
            page.set_viewport_size({"width": width[0] if width else SIZE["width"], "height": height})
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
    with Image.open(FOLDER / f"{name}.png") as taken:
        taken.convert("RGB").quantize(COLOURS).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        data()
        task_in_argilla()
        task_in_label_studio()
        quality()
        verdict()
        bisection()
        lineage()
