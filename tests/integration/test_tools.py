"""What is sent to annotation tools and read back, whatever people, networks and crashes do meanwhile."""

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, func
from sqlmodel import col, select

from annotation.argilla import ArgillaConnector
from annotation.errors import InvalidSchema, ToolRefused, ToolUnavailable
from annotation.label_studio import LabelStudioConnector
from annotation.suggestions import SuggestionSource
from annotation.types import Answer, Cause, Health, HeldTask, Verdict
from retrain.recipe import Recipe
from service import (
    experts,
    jobs,
    label_studio_server,
    projects,
    reading,
    routing,
    schedule,
    standing,
    taking_back,
    tool_server,
    tool_state,
)
from service.answers.changes import compare
from service.answers.outdated import doubtful
from service.clock import utcnow
from service.jobs.sets import Tools
from service.label_studio_server import Running
from service.runtime import Runtime
from service.stages import curation, sending
from service.tables import (
    Annotation,
    AnnotationTask,
    ConnectorKind,
    DocumentKind,
    Feedback,
    InboxEvent,
    Job,
    JobKind,
    JobState,
    LedgerEntry,
    Project,
    QualityReport,
    Response,
    Role,
    Settlement,
    SettlementAnnotation,
    TaskFlag,
    TaskPurpose,
    TaskState,
    ToolProject,
    TrainingSet,
)
from service.tool_state import Hook, rest_seconds
from tests import builders
from tests.argilla import ArgillaPeople
from tests.console import person
from tests.fakes import FakeConnector
from tests.label_studio import LabelStudioPeople
from tests.repetitions import CHOSEN

ANN, BEN = "ann@errata.local", "ben@errata.local"
LABEL_STUDIO, ARGILLA = ConnectorKind.LABEL_STUDIO, ConnectorKind.ARGILLA
RIGHT = Answer(Verdict.CORRECT)
BILLING = Answer(Verdict.INCORRECT, label="Billing", cause=Cause.MODEL)
FOR_EVER = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Office:
    """One project and its tools, both in memory."""

    runtime: Runtime
    project: Project
    tools: dict[ConnectorKind, FakeConnector]

    @property
    def tool(self) -> FakeConnector:
        return self.tools[LABEL_STUDIO]

    @property
    def other(self) -> FakeConnector:
        return self.tools[ARGILLA]

    def begin_again(self) -> None:
        """Forget what was asked and answered, and take an empty tool."""
        self.tools[LABEL_STUDIO] = FakeConnector()
        with self.runtime.db.transaction() as session:
            for table in (
                SettlementAnnotation,
                Settlement,
                Annotation,
                InboxEvent,
                AnnotationTask,
                ToolProject,
            ):
                session.execute(delete(table))

    def waiting(self) -> int:
        selected = select(func.count()).where(AnnotationTask.state == TaskState.SELECTED)
        with self.runtime.db.reading() as session:
            return session.exec(selected).one()

    def add_tasks(self, count: int, project: Project | None = None) -> list[UUID]:
        project = project or self.project
        with self.runtime.db.transaction() as session:
            response = builders.add_response(session, project)
            facts = builders.add_task(session, project, response).model_dump(exclude={"id"})
            more = [AnnotationTask(**facts) for _ in range(count - 1)]
            session.add_all(more)
        with self.runtime.db.reading() as session:
            of_project = select(AnnotationTask.id).where(AnnotationTask.project_id == project.id)
            return list(session.exec(of_project.order_by(col(AnnotationTask.id))))

    def send(self) -> dict:
        return self.do(JobKind.SEND)

    def sync(self, *, looks_at_everything: bool = True) -> dict:
        due = utcnow() if looks_at_everything else FOR_EVER
        for row in self.rows(ToolProject):
            self.change(ToolProject, row.id, look_due_at=due)
        return self.do(JobKind.SYNC)

    def do(self, kind: JobKind, project: Project | None = None) -> dict:
        project = project or self.project
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(session, kind, project.id, project_id=project.id)
        jobs.perform(self.runtime, self.runtime.queue.lease(job))
        with self.runtime.db.reading() as session:
            done = session.get_one(Job, job)
            assert done.state is JobState.DONE, done.failure
            return done.result

    def send_what_is_due(self) -> int:
        """Send as the schedule has it, and count the attempts."""
        schedule.ask_for_sync(self.runtime)
        wanted = (Job.state == JobState.PENDING, Job.kind == JobKind.SEND)
        with self.runtime.db.reading() as session:
            due = session.exec(select(Job.id).where(*wanted)).all()
        for job in due:
            jobs.perform(self.runtime, self.runtime.queue.lease(job))
        return len(due)

    def rows(self, table: type) -> Sequence:
        with self.runtime.db.reading() as session:
            return session.exec(select(table).order_by(col(table.id))).all()

    def change(self, table: type, row_id: UUID, **values) -> None:
        with self.runtime.db.transaction() as session:
            session.get_one(table, row_id).sqlmodel_update(values)

    def there(self) -> str:
        (identifier,) = self.tool.projects
        return identifier

    def sent(self) -> str:
        """Return the tool's id of the only task, which is sent by then."""
        self.add_tasks(1)
        self.send()
        (task,) = self.tool.projects[self.there()].tasks
        return task

    def settled(self, answer: Answer = BILLING) -> tuple[str, list[str]]:
        """Return the tool's ids of the only task and its two annotations, which settle it."""
        task = self.sent()
        given = [self.tool.answer(self.there(), task, who, answer) for who in ("ann", "ben")]
        self.sync()
        return task, given

    def state(self) -> TaskState:
        (task,) = self.rows(AnnotationTask)
        return task.state

    def actions(self) -> list[str]:
        return [entry.action for entry in self.rows(LedgerEntry)]

    def says(self, page: str) -> str:
        reader = person(self.runtime, Role.AUDITOR, name=f"reader-{uuid4()}", password="")
        return reader.get(f"/p/clinic/{page}").text


@pytest.fixture
def office(runtime, monkeypatch) -> Office:
    return _open(runtime, monkeypatch)


@pytest.fixture
def any_office(any_runtime, monkeypatch) -> Office:
    return _open(any_runtime, monkeypatch)


def _open(runtime, monkeypatch) -> Office:
    tools = {LABEL_STUDIO: FakeConnector(), ARGILLA: FakeConnector()}
    monkeypatch.setattr("service.jobs.labelling.connect", lambda _, tool, *more: tools[tool])
    monkeypatch.setattr(label_studio_server, "running", lambda data_dir: Running("http://127.0.0.1:1", "t"))
    with runtime.db.transaction() as session:
        return Office(runtime, builders.add_project(session), tools)


class Clock:
    """A clock that a test turns."""

    def __init__(self, monkeypatch) -> None:
        self.now = utcnow()
        monkeypatch.setattr(tool_state, "utcnow", lambda: self.now)

    def turn(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


class TestOutbox:
    def test_while_a_tool_is_down_its_tasks_wait_and_the_console_says_why(self, office):
        office.add_tasks(2)
        office.tool.is_down = True
        assert office.send()["waiting"] == {"label-studio": "the tool is down"}
        assert {task.state for task in office.rows(AnnotationTask)} == {TaskState.SELECTED}
        for page in ("", "tasks"):
            shown = office.says(page)
            assert "Tasks wait for label-studio, the oldest since" in shown
            assert "the tool is down" in shown
        office.tool.is_down = False
        assert office.send() == {"sent": 2}
        assert "the tool is down" not in office.says("tasks")

    def test_a_tool_that_failed_is_let_rest(self, office, clock):
        office.add_tasks(1)
        office.tool.is_refusing = True
        office.send_what_is_due()
        assert office.send_what_is_due() == 0
        clock.turn(office.runtime.settings.tool_retry_seconds)
        assert office.send_what_is_due() == 1

    def test_triage_goes_on_while_a_tool_is_down(self, office):
        office.tool.is_down = office.other.is_down = True
        with office.runtime.db.transaction() as session:
            builders.add_flag(session, office.project, builders.add_response(session, office.project))
        office.do(JobKind.TRIAGE)
        assert office.state() is TaskState.SELECTED
        assert office.tool.calls == []

    def test_one_tool_being_down_holds_up_no_other(self, office):
        first, second = office.add_tasks(2)
        office.change(AnnotationTask, second, connector=ARGILLA)
        office.tool.is_down = True
        assert office.send() == {"sent": 1, "waiting": {"label-studio": "the tool is down"}}
        states = {task.id: task.state for task in office.rows(AnnotationTask)}
        assert states == {first: TaskState.SELECTED, second: TaskState.SENT}

    def test_after_an_hour_away_each_task_exists_once_and_nobody_stampedes(self, office, clock):
        tasks = office.add_tasks(CHOSEN.waiting_tasks)
        with office.runtime.db.transaction() as session:
            others = [builders.add_project(session, f"other-{n}") for n in range(10)]
        for other in others:
            office.add_tasks(1, other)
        office.tool.is_down = True
        for _ in range(60):
            office.send_what_is_due()
            clock.turn(60)
        tried = len(office.tool.calls)
        office.tool.is_down = False
        at_once = []
        office.tool.takes_only, office.tool.loses_next_answer = 90, True
        while office.waiting():
            at_once.append(office.send_what_is_due())
            clock.turn(10)
        held = [p for p in office.tool.projects.values() if p.slug == "clinic"]
        keys = Counter(task.key for task in held[0].tasks.values())
        assert (len(held), set(keys), set(keys.values())) == (1, {str(task) for task in tasks}, {1})
        # Twice as long a rest each time up to ten minutes: about ten tries an hour each, not sixty.
        assert tried < 11 * 15
        assert max(at_once) <= len(others) / 2

    def test_what_waited_reaches_the_tool_by_urgency_whatever_breaks_off(self, office, monkeypatch):
        monkeypatch.setattr(sending, "PUSH_BATCH", 5)
        office.tool.is_down = True
        tasks = office.add_tasks(12)
        for at, task in enumerate(tasks):
            office.change(AnnotationTask, task, priority=float(at * 7 % 12))
            office.send()  # in vain, so that what comes later is more urgent than what waits already
        office.tool.is_down, office.tool.takes_only = False, 3
        office.send()
        office.tool.loses_next_answer = True
        while office.waiting():
            office.send()
        urgent = sorted(office.rows(AnnotationTask), key=lambda task: -task.priority)
        held = office.tool.projects[office.there()].tasks.values()
        assert (
            [task.key for task in held] == [str(task.id) for task in urgent] != [str(task) for task in tasks]
        )

    def test_without_chance_those_that_failed_together_come_back_together(self):
        def rests(chances):
            return {rest_seconds(7, first=15, most=600, chance=chance) for chance in chances}

        assert len(rests([0.0] * 20)) == 1
        assert len(rests(n / 20 for n in range(20))) == 20
        assert all(300 <= rest <= 600 for rest in rests(n / 20 for n in range(20)))

    def test_two_workers_that_send_at_once_make_each_task_once(self, any_office):
        tasks = any_office.add_tasks(50)
        leases = []
        for _ in range(2):
            with any_office.runtime.db.transaction() as session:
                job = any_office.runtime.queue.ask(
                    session, JobKind.SEND, any_office.project.id, project_id=any_office.project.id
                )
            leases.append(any_office.runtime.queue.lease(job))

        def send(lease):
            hook = Hook("", "")
            return sending.send(lease, any_office.project.id, LABEL_STUDIO, any_office.tool, hook)["sent"]

        with ThreadPoolExecutor(2) as threads:
            assert sum(threads.map(send, leases)) == len(tasks)
        held = any_office.tool.projects[any_office.there()].tasks
        assert Counter(task.key for task in held.values()) == Counter(str(task) for task in tasks)
        assert {task.external_id for task in any_office.rows(AnnotationTask)} == set(held)

    def test_what_is_read_is_what_changed(self, office):
        office.add_tasks(300)
        office.send()
        office.sync()
        there, yielded = office.there(), office.tool.yielded
        for task in list(office.tool.projects[there].tasks)[:3]:
            office.tool.answer(there, task, "ann", RIGHT)
        assert office.sync(looks_at_everything=False)["annotations"] == 3
        # And those of the moment before the last read ended.
        assert office.tool.yielded - yielded < 10


class TestTakingBack:
    """Two flagged one answer; one of them takes it back."""

    @pytest.fixture
    def flags(self, any_office) -> dict[str, UUID]:
        with any_office.runtime.db.transaction() as session:
            project = session.get_one(Project, any_office.project.id)
            project.suggestion, project.blind_share = SuggestionSource.CORRECTION, 0.0
            response = builders.add_response(session, project)
            said = {"correction": "Billing", "consent": True}
            anns = builders.add_flag(session, project, response, "wrong", comment="i am Ann", **said)
            bens = builders.add_flag(session, project, response, "wrong", comment="says Ben")
            task = builders.add_task(session, project, response, flag=anns)
            session.add(TaskFlag(task_id=task.id, feedback_id=bens.id))
            return {"ann": anns.id, "ben": bens.id}

    def told(self, office) -> list[tuple[str, dict]]:
        """What the tool shows of what users said, and what it suggests."""
        office.send()
        held = office.tool.projects[office.there()].tasks.values()
        return [(task.shown["reasons"], task.suggestion) for task in held]

    def withdraw(self, office, feedback: UUID) -> None:
        with office.runtime.db.transaction() as session:
            taking_back.withdraw(session, session.get_one(Feedback, feedback))
        office.sync()

    def test_their_words_leave_the_tool_and_the_others_are_asked_about_again(self, any_office, flags):
        assert self.told(any_office) == [("wrong · i am Ann · says Ben", {"label": "Billing"})]
        self.withdraw(any_office, flags["ann"])
        assert self.told(any_office) == [("wrong · says Ben", {})]
        calls = any_office.tool.calls.count("delete")
        any_office.sync()
        assert any_office.tool.calls.count("delete") == calls

    def test_what_was_answered_stays_and_what_is_settled_is_asked_of_nobody(self, any_office, flags):
        self.told(any_office)
        [there] = any_office.tool.projects[any_office.there()].tasks
        any_office.tool.answer(any_office.there(), there, "ann", BILLING)
        any_office.sync()
        self.withdraw(any_office, flags["ann"])
        self.told(any_office)
        [again] = any_office.tool.projects[any_office.there()].tasks
        any_office.tool.answer(any_office.there(), again, "ben", BILLING)
        any_office.sync()
        assert any_office.state() is TaskState.SETTLED
        self.withdraw(any_office, flags["ben"])
        assert self.told(any_office) == []
        assert [one.withdrawn_at for one in any_office.rows(Settlement)] == [None]

    def test_else_the_tool_would_go_on_showing_them(self, any_office, flags, monkeypatch):
        self.told(any_office)
        monkeypatch.setattr(reading, "forget", lambda *_: None)
        self.withdraw(any_office, flags["ann"])
        assert self.told(any_office) == [("wrong · i am Ann · says Ben", {"label": "Billing"})]


class TestFollowing:
    def test_an_answer_that_counted_and_was_deleted_opens_its_task_again(self, any_office):
        _, (_, second) = any_office.settled()
        assert any_office.state() is TaskState.SETTLED
        any_office.tool.take_back(any_office.there(), second)
        assert any_office.sync()["withdrawn"] == 1
        assert any_office.state() is TaskState.SENT
        (settlement,) = any_office.rows(Settlement)
        gone = next(one for one in any_office.rows(Annotation) if one.withdrawn_at)
        assert (settlement.withdrawn_by_id, gone.external_id) == (gone.id, second)
        assert "settlement_withdrawn" in any_office.actions()

    def test_an_answer_that_counted_and_was_changed_is_settled_anew(self, any_office):
        _, (first, second) = any_office.settled()
        for annotation, who in ((first, "ann"), (second, "ben")):
            any_office.tool.edit(any_office.there(), annotation, who, RIGHT)
            any_office.sync()
        assert [(one.verdict, one.withdrawn_at is None) for one in any_office.rows(Settlement)] == [
            (Verdict.INCORRECT, False),
            (Verdict.CORRECT, True),
        ]

    def test_an_answer_that_is_sent_again_without_a_change_leaves_its_settlement_alone(self, office):
        _, (first, _) = office.settled()
        office.tool.edit(office.there(), first, "ann", BILLING)
        assert office.sync()["annotations"] == 1
        assert [one.withdrawn_at for one in office.rows(Settlement)] == [None]
        office.tool.take_back(office.there(), first)
        office.sync()
        assert [one.withdrawn_at is None for one in office.rows(Settlement)] == [False]

    def test_one_more_answer_leaves_a_settlement_alone(self, office):
        task, _ = office.settled()
        office.tool.answer(office.there(), task, "cleo", RIGHT)
        office.sync()
        assert [one.withdrawn_at for one in office.rows(Settlement)] == [None]

    def test_an_answer_that_is_there_again_counts_again(self, office):
        task, (first, _) = office.settled()
        there = office.tool.projects[office.there()].tasks[task].annotations
        kept = there.pop(first)
        office.sync()
        there[first] = kept
        office.sync()
        assert office.state() is TaskState.SETTLED
        assert [one.withdrawn_at for one in office.rows(Annotation)] == [None, None]

    def test_what_was_taken_back_is_no_vote_and_in_doubt_no_more(self, office):
        _, (_, second) = office.settled()
        office.do(JobKind.QUALITY)
        assert _heard(office) == 2
        office.tool.take_back(office.there(), second)
        office.sync()
        schedule.ask_for_quality(office.runtime)
        assert [job.kind for job in office.rows(Job) if job.state is JobState.PENDING] == [JobKind.QUALITY]
        office.do(JobKind.QUALITY)
        assert _heard(office) == 1
        with office.runtime.db.transaction() as session:
            schema = {"kind": "classification", "labels": ["Cardiology", "Skin"], "ratings": []}
            projects.set_schema(session, office.project, schema, actor="test")
            assert doubtful(session, office.project) == []

    def test_what_a_third_decided_holds_when_a_contestant_changes_an_answer(self, office):
        task = office.sent()
        changed = office.tool.answer(office.there(), task, "ann", BILLING)
        office.tool.answer(office.there(), task, "ben", RIGHT)
        office.sync()
        ada = person(office.runtime, Role.OPERATOR, name="ada", password="")
        (row,) = office.rows(AnnotationTask)
        decided = {"verdict": "correct", "reason": "the label fits"}
        assert ada.post(f"/p/clinic/tasks/{row.id}/adjudicate", **decided).status_code == 303
        office.tool.edit(
            office.there(), changed, "ann", Answer(Verdict.INCORRECT, "Cardiology", cause=Cause.MODEL)
        )
        office.sync()
        assert [(one.verdict, one.withdrawn_at is None) for one in office.rows(Settlement)] == [
            (Verdict.CORRECT, False),
            (Verdict.CORRECT, True),
        ]
        assert office.state() is TaskState.SETTLED

    def test_a_frozen_set_keeps_a_withdrawn_settlement_and_the_next_leaves_it_out(self, office):
        office.settled()
        with office.runtime.db.transaction() as session:
            for text in ("Cardiology", "Billing"):
                response = builders.add_response(session, office.project, text=text, asked=f"about {text}")
                task = builders.add_task(session, office.project, response)
                builders.add_settlement(session, task, verdict=Verdict.CORRECT, label=None, cause=None)
        _curate(office)
        gone = office.rows(Annotation)[0]
        office.tool.take_back(office.there(), gone.external_id)
        office.sync()
        _curate(office)
        with office.runtime.db.reading() as session:
            before, after = session.exec(select(TrainingSet).order_by(col(TrainingSet.version))).all()
            assert len(curation.examples_of(session, before)) == 3
            [removed] = compare(session, before, after)["removed"]
        assert removed["cause"] == {"kind": "annotation", "id": str(gone.id)}

    def test_an_open_task_that_was_deleted_is_sent_again_and_keeps_its_answers(self, office):
        task = office.sent()
        office.tool.answer(office.there(), task, "ann", BILLING)
        office.sync()
        office.tool.remove(office.there(), task)
        assert office.sync()["asked_again"] == 1
        assert office.send() == {"sent": 1}
        (again,) = office.tool.projects[office.there()].tasks
        office.tool.answer(office.there(), again, "ben", BILLING)
        office.sync()
        assert (again != task, office.state()) == (True, TaskState.SETTLED)

    def test_to_delete_a_settled_task_takes_nothing_back(self, office):
        task, _ = office.settled()
        office.tool.remove(office.there(), task)
        office.sync()
        assert (office.state(), office.rows(Settlement)[0].withdrawn_at) == (TaskState.SETTLED, None)

    def test_a_task_added_by_hand_is_asked_like_ours(self, any_office):
        office = any_office
        office.sent()
        added = office.tool.add_by_hand(office.there(), prompt="Who\0 pays?", response="Cardiology")
        for who in ("ann", "ben"):
            office.tool.answer(office.there(), added, who, BILLING)
        office.sync()
        (settlement,) = office.rows(Settlement)
        task = next(task for task in office.rows(AnnotationTask) if task.id == settlement.task_id)
        assert (task.purpose, task.external_id, settlement.label) == (TaskPurpose.ADDED, added, "Billing")
        assert office.rows(Response)[-1].messages == [{"role": "user", "content": "Who pays?"}]
        office.sync()
        assert len(office.rows(AnnotationTask)) == 2

    def test_a_task_that_asks_nothing_is_reported(self, office):
        office.sent()
        office.tool.add_by_hand(office.there(), prompt="Who pays?")
        office.sync()
        assert len(office.rows(AnnotationTask)) == 1
        assert "1 tasks in label-studio are none of ours" in office.says("tasks")

    def test_a_project_that_was_deleted_is_made_anew_and_nothing_is_lost(self, office):
        office.settled()
        office.add_tasks(3)
        office.send()
        office.tool.remove_project(office.there())
        office.sync()
        office.send()
        held = office.tool.projects[office.there()].tasks
        states = Counter(task.state for task in office.rows(AnnotationTask))
        assert (len(held), states) == (3, {TaskState.SETTLED: 1, TaskState.SENT: 3})
        assert "tool_project_lost" in office.actions()
        assert "The project was deleted in label-studio" in office.says("")

    @pytest.mark.parametrize("error", [ToolRefused, InvalidSchema])
    def test_a_page_that_cannot_be_set_up_stops_no_answer_and_is_said(self, office, error):
        task = office.sent()
        for who in ("ann", "ben"):
            office.tool.answer(office.there(), task, who, BILLING)

        def refuse(**_):
            raise error("this question cannot go")

        office.tool.set_up = refuse
        assert office.sync()["waiting"] == {"label-studio": "this question cannot go"}
        assert office.state() is TaskState.SETTLED
        assert "this question cannot go" in office.says("settings/tools") + office.says("tasks")

    def test_a_task_that_is_sent_again_is_checked_by_what_it_asks_then(self, office):
        office.add_tasks(1)
        office.change(AnnotationTask, office.rows(AnnotationTask)[0].id, connector=ARGILLA)
        office.do(JobKind.SEND)
        (there,) = office.other.projects
        (task,) = office.other.projects[there].tasks
        with office.runtime.db.transaction() as session:
            schema = {"kind": "classification", "labels": ["Billing", "Skin"], "ratings": []}
            projects.set_schema(session, office.project, schema, actor="test")
            today = projects.questions(session, office.project.id)
        before = office.rows(AnnotationTask)[0]
        office.other.remove(there, task)
        office.sync()
        (again,) = office.rows(AnnotationTask)
        assert (before.schema_id, before.guidelines_id) != today
        assert (again.state, again.schema_id, again.guidelines_id) == (TaskState.SELECTED, *today)

    def test_an_early_answer_given_while_later_tasks_are_read_is_read_next(self, office, monkeypatch):
        office.add_tasks(2)
        office.send()
        early, late = office.tool.projects[office.there()].tasks
        pull, clock = office.tool.pull, iter((0.0, 90.0))

        def slow(project, since):
            for held in pull(project, since):
                yield held
                if held.external_id == early:
                    office.tool.answer(project, early, "ann", BILLING)
                    office.tool.answer(project, late, "ann", BILLING)

        with monkeypatch.context() as patch:
            patch.setattr(office.tool, "pull", slow)
            patch.setattr("service.stages.labelling.time", SimpleNamespace(monotonic=clock.__next__))
            assert office.sync()["annotations"] == 1
        assert office.sync(looks_at_everything=False)["annotations"] == 1

    def test_what_was_erased_while_it_was_pushed_is_deleted_in_the_tool(self, office):
        office.add_tasks(1)
        (task,) = office.rows(AnnotationTask)
        push = office.tool.push

        def erased_meanwhile(project, tasks):
            office.change(Response, task.response_id, erased_at=utcnow())
            office.change(AnnotationTask, task.id, state=TaskState.WITHDRAWN)
            return push(project, tasks)

        office.tool.push = erased_meanwhile
        assert office.send() == {"sent": 0}
        (there,) = office.tool.projects[office.there()].tasks
        assert office.rows(AnnotationTask)[0].external_id == there
        office.sync(looks_at_everything=False)
        assert office.tool.projects[office.there()].tasks == {}

    def test_what_was_erased_and_pushed_by_who_was_ended_is_deleted_at_the_next_full_look(self, office):
        office.sent()
        (task,) = office.rows(AnnotationTask)
        office.change(Response, task.response_id, erased_at=utcnow())
        office.change(AnnotationTask, task.id, state=TaskState.WITHDRAWN, external_id=None)
        office.sync()
        assert office.tool.projects[office.there()].tasks == {}

    def test_what_was_erased_is_deleted_in_the_tool(self, office):
        office.sent()
        (response,) = office.rows(Response)
        office.change(Response, response.id, erased_at=utcnow())
        office.sync()
        assert office.tool.projects[office.there()].tasks == {}
        assert office.rows(AnnotationTask)[0].external_id is None

    def test_what_a_webhook_names_is_read_alone(self, office):
        office.add_tasks(3)
        office.send()
        office.sync()
        there, yielded = office.there(), office.tool.yielded
        task = next(iter(office.tool.projects[there].tasks))
        office.tool.answer(there, task, "ann", RIGHT)
        office.change(ToolProject, office.rows(ToolProject)[0].id, polled_at=FOR_EVER)
        _hint(office, task)
        assert office.sync(looks_at_everything=False)["annotations"] == 1
        assert (office.tool.yielded, office.tool.calls[-1]) == (yielded, "fetch")
        assert office.rows(InboxEvent)[0].handled_at

    def test_what_is_settled_is_offered_no_more_and_again_once_it_is_open(self, office):
        settled, given = office.settled()
        office.add_tasks(1)
        office.send()
        office.sync()
        assert office.tool.closed == {settled}
        calls = office.tool.calls.count("close")
        office.sync()
        assert office.tool.calls.count("close") == calls == 1
        office.tool.take_back(office.there(), given[0])
        office.sync()
        assert office.tool.closed == set()

    def test_a_tool_that_closes_nothing_is_read_all_the_same(self, office, monkeypatch):
        def refuse(*_):
            raise ToolRefused("it cannot")

        monkeypatch.setattr(office.tool, "close", refuse)
        office.settled()
        assert office.state() is TaskState.SETTLED
        monkeypatch.undo()

    def test_an_answer_names_the_guidelines_that_its_page_showed(self, office):
        task, shown = office.sent(), []
        held = office.tool.projects[office.there()].tasks[task]
        with office.runtime.db.transaction() as session:
            project = session.get_one(Project, office.project.id)
            shown.append(projects.current(session, project.id, DocumentKind.GUIDELINES).id)
            shown.append(projects.set_guidelines(session, project, "Read it twice.", actor="test").id)
        assert office.rows(ToolProject)[0].look_due_at <= utcnow()
        for who in ("ann", "ben"):
            given = office.tool.answer(office.there(), task, who, BILLING)
            held.annotations[given] = replace(held.annotations[given], updated_at=utcnow())
            office.sync()
        assert [one.guidelines_id for one in office.rows(Annotation)] == shown

    def test_many_webhooks_are_written_down_at_once(self, office):
        office.sent()
        for number in range(30):
            _hint(office, str(number))
        said = []

        def note(*call):
            said.extend([call[2]] if "inbox_event" in call[2] else [])

        event.listen(office.runtime.db.writer, "before_cursor_execute", note)
        office.sync()
        event.remove(office.runtime.db.writer, "before_cursor_execute", note)
        assert all(one.handled_at for one in office.rows(InboxEvent))
        assert len(said) == 1


def _hint(office: Office, task: str) -> None:
    facts = {"task_ids": [task], "annotations": []}
    with office.runtime.db.transaction() as session:
        session.add(
            InboxEvent(project_id=office.project.id, source=LABEL_STUDIO.value, natural_key=task, facts=facts)
        )


def _heard(office: Office) -> int:
    """Count the annotators whose answers the report knows."""
    [report] = office.rows(QualityReport)
    return len(report.content["annotators"])


def _curate(office: Office) -> None:
    with office.runtime.db.transaction() as session:
        job = office.runtime.queue.ask(
            session, JobKind.CURATE, office.project.id, project_id=office.project.id
        )
    curation.run(office.runtime, office.runtime.queue.lease(job), office.project.id, Recipe(), Tools())


class TestWebhooks:
    def test_a_webhook_that_was_switched_off_is_put_back_with_an_alarm(self, office):
        office.sent()
        office.tool.remove_hooks(office.there(), "")
        office.sync()
        assert len(office.tool.projects[office.there()].hooks) == 1
        assert office.actions().count("webhook_put_back") == 1
        assert "The webhook was switched off in label-studio" in office.says("tasks")

    def test_the_first_webhook_is_no_alarm(self, office):
        office.sent()
        office.sync()
        assert "webhook_put_back" not in office.actions()

    def test_who_switches_it_off_again_and_again_is_heard_once_an_hour(self, office, clock):
        office.sent()
        for _ in range(9):
            office.tool.remove_hooks(office.there(), "")
            office.sync()
            clock.turn(1000)
        assert office.actions().count("webhook_put_back") == 3


class TestNames:
    def test_an_account_that_is_none_of_our_experts_settles_nothing(self, office, monkeypatch):
        monkeypatch.setattr("service.tools.accounts", lambda *_: frozenset({"ann", "ben"}))
        task = office.sent()
        for who in ("ann", "eve"):
            office.tool.answer(office.there(), task, who, BILLING)
        office.sync()
        assert office.state() is TaskState.SENT
        assert sorted(filter(None, (one.problem for one in office.rows(Annotation)))) == [
            "by an account that is none of our experts'"
        ]
        assert "annotation_quarantined" in office.actions()
        assert "Answers from label-studio in the last 7 days do not count" in office.says("tasks")
        office.tool.answer(office.there(), task, "ben", BILLING)
        office.sync()
        assert office.state() is TaskState.SETTLED

    def test_an_answer_that_another_changed_takes_its_settlement_with_it(self, office):
        _, (first, _) = office.settled()
        office.tool.edit(office.there(), first, "ben", BILLING)
        office.sync()
        assert office.state() is TaskState.SENT
        assert "annotation_quarantined" in office.actions()

    def test_who_has_left_is_locked_out_of_a_bundled_tool_once(self, office, monkeypatch):
        home, locked = label_studio_server.home_of(office.runtime.settings.data_dir), []
        tool_server.prepare(home, admin="admin", email="admin@errata.local", token="t")
        for name in ("ann", "ben"):
            tool_server.ensure_account(home, name, f"{name}@errata.local", is_valid=bool, make=lambda _: "t")
        monkeypatch.setattr(
            label_studio_server, "lock_out", lambda url, data_dir, accounts: locked.extend(accounts)
        )
        task = office.sent()
        for who in (ANN, BEN):
            office.tool.answer(office.there(), task, who, RIGHT)
        office.sync()
        assert locked == []
        with office.runtime.db.transaction() as session:
            left = standing.accounts_of(session, ANN)
            experts.off_board(session, office.runtime.secrets, left, actor="test")
        assert office.rows(ToolProject)[0].look_due_at <= utcnow()
        for _ in range(2):
            office.sync()
        assert [account.name for account in locked] == ["ann"]

    def test_an_answer_in_somebodys_name_silences_none_of_their_own(self, office):
        task = office.sent()
        for who in ("ann", "ben"):
            office.tool.answer(office.there(), task, who, BILLING)
            forged = office.tool.answer(office.there(), task, who, RIGHT)
            office.tool.edit(office.there(), forged, "", RIGHT)
        office.sync()
        assert office.actions().count("annotation_quarantined") == 2
        (settlement,) = office.rows(Settlement)
        assert (settlement.label, settlement.asked) == ("Billing", 2)
        office.do(JobKind.QUALITY)
        (report,) = office.rows(QualityReport)
        assert report.content["answers"] == 2

    @pytest.mark.parametrize(
        "forge",
        [
            lambda held, other: setattr(held, "shown", {**held.shown, "response": "Dermatology"}),
            lambda held, other: setattr(held, "shown", {**held.shown, "context": "it is Billing"}),
            lambda held, other: setattr(held, "key", other.key),
            lambda held, other: setattr(held, "key", "k-1"),
        ],
    )
    def test_an_answer_to_what_we_did_not_ask_counts_for_nobody(self, office, forge):
        office.add_tasks(2)
        office.send()
        held = office.tool.projects[office.there()].tasks
        (first, second), (changed, other) = held, held.values()
        forge(changed, other)
        for task in (first, second):
            for who in ("ann", "ben"):
                office.tool.answer(office.there(), task, who, BILLING)
        office.sync()
        states = {task.external_id: task.state for task in office.rows(AnnotationTask)}
        assert states == {first: TaskState.SENT, second: TaskState.SETTLED}
        assert office.actions().count("annotation_quarantined") == 2

    def test_a_copy_of_our_task_that_somebody_imported_settles_nothing(self, office):
        task = office.sent()
        held = office.tool.projects[office.there()].tasks
        held["copy"] = replace(held[task], annotations={})
        for who in ("ann", "ben"):
            office.tool.answer(office.there(), "copy", who, BILLING)
        office.sync()
        assert office.state() is TaskState.SENT
        assert office.actions().count("annotation_quarantined") == 2


RULES = {
    "rules": [
        {"when": {"reasons": ["unsafe"]}, "tool": "argilla", "overlap": 3, "pool": "doctors"},
        {"when": {"languages": ["de"], "min_severity": 2}, "tool": "argilla"},
    ]
}


class TestRules:
    def test_each_case_is_asked_where_the_rules_say(self, office):
        with office.runtime.db.transaction() as session:
            routing.set_routing(session, office.project, RULES, actor="test")
            for reasons, language in ((["unsafe"], None), (["style"], "de"), (["wrong"], "de-CH")):
                response = builders.add_response(
                    session, office.project, text=f"{reasons} {language}", asked=f"{language} {reasons}"
                )
                response.language = language
                builders.add_flag(session, office.project, response, *reasons)
        office.do(JobKind.TRIAGE)
        asked = {(task.connector.value, task.overlap, task.pool) for task in office.rows(AnnotationTask)}
        assert asked == {
            ("argilla", 3, "doctors"),
            ("label-studio", None, None),
            ("argilla", None, None),
        }
        assert office.send() == {"sent": 3}
        (project,) = office.other.projects.values()
        assert len(project.tasks) == 2

    @pytest.mark.parametrize(
        ("chosen", "rules", "tools"),
        [
            ({}, None, (LABEL_STUDIO, LABEL_STUDIO)),  # nobody has set an Argilla up
            ({"style": "argilla"}, None, (ARGILLA, LABEL_STUDIO)),
            ({"style": "argilla", "wrong": "argilla"}, None, (ARGILLA, ARGILLA)),
            ({"style": "argilla"}, RULES, (LABEL_STUDIO, LABEL_STUDIO)),
        ],
    )
    def test_without_rules_the_worst_reason_says_where_its_case_is_asked(self, office, chosen, rules, tools):
        with office.runtime.db.transaction() as session:
            written = projects.DEFAULT_REASONS | {
                code: {"severity": projects.DEFAULT_REASONS[code]["severity"], "tool": tool}
                for code, tool in chosen.items()
            }
            projects.set_reasons(session, office.project, written, actor="test")
            if rules:
                routing.set_routing(session, office.project, rules, actor="test")
            asked = routing.routing_of(session, office.project)
            given = (["style"], ["style", "wrong"])
            assert tuple(asked.place(reasons=codes)["connector"] for codes in given) == tools

    def test_a_reason_leads_experts_to_its_question_where_they_are_asked_it(self, office):
        office.add_tasks(1)
        wrong, style = {"severity": 3, "question": "label"}, {"severity": 1, "question": "correction"}
        with office.runtime.db.transaction() as session:
            projects.set_reasons(session, office.project, {"wrong": wrong, "style": style}, actor="test")
            response = builders.add_response(session, office.project, asked="about another matter")
            builders.add_flag(session, office.project, response, "wrong", "style", "odd", comment="no")
            projects.set_reasons(session, office.project, {"wrong": {"severity": 3}}, actor="test")
        office.do(JobKind.TRIAGE)
        office.send()
        shown = [
            task.shown.get("reasons", "") for task in office.tool.projects[office.there()].tasks.values()
        ]
        assert sorted(shown) == ["", "odd · style · wrong (Right label) · no"]

    @pytest.mark.parametrize(
        ("needs_blindness", "rules", "tool"),
        [(True, RULES, ARGILLA), (False, RULES, LABEL_STUDIO), (True, {"rules": []}, LABEL_STUDIO)],
    )
    def test_where_blindness_is_needed_argilla_is_preferred(self, office, needs_blindness, rules, tool):
        with office.runtime.db.transaction() as session:
            project = session.get_one(Project, office.project.id)
            project.needs_blindness = needs_blindness
            routing.set_routing(session, project, rules, actor="test")
            assert routing.routing_of(session, project).place()["connector"] is tool

    @pytest.mark.parametrize(
        ("needs_blindness", "is_own", "sent"), [(True, True, 0), (True, False, 1), (False, True, 1)]
    )
    def test_nobody_is_asked_where_others_answers_are_shown_if_the_project_forbids_that(
        self, office, monkeypatch, needs_blindness, is_own, sent
    ):
        office.add_tasks(1)
        office.change(Project, office.project.id, needs_blindness=needs_blindness)
        if is_own:
            monkeypatch.setattr("service.tools.own", lambda *_: Running("https://labels.example", "t"))
        outcome = office.send()
        assert outcome.get("sent", 0) == sent
        told = outcome.get("waiting", {}).get("label-studio", "")
        assert ("which this project forbids: ask in Argilla" in told) is not bool(sent)

    def test_rules_are_set_in_the_settings_and_nonsense_is_refused(self, office):
        olga = person(office.runtime, Role.OPERATOR)
        for text, status in ((json.dumps(RULES), 303), ('{"rules": [{"tool": "prodigy"}]}', 422)):
            version = 0 if status == 303 else 1
            answer = olga.post("/p/clinic/settings/routing", document=text, version=str(version))
            assert answer.status_code == status, answer.text
        with office.runtime.db.reading() as session:
            found = projects.document(session, office.project.id, DocumentKind.ROUTING)
        assert (found.version, found.content) == (1, RULES)

    def test_an_overlap_of_its_own_is_how_many_are_asked(self, office):
        task = office.sent()
        office.change(AnnotationTask, office.rows(AnnotationTask)[0].id, overlap=1)
        office.tool.answer(office.there(), task, "ann", BILLING)
        office.sync()
        assert office.state() is TaskState.SETTLED


def test_the_settings_say_what_is_wrong_with_a_tool(office, monkeypatch):
    ill = Health("1.23.2", problem="the legacy token is not accepted", remedy="make a <b>new</b> one")
    monkeypatch.setattr("service.tools.health", lambda *_: ill)
    shown = office.says("settings/tools")
    assert "the legacy token is not accepted: make a &lt;b&gt;new&lt;/b&gt; one" in shown
    assert 'hx-get="/p/clinic/settings/tools"' in office.says("settings")


class Story:
    """Chance that people do to a tool, with webhooks that are lost, repeated and out of order."""

    def __init__(self, office: Office, choose) -> None:
        self.office, self.choose = office, choose
        self.held = office.tool.projects[office.there()].tasks

    def happen(self) -> None:
        there, tool = self.office.there(), self.office.tool
        annotations = [one for task in self.held.values() for one in task.annotations]
        what = self.choose(
            st.sampled_from(("answer", "answer", "skip", "edit", "take back", "remove", "add"))
        )
        if what == "add":
            tool.add_by_hand(there, prompt=f"case {tool._ticks}", response="Billing")
        elif what == "remove" and self.held:
            tool.remove(there, self.choose(st.sampled_from(sorted(self.held))))
        elif what == "edit" and annotations:
            tool.edit(there, self.choose(st.sampled_from(sorted(annotations))), "ann", self._answer())
        elif what == "take back" and annotations:
            tool.take_back(there, self.choose(st.sampled_from(sorted(annotations))))
        elif self.held:
            task = self.choose(st.sampled_from(sorted(self.held)))
            who = self.choose(st.sampled_from(("ann", "ben", "cleo")))
            tool.skip(there, task, who) if what == "skip" else tool.answer(there, task, who, self._answer())

    def tell(self) -> None:
        """Let webhooks of anything come, or none, of what is long gone too."""
        for task in self.choose(st.lists(st.integers(1, self.office.tool._ticks).map(str), max_size=3)):
            if not any(event.natural_key == task for event in self.office.rows(InboxEvent)):
                _hint(self.office, task)

    def _answer(self) -> Answer:
        return self.choose(st.sampled_from((RIGHT, BILLING, Answer(Verdict.UNSURE))))

    def truth(self) -> dict[str, datetime]:
        return {a.external_id: a.updated_at for task in self.held.values() for a in task.annotations.values()}

    def ours(self) -> dict[str, datetime]:
        newest: dict[str, datetime] = {}
        for one in sorted(self.office.rows(Annotation), key=lambda row: row.revised_at):
            if one.tool_task in self.held and not one.withdrawn_at:
                newest[one.external_id] = one.revised_at
        return newest


def test_two_polls_after_whatever_happened_we_hold_what_the_tool_holds(office):
    @settings(
        max_examples=CHOSEN.tool_stories,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(st.data())
    def tell(data):
        office.begin_again()
        office.add_tasks(3)
        office.send()
        story = Story(office, data.draw)
        for _ in range(data.draw(st.integers(1, 6))):
            story.happen()
            if data.draw(st.booleans()):
                story.tell()
                office.sync(looks_at_everything=data.draw(st.booleans()))
        _poll_twice(office)
        assert story.ours() == story.truth()
        office.sync()  # tells what was removed
        assert story.ours() == story.truth()
        _settlements_rest_on_what_stands(office)

    tell()


def test_polls_that_read_nothing_would_be_caught(office):
    task = office.sent()
    office.sync()
    office.tool.answer(office.there(), task, "ann", BILLING)
    everything = office.tool.pull
    office.tool.pull = lambda project, since: everything(project, since) if since is None else iter(())
    _poll_twice(office)
    story = Story(office, None)
    assert story.ours() != story.truth()


def _settlements_rest_on_what_stands(office: Office) -> None:
    """Every open task is where its tool has it, and every settlement in force has two answers that agree."""
    held = office.tool.projects[office.there()].tasks
    answered = sorted(office.rows(Annotation), key=lambda one: (one.revised_at, one.id))
    newest = {(one.task_id, one.annotator_id): one for one in answered if not one.withdrawn_at}
    said = Counter((one.task_id, one.verdict, one.label) for one in newest.values())
    for settlement in office.rows(Settlement):
        agreeing = said[settlement.task_id, settlement.verdict, settlement.label]
        assert settlement.withdrawn_at or agreeing >= 2
    for task in office.rows(AnnotationTask):
        assert task.state is not TaskState.SENT or task.external_id in held


def test_a_poll_that_sees_no_deletions_would_be_caught(office):
    task, (first, _) = office.settled()
    held = office.tool.projects[office.there()].tasks
    kept = HeldTask(task, held[task].key, tuple(held[task].annotations.values()))
    office.tool.take_back(office.there(), first)
    office.tool.pull = lambda project, since: iter([kept])
    office.sync()
    story = Story(office, None)
    assert story.ours() != story.truth()


def test_a_tool_that_answers_nothing_sensible_is_a_problem_and_no_crash(office):
    office.sent()

    def pull(project, since):
        raise ToolUnavailable("it broke off")
        yield

    office.tool.pull = pull
    assert office.sync()["waiting"] == {"label-studio": "it broke off"}
    assert office.rows(ToolProject)[0].failures == 1


def _use(office: Office, kind: ConnectorKind, running) -> None:
    """Take a real tool, in which the project has a name of its own."""
    real = ArgillaConnector if kind is ARGILLA else LabelStudioConnector
    members = {"members": ("ann", "ben")} if kind is ARGILLA else {}
    office.tools[kind] = real(running.url, running.admin_token, **members)
    office.change(Project, office.project.id, slug=f"clinic-{uuid4()}")


def test_an_answer_that_another_account_changed_in_label_studio_counts_no_more(office, label_studio):
    _use(office, LABEL_STUDIO, label_studio)
    people = LabelStudioPeople(label_studio)
    office.add_tasks(1)
    office.send()
    there, task = office.rows(ToolProject)[0].external_id, office.rows(AnnotationTask)[0].external_id
    given = {who: people.answer(there, task, who, BILLING) for who in (ANN, BEN)}
    people.edit(there, given[ANN], ANN, BILLING)
    office.sync()
    assert (office.state(), "annotation_quarantined" in office.actions()) == (TaskState.SETTLED, False)

    people.edit(there, given[ANN], label_studio_server.ADMIN_EMAIL, BILLING)
    office.sync(looks_at_everything=False)
    assert (office.state(), "annotation_quarantined" in office.actions()) == (TaskState.SENT, True)
    newest = max(office.rows(Annotation), key=lambda row: row.revised_at)
    assert (newest.external_id, newest.problem) == (given[ANN], "changed by another account")
    alarm = f"/p/{office.rows(Project)[0].slug}/tasks"
    shown = person(office.runtime, Role.AUDITOR, password="").get(alarm).text
    assert "Answers from label-studio in the last 7 days do not count" in shown


@pytest.mark.parametrize("kind", [LABEL_STUDIO, ARGILLA])
def test_with_no_webhook_arriving_a_real_tool_is_followed_within_two_polls(office, request, kind):
    running = request.getfixturevalue(kind.name.lower())
    people = ArgillaPeople(running) if kind is ARGILLA else LabelStudioPeople(running)
    ann, ben = ("ann", "ben") if kind is ARGILLA else (ANN, BEN)
    _use(office, kind, running)
    for task in office.add_tasks(3):
        office.change(AnnotationTask, task, connector=kind)
    office.send()
    there = office.rows(ToolProject)[0].external_id
    first, second, third = (task.external_id for task in office.rows(AnnotationTask))

    people.answer(there, third, ann, BILLING)  # from then on polls read what changed
    office.sync(looks_at_everything=False)
    assert office.rows(ToolProject)[0].cursor
    given = [people.answer(there, task, who, BILLING) for task in (first, second) for who in (ann, ben)]
    people.skip(there, third, ben)
    added = people.add_by_hand(there, prompt="Who pays?", response="Cardiology")
    people.answer(there, added, ann, RIGHT)
    _poll_twice(office)
    assert _states(office) == dict.fromkeys((first, second), TaskState.SETTLED) | dict.fromkeys(
        (third, added), TaskState.SENT
    )
    assert [one.is_skipped for one in office.rows(Annotation)].count(True) == 1

    people.take_back(there, given[0])
    people.edit(there, given[2], ann, RIGHT)
    people.remove(there, third)
    people.remove_hooks(there, office.runtime.settings.own_url)
    _poll_twice(office)
    assert _states(office)[second] is TaskState.CONTESTED
    assert office.sync()["asked_again"] == 1
    assert _states(office) == {
        first: TaskState.SENT,
        second: TaskState.CONTESTED,
        None: TaskState.SELECTED,
        added: TaskState.SENT,
    }
    assert sum(one.withdrawn_at is not None for one in office.rows(Annotation)) == 1


def _poll_twice(office: Office) -> None:
    for _ in range(2):
        office.sync(looks_at_everything=False)


def _states(office: Office) -> dict[str | None, TaskState]:
    return {task.external_id: task.state for task in office.rows(AnnotationTask)}
