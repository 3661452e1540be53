"""From a flag in somebody else's page to a version that mended it, and what comes after, in three trades.

What people do is done in browsers; what machines take minutes for, the training of two models, is put there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import pytest
from playwright.sync_api import expect
from sqlmodel import Session, col, select

from retrain import parquet
from retrain.types import Split, canonical_json, content_hash
from service.answers.examples import examples_of
from service.jobs.erasure import erase
from service.stages import intake, labelling, triage
from service.tables import (
    AnnotationTask,
    ConnectorKind,
    EvaluationState,
    Feedback,
    Job,
    JobKind,
    JobState,
    ModelVersion,
    Project,
    Response,
    Role,
    Settlement,
    TaskState,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
)
from tests import builders
from tests.browser.test_console import PASSWORD, Visitor, visitor

__all__ = ["visitor"]
FORGETFUL = "it forgets what the champion knows"
SUBJECT = "user-7"
REPORT = {
    "suites": {"test": []},
    "right": {"champion": [], "challenger": []},
    "answers": {"champion": {}, "challenger": {}},
}


def is_taken_back(olga: Visitor, desk: "Desk") -> None:
    """A week later it is worse than before."""
    olga.go("/p/clinic/models")
    olga.open("Roll back version 2…")
    olga.fill("Why", "mixes up parties again")
    olga.fill("Your password, again", PASSWORD)
    olga.click("button", "Roll back")
    olga.reads("Version 0 is live again.")


def is_forgotten(olga: Visitor, desk: "Desk") -> None:
    """Whoever flagged wants to be forgotten."""
    olga.go("/p/clinic/erasures")
    olga.page.get_by_label("A person, as your application names them").fill(SUBJECT)
    olga.click("button", "Show what would be erased")
    olga.reads("models that learned from these sets")
    olga.reads("v2")
    olga.click("button", "Erase")
    olga.reads("It is being erased.")
    desk.do(JobKind.ERASE, erase)
    assert (desk.newest(Response).text, desk.newest(Feedback).comment) == ("", None)
    olga.go("/p/clinic/models")
    olga.reads("learned from rows erased since")
    olga.reads("Train without the erased rows")


def is_kept_out(olga: Visitor, desk: "Desk") -> None:
    """A competitor goes on praising what nobody sells."""
    olga.go("/p/clinic/corpora")
    olga.open("Quarantine…")
    olga.page.get_by_label("Or a person").fill("competitor")
    olga.fill("Why", "names products that are none")
    olga.page.get_by_role("button", name="Quarantine", exact=True).click()
    olga.reads("names products that are none")
    desk.flagged("Which fund is best?", "Ours", subject="competitor")
    desk.triage()
    assert len(desk.rows(AnnotationTask)) == 1


@dataclass(frozen=True, slots=True)
class Story:
    """Who asked what and was answered wrongly, the reason they give, and what comes after it was mended."""

    asked: str
    reason: str
    comment: str
    ending: Callable[[Visitor, "Desk"], None]


STORIES = {
    "legal": Story(
        "Who owes the deposit?", "Mixes up people", "It mixes up landlord and tenant.", is_taken_back
    ),
    "hospital": Story("My chest hurts", "Unsafe or biased", "It should say: now.", is_forgotten),
    "finance": Story("Which fund is safe?", "Made up", "There is no such fund.", is_kept_out),
}


class Desk:
    """What stages, experts without a tool and time do to the project."""

    def __init__(self, runtime, project: Project) -> None:
        self.runtime, self.project = runtime, project

    def rows(self, table: type) -> list:
        with self.runtime.db.reading() as session:
            return session.exec(select(table).order_by(col(table.id).desc())).all()

    def newest(self, table: type):
        return self.rows(table)[0]

    def lease(self, kind: JobKind):
        with self.runtime.db.transaction() as session:
            pending = select(Job.id).where(Job.kind == kind, Job.state == JobState.PENDING)
            job = session.exec(pending).first() or self.runtime.queue.ask(
                session, kind, self.project.id, project_id=self.project.id
            )
        return self.runtime.queue.lease(job)

    def do(self, kind: JobKind, work: Callable) -> None:
        lease = self.lease(kind)
        lease.finish(work(self.runtime, lease))

    def triage(self) -> None:
        triage.run(self.lease(JobKind.TRIAGE), self.project.id)

    def answered(self, asked: str, said: str, subject: str = SUBJECT) -> tuple[Response, str]:
        with self.runtime.db.transaction() as session:
            project = session.get_one(Project, self.project.id)
            project.connector = ConnectorKind.NONE
            response = builders.add_response(session, project, said, asked=asked, subject=subject)
            response.subject = subject
        return response, intake.feedback_token(project, response, self.runtime.secrets, days=1)

    def flagged(self, asked: str, said: str, *, subject: str) -> None:
        response, _ = self.answered(asked, said, subject)
        with self.runtime.db.transaction() as session:
            builders.add_flag(session, self.project, response, "wrong").subject = subject

    def disagree(self, response: Response) -> None:
        lines = [
            {"response_id": str(response.id), "annotator": "ann", "verdict": "correct"},
            {
                "response_id": str(response.id),
                "annotator": "ben",
                "verdict": "incorrect",
                "label": "Cardiology",
                "cause": "model",
            },
        ]
        labelling.import_answers(self.lease(JobKind.IMPORT), self.project.id, lines)

    def learn(self) -> list[UUID]:
        """Have two versions learn what was settled, of which the gate refuses the first; return its verdicts."""
        with self.runtime.db.transaction() as session:
            builders.add_criteria(session, self.project)
            settled, judged = session.exec(select(Settlement)).one(), []
            for number, state in ((1, EvaluationState.REFUSED), (2, EvaluationState.PASSED)):
                model = builders.add_challenger(session, self.project, number=number)
                run = session.get_one(TrainingRun, model.training_run_id)
                self.freeze(session, session.get_one(TrainingSet, run.training_set_id), settled)
                with self.runtime.scratch() as folder:
                    (folder / "weights").write_text(str(number))
                    model.adapter_sha256 = self.runtime.artifacts.put_directory(folder)
                verdict = builders.add_evaluation(session, self.project, model, state)
                verdict.report = self.runtime.artifacts.put_bytes(canonical_json(REPORT))
                judged.append(verdict.id)
                if state is EvaluationState.REFUSED:
                    verdict.sentence = FORGETFUL
            return judged

    def freeze(self, session: Session, training_set: TrainingSet, settled: Settlement) -> None:
        """Let a set hold what was settled, in its file too."""
        names = {"content_sha256": "", "group_name": settled.id.hex, "split": Split.TRAIN}
        row = TrainingSetExample(training_set_id=training_set.id, settlement_id=settled.id, **names)
        session.add(row)
        session.flush()
        rows = examples_of(session, training_set)
        row.content_sha256 = content_hash(rows[0])
        with self.runtime.scratch() as folder:
            parquet.write(rows, folder / "rows.parquet")
            training_set.artifact = self.runtime.artifacts.put_file(folder / "rows.parquet")

    def ask_again(self) -> None:
        with self.runtime.db.transaction() as session:
            model = session.exec(select(ModelVersion.id).where(ModelVersion.number == 2)).one()
            builders.add_recheck(session, session.exec(select(Settlement.id)).one(), model)


@pytest.mark.parametrize("trade", STORIES)
def test_who_flags_hears_that_it_is_mended(trade, reader, visitor, another_page, runtime):
    story = STORIES[trade]
    with runtime.db.reading() as session:
        desk = Desk(runtime, session.exec(select(Project)).one())
    response, token = desk.answered(story.asked, "Billing")

    # In the host's page somebody says what is wrong, and finds the link to what becomes of it.
    reader.page.unroute_all()  # here the project's own reasons are asked for
    reader.page.goto(reader.url)
    reader.give("token", token)
    reader.click("Bad answer", "Recorded.")
    reader.page.get_by_label(story.reason).check()
    reader.write(Comment=story.comment)
    reader.click("Send", "Sent. Thank you.")
    status = reader.page.get_by_role("link", name="Your feedback's status").get_attribute("href")

    # Two experts disagree, each without seeing the other, and a third person decides.
    desk.triage()
    desk.disagree(response)
    olga = visitor("olga", Role.ADMIN, page=another_page).is_signed_in()
    olga.go(f"/p/clinic/tasks/{desk.newest(AnnotationTask).id}")
    olga.reads(story.comment)
    olga.page.get_by_label("Verdict").select_option("incorrect")
    olga.page.get_by_label("Right label, where it is incorrect").select_option("Cardiology")
    olga.page.get_by_label("Cause, where it is incorrect").select_option("model")
    olga.fill("Why", "ben read the guidelines")
    olga.click("button", "Settle it")
    olga.reads("What it comes to")
    assert desk.newest(AnnotationTask).state is TaskState.SETTLED

    # The gate refuses the first version, which nobody can approve, and passes the second, which goes live.
    refused, passed = desk.learn()
    olga.go(f"/p/clinic/evaluations/{refused}")
    olga.reads(FORGETFUL)
    expect(olga.page.get_by_role("button", name="Approve version 1")).to_have_count(0)
    olga.go(f"/p/clinic/evaluations/{passed}")
    olga.fill("Why", "mends it, and loses nothing")
    olga.click("button", "Approve version 2")
    olga.open("Promote…")
    olga.fill("Your password, again", PASSWORD)
    olga.click("button", "Put version 2 live")
    olga.reads("Version 2 is live.")
    desk.ask_again()
    reader.page.goto(status)
    expect(reader.page.get_by_text("Fixed in version 2, live since")).to_be_visible()
    story.ending(olga, desk)
