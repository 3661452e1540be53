"""The first page says what matters most now, and its figures are those of the rows."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from service import projects, taking_back
from service.answers.next_step import NextStep, next_step
from service.answers.overview import Effort, Stop, effort, flag_rates, loop
from service.clock import utcnow
from service.runtime import Runtime
from service.tables import (
    Annotation,
    Annotator,
    Approval,
    AttackSession,
    AuditFinding,
    ConnectorKind,
    Decision,
    EvaluationState,
    Job,
    JobKind,
    JobState,
    ModelState,
    ModelVersion,
    Part,
    Promotion,
    PromotionKind,
    Rating,
    Role,
    TaskState,
    TimeEntry,
)
from tests import builders
from tests.console import person


class Clinic:
    """One project, filled step by step; `other` is full of what must never count."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        with runtime.db.transaction() as session:
            self.project = builders.add_project(session)
            self.other = builders.add_project(session, "other")
            self.user, _ = builders.add_person(session, Role.APPROVER)

    def step(self) -> NextStep:
        with self.runtime.db.reading() as session:
            return next_step(session, self.project)

    def stops(self) -> dict[str, Stop]:
        with self.runtime.db.reading() as session:
            return {stop.stage: stop for stop in loop(session, self.project, now=utcnow())}

    def effort(self) -> dict[str, Effort]:
        with self.runtime.db.reading() as session:
            return {each.who: each for each in effort(session, self.project, now=utcnow())}

    def prepared(self) -> None:
        """Give it a key, criteria, an answer and a flag."""
        with self.runtime.db.transaction() as session:
            builders.add_key(session, self.project)
            builders.add_criteria(session, self.project)
        self.flag()

    def flag(self, state: TaskState | None = None, **more: Any) -> None:
        """Flag an answer, which triage has looked at when there is a state for its task."""
        with self.runtime.db.transaction() as session:
            response = builders.add_response(session, self.project, **more)
            flag = builders.add_flag(session, self.project, response, "wrong")
            if state:
                flag.triaged_at = utcnow()
                builders.add_task(session, self.project, response, flag=flag, state=state)

    def settled(self) -> None:
        with self.runtime.db.transaction() as session:
            response = builders.add_response(session, self.project)
            builders.add_settlement(session, builders.add_task(session, self.project, response))

    def judged(self, state: EvaluationState = EvaluationState.PASSED, *, number: int = 1) -> UUID:
        with self.runtime.db.transaction() as session:
            model = builders.add_challenger(session, self.project, number=number)
            return builders.add_evaluation(session, self.project, model, state).id

    def approved(
        self, evaluation_id: UUID, decision: Decision = Decision.APPROVED, *, seconds: float = 0
    ) -> None:
        with self.runtime.db.transaction() as session:
            model = session.exec(builders.select(ModelVersion).where(ModelVersion.number == 1)).one()
            session.add(
                Approval(
                    project_id=self.project.id,
                    evaluation_id=evaluation_id,
                    model_version_id=model.id,
                    user_id=self.user.id,
                    decision=decision,
                    reason="good",
                    seconds_spent=seconds,
                    hashes={},
                )
            )

    def job(self, kind: JobKind, state: JobState, *, row_id: UUID | None = None, seconds: float = 0) -> UUID:
        """Add a job that took so long and has just ended."""
        with self.runtime.db.transaction() as session:
            job_id = self.runtime.queue.ask(
                session, kind, row_id or uuid4(), project_id=self.project.id, after_seconds=60
            )
            job = session.get_one(Job, job_id)
            job.state, job.failure = state, "the disk is full"
            job.finished_at = utcnow()
            job.started_at = job.finished_at - timedelta(seconds=seconds)
        return job_id


@pytest.fixture
def clinic(runtime) -> Clinic:
    return Clinic(runtime)


@pytest.fixture
def any_clinic(any_runtime) -> Clinic:
    return Clinic(any_runtime)


class TestNextStep:
    def test_a_young_project_is_led_from_a_key_to_the_first_flag(self, any_clinic):
        steps = [any_clinic.step()]
        with any_clinic.runtime.db.transaction() as session:
            builders.add_key(session, any_clinic.project)
        steps.append(any_clinic.step())
        with any_clinic.runtime.db.transaction() as session:
            builders.add_criteria(session, any_clinic.project)
        steps.append(any_clinic.step())
        with any_clinic.runtime.db.transaction() as session:
            response = builders.add_response(session, any_clinic.project)
        steps.append(any_clinic.step())
        with any_clinic.runtime.db.transaction() as session:
            builders.add_flag(session, any_clinic.project, response, "wrong")
        steps.append(any_clinic.step())
        assert [(step.button, step.page) for step in steps] == [
            ("Make a key", "keys"),
            ("Set criteria", "criteria"),
            ("Ask the champion", "playground"),
            ("Flag an answer", "playground"),
            ("Ask the champion", "playground"),
        ]
        assert steps[-1].sentence == "Nothing waits for you."

    def test_what_a_person_was_refused_at_once_is_not_what_matters_most(self, clinic):
        clinic.prepared()
        clinic.flag(TaskState.SENT)
        refused = clinic.job(JobKind.CORPUS, JobState.DEAD)
        with clinic.runtime.db.transaction() as session:
            session.get_one(Job, refused).failure_code = "unreadable"
        assert clinic.step().page == "tasks"
        with clinic.runtime.db.transaction() as session:
            session.get_one(Job, refused).failure_code = "unexpected"
        assert clinic.step().sentence == "A job for corpus gave up: the disk is full"

    def test_tasks_wait_for_experts(self, clinic):
        clinic.prepared()
        clinic.flag(TaskState.SENT)
        assert (clinic.step().page, clinic.step().sentence) == ("tasks", "1 task waits for experts.")

    def test_experts_disagree(self, clinic):
        clinic.prepared()
        clinic.flag(TaskState.CONTESTED)
        clinic.flag(TaskState.SENT)
        assert clinic.step().sentence == "Experts disagree on 1 task."

    def test_settled_answers_make_a_set_once_nobody_is_asked(self, any_clinic):
        any_clinic.prepared()
        any_clinic.settled()
        any_clinic.flag(TaskState.SENT)
        assert any_clinic.step().page == "tasks"
        with any_clinic.runtime.db.transaction() as session:
            for task in session.exec(builders.select(builders.AnnotationTask)):
                task.state = TaskState.SETTLED
        assert any_clinic.step().button == "Build a set"

    def test_a_set_is_to_be_trained_on_unless_it_is_blocked(self, clinic):
        clinic.prepared()
        clinic.settled()
        with clinic.runtime.db.transaction() as session:
            training_set = builders.add_set(session, clinic.project)
        assert (clinic.step().page, clinic.step().row_id) == ("training_set", training_set.id)
        with clinic.runtime.db.transaction() as session:
            session.get_one(builders.TrainingSet, training_set.id).is_blocked = True
            session.add(
                AuditFinding(
                    training_set_id=training_set.id,
                    check="leakage",
                    check_version="1",
                    severity="block",
                    keys=["k"],
                    evidence="rows of one group stand in two splits",
                    repair="",
                    name="n",
                )
            )
        assert clinic.step().sentence == "The audit blocks set v1: rows of one group stand in two splits."
        assert (clinic.step().page, clinic.step().row_id) == ("training_set", training_set.id)

    def test_a_challenger_that_passed_is_to_be_decided_on(self, clinic):
        clinic.prepared()
        evaluation = clinic.judged()
        step = clinic.step()
        assert (step.button, step.page, step.row_id) == ("Decide", "evaluation", evaluation)
        assert "Version 1 passed the gate" in step.sentence

    def test_an_approved_one_is_to_be_promoted(self, clinic):
        clinic.prepared()
        clinic.approved(clinic.judged())
        assert (clinic.step().button, clinic.step().page) == ("Promote", "models")

    def test_one_that_was_refused_is_not(self, clinic):
        clinic.prepared()
        clinic.judged(EvaluationState.REFUSED)
        assert clinic.step().page == "playground"

    def test_what_broke_comes_first(self, any_clinic):
        any_clinic.prepared()
        any_clinic.judged()
        job_id = any_clinic.job(JobKind.CURATE, JobState.DEAD)
        step = any_clinic.step()
        assert (step.page, step.row_id) == ("job", job_id)
        assert "the disk is full" in step.sentence

    def test_what_broke_and_was_asked_for_again_does_not(self, clinic):
        clinic.prepared()
        row_id = uuid4()
        clinic.job(JobKind.CURATE, JobState.DEAD, row_id=row_id)
        clinic.job(JobKind.CURATE, JobState.DONE, row_id=row_id)
        assert clinic.step().page == "playground"

    def test_each_step_s_button_leads_to_a_page(self, any_clinic):
        ada = person(any_clinic.runtime, Role.ADMIN, password="")
        any_clinic.prepared()
        evaluation = any_clinic.judged()
        assert f"/p/clinic/evaluations/{evaluation}" in ada.get("/p/clinic/").text
        assert ada.get("/p/clinic/loop").status_code == 200


class TestLoop:
    def test_an_empty_loop_has_six_stages_in_the_order_of_the_data(self, clinic):
        stops = clinic.stops()
        assert list(stops) == ["intake", "labelling", "curation", "training", "evaluation", "promotion"]
        assert {(stop.waiting, stop.oldest, stop.is_at_work) for stop in stops.values()} == {(0, None, False)}
        assert [stop.passed for stop in stops.values()] == [0, 0, 0, 0, 0, 0]

    def test_a_promotion_passes_through_and_the_base_model_s_first_day_does_not(self, clinic):
        with clinic.runtime.db.transaction() as session:
            [base] = session.exec(
                builders.select(ModelVersion).where(ModelVersion.project_id == clinic.project.id)
            )
            facts = {"project_id": clinic.project.id, "seq": 1, "model_version_id": base.id}
            session.add(Promotion(kind=PromotionKind.PROMOTION, **facts))
        assert clinic.stops()["promotion"].passed == 1

    def test_each_stage_counts_what_waits_in_this_project(self, any_clinic):
        any_clinic.prepared()
        any_clinic.flag()
        any_clinic.flag(TaskState.SELECTED)
        any_clinic.flag(TaskState.SENT)
        any_clinic.settled()
        any_clinic.judged(EvaluationState.RUNNING)
        any_clinic.judged(number=2)
        with any_clinic.runtime.db.transaction() as session:
            builders.add_flag(
                session, any_clinic.other, builders.add_response(session, any_clinic.other), "wrong"
            )
            session.exec(builders.select(builders.TrainingRun)).first().state = "running"
        stops = any_clinic.stops()
        waiting = {stage: stop.waiting for stage, stop in stops.items()}
        assert waiting == {
            "intake": 2,
            "labelling": 2,
            "curation": 0,  # settled before the newest set
            "training": 1,
            "evaluation": 1,
            "promotion": 1,
        }
        assert stops["intake"].passed == 4 and stops["labelling"].passed == 1

    def test_settled_answers_wait_for_the_next_set(self, clinic):
        clinic.settled()
        clinic.settled()
        assert clinic.stops()["curation"].waiting == 2

    def test_the_oldest_says_since_when(self, any_clinic):
        before = utcnow()
        any_clinic.flag()
        between = utcnow()
        any_clinic.flag()
        assert before <= any_clinic.stops()["intake"].oldest <= between

    def test_a_stage_whose_job_is_at_work_says_so(self, clinic):
        clinic.job(JobKind.TRAIN, JobState.LEASED)
        assert [stage for stage, stop in clinic.stops().items() if stop.is_at_work] == ["training"]


class TestFlagRates:
    def test_each_version_that_was_live_has_its_share_of_flagged_answers(self, any_clinic):
        with any_clinic.runtime.db.transaction() as session:
            project = any_clinic.project
            base = session.exec(
                builders.select(ModelVersion).where(ModelVersion.project_id == project.id)
            ).one()
            builders.add_criteria(session, project)
            challenger = builders.add_challenger(session, project)
            challenger.state, base.state = ModelState.CHAMPION, ModelState.RETIRED
            session.add(
                Promotion(
                    project_id=project.id, seq=1, kind=PromotionKind.PROMOTION, model_version_id=challenger.id
                )
            )
            builders.add_challenger(session, project, number=2)  # was never live
            for number in range(10):
                old = builders.add_response(session, project, f"old {number}", model_version_id=base.id)
                if number < 4:
                    builders.add_flag(session, project, old, "wrong")
                    builders.add_flag(session, project, old, "style")  # once is enough
                new = builders.add_response(session, project, f"new {number}", model_version_id=challenger.id)
                builders.add_flag(session, project, new, rating=Rating.UP)
            taking_back.withdraw(session, builders.add_flag(session, project, new, "wrong"))
        with any_clinic.runtime.db.reading() as session:
            old, new = flag_rates(session, any_clinic.project)
        assert [(each.number, each.is_champion) for each in (old, new)] == [(0, False), (1, True)]
        assert old.rate.value == pytest.approx(0.4)
        assert old.rate.low < 0.4 < old.rate.high
        assert new.rate.value == 0 and new.rate.high > 0
        assert old.live_at < new.live_at

    def test_a_version_without_answers_has_no_rate(self, clinic):
        with clinic.runtime.db.reading() as session:
            (base,) = flag_rates(session, clinic.project)
        assert base.rate is None and base.is_champion


class TestEffort:
    def test_nothing_done_is_nothing_spent(self, clinic):
        assert [each.total for each in clinic.effort().values()] == [0, 0]

    def test_annotating_is_data_and_attacking_and_deciding_are_validation(self, any_clinic):
        now = utcnow()
        with any_clinic.runtime.db.transaction() as session:
            task = builders.add_task(
                session, any_clinic.project, builders.add_response(session, any_clinic.project)
            )
            annotator = Annotator(connector=ConnectorKind.LABEL_STUDIO, account="ann@example.org")
            session.add(annotator)
            session.flush()
            session.add(
                Annotation(
                    task_id=task.id,
                    annotator_id=annotator.id,
                    external_id="1",
                    revised_at=now,
                    seconds_spent=40,
                )
            )
            for project, seconds in ((any_clinic.project, 300), (any_clinic.other, 7777)):
                session.add(
                    AttackSession(
                        project_id=project.id, user_id=any_clinic.user.id, last_at=now, seconds_spent=seconds
                    )
                )
            builders.add_criteria(session, any_clinic.project)
        any_clinic.approved(any_clinic.judged(), seconds=60)
        people = any_clinic.effort()["people"]
        assert (people.data, people.training, people.validation) == (40, 0, 360)

    def test_time_that_no_tool_saw_counts_as_somebody_wrote_it_down(self, any_clinic):
        with any_clinic.runtime.db.transaction() as session:
            for project, part, seconds in (
                (any_clinic.project, Part.DATA, 100),
                (any_clinic.project, Part.TRAINING, 20),
                (any_clinic.project, Part.VALIDATION, 3),
                (any_clinic.other, Part.DATA, 7777),
            ):
                session.add(TimeEntry(project_id=project.id, who="ada", part=part, seconds_spent=seconds))
        people = any_clinic.effort()["people"]
        assert (people.data, people.training, people.validation) == (100, 20, 3)

    def test_machines_spend_what_their_jobs_took_in_vain_too(self, any_clinic):
        for kind, seconds in ((JobKind.CURATE, 5), (JobKind.TRAIN, 600), (JobKind.EVALUATE, 90)):
            any_clinic.job(kind, JobState.DONE, seconds=seconds)
        any_clinic.job(JobKind.TRAIN, JobState.DEAD, seconds=100)
        machines = any_clinic.effort()["machines"]
        assert (machines.data, machines.training, machines.validation) == pytest.approx((5, 700, 90), abs=0.1)


def test_the_page_of_an_empty_project_leads_on(any_runtime):
    clinic = Clinic(any_runtime)
    ada = person(any_runtime, Role.ADMIN, password="")
    page = ada.get("/p/clinic/").text
    assert clinic.step().sentence in page and "Make a key" in page
    with any_runtime.db.reading() as session:
        assert projects.find(session, "clinic").slug == "clinic"
