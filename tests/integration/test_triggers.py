"""Trainings that start by themselves: when, what they wait for, and what becomes of them."""

from datetime import timedelta

import pytest
from sqlmodel import col, select

from annotation.types import Cause, Verdict
from service import triggers
from service.clock import utcnow
from service.errors import Invalid
from service.jobs.sets import curate
from service.rates import set_rates
from service.schedule import start_trainings
from service.tables import (
    Job,
    JobKind,
    JobState,
    LedgerEntry,
    ModelState,
    ModelVersion,
    Project,
    ProjectKind,
    Role,
    RunState,
    Settlement,
    TrainingRun,
)
from tests import builders
from tests.console import person
from tests.desk import Desk

THREE = {"rules": [{"count": 3}]}
LEARNS = {"rules": [{"count": 1}], "options": {"epochs": 2, "seed": 7}}
DAY = timedelta(days=1)


class Ward(Desk):
    """A desk at which nobody asks for a set."""

    def triggers(self, document) -> None:
        with self.runtime.db.transaction() as session:
            triggers.set_triggers(session, session.merge(self.project), document, actor="olga")

    def some(self, count: int, **more) -> None:
        for number in range(count):
            self.settle(f"what is {number}?", f"it is {number}", **more)

    def starts(self, *, after: timedelta = timedelta()) -> bool:
        with self.runtime.db.transaction() as session:
            project = session.get_one(Project, self.project.id)
            return triggers.start(session, self.runtime.queue, project, now=utcnow() + after)

    def builds(self) -> dict:
        """Do what was started."""
        lease = self.runtime.queue.lease(self.of(Job, Job.state == JobState.PENDING)[-1].id)
        made = curate(self.runtime, lease)
        lease.finish(made)
        return made

    def facts(self, *, after: timedelta = timedelta()):
        with self.runtime.db.reading() as session:
            project = session.get_one(Project, self.project.id)
            return triggers.facts_of(session, project, now=utcnow() + after)

    def of(self, table, *conditions) -> list:
        with self.runtime.db.reading() as session:
            return session.exec(select(table).where(*conditions).order_by(col(table.id))).all()

    def change(self, row, **columns) -> None:
        with self.runtime.db.transaction() as session:
            session.merge(row).sqlmodel_update(columns)


@pytest.fixture
def ward(runtime) -> Ward:
    return Ward(runtime, ProjectKind.GENERATION)


class TestWhen:
    def test_without_triggers_nothing_starts(self, ward):
        ward.some(9)
        assert not ward.starts()

    def test_the_schedule_asks_for_the_set_as_soon_as_a_rule_holds_and_notes_which(self, ward):
        ward.triggers(THREE)
        ward.some(2)
        start_trainings(ward.runtime)
        assert ward.of(Job) == []
        ward.some(1)
        start_trainings(ward.runtime)
        [job] = ward.of(Job)
        assert (job.kind, job.options) == (JobKind.CURATE, {"train": {}})
        [entry] = ward.of(LedgerEntry, LedgerEntry.action == triggers.STARTED)
        assert entry.facts["rule"] == {"count": 3.0}
        assert entry.facts["facts"]["count"] == 3
        assert entry.facts["job"] == str(job.id)

    def test_what_teaches_nothing_does_not_count(self, ward):
        ward.some(1)
        ward.some(1, verdict=Verdict.INCORRECT, cause=Cause.POLICY)
        ward.some(1, verdict=Verdict.UNSURE)
        ward.some(1, verdict=Verdict.INCORRECT, correction="it is not")
        [withdrawn, *_] = ward.of(Settlement)
        ward.change(withdrawn, withdrawn_at=utcnow())
        assert ward.facts().count == 1

    def test_age_and_schedule_are_counted_in_days(self, ward):
        ward.some(1)
        facts = ward.facts(after=2 * DAY)
        assert facts.age_days == pytest.approx(2, abs=0.01)
        assert facts.every_days == pytest.approx(2, abs=0.01)

    def test_more_flags_than_before_are_a_drift_only_when_that_is_sure(self, ward):
        def flagged(count: int, of: int, days: int) -> None:
            with ward.runtime.db.transaction() as session:
                for number in range(of):
                    response = builders.add_response(session, ward.project, asked=f"{days} {number}")
                    response.created_at = utcnow() - days * DAY
                    if number < count:
                        builders.add_flag(session, ward.project, response)

        flagged(4, of=40, days=20)
        assert ward.facts().drift == 0
        flagged(2, of=10, days=2)
        assert ward.facts().drift == 0
        flagged(30, of=30, days=3)
        assert 0.3 < ward.facts().drift < 0.7

    def test_what_cannot_be_read_is_refused(self, ward):
        for document in ({"rules": 1}, {"rules": [], "options": {"epoch": 1}}):
            with pytest.raises(Invalid):
                ward.triggers(document)


class TestWaiting:
    def test_after_a_start_there_is_a_rest_in_which_what_comes_gathers(self, ward):
        ward.triggers(THREE | {"rest_hours": 6})
        ward.some(3)
        assert ward.starts()
        assert not ward.starts(after=timedelta(hours=7))  # the set is being built
        ward.builds()
        self.forget_runs(ward)
        ward.some(3, verdict=Verdict.INCORRECT, correction="it is not")
        assert not ward.starts(after=timedelta(hours=5))
        assert ward.starts(after=timedelta(hours=7))

    def test_what_a_set_was_built_of_is_not_new(self, ward):
        ward.triggers(THREE | {"rest_hours": 0, "trains": False})
        ward.some(3)
        assert ward.starts()
        ward.builds()
        assert (ward.facts().count, ward.starts()) == (0, False)

    def test_nothing_starts_while_a_challenger_waits_for_a_decision(self, ward):
        ward.triggers(LEARNS)
        with ward.runtime.db.transaction() as session:
            model = builders.add_challenger(session, session.merge(ward.project))
            builders.add_evaluation(session, session.merge(ward.project), model).report = "sha256:x"
        ward.some(3)
        assert not ward.starts()
        page = person(ward.runtime, Role.AUDITOR, password="").get("/p/clinic/sets").text
        assert "It waits for a decision about version 1." in page
        [challenger] = ward.of(ModelVersion, ModelVersion.state == ModelState.CHALLENGER)
        ward.change(challenger, state=ModelState.REFUSED)
        assert ward.starts()

    @staticmethod
    def forget_runs(ward) -> None:
        for job in ward.of(Job, Job.state == JobState.PENDING):
            ward.change(job, state=JobState.CANCELLED)


class TestTraining:
    def test_the_set_is_trained_on_once_with_the_options(self, ward):
        ward.triggers(LEARNS)
        ward.some(9)
        assert ward.starts()
        made = ward.builds()
        [run] = ward.of(TrainingRun)
        assert made["training_run"] == str(run.id)
        assert (run.requested_by, run.seed, run.spec["epochs"]) == (None, 7, 2)
        assert [job.kind for job in ward.of(Job, Job.state == JobState.PENDING)][-1] is JobKind.TRAIN
        [entry] = ward.of(LedgerEntry, LedgerEntry.action == "training_requested")
        assert entry.actor == "trigger"
        with ward.runtime.db.transaction() as session:
            ward.runtime.queue.ask(
                session, JobKind.CURATE, ward.project.id, project_id=ward.project.id, options={"train": {}}
            )
        assert ward.builds()["training_run"] == str(run.id)

    def test_a_rule_may_build_alone(self, ward):
        ward.triggers(LEARNS | {"trains": False})
        ward.some(9)
        assert ward.starts()
        assert "training_run" not in ward.builds()
        assert ward.of(TrainingRun) == []

    def test_what_the_audit_blocks_is_built_and_not_trained_on(self, ward):
        ward.triggers(LEARNS)
        ward.project.masks_personal = False
        ward.some(1)
        ward.settle("what is it?", "log in with password: hunter2-4711-Qx")
        assert ward.starts()
        made = ward.builds()
        assert "its audit found what blocks training" in made["not_trained"]
        assert ward.of(TrainingRun) == []


class TestFaces:
    def test_the_page_of_sets_says_how_far_each_rule_is(self, ward):
        olga = person(ward.runtime, Role.OPERATOR)
        assert "Nothing by itself" in olga.get("/p/clinic/sets").text
        sent = {"document": '{"rules": [{"count": 50}, {"severity": 3}]}', "version": "0"}
        assert olga.post("/p/clinic/settings/triggers", **sent).status_code == 303
        ward.some(2)
        page = olga.get("/p/clinic/sets").text
        assert "Settled answers in no set yet: 2 of 50" in page
        assert "severity of the flags behind them, summed: 0 of 3" in page.replace("Severity", "severity")
        refused = olga.post("/p/clinic/settings/triggers", document='{"rules": 7}', version="1")
        assert refused.status_code == 422
        assert "rules: a list is needed" in refused.text

    def test_it_says_before_what_the_next_training_will_take_and_cost(self, ward):
        ward.triggers(LEARNS)
        ward.some(9)
        assert ward.starts()
        ward.builds()
        [run] = ward.of(TrainingRun)
        ward.change(run, state=RunState.FINISHED, report={"seconds": 90.0})
        olga = person(ward.runtime, Role.OPERATOR)
        page = olga.get("/p/clinic/sets").text
        assert "it will train for 90 s." in page
        assert " and cost " not in page
        with ward.runtime.db.transaction() as session:
            rates = {"currency": "EUR", "expert_hour": 60, "compute_hour": 40}
            set_rates(session, session.merge(ward.project), rates, actor="olga")
        assert "it will train for 90 s and cost 1.00 EUR" in olga.get("/p/clinic/sets").text
