"""Tasks whose answer is known, hidden among others: which, how many, that nothing tells them, and what they tell."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from sqlmodel import col, select

from annotation.label_studio import LabelStudioConnector
from annotation.suggestions import SuggestionSource
from annotation.types import Answer, Cause, NewTask, Verdict
from service import jobs, projects, routing
from service.answers import annotators, overview
from service.answers.examples import settled_answers
from service.errors import Invalid
from service.jobs.quality import assess
from service.queue import Lease
from service.runtime import Runtime
from service.stages import gold, labelling, triage
from service.tables import (
    AnnotationTask,
    Annotator,
    ConnectorKind,
    JobKind,
    LedgerEntry,
    Project,
    QualityReport,
    Response,
    Role,
    Settlement,
    TaskFlag,
    TaskPurpose,
    TaskState,
)
from tests import builders
from tests.console import person
from tests.fakes import FakeConnector
from tests.label_studio import LabelStudioPeople

LABEL_STUDIO = ConnectorKind.LABEL_STUDIO
RIGHT = Answer(Verdict.CORRECT)
BILLING = Answer(Verdict.INCORRECT, label="Billing", cause=Cause.MODEL)
THEN = datetime(2026, 1, 1, tzinfo=UTC)  # when the fake tool's clock starts
NEXT_DAY, WEEKS_LATER = THEN + timedelta(days=1), THEN + timedelta(weeks=5)


class Listening(FakeConnector):
    """The fake tool, which keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.pushed: list[NewTask] = []

    def push(self, project: str, tasks: Sequence[NewTask]):
        self.pushed += tasks
        return super().push(project, tasks)


@dataclass
class Shop:
    """A project in which Ann and Ben settled tasks and more wait to be sent; others are at work too."""

    runtime: Runtime
    project: Project
    tool: object
    numbers: count = field(default_factory=count)

    def known(
        self, number: int = 1, *, by: Sequence[str] = ("ann", "ben"), **settlement
    ) -> list[AnnotationTask]:
        """Add settled tasks; each of `by` said that the response is right."""
        with self.runtime.db.transaction() as session:
            people = [self._annotator(session, account) for account in by]
            response = self._response(session)
            return [self._settled(session, response, people, settlement) for _ in range(number)]

    def waiting(self, number: int, **more) -> list[AnnotationTask]:
        with self.runtime.db.transaction() as session:
            response = self._response(session)
            return [builders.add_task(session, self.project, response, **more) for _ in range(number)]

    def at_work(self, *accounts: str) -> None:
        """Let somebody have answered something else."""
        with self.runtime.db.transaction() as session:
            task = builders.add_task(
                session, self.project, self._response(session), state=TaskState.WITHDRAWN
            )
            for account in accounts:
                builders.add_annotation(session, task, self._annotator(session, account), revised_at=THEN)

    def change(self, **options) -> None:
        with self.runtime.db.transaction() as session:
            projects.change(session, session.get_one(Project, self.project.id), actor="test", **options)

    def hide(self, now: datetime = NEXT_DAY) -> int:
        return gold.hide(self.lease(JobKind.SEND), self.project.id, now=now)

    def do(self, kind: JobKind) -> None:
        jobs.perform(self.runtime, self.lease(kind))

    def assess(self) -> dict:
        assess(self.runtime, self.lease(JobKind.QUALITY))
        with self.runtime.db.reading() as session:
            content = session.exec(select(QualityReport)).one().content
            told = content["annotators"]
            return {a.account.split("@")[0]: told.get(str(a.id)) for a in session.exec(select(Annotator))}

    def answer(self, task: AnnotationTask, **said: Answer) -> None:
        """Let people answer a task in the tool, and read it."""
        task = self.row(AnnotationTask, task.id)
        for account, answer in said.items():
            self.tool.answer(self.place, task.external_id, account, answer)

    @property
    def place(self) -> str:
        return next(iter(self.tool.projects))

    def gold(self) -> list[AnnotationTask]:
        return self.rows(AnnotationTask, AnnotationTask.purpose == TaskPurpose.GOLD)

    def rows(self, table, *conditions):
        with self.runtime.db.reading() as session:
            return session.exec(select(table).where(*conditions).order_by(col(table.id))).all()

    def row(self, table, row_id):
        with self.runtime.db.reading() as session:
            return session.get_one(table, row_id)

    def lease(self, kind: JobKind) -> Lease:
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(session, kind, self.project.id, project_id=self.project.id)
        return self.runtime.queue.lease(job)

    def _response(self, session):
        return builders.add_response(session, self.project, asked=f"question {next(self.numbers)}")

    def _settled(self, session, response, people, settlement) -> AnnotationTask:
        task = builders.add_task(session, self.project, response)
        facts = {"verdict": Verdict.CORRECT, "label": None, "cause": None, "created_at": THEN} | settlement
        builders.add_settlement(session, task, **facts)
        for each in people:
            builders.add_annotation(session, task, each, verdict=Verdict.CORRECT, revised_at=THEN)
        return task

    def _annotator(self, session, account: str) -> Annotator:
        known = select(Annotator).where(Annotator.connector == LABEL_STUDIO, Annotator.account == account)
        found = session.exec(known).first() or Annotator(connector=LABEL_STUDIO, account=account)
        session.add(found)
        session.flush()
        return found


def opened(runtime, monkeypatch, tool) -> Shop:
    monkeypatch.setattr("service.jobs.labelling.connect", lambda *_: tool)
    with runtime.db.transaction() as session:
        shop = Shop(runtime, builders.add_project(session), tool)
    shop.change(gold_share=1.0)
    return shop


@pytest.fixture
def shop(runtime, monkeypatch) -> Shop:
    return opened(runtime, monkeypatch, Listening())


@pytest.fixture
def busy(shop) -> Shop:
    """Ten tasks wait, twenty are known, and Cem and Dev have seen none of those."""
    shop.known(20)
    shop.waiting(10)
    shop.at_work("cem", "dev")
    return shop


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_where_there_is_nothing_to_hide_nobody_s_writing_is_waited_for(shop, share, monkeypatch):
    shop.change(gold_share=share)
    shop.waiting(3)
    lease = shop.lease(JobKind.SEND)
    monkeypatch.delattr("service.queue.Lease.transaction")
    assert gold.hide(lease, shop.project.id, now=NEXT_DAY) == 0


class TestHowMany:
    def test_a_share_of_what_waits_has_gold_beside_it_and_a_second_run_adds_none(self, shop):
        shop.change(gold_share=0.3)
        shop.known(60)
        shop.waiting(100)
        shop.at_work("cem")
        assert 10 <= shop.hide() <= 50  # misses once in a million runs
        assert shop.hide() == 0

    def test_a_share_of_nothing_hides_nothing(self, busy):
        busy.change(gold_share=0.0)
        assert busy.hide() == 0

    def test_what_was_left_over_when_a_tool_failed_is_not_doubled(self, busy):
        busy.hide()
        busy.tool.takes_only = 7
        busy.do(JobKind.SEND)
        assert busy.hide(NEXT_DAY) == 0

    @pytest.mark.parametrize("options", [{"gold_share": 1.5}, {"repeat_weeks": 0}])
    def test_an_option_that_cannot_be_is_refused(self, shop, options):
        with pytest.raises(Invalid, match="does not lie between"):
            shop.change(**options)


class TestWhich:
    def test_only_what_all_agreed_on_is_gold(self, busy):
        sure = {task.id for task in busy.rows(AnnotationTask, AnnotationTask.state == TaskState.SETTLED)}
        for settlement in ({"asked": 3}, {"agreeing": 1, "asked": 1}, {"verdict": Verdict.UNSURE}):
            busy.known(20, **settlement)
        assert busy.hide() == 10
        assert {task.gold_of_id for task in busy.gold()} <= sure

    def test_few_known_answers_would_be_recognised(self, shop):
        shop.known(gold.MIN_KNOWN - 1)
        shop.waiting(10)
        shop.at_work("cem")
        assert shop.hide() == 0
        shop.known(1)
        assert shop.hide() == 10

    def test_who_runs_the_project_names_gold_and_takes_it_out(self, shop, errata):
        one, other = shop.known(2, agreeing=1, asked=1)
        shop.waiting(10)
        shop.at_work("cem")
        olga = person(shop.runtime, Role.OPERATOR, name="olga")
        olga.post(f"/p/clinic/tasks/{one.id}/gold", is_gold="true")
        status, said = errata("labelling", "gold", "clinic", str(other.id))
        assert (status, said) == (0, {"tasks": [str(other.id)], "is_gold": True})
        assert "Do not judge annotators by it" in olga.get(f"/p/clinic/tasks/{one.id}").text
        errata("labelling", "gold", "clinic", str(other.id), "--drop")
        assert shop.hide() == 1
        assert shop.gold()[0].gold_of_id == one.id
        named = [entry.subject for entry in shop.rows(LedgerEntry, LedgerEntry.action == "gold_named")]
        assert named == [str(one.id), str(other.id), str(other.id)]

    def test_what_came_to_nothing_cannot_be_named(self, shop):
        [task] = shop.waiting(1)
        olga = person(shop.runtime, Role.OPERATOR, name="olga")
        assert olga.post(f"/p/clinic/tasks/{task.id}/gold", is_gold="true").status_code == 409

    def test_nobody_is_asked_what_they_settled_themselves(self, shop):
        shop.known(20)
        shop.waiting(10)
        assert shop.hide() == 0
        shop.at_work("cem")
        assert shop.hide() == 10

    def test_each_annotator_is_asked_once_and_the_same_goes_out_once_at_a_time(self, shop):
        shop.known(gold.MIN_KNOWN)
        shop.waiting(30)
        shop.at_work("cem")
        assert shop.hide() == gold.MIN_KNOWN
        shop.do(JobKind.SEND)
        for task in shop.gold():
            shop.answer(task, cem=RIGHT, ann=RIGHT)
        shop.do(JobKind.SYNC)
        shop.waiting(30)
        assert shop.hide() == 0
        shop.at_work("dev")
        assert shop.hide() == gold.MIN_KNOWN

    def test_after_enough_answers_a_known_task_retires(self, shop, monkeypatch):
        monkeypatch.setattr(gold, "RETIRED_AFTER", 2)
        [known] = shop.known(1)
        with shop.runtime.db.transaction() as session:
            gold.name(session, shop.project, session.merge(known), is_gold=True, actor="test")
        shop.at_work("cem", "dev", "eva")
        shop.waiting(5)
        assert shop.hide() == 1
        shop.do(JobKind.SEND)
        shop.answer(shop.gold()[0], cem=RIGHT, dev=RIGHT)
        shop.do(JobKind.SYNC)
        shop.waiting(5)
        assert shop.hide() == 0
        monkeypatch.setattr(gold, "RETIRED_AFTER", 3)
        assert shop.hide() == 1


class TestNothingTells:
    def test_it_lies_beside_a_host_in_the_order_in_which_tasks_are_sent(self, busy):
        busy.waiting(5, priority=7.0)
        busy.hide()
        sent = busy.rows(AnnotationTask, AnnotationTask.state == TaskState.SELECTED)
        time_of = {task.id: task.id.int >> 62 for task in sent}
        hosts = {(time_of[task.id], task.priority) for task in sent if not task.gold_of_id}
        placed = [(time_of[task.id], task.priority) for task in sent if task.gold_of_id]
        assert len(placed) == len({*placed}) == 15
        assert {*placed} == hosts
        behind = [
            task.id > host.id
            for task in sent
            if task.gold_of_id
            for host in sent
            if not host.gold_of_id and time_of[host.id] == time_of[task.id]
        ]
        assert 0 < sum(behind) < 15  # both before and behind: it misses once in 2 ** 14 runs

    def test_the_tool_is_told_what_it_was_told_of_the_first_but_another_id(self, busy):
        busy.change(suggestion=SuggestionSource.CORRECTION, blind_share=0.0)
        with busy.runtime.db.transaction() as session:
            response = builders.add_response(session, busy.project)
            for number in range(20):
                told = {"comment": f"not my doctor {number}", "correction": "Billing", "consent": True}
                flag = builders.add_flag(session, busy.project, response, "wrong", **told)
                builders.add_task(session, busy.project, response, flag=flag)
        busy.change(gold_share=0.0)
        busy.do(JobKind.SEND)
        with busy.runtime.db.transaction() as session:
            for task in session.exec(select(AnnotationTask).where(AnnotationTask.state == TaskState.SENT)):
                builders.add_settlement(session, task)
        busy.change(gold_share=1.0)
        busy.waiting(50)
        assert busy.hide() == 50
        busy.do(JobKind.SEND)
        told = {each.key: each for each in busy.tool.pushed}
        copies = [(told[str(task.id)], told.get(str(task.gold_of_id))) for task in busy.gold()]
        known = [(copy, first) for copy, first in copies if first]
        assert [copy for copy, _ in known] == [replace(first, key=copy.key) for copy, first in known]
        assert len({copy.reasons for copy, _ in known}) == 21
        assert any(copy.suggestion for copy, _ in known)

    def test_it_goes_where_the_first_went_and_is_asked_by_todays_questions(self, busy):
        rule = {"when": {"reasons": ["wrong"]}, "tool": "label-studio", "overlap": 3, "pool": "doctors"}
        with busy.runtime.db.transaction() as session:
            for task in session.exec(select(AnnotationTask).where(AnnotationTask.state == TaskState.SETTLED)):
                flag = builders.add_flag(
                    session, busy.project, session.get_one(Response, task.response_id), "wrong"
                )
                session.add(TaskFlag(task_id=task.id, feedback_id=flag.id))
            routing.set_routing(session, busy.project, {"rules": [rule]}, actor="test")
            projects.set_guidelines(session, busy.project, "Be kind.", actor="test")
        busy.hide()
        sent = busy.rows(AnnotationTask, AnnotationTask.state == TaskState.SELECTED)
        assert len({(task.schema_id, task.guidelines_id) for task in sent}) == 1
        assert {(task.overlap, task.pool, task.connector) for task in busy.gold()} == {
            (3, "doctors", LABEL_STUDIO)
        }


class TestItComesToNothing:
    @pytest.fixture
    def asked(self, busy) -> Shop:
        """Cem and Dev call every task wrong, gold or not."""
        busy.hide()
        busy.do(JobKind.SEND)
        for task in busy.rows(AnnotationTask, AnnotationTask.state == TaskState.SENT):
            busy.answer(task, cem=BILLING, dev=BILLING)
        return busy

    def test_gold_settles_and_teaches_nothing(self, asked):
        known = {row.id: row.verdict for row in asked.rows(Settlement)}
        asked.do(JobKind.SYNC)
        fresh = [row for row in asked.rows(Settlement) if row.id not in known]
        assert len(fresh) == 10
        assert {asked.row(AnnotationTask, row.task_id).purpose for row in fresh} == {TaskPurpose.RANDOM}
        assert {task.state for task in asked.gold()} == {TaskState.WITHDRAWN}
        assert {row.id: row.verdict for row in asked.rows(Settlement) if row.id in known} == known
        with asked.runtime.db.reading() as session:
            assert len(settled_answers(session, asked.project.id)) == 30

    def test_it_is_no_backlog_and_counts_in_no_figure_of_answers(self, asked):
        def figures():
            with asked.runtime.db.reading() as session:
                stops = overview.loop(session, asked.project, now=NEXT_DAY)
                waits = annotators.backlog(session, asked.project)
                answered = annotators.everybody(session, asked.project)
            return (
                [stop.waiting for stop in stops],
                [each.tasks for each in waits],
                [row[1] for row in answered],
            )

        assert figures()[1] == [0, 10, 0]
        asked.do(JobKind.SYNC)
        assert figures()[1] == [0, 0, 0]
        assert sorted(figures()[2]) == [11, 11, 20, 20]

    def test_no_flag_waits_for_it(self, busy):
        busy.hide()
        busy.do(JobKind.SEND)
        [copy, *_] = busy.gold()
        with busy.runtime.db.transaction() as session:
            response = session.get_one(Response, copy.response_id)
            flag = builders.add_flag(session, busy.project, response, "unsafe")
        triage.run(busy.lease(JobKind.TRIAGE), busy.project.id)
        [joined] = busy.rows(TaskFlag, TaskFlag.feedback_id == flag.id)
        assert busy.row(AnnotationTask, joined.task_id).purpose is TaskPurpose.FLAG

    def test_an_answer_that_names_its_response_is_not_the_copys(self, busy):
        busy.hide()
        [copy, *_] = busy.gold()
        with busy.runtime.db.reading() as session:
            key = labelling.task_key_of_response(session, busy.project, copy.response_id)
        assert key == str(busy.rows(AnnotationTask, AnnotationTask.state == TaskState.SETTLED)[-1].id)


class TestWhatItTells:
    def test_who_does_not_know_what_is_known_is_told_apart(self, busy):
        busy.hide()
        busy.do(JobKind.SEND)
        for task in busy.gold():
            busy.answer(task, cem=RIGHT, dev=BILLING)
        busy.do(JobKind.SYNC)
        told = busy.assess()
        assert [told[who]["gold"]["value"] for who in ("cem", "dev")] == [1, 0]
        assert [told[who]["gold"]["n"] for who in ("cem", "dev")] == [10, 10]
        assert told["dev"]["weight"] < 0.5 < told["cem"]["weight"]

    def test_what_was_dropped_judges_nobody_who_answered_it_already(self, busy):
        busy.hide()
        busy.do(JobKind.SEND)
        for task in busy.gold():
            busy.answer(task, cem=BILLING)
        busy.do(JobKind.SYNC)
        assert busy.assess()["cem"]["gold"]["n"] == 10
        with busy.runtime.db.transaction() as session:
            for copy in busy.gold()[1:]:
                known = session.get_one(AnnotationTask, copy.gold_of_id)
                gold.name(session, busy.project, known, is_gold=False, actor="test")
        assert busy.assess()["cem"]["gold"]["n"] == 1

    def test_what_was_hidden_for_those_who_saw_it_judges_no_newcomer(self, shop):
        shop.known(10, asked=3)
        shop.waiting(10)
        assert shop.hide(WEEKS_LATER) == 10
        shop.do(JobKind.SEND)
        shop.tool._ticks += int(timedelta(weeks=5).total_seconds())
        for task in shop.gold():
            shop.answer(task, ann=RIGHT, cem=BILLING)
        shop.do(JobKind.SYNC)
        told = shop.assess()
        assert told["ann"]["steady"]["n"] == 10
        assert told["cem"] is None or told["cem"]["gold"] is None

    def test_who_settled_it_is_not_judged_by_their_own_answer(self, busy):
        busy.hide()
        busy.do(JobKind.SEND)
        for task in busy.gold():
            busy.answer(task, ann=RIGHT, ben=BILLING)
        busy.do(JobKind.SYNC)
        told = busy.assess()
        assert [(told[who]["gold"], told[who]["steady"]) for who in ("ann", "ben")] == [(None, None)] * 2

    def test_weeks_later_the_same_people_are_asked_the_same_and_it_is_told_how_far_they_agree(self, shop):
        shop.known(10)
        shop.waiting(10)
        assert shop.hide(NEXT_DAY) == 0
        assert shop.hide(WEEKS_LATER) == 10
        shop.do(JobKind.SEND)
        shop.tool._ticks += int(timedelta(weeks=5).total_seconds())
        for number, task in enumerate(shop.gold()):
            shop.answer(task, ann=RIGHT, ben=RIGHT if number % 2 else BILLING)
        shop.do(JobKind.SYNC)
        told = shop.assess()
        assert (told["ann"]["steady"]["value"], told["ann"]["steady"]["n"]) == (1, 10)
        assert told["ben"]["steady"]["value"] == 0.5
        assert told["ben"]["steady"]["low"] < 0.5 < told["ben"]["steady"]["high"]
        assert told["ben"]["gold"] is None
        [ben] = shop.rows(Annotator, Annotator.account == "ben")
        page = person(shop.runtime, Role.AUDITOR).get(f"/p/clinic/annotators/{ben.id}").text
        assert "The same as their own answer weeks before" in page

    def test_two_accounts_of_one_person_are_one_who_saw_it(self, busy):
        with busy.runtime.db.transaction() as session:
            user, _ = builders.add_person(session, Role.ANNOTATOR)
            for annotator in session.exec(
                select(Annotator).where(col(Annotator.account).in_(("ann", "cem", "dev")))
            ):
                annotator.user_id = user.id
        assert busy.hide() == 0


def test_label_studio_shows_nothing_that_tells_gold(runtime, monkeypatch, label_studio):
    connector = LabelStudioConnector(label_studio.url, label_studio.admin_token)
    shop, people = opened(runtime, monkeypatch, connector), LabelStudioPeople(label_studio)
    emails = [account.email for account in label_studio.accounts]
    monkeypatch.setattr("service.jobs.labelling.tools.accounts", lambda *_: None)
    shop.known(gold.MIN_KNOWN, by=emails[:2])
    shop.waiting(4)
    shop.at_work(emails[2])
    assert shop.hide() == 4
    shop.do(JobKind.SEND)
    sent = shop.rows(AnnotationTask, AnnotationTask.state == TaskState.SENT)
    held = {task.id: people.read(f"/api/tasks/{task.external_id}/", {}) for task in sent}
    own = {"id", "inner_id", "data", "created_at", "updated_at"}
    seen = [{name: value for name, value in each.items() if name not in own} for each in held.values()]
    assert seen == [seen[0]] * 8
    assert {tuple(each["data"]) for each in held.values()} == {tuple(held[sent[0].id]["data"])}
    for task in sent:
        people.answer("", task.external_id, emails[2], RIGHT)
    shop.do(JobKind.SYNC)
    assert shop.assess()[emails[2].split("@")[0]]["gold"]["value"] == 1
