"""What a team already has: taken in once, shown to nobody as feedback, and learned only by experts' decision."""

import os
import signal
import subprocess
import sys
from collections import Counter

import pytest
from sqlmodel import select

from annotation.types import Verdict
from retrain.corpus import CorpusRow, UnreadableCorpus
from retrain.corpus_files import read
from retrain.intervals import wilson
from retrain.types import Message
from service import jobs, ledger, projects, sources
from service.answers.corpora import examples_of_corpus, examples_to_audit, find_source, too_few
from service.clock import utcnow
from service.errors import Invalid, LeaseLost, WrongState
from service.queue import Lease
from service.stages import corpus, sending, triage
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
    Settlement,
    TaskPurpose,
)
from service.tool_state import Hook
from tests import builders
from tests.fakes import FakeConnector
from tests.team import ROWS, SAMPLE, SECRET, Team, question, write
from tests.waiting import eventually

NEW = sources.NewSource("faq", "CC-BY-4.0")
HOOK = Hook(url="", secret="")


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
            source = sources.ensure_source(session, team.project, NEW)
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
            (sources.NewSource("production", "CC0"), WrongState, "holds what users were answered"),
            (sources.NewSource("faq", "CC0"), WrongState, "is known under 'CC-BY-4.0'"),
            (sources.NewSource("memos", " "), Invalid, "name both"),
            (sources.NewSource(" ", "CC0"), Invalid, "name both"),
        ],
    )
    def test_a_source_that_cannot_be_is_refused(self, team, new, error, why):
        team.take([1])
        with team.runtime.db.transaction() as session, pytest.raises(error, match=why):
            sources.ensure_source(session, team.project, new)


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

    def test_what_was_erased_is_neither_asked_about_nor_audited(self, any_team):
        any_team.take(range(5))
        with any_team.runtime.db.transaction() as session:
            for row in session.exec(select(Response).order_by(Response.id).limit(3)):
                row.erased_at, row.text = utcnow(), ""
        assert any_team.sample() == 2
        with any_team.runtime.db.reading() as session:
            assert all(row.answer for row in examples_of_corpus(session, session.merge(any_team.project)))

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

    def test_a_corpus_that_was_judged_whole_has_no_margin_of_error(self, team):
        team.take(range(12))
        assert not self.too_few(team, 12)
        assert self.too_few(team, 11).endswith(
            "for the bar of 0.9: ask about at least 35 rows, or all of them"
        )
        team.sample(12)
        team.judge(wrong=1)
        admission = team.decide()
        assert (admission.low, admission.is_admitted) == (11 / 12, True)

    def test_a_part_of_a_corpus_has_one_however_right_it_is(self, team):
        team.take(range(13))
        team.sample(12)
        team.judge()
        assert not team.decide().is_admitted

    def too_few(self, team, size):
        with team.runtime.db.reading() as session:
            return too_few(size, find_source(session, team.project, "faq"), session)

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
            response = session.get_one(Response, task.response_id)
            later = builders.add_task(session, any_team.project, response, rechecks_id=task.id)
            builders.add_settlement(session, later)
        with any_team.runtime.db.reading() as session:
            examples = examples_to_audit(session, any_team.project)
        assert Counter(example.source for example in examples) == {"faq": 4, "production": 1}


def test_a_row_of_the_library_is_what_the_stage_takes(team):
    row = CorpusRow((Message("user", "who?"),), label="Billing")
    with team.runtime.db.transaction() as session:
        source = sources.ensure_source(session, team.project, NEW)
        told = corpus.import_rows(session, source, [row, row], actor="olga")
    assert told == {"added": 1, "known": 1, "set_aside": {}}
    assert TaskPurpose.CORPUS not in {task.purpose for task in team.rows(AnnotationTask)}
