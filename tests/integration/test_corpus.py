"""What a team already has: taken in once, shown to nobody as feedback, and learned only by experts' decision."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest
from sqlmodel import col, select

from annotation.types import Verdict
from retrain.corpus import CorpusRow, UnreadableCorpus
from retrain.corpus_files import read
from retrain.intervals import wilson
from retrain.types import Message
from service import jobs, ledger, projects
from service.answers.corpora import corpora, examples_of_corpus, examples_to_audit, find_source
from service.clock import utcnow
from service.errors import Invalid, LeaseLost, WrongState
from service.queue import Lease
from service.runtime import Runtime
from service.stages import corpus, labelling, sending, triage
from service.tables import (
    Admission,
    AnnotationTask,
    Job,
    JobKind,
    JobState,
    LedgerEntry,
    Project,
    ProjectKind,
    Response,
    Role,
    Settlement,
    TaskPurpose,
    TaskState,
    TrainingSetExample,
)
from service.tool_state import Hook
from service.web.console import listing
from tests import builders
from tests.console import Person, path_of, person
from tests.fakes import FakeConnector
from tests.waiting import eventually

ROWS, SAMPLE = 80, 60
NEW = corpus.NewSource("faq", "CC-BY-4.0")
SECRET = "I cannot get in. My password is hunter2x."
ROW = {"question": "who bills me?", "answer": "Billing"}
BODY = {"source": "faq", "licence": "CC0", "rows": [ROW]}
WRONG, RIGHT = {"verdict": "incorrect", "label": "Billing", "cause": "model"}, {"verdict": "correct"}
HOOK = Hook(url="", secret="")


def question(number: int) -> str:
    """A question that is like no other, but for two words."""
    digest = sha256(str(number).encode()).hexdigest()
    return f"what about {' '.join(digest[at : at + 6] for at in range(0, 48, 6))}?"


def write(folder: Path, numbers: Iterable[int], *, more: Sequence[str] = (), name: str = "faq.csv") -> str:
    """A file with a row for each number, and lines that are none."""
    path = folder / name
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "author", "date", "region"])
        for number in numbers:
            label = builders.LABELS[number % 2]
            writer.writerow([question(number), label, "ann", "2014-05-01", "north"])
        file.writelines(f"{line}\n" for line in more)
    return str(path)


@dataclass(frozen=True, slots=True)
class Team:
    """A project whose team has data already."""

    runtime: Runtime
    project: Project
    folder: Path

    def take(self, numbers: Iterable[int], *, more: Sequence[str] = (), source: str = "faq") -> dict:
        file = write(self.folder, numbers, more=more)
        lease = self.lease(source)
        return corpus.take(lease, lease.row_id, read(file, columns={}), actor="olga")

    def lease(self, source: str = "faq") -> Lease:
        with self.runtime.db.transaction() as session:
            new = corpus.NewSource(source, "CC-BY-4.0")
            row_id = corpus.ensure_source(session, self.project, new).id
            job = self.runtime.queue.ask(session, JobKind.CORPUS, row_id, project_id=self.project.id)
        return self.runtime.queue.lease(job)

    def sample(self, size: int = SAMPLE, *, seed: int = 0) -> int:
        with self.runtime.db.transaction() as session:
            source = find_source(session, self.project, "faq")
            return corpus.draw_sample(session, source, size=size, seed=seed, actor="olga")

    def judge(self, *, wrong: int = 0, of: int | None = None) -> None:
        """Have ann and ben answer the tasks that wait, the first ones with "incorrect"."""
        tasks = [task for task in self.rows(AnnotationTask) if task.state is TaskState.SELECTED][:of]
        lines = [
            (WRONG if place < wrong else RIGHT) | {"response_id": str(task.response_id), "annotator": name}
            for place, task in enumerate(tasks)
            for name in ("ann", "ben")
        ]  # fmt: skip
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(session, JobKind.IMPORT, self.project.id, project_id=self.project.id)
        labelling.import_answers(self.runtime.queue.lease(job), self.project.id, lines)

    def decide(self) -> Admission:
        with self.runtime.db.transaction() as session:
            source = find_source(session, self.project, "faq")
            admission = corpus.decide(session, source, now=utcnow(), actor="olga")
        corpus.settle_admitted(self.lease(), source.id)
        return admission

    def curate(self) -> Job:
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(session, JobKind.CURATE, self.project.id, project_id=self.project.id)
        jobs.perform(self.runtime, self.runtime.queue.lease(job))
        with self.runtime.db.reading() as session:
            return session.get_one(Job, job)

    def learned(self) -> list[tuple[Settlement, Response]]:
        """What is in any set, with the response that it comes from."""
        rows = (
            select(Settlement, Response)
            .join(TrainingSetExample, col(TrainingSetExample.settlement_id) == Settlement.id)
            .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
            .join(Response, col(AnnotationTask.response_id) == Response.id)
        )
        with self.runtime.db.reading() as session:
            return list(session.exec(rows))

    def told(self) -> dict:
        with self.runtime.db.reading() as session:
            [told] = corpora(session, self.project)
            return told

    def state(self) -> str:
        return self.told()["state"]

    def rows(self, table: type) -> Sequence:
        with self.runtime.db.reading() as session:
            return session.exec(select(table).order_by(col(table.id))).all()

    def texts(self) -> Counter[str]:
        return Counter(row.messages[0]["content"] for row in self.rows(Response))


def open_team(runtime: Runtime, folder: Path) -> Team:
    with runtime.db.transaction() as session:
        return Team(runtime, builders.add_project(session), folder)


@pytest.fixture
def team(runtime, tmp_path) -> Team:
    return open_team(runtime, tmp_path)


@pytest.fixture
def any_team(any_runtime, tmp_path) -> Team:
    return open_team(any_runtime, tmp_path)


class TestImport:
    def test_rows_come_with_author_day_licence_and_attributes(self, any_team):
        any_team.take([1])
        [row] = any_team.rows(Response)
        assert (row.messages, row.text) == ([{"role": "user", "content": question(1)}], "Cardiology")
        assert row.host_metadata == {"author": "ann", "written": "2014-05-01", "origin": "faq"}
        assert (row.attributes, row.legal_basis, row.external_id) == (
            {"region": "north"},
            "licence: CC-BY-4.0",
            None,
        )

    def test_the_same_content_again_adds_nothing(self, any_team):
        told = [any_team.take(numbers) for numbers in ([1, 2, 2], [1, 2], [2, 3])]
        assert [(one["added"], one["known"]) for one in told] == [(2, 1), (0, 2), (1, 1)]
        assert set(any_team.texts().values()) == {1}

    def test_the_same_content_of_another_source_is_another_row(self, team):
        team.take([1])
        assert team.take([1], source="memos")["added"] == 1

    def test_what_cannot_be_read_is_told_and_loses_nothing_else(self, any_team):
        told = any_team.take(
            [1, 2], more=["too,few", ",Billing,,,", 'open,"quote,,,', f"{question(3)},Billing,,,"]
        )
        assert (told["added"], told["unread"]) == (3, 3)
        assert [problem["place"] for problem in told["problems"]] == [f"faq.csv line {n}" for n in (4, 5, 6)]

    def test_a_file_of_which_nothing_fits_is_refused(self, team, tmp_path):
        lease = team.lease()
        (tmp_path / "faq.csv").write_text("Frage,Antwort\nwer?,wir\n")
        with pytest.raises(UnreadableCorpus, match="line 2: no question among 'Frage', 'Antwort'"):
            corpus.take(lease, lease.row_id, read(str(tmp_path / "faq.csv"), columns={}), actor="olga")

    def test_a_label_is_no_answer_where_texts_are_learned(self, runtime, tmp_path):
        with runtime.db.transaction() as session:
            new = projects.NewProject("letters", ProjectKind.GENERATION, "bundled:tiny")
            team = Team(runtime, projects.create(session, new, actor="test"), tmp_path)
        with pytest.raises(UnreadableCorpus, match=corpus.NO_ANSWER):
            team.take([1])

    def test_what_would_stop_a_training_is_set_aside_with_its_reason(self, any_team):
        told = any_team.take([1, 2], more=[f"{SECRET},Billing,,,", f"{question(3)},Refunds,,,"])
        aside = {"has a label that the project does not know": 1, "holds a password": 1}
        assert (told["added"], told["set_aside"]) == (4, aside)
        assert any_team.take([1, 2], more=[f"{SECRET},Billing,,,"])["set_aside"] == aside
        assert any_team.told()["set_aside"] == aside
        assert any_team.rows(LedgerEntry)[-1].facts["set_aside"] == aside

    def test_a_job_that_ends_in_its_middle_goes_on_where_it_ended(self, any_team, monkeypatch):
        monkeypatch.setattr(corpus, "BATCH", 2)
        lease, numbers = any_team.lease(), [1, 2, 3, 4, 5]
        file = write(any_team.folder, numbers)

        def cancelled_after_three():
            for place, found in enumerate(read(file, columns={})):
                if place == 3:
                    any_team.runtime.queue.cancel(lease.job_id, actor="olga")
                yield found

        with pytest.raises(LeaseLost):
            corpus.take(lease, lease.row_id, cancelled_after_three(), actor="olga")
        assert any_team.texts() == Counter(map(question, [1, 2]))
        any_team.runtime.queue.retry(lease.job_id, actor="olga")
        again = any_team.runtime.queue.lease(lease.job_id)
        told = corpus.take(again, lease.row_id, read(file, columns={}), actor="olga")
        assert (told["added"], told["known"]) == (3, 2)
        assert any_team.texts() == Counter(map(question, numbers))

    def test_a_killed_worker_s_rows_are_there_once_after_the_next_attempt(self, team, tmp_path):
        numbers = range(6000)
        with team.runtime.db.transaction() as session:
            source = corpus.ensure_source(session, team.project, NEW)
            options = {"path": write(tmp_path, numbers), "columns": {}, "actor": "olga"}
            job = team.runtime.queue.ask(
                session, JobKind.CORPUS, source.id, project_id=team.project.id, options=options
            )
        chosen = team.runtime.settings
        names = ("data_dir", "cache_dir", "redis_url")
        environment = {f"ERRATA_{name.upper()}": str(getattr(chosen, name)) for name in names}
        worker = subprocess.Popen(
            [sys.executable, "-m", "service.worker", "--job", str(job)], env=os.environ | environment
        )
        eventually(lambda: team.rows(Job)[0].progress.get("added", 0) >= corpus.BATCH, seconds=120)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        assert corpus.BATCH <= len(team.rows(Response)) < len(numbers)
        with team.runtime.db.transaction() as session:
            session.get_one(Job, job).lease_until = utcnow()
        team.runtime.queue.sweep()
        jobs.perform(team.runtime, team.runtime.queue.lease(job))
        assert team.texts() == Counter(map(question, numbers))
        assert team.rows(Job)[0].state is JobState.DONE

    @pytest.mark.parametrize(
        ("new", "error", "why"),
        [
            (corpus.NewSource("production", "CC0"), WrongState, "holds what users were answered"),
            (corpus.NewSource("faq", "CC0"), WrongState, "is known under 'CC-BY-4.0'"),
            (corpus.NewSource("memos", " "), Invalid, "name both"),
            (corpus.NewSource(" ", "CC0"), Invalid, "name both"),
        ],
    )
    def test_a_source_that_cannot_be_is_refused(self, team, new, error, why):
        team.take([1])
        with team.runtime.db.transaction() as session, pytest.raises(error, match=why):
            corpus.ensure_source(session, team.project, new)


class TestSample:
    def test_a_sample_hangs_on_its_seed_and_the_content_alone(self, any_team):
        with any_team.runtime.db.transaction() as session:
            other = Team(any_team.runtime, builders.add_project(session, "other"), any_team.folder)
        asked = []
        for team, numbers in ((any_team, range(20)), (other, reversed(range(20)))):
            team.take(numbers)
            assert team.sample(5, seed=7) == 5
            of_team = [task for task in team.rows(AnnotationTask) if task.project_id == team.project.id]
            texts = {row.id: row.messages[0]["content"] for row in team.rows(Response)}
            asked.append({texts[task.response_id] for task in of_team})
        assert asked[0] == asked[1]

    def test_experts_are_asked_in_their_tool_as_about_anything_else(self, team):
        team.take(range(3))
        team.sample(2)
        with team.runtime.db.transaction() as session:
            job = team.runtime.queue.ask(session, JobKind.SEND, team.project.id, project_id=team.project.id)
        lease = team.runtime.queue.lease(job)
        assert sending.send(lease, team.project.id, team.project.connector, FakeConnector(), HOOK) == {
            "sent": 2
        }

    def test_a_small_corpus_is_asked_about_whole(self, team):
        team.take(range(3))
        assert team.sample() == 3

    def test_experts_see_nothing_that_is_set_aside_and_nothing_learns_it(self, team):
        team.take(range(ROWS), more=[f"{SECRET},Billing,,,", f"{question(ROWS)},Refunds,,,"])
        assert team.sample(corpus.MAX_SAMPLE) == ROWS
        team.judge()
        assert team.decide().is_admitted
        asked = {task.response_id for task in team.rows(AnnotationTask)}
        aside = [row for row in team.rows(Response) if row.id not in asked]
        assert [(row.messages[0]["content"], row.text) for row in aside] == [
            (SECRET, "Billing"),
            (question(ROWS), "Refunds"),
        ]

    def test_a_source_all_of_whose_rows_are_set_aside_says_why_none_is_drawn(self, team):
        team.take([], more=[f"{SECRET},Billing,,,"])
        with pytest.raises(WrongState, match="; 1 set aside: holds a password"):
            team.sample()

    def test_one_sample_at_a_time(self, team):
        team.take(range(9))
        team.sample(3)
        with pytest.raises(WrongState, match="a sample of 3 is not decided on yet"):
            team.sample(3)

    @pytest.mark.parametrize("size", [0, -1, corpus.MAX_SAMPLE + 1])
    def test_a_size_that_cannot_be_is_refused(self, team, size):
        team.take([1])
        with pytest.raises(Invalid, match="size"):
            team.sample(size)

    def test_triage_never_draws_a_row_of_a_corpus(self, any_team):
        any_team.take(range(5))
        with any_team.runtime.db.transaction() as session:
            session.get_one(Project, any_team.project.id).random_share = 1.0
            job = any_team.runtime.queue.ask(
                session, JobKind.TRIAGE, any_team.project.id, project_id=any_team.project.id
            )
        outcome = triage.run(any_team.runtime.queue.lease(job), any_team.project.id)
        assert (outcome["tasks_drawn"], any_team.rows(AnnotationTask)) == (0, [])


class TestDecision:
    def test_a_source_is_admitted_when_the_lower_limit_reaches_the_bar(self, any_team):
        any_team.take(range(ROWS))
        any_team.sample()
        any_team.judge(wrong=1)
        admission = any_team.decide()
        assert (admission.right, admission.asked, admission.bar) == (59, 60, 0.9)
        assert admission.low == wilson(59, 60).low
        assert admission.is_admitted
        by_admission = [one for one in any_team.rows(Settlement) if one.admission_id]
        assert {one.admission_id for one in by_admission} == {admission.id}
        assert {(one.verdict, one.agreeing, one.asked) for one in by_admission} == {(Verdict.CORRECT, 0, 0)}
        assert {one.explanation for one in by_admission} == {
            "sample of its source: 59 of 60 right, at least 0.91, bar 0.90; judged by ann, ben"
        }
        assert len(by_admission) == ROWS - SAMPLE
        assert any_team.state() == "admitted: 59 of 60 right, at least 0.91"

    def test_else_it_is_quarantined_and_nothing_is_settled(self, any_team):
        any_team.take(range(ROWS))
        any_team.sample()
        any_team.judge(wrong=3)
        admission = any_team.decide()
        assert not admission.is_admitted
        assert len(any_team.rows(Settlement)) == SAMPLE
        assert any_team.state() == "quarantined: 57 of 60 right, at least 0.86"

    def test_nothing_is_decided_before_experts_settled_all_of_the_sample(self, any_team):
        any_team.take(range(9))
        with pytest.raises(WrongState, match="no sample was drawn"):
            any_team.decide()
        any_team.sample(5)
        any_team.judge(of=2)
        assert any_team.state() == "sample with experts: 2 of 5"
        with pytest.raises(WrongState, match="experts have settled 2 of 5 sampled rows"):
            any_team.decide()

    def test_a_verdict_that_nobody_named_gave_decides_nothing(self, team):
        team.take(range(9))
        team.sample(5)
        with team.runtime.db.transaction() as session:
            for task in session.exec(select(AnnotationTask)).all():
                builders.add_settlement(session, task, verdict=Verdict.CORRECT, label=None, cause=None)
        with pytest.raises(WrongState, match="experts have settled 0 of 5"):
            team.decide()
        assert team.curate().state is JobState.DONE
        assert len(team.learned()) <= 5

    def test_a_quarantined_source_may_be_sampled_again(self, any_team):
        any_team.take(range(ROWS))
        any_team.sample(10)
        any_team.judge(wrong=5)
        assert not any_team.decide().is_admitted
        any_team.sample(60, seed=1)
        any_team.judge()
        admission = any_team.decide()
        assert (admission.right, admission.asked, admission.is_admitted) == (60, 60, True)
        assert len([one for one in any_team.rows(Settlement) if one.admission_id]) == ROWS - 70

    def test_what_comes_after_the_sample_waits_for_one_of_its_own(self, any_team):
        any_team.take(range(ROWS))
        any_team.sample()
        any_team.take(range(ROWS, ROWS + 5))
        any_team.judge()
        any_team.decide()
        assert len(any_team.rows(Settlement)) == ROWS
        assert any_team.sample() == 5

    def test_a_host_s_answers_under_the_same_name_are_not_admitted(self, any_team):
        any_team.take(range(ROWS))
        with any_team.runtime.db.transaction() as session:
            response = builders.add_response(session, any_team.project, source="faq")
        any_team.sample()
        any_team.judge()
        any_team.decide()
        assert response.id not in {task.response_id for task in any_team.rows(AnnotationTask)}

    def test_a_settling_that_ends_in_its_middle_goes_on(self, any_team, monkeypatch):
        monkeypatch.setattr(corpus, "BATCH", 3)
        any_team.take(range(ROWS))
        any_team.sample()
        any_team.judge()
        with any_team.runtime.db.transaction() as session:
            source = find_source(session, any_team.project, "faq")
            corpus.decide(session, source, now=utcnow(), actor="olga")
        lease, report = any_team.lease(), Lease.report

        def cancel(self: Lease, **facts) -> None:
            report(self, **facts)
            self.queue.cancel(self.job_id, actor="olga")

        with monkeypatch.context() as patch:
            patch.setattr(Lease, "report", cancel)
            with pytest.raises(LeaseLost):
                corpus.settle_admitted(lease, source.id)
        assert len(any_team.rows(Settlement)) == SAMPLE + 3
        assert corpus.settle_admitted(any_team.lease(), source.id)["settled"] == ROWS - SAMPLE - 3
        assert len({task.response_id for task in any_team.rows(AnnotationTask)}) == ROWS

    def test_everything_is_in_the_ledger(self, team):
        team.take(range(ROWS))
        team.sample()
        team.judge()
        team.decide()
        with team.runtime.db.reading() as session:
            assert list(ledger.broken(session)) == []
            entries = session.exec(select(LedgerEntry).where(LedgerEntry.subject == "faq")).all()
        assert [(entry.actor, entry.action) for entry in entries] == [
            ("olga", "corpus_imported"),
            ("olga", "sample_drawn"),
            ("olga", "corpus_admitted"),
        ]
        assert entries[2].facts["right"] == 60


class TestLearning:
    def test_no_row_is_learned_that_no_expert_decided_on(self, team):
        team.take(range(ROWS))
        refused = team.curate()
        assert (refused.state, refused.failure_code) == (JobState.DEAD, "invalid")
        team.sample(10)
        team.judge(of=4)
        team.curate()
        assert len(team.learned()) == 4

    def test_the_next_set_holds_what_is_admitted_with_its_admission(self, team):
        team.take(range(ROWS))
        team.sample()
        team.judge(wrong=1)
        assert team.curate().failure is None
        [admission] = team.rows(Admission)
        learned = team.learned()
        assert Counter(one.admission_id for one, _ in learned) == {None: SAMPLE, admission.id: ROWS - SAMPLE}
        assert all(row.text == one.label for one, row in learned if one.admission_id)

    def test_what_is_quarantined_is_never_learned(self, team):
        team.take(range(ROWS))
        team.sample()
        team.judge(wrong=30)
        assert team.curate().failure is None
        judged = {task.response_id for task in team.rows(AnnotationTask)}
        assert {row.id for _, row in team.learned()} <= judged
        assert len(judged) == SAMPLE

    def test_an_open_sample_stops_no_set(self, team):
        team.take(range(9))
        team.sample(5)
        team.judge(of=3)
        assert team.curate().failure is None
        assert team.rows(Admission) == []


class TestAudit:
    def test_every_row_is_audited_with_its_source_author_and_day(self, any_team):
        any_team.take([1])
        with any_team.runtime.db.reading() as session:
            [example] = examples_of_corpus(session, any_team.project)
        [row] = any_team.rows(Response)
        assert (example.key, example.source, example.label) == (str(row.id), "faq", "Cardiology")
        assert example.attributes == {"region": "north", "author": "ann"}
        assert example.written.isoformat() == "2014-05-01"

    def test_a_project_s_audit_sees_corpora_and_settled_answers_once(self, any_team):
        any_team.take(range(4))
        any_team.sample(2)
        any_team.judge()
        with any_team.runtime.db.transaction() as session:
            task = builders.add_task(
                session, any_team.project, builders.add_response(session, any_team.project)
            )
            builders.add_settlement(session, task)
        with any_team.runtime.db.reading() as session:
            examples = examples_to_audit(session, any_team.project)
        assert Counter(example.source for example in examples) == {"faq": 4, "production": 1}


class TestCommandLine:
    @pytest.fixture
    def project(self, errata) -> str:
        errata("init", "--admin", "olga")
        labels = ("--labels", "refund,shipping")
        errata(
            "projects", "create", "shop", "--kind", "classification", "--base-model", "bundled:tiny", *labels
        )
        return "shop"

    def test_data_is_imported_sampled_and_decided_on(self, errata, project, tmp_path):
        file = tmp_path / "faq.csv"
        file.write_text("text,label\nwhere is it?,shipping\nI want my money,refund\nbroken\n")
        named = ("--project", project, "--source", "faq")
        taken = ("corpus", "import", str(file), *named, "--licence", "CC0", "--valid-to", "2020-01-31")
        assert errata(*taken, "--dry-run")[1]["rows"] == 2
        assert errata("corpus", "list", "--project", project)[1]["items"] == []
        status, document = errata(*taken)
        assert (status, document["added"], document["unread"]) == (0, 2, 1)
        assert errata("corpus", "sample", *named, "--dry-run")[1]["sampled"] == 2
        assert errata("corpus", "sample", *named, "--size", "1")[1]["sampled"] == 1
        [item] = errata("corpus", "list", "--project", project)[1]["items"]
        assert (item["state"], item["valid_to"]) == ("sample with experts: 0 of 1", "2020-01-31")
        assert errata("corpus", "decide", *named)[1]["code"] == "wrong_state"
        status, report = errata("audit", "--project", project)
        assert (status, report["rows"], report["sources"][0]["source"]) == (0, 2, "faq")
        assert report["sources"][0]["shares"]["outdated"] == 1.0

    def test_a_file_is_audited_without_any_database(self, tmp_path):
        file = tmp_path / "faq.jsonl"
        file.write_text(json.dumps(ROW) + "\nbroken\n")
        environment = os.environ | {"ERRATA_DATA_DIR": str(tmp_path / "none")}
        command = (sys.executable, "-m", "service.cli", "audit", str(file))
        told = subprocess.run([*command, "--json"], env=environment, capture_output=True, check=True)
        document = json.loads(told.stdout)
        assert (document["rows"], document["unread"]) == (1, 1)
        assert document["sources"][0]["verdict"] == "faq: nothing found in 1 rows"
        shown = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
        assert "faq: nothing found in 1 rows" in shown.stdout
        assert not (tmp_path / "none").exists()

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (("audit",), "invalid"),
            (("audit", "faq.csv", "--project", "shop"), "invalid"),
            (("audit", "/nowhere/faq.csv"), "unreadable_corpus"),
            (("audit", "faq.csv", "--column", "answer"), "invalid"),
            (("audit", "--project", "shop"), "invalid"),
            (("corpus", "sample", "--project", "shop", "--source", "faq"), "not_found"),
        ],
    )
    def test_what_cannot_be_done_is_a_problem_document(self, errata, project, arguments, code):
        status, document = errata(*arguments)
        assert (status, document["code"]) == (1, code)


class TestApi:
    @pytest.fixture
    def key(self, team) -> dict[str, str]:
        with team.runtime.db.transaction() as session:
            return {"Authorization": f"Bearer {builders.add_key(session, team.project)}"}

    def test_rows_are_added_once(self, team, client, key):
        answers = [client.post("/v1/corpus", json=BODY, headers=key) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 201]
        assert [(answer.json["added"], answer.json["known"]) for answer in answers] == [(1, 0), (0, 1)]
        [item] = client.get("/v1/corpus", headers=key).json["items"]
        assert (item["source"], item["rows"], item["state"]) == ("faq", 1, "not sampled")

    @pytest.mark.parametrize(
        ("row", "pointer"),
        [
            ({"answer": "we"}, "/rows/0"),
            (ROW | {"messages": [{"role": "user", "content": "x"}]}, "/rows/0"),
            ({"question": "who?"}, "/rows/0"),
            (ROW | {"written": "soon"}, "/rows/0/written"),
            (ROW | {"colour": "red"}, "/rows/0/colour"),
            (ROW | {"question": ""}, "/rows/0/question"),
            (ROW | {"attributes": {"age": 7}}, "/rows/0/attributes/age"),
            ({"messages": [{"role": "assistant", "content": "x"}], "answer": "we"}, "/rows/0"),
        ],
    )
    def test_a_row_that_does_not_fit_is_named_by_its_field(self, team, client, key, row, pointer):
        answer = client.post("/v1/corpus", json=BODY | {"rows": [row]}, headers=key)
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
        assert team.rows(Response) == []

    def test_a_row_that_the_project_cannot_use_is_named(self, runtime, client, team):
        with runtime.db.transaction() as session:
            new = projects.NewProject("letters", ProjectKind.GENERATION, "bundled:tiny")
            letters = projects.create(session, new, actor="test")
            headers = {"Authorization": f"Bearer {builders.add_key(session, letters)}"}
        rows = [ROW, {"question": "who?", "label": "Billing"}]
        answer = client.post("/v1/corpus", json=BODY | {"rows": rows}, headers=headers)
        assert (answer.status_code, answer.json["detail"]) == (422, f"rows/1: {corpus.NO_ANSWER}")
        assert team.rows(Response) == []


class TestConsole:
    @pytest.fixture
    def olga(self, team) -> Person:
        return person(team.runtime, Role.OPERATOR, password="")

    def test_an_operator_asks_experts_and_decides(self, team, olga):
        team.take(range(ROWS))
        path = self.path(team)
        assert "not sampled" in olga.get("/p/clinic/corpora").text
        assert olga.post(f"{path}/sample", size="60").status_code == 303
        early = olga.post(f"{path}/decide")
        assert (early.status_code, "settled 0 of 60" in early.text) == (409, True)
        team.judge()
        assert olga.post(f"{path}/decide").status_code == 303
        page = olga.get(path).text
        assert "faq is admitted" in page and "admitted: 60 of 60 right, at least 0.94" in page
        lease = team.runtime.queue.lease(self.asked(team))
        jobs.perform(team.runtime, lease)
        assert len(team.rows(Settlement)) == ROWS

    def test_what_cannot_succeed_has_its_reason_in_the_button_s_place(self, team, olga):
        team.take(range(3))
        path = self.path(team)
        fresh = olga.get(path).text
        assert (
            "Ask experts about" in fresh and "no sample was drawn since" in fresh and "/decide" not in fresh
        )
        team.sample()
        asked = olga.get(path).text
        assert "a sample of 3 is not decided on yet" in asked and "settled 0 of 3 sampled rows" in asked
        assert "/sample" not in asked and "/decide" not in asked
        team.judge()
        assert "/decide" in olga.get(path).text

    def test_rows_are_shown_page_by_page_with_why_some_are_set_aside(self, team, olga, monkeypatch):
        monkeypatch.setattr(listing, "PAGE", 2)
        team.take(range(3), more=[f"{SECRET},Billing,,,"])
        team.sample(1)
        path = self.path(team)
        newest = olga.get(path).text
        assert "holds a password" in newest and 'rel="next"' in newest and question(0) not in newest
        found = olga.get(f"{path}?aside=holds+a+password&format=json").json["items"]
        assert [(row["asked"], row["state"]) for row in found] == [(SECRET, "set aside")]
        eve = person(team.runtime, Role.AUDITOR, password="")
        assert SECRET not in eve.get(f"{path}?aside=holds+a+password&format=json").text
        every = olga.get(f"{path}?format=json").json["items"]
        assert Counter(row["state"] for row in every) == {"selected": 1, "not asked": 2, "set aside": 1}
        assert olga.get(f"{path}?q={question(1)[:20]}&format=json").json["items"][0]["asked"] == question(1)

    def test_an_audit_of_all_data_is_asked_for_and_shown(self, team, olga):
        assert "Audit all data" not in olga.get("/p/clinic/corpora").text
        team.take(range(3), more=[f"{SECRET},Billing,,,"])
        assert "Audit all data" in olga.get("/p/clinic/corpora").text
        leads = path_of(olga.post("/p/clinic/audits"))
        job_id = leads.rpartition("/")[2]
        assert olga.get(f"/p/clinic/audits/{job_id}").status_code == 404
        jobs.perform(team.runtime, team.runtime.queue.lease(UUID(job_id)))
        assert f"/p/clinic/audits/{job_id}" in olga.get(leads).text
        assert f"/p/clinic/audits/{job_id}" in olga.get("/p/clinic/corpora").text
        report = olga.get(f"/p/clinic/audits/{job_id}").text
        assert "1 rows hold a password" in report and SECRET in report and "4 rows of 1 source" in report
        eve = person(team.runtime, Role.AUDITOR, password="")
        assert SECRET not in eve.get(f"/p/clinic/audits/{job_id}").text

    def test_a_reader_sees_corpora_without_buttons(self, team):
        team.take([1])
        eve = person(team.runtime, Role.AUDITOR, password="")
        assert "CC-BY-4.0" in eve.get("/p/clinic/corpora").text
        for path in ("/p/clinic/corpora", self.path(team)):
            assert '<form method="post" action="/p/' not in eve.get(path).text

    def path(self, team: Team) -> str:
        with team.runtime.db.reading() as session:
            return f"/p/clinic/corpora/{find_source(session, team.project, 'faq').id}"

    @staticmethod
    def asked(team: Team) -> UUID:
        pending = [job for job in team.rows(Job) if job.state is JobState.PENDING]
        return next(job.id for job in pending if job.kind is JobKind.CORPUS)


def test_a_row_of_the_library_is_what_the_stage_takes(team):
    row = CorpusRow((Message("user", "who?"),), label="Billing")
    with team.runtime.db.transaction() as session:
        source = corpus.ensure_source(session, team.project, NEW)
        told = corpus.import_rows(session, source, [row, row], actor="olga")
    assert told == {"added": 1, "known": 1, "set_aside": {}}
    assert TaskPurpose.CORPUS not in {task.purpose for task in team.rows(AnnotationTask)}
