"""Who is asked: pools, qualification, capacity, invitations, and letting somebody go."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import pytest
from sqlalchemy import event
from sqlmodel import col, select

from annotation.types import Answer, Cause, Verdict
from service import (
    argilla_server,
    capacity,
    experts,
    jobs,
    label_studio_server,
    ledger,
    projects,
    settlements,
    standing,
)
from service.answers.annotators import describe_experts, empty_pools
from service.clock import utcnow
from service.errors import AlreadyExists, Invalid, NotFound
from service.jobs.labelling import connect
from service.label_studio_server import Running
from service.runtime import Runtime
from service.stages import quality, sending
from service.tables import (
    Admission,
    Annotation,
    AnnotationTask,
    Annotator,
    ConnectorKind,
    Job,
    JobKind,
    JobState,
    LedgerEntry,
    PoolMember,
    Project,
    Qualification,
    Role,
    SetAside,
    Settlement,
    Source,
    TaskPurpose,
    TaskState,
    User,
    UserToken,
)
from service.tool_server import Account, Secrets, _write_secrets, prepare
from service.tools import ARGILLA, LABEL_STUDIO
from tests import builders
from tests.console import PASSWORD, path_of, person
from tests.fakes import FakeConnector

BILLING = {"verdict": "incorrect", "label": "Billing", "cause": "model"}
RIGHT = {"verdict": "correct"}
CORRECT = Answer(Verdict.CORRECT)
WRONG = Answer(Verdict.INCORRECT, label="Billing", cause=Cause.MODEL)


@dataclass
class Ward:
    """A project in which two are asked: answers come as files, or from a tool in memory."""

    runtime: Runtime
    project: Project
    tool: FakeConnector
    numbers: count

    def task(self, **more: Any) -> AnnotationTask:
        facts = {"state": TaskState.SENT} | more
        with self.runtime.db.transaction() as session:
            asked = f"question {next(self.numbers)}"
            response = builders.add_response(session, self.project, asked=asked)
            return builders.add_task(session, self.project, response, **facts)

    def gold(self, **more: Any) -> AnnotationTask:
        """A task that asks again what was settled as correct."""
        known = self.task()
        facts = {"verdict": Verdict.CORRECT, "label": None} | more
        with self.runtime.db.transaction() as session:
            builders.add_settlement(session, session.get_one(AnnotationTask, known.id), **facts)
        return self.task(purpose=TaskPurpose.GOLD, gold_of_id=known.id)

    def answers(self, task: AnnotationTask, **said: dict) -> TaskState:
        if task.purpose is TaskPurpose.GOLD:
            return self._answered_in_a_tool(task, said)
        lines = [
            answer | {"annotator": name, "response_id": str(task.response_id)}
            for name, answer in said.items()
        ]
        self.do(JobKind.IMPORT, answers=lines)
        return self.read(AnnotationTask, AnnotationTask.id == task.id).state

    def _answered_in_a_tool(self, task: AnnotationTask, said: dict[str, dict]) -> TaskState:
        """Answers that name their task: those that name a response alone are never a copy's."""
        with self.runtime.db.transaction() as session:
            row = session.get_one(AnnotationTask, task.id)
            for name, answer in said.items():
                known = select(Annotator).where(Annotator.account == name)
                annotator = session.exec(known).first()
                annotator = annotator or Annotator(connector=ConnectorKind.NONE, account=name)
                session.add(annotator)
                session.flush()
                given = builders.add_annotation(
                    session, row, annotator, **answer | {"verdict": Verdict(answer["verdict"])}
                )
                given.set_aside = standing.judge(session, row, annotator)
            return settlements.settle_task(session, self.project, row)

    def set_aside(self, task: AnnotationTask) -> dict[str, SetAside | None]:
        rows = (
            select(Annotator.account, Annotation.set_aside)
            .join(Annotation, col(Annotation.annotator_id) == Annotator.id)
            .where(Annotation.task_id == task.id)
        )
        with self.runtime.db.reading() as session:
            return dict(session.exec(rows).all())

    def pool(self, name: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> list[str]:
        with self.runtime.db.transaction() as session:
            project = session.get_one(Project, self.project.id)
            return standing.change_pool(session, project, name, add=add, remove=remove, actor="test")

    def change(self, **switches: Any) -> None:
        with self.runtime.db.transaction() as session:
            projects.change(session, session.get_one(Project, self.project.id), **switches, actor="test")

    def leave(self, account: str) -> dict[str, Any]:
        with self.runtime.db.transaction() as session:
            found = standing.accounts_of(session, account)
            return experts.off_board(session, self.runtime.secrets, found, actor="test")

    def invite(self, name: str = "mia") -> str:
        with self.runtime.db.transaction() as session:
            project = session.get_one(Project, self.project.id)
            return f"/join/{experts.invite(session, project, name, actor='test')}"

    def do(self, kind: JobKind, **options: Any) -> dict[str, Any]:
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(
                session, kind, self.project.id, project_id=self.project.id, options=options
            )
        jobs.perform(self.runtime, self.runtime.queue.lease(job))
        done = self.read(Job, Job.id == job)
        assert done.state is JobState.DONE, done.failure
        return done.result

    def read(self, table, *conditions):
        with self.runtime.db.reading() as session:
            return session.exec(select(table).where(*conditions)).one()

    def rows(self, table, *conditions) -> Sequence[Any]:
        with self.runtime.db.reading() as session:
            return session.exec(select(table).where(*conditions).order_by(col(table.id))).all()

    def states(self) -> list[TaskState]:
        return [task.state for task in self.rows(AnnotationTask)]

    def told(self) -> dict[str, dict[str, Any]]:
        with self.runtime.db.reading() as session:
            project = session.get_one(Project, self.project.id)
            found = describe_experts(session, project, experts.experts(session, project), now=utcnow())
        return {each["account"]: each for each in found}

    def there(self) -> str:
        (identifier,) = self.tool.projects
        return identifier


@pytest.fixture
def ward(runtime, monkeypatch) -> Ward:
    return _open(runtime, monkeypatch)


@pytest.fixture
def any_ward(any_runtime, monkeypatch) -> Ward:
    return _open(any_runtime, monkeypatch)


def _open(runtime: Runtime, monkeypatch) -> Ward:
    tool = FakeConnector()
    monkeypatch.setattr("service.jobs.labelling.connect", lambda *_: tool)
    with runtime.db.transaction() as session:
        return Ward(runtime, builders.add_project(session), tool, count())


class TestPools:
    def test_only_a_pool_s_members_count_and_the_task_waits_for_them(self, ward):
        ward.answers(ward.task(), ann=RIGHT, ben=RIGHT, cem=RIGHT)  # so that they are known
        assert ward.pool("doctors", add=["ann", "ben"]) == ["ann", "ben"]
        task = ward.task(pool="doctors")
        assert ward.answers(task, ann=RIGHT, cem=RIGHT) is TaskState.SENT
        assert ward.set_aside(task) == {"ann": None, "cem": SetAside.OUTSIDE_POOL}
        assert ward.answers(task, ben=RIGHT) is TaskState.SETTLED
        assert ward.read(Settlement, Settlement.task_id == task.id).asked == 2

    def test_without_a_pool_the_same_answers_settle(self, ward):
        assert ward.answers(ward.task(), ann=RIGHT, cem=RIGHT) is TaskState.SETTLED

    def test_an_outsider_s_answer_is_kept_and_its_page_says_why_it_does_not_count(self, ward):
        task = ward.task(pool="doctors")
        ward.answers(task, cem=BILLING)
        kept = ward.read(Annotation, Annotation.task_id == task.id)
        assert (kept.verdict, kept.label, kept.set_aside) == (
            Verdict.INCORRECT,
            "Billing",
            SetAside.OUTSIDE_POOL,
        )
        page = person(ward.runtime, Role.AUDITOR, password="").get(f"/p/clinic/tasks/{task.id}").text
        assert "not in the pool" in page and "Only answers of the pool doctors count." in page

    def test_an_outsider_s_skip_does_not_let_the_task_settle_sooner(self, ward):
        ward.change(settlement_bar=0.6)
        ward.answers(ward.task(), ann=RIGHT, cem=RIGHT)
        ward.pool("doctors", add=["ann"])
        task = ward.task(pool="doctors", overlap=3)
        with ward.runtime.db.transaction() as session:
            cem = session.exec(select(Annotator).where(Annotator.account == "cem")).one()
            skipped = builders.add_annotation(
                session, session.get_one(AnnotationTask, task.id), cem, is_skipped=True
            )
            skipped.set_aside = standing.judge(session, task, cem)
        assert ward.answers(task, ann=RIGHT) is TaskState.SENT

    def test_who_comes_into_the_pool_counts_with_what_they_answered_already(self, ward):
        task = ward.task(pool="doctors")
        assert ward.answers(task, ann=RIGHT, ben=RIGHT) is TaskState.SENT
        ward.pool("doctors", add=["ann"])
        assert ward.read(AnnotationTask, AnnotationTask.id == task.id).state is TaskState.SENT
        ward.pool("doctors", add=["ben"])
        assert ward.read(AnnotationTask, AnnotationTask.id == task.id).state is TaskState.SETTLED
        assert set(ward.set_aside(task).values()) == {None}

    def test_who_comes_out_of_it_takes_no_settlement_along(self, ward):
        task = ward.task(pool="doctors")
        ward.answers(task, ann=RIGHT, ben=RIGHT)
        ward.pool("doctors", add=["ann", "ben"])
        ward.pool("doctors", remove=["ben"])
        with ward.runtime.db.transaction() as session:
            row = session.get_one(AnnotationTask, task.id)
            assert settlements.settle_task(session, ward.project, row) is TaskState.SETTLED
        assert ward.answers(ward.task(pool="doctors"), ann=RIGHT, ben=RIGHT) is TaskState.SENT

    def test_a_pool_of_another_project_is_another(self, ward):
        ward.answers(ward.task(), ann=RIGHT)
        with ward.runtime.db.transaction() as session:
            other = builders.add_project(session, "other")
            standing.change_pool(session, other, "doctors", add=["ann"], remove=[], actor="test")
        task = ward.task(pool="doctors")
        ward.answers(task, ann=RIGHT)
        assert ward.set_aside(task) == {"ann": SetAside.OUTSIDE_POOL}

    def test_a_person_is_in_it_with_each_of_their_accounts(self, ward):
        with ward.runtime.db.transaction() as session:
            mia, _ = builders.add_person(session, Role.ANNOTATOR, "mia")
            for connector, account in ((ConnectorKind.NONE, "mia-1"), (LABEL_STUDIO, "mia@errata.local")):
                session.add(Annotator(connector=connector, account=account, user_id=mia.id))
        before = ward.task(pool="doctors")
        ward.answers(before, **{"mia-1": RIGHT})
        assert ward.set_aside(before) == {"mia-1": SetAside.OUTSIDE_POOL}
        ward.pool("doctors", add=["mia@errata.local"])
        assert ward.set_aside(before) == {"mia-1": None}
        assert ward.pool("doctors", add=["mia"]) == ["mia-1", "mia@errata.local"]
        assert ward.pool("doctors", remove=["mia-1"]) == ["mia@errata.local"]
        task = ward.task(pool="doctors")
        ward.answers(task, **{"mia-1": RIGHT})
        assert ward.set_aside(task) == {"mia-1": None}

    def test_an_account_that_nobody_knows_is_refused(self, ward):
        with pytest.raises(NotFound, match="no annotator 'ann'"):
            ward.pool("doctors", add=["ann"])

    def test_a_pool_that_nobody_is_in_is_told(self, ward):
        ward.answers(ward.task(), ann=RIGHT)
        ward.task(pool="doctors")
        olga = person(ward.runtime, Role.OPERATOR, password="")
        assert "Tasks wait for the pool doctors" in olga.get("/p/clinic/annotators").text
        answer = olga.post("/p/clinic/annotators/pools", pool="doctors", account="ann")
        assert path_of(answer) == "/p/clinic/annotators"
        page = olga.get("/p/clinic/annotators").text
        assert "In doctors: ann." in page and "Tasks wait for the pool" not in page


class TestQualification:
    def test_answers_count_once_enough_known_ones_were_right(self, ward):
        ward.change(qualifying_answers=2, qualifying_accuracy=0.6)
        golden = [ward.gold() for _ in range(3)]
        first = ward.task()
        assert ward.answers(first, ann=RIGHT, ben=RIGHT) is TaskState.SENT
        assert set(ward.set_aside(first).values()) == {SetAside.UNQUALIFIED}
        ward.answers(golden[0], ann=RIGHT, ben=RIGHT)
        ward.answers(golden[1], ann=BILLING, ben=RIGHT)
        second = ward.task()
        ward.answers(second, ann=RIGHT, ben=RIGHT)
        assert ward.set_aside(second) == {"ann": SetAside.UNQUALIFIED, "ben": None}
        known = {"gold_right": 1, "gold_answered": 2, "is_qualified": False}
        assert known.items() <= ward.told()["ann"].items()
        ward.answers(golden[2], ann=RIGHT)
        third = ward.task()
        assert ward.answers(third, ann=RIGHT, ben=RIGHT) is TaskState.SETTLED
        assert set(ward.set_aside(first).values()) == {None}
        assert ward.read(AnnotationTask, AnnotationTask.id == first.id).state is TaskState.SETTLED

    def test_who_qualifies_counts_with_what_they_answered_to_open_tasks(self, ward):
        ward.change(qualifying_answers=1)
        golden, settled, opened = ward.gold(), ward.task(), ward.task()
        ward.answers(settled, ann=RIGHT)
        ward.answers(opened, ann=RIGHT, ben=BILLING)
        with ward.runtime.db.transaction() as session:
            session.get_one(AnnotationTask, settled.id).state = TaskState.WITHDRAWN
        ward.answers(golden, ann=RIGHT)
        ward.answers(ward.task(), ann=RIGHT)
        assert ward.set_aside(opened) == {"ann": None, "ben": SetAside.UNQUALIFIED}
        assert ward.set_aside(settled) == {"ann": SetAside.UNQUALIFIED}

    def test_who_is_qualified_stays_so(self, ward):
        ward.change(qualifying_answers=1, qualifying_accuracy=1)
        ward.answers(ward.gold(), ann=RIGHT)
        ward.answers(ward.task(), ann=RIGHT)
        ward.answers(ward.gold(), ann=BILLING)
        later = ward.task()
        ward.answers(later, ann=RIGHT)
        assert ward.set_aside(later) == {"ann": None}
        row = ward.read(Qualification)
        assert (row.right, row.answered) == (1, 1)

    def test_without_the_demand_everybody_counts(self, ward):
        ward.answers(ward.gold(), ann=BILLING)
        assert ward.answers(ward.task(), ann=RIGHT, ben=RIGHT) is TaskState.SETTLED
        assert not ward.rows(Qualification)

    @pytest.mark.parametrize(
        ("is_gold", "agreeing", "counts"),
        [(None, 2, True), (None, 1, False), (True, 1, True), (False, 2, False)],
    )
    def test_only_what_all_agreed_on_or_an_operator_names_judges(self, ward, is_gold, agreeing, counts):
        ward.change(qualifying_answers=1)
        golden = ward.gold(agreeing=agreeing)
        ward.answers(golden, ann=RIGHT)
        with ward.runtime.db.transaction() as session:
            session.get_one(AnnotationTask, golden.gold_of_id).is_gold = is_gold
        assert ward.told()["ann"]["gold_answered"] == counts
        later = ward.task()
        ward.answers(later, ann=RIGHT)
        assert ward.set_aside(later) == {"ann": None if counts else SetAside.UNQUALIFIED}

    @pytest.mark.parametrize(("who_settled", "answered"), [("ann", 0), ("ben", 1)])
    def test_who_repeats_what_they_settled_themselves_is_not_judged_by_it(self, ward, who_settled, answered):
        golden = ward.gold()
        known = ward.read(AnnotationTask, AnnotationTask.id == golden.gold_of_id)
        ward._answered_in_a_tool(known, {who_settled: RIGHT})
        ward.change(qualifying_answers=5)
        ward.answers(golden, ann=RIGHT)
        assert ward.told()["ann"]["gold_answered"] == answered

    @pytest.mark.parametrize("is_one_person", [True, False])
    def test_a_person_qualifies_with_all_their_accounts_together(self, ward, is_one_person):
        with ward.runtime.db.transaction() as session:
            mia, _ = builders.add_person(session, Role.ANNOTATOR, "mia")
            for account in ("mia-1", "mia-2"):
                owner = mia.id if is_one_person else None
                session.add(Annotator(connector=ConnectorKind.NONE, account=account, user_id=owner))
        ward.change(qualifying_answers=2)
        for account in ("mia-1", "mia-2"):
            ward.answers(ward.gold(), **{account: RIGHT})
        for account in ("mia-1", "mia-2"):  # the second by what the first one has
            task = ward.task()
            ward.answers(task, **{account: RIGHT})
            assert ward.set_aside(task) == {account: None if is_one_person else SetAside.UNQUALIFIED}
        assert len(ward.rows(Qualification)) == is_one_person

    def test_many_experts_take_no_more_queries_than_one(self, ward):
        ward.change(qualifying_answers=1)

        def queries() -> int:
            seen: list[str] = []
            event.listen(ward.runtime.db.reader, "before_cursor_execute", lambda *said: seen.append(said[2]))
            ward.told()
            return len(seen)

        ward.answers(ward.gold(), ann=RIGHT)
        one = queries()
        ward.answers(ward.gold(), **{f"ann-{number}": RIGHT for number in range(9)})
        assert len(ward.told()) == 10
        assert queries() == one

    def test_gold_answers_are_never_set_aside_and_others_stay_out_of_what_is_known_of_annotators(self, ward):
        ward.change(qualifying_answers=5)
        golden, real = ward.gold(), ward.task()
        ward.answers(golden, ann=RIGHT)
        ward.answers(real, ann=BILLING)
        assert ward.set_aside(golden) == {"ann": None}
        with ward.runtime.db.transaction() as session:
            job = ward.runtime.queue.ask(
                session, JobKind.QUALITY, ward.project.id, project_id=ward.project.id
            )
        told = quality.run(
            ward.runtime.queue.lease(job), ward.project.id, lambda votes, **_: {"annotators": {}}
        )
        assert told["answers"] == 1


class TestCapacity:
    def test_no_more_is_sent_than_the_experts_have_room_for_today(self, ward):
        tasks = [ward.task(state=TaskState.SELECTED, priority=float(n)) for n in range(5)]
        ward.change(daily_capacity=2)  # two are asked about each: four answers, two tasks
        assert ward.do(JobKind.SEND) == {"sent": 2}
        assert [task.id for task in ward.rows(AnnotationTask) if task.state is TaskState.SENT] == [
            tasks[3].id,
            tasks[4].id,
        ]
        assert ward.do(JobKind.SEND) == {"sent": 0}
        page = person(ward.runtime, Role.AUDITOR, password="").get("/p/clinic/annotators").text
        assert "room for 0 answers more today: 2 experts, 2 each" in page

    def test_without_the_setting_everything_is_sent(self, ward):
        for _ in range(5):
            ward.task(state=TaskState.SELECTED)
        assert ward.do(JobKind.SEND) == {"sent": 5}

    def test_another_expert_makes_room(self, ward):
        for name in ("ann", "ben", "cem"):
            ward.answers(ward.task(connector=ConnectorKind.NONE), **{name: RIGHT})
        for task in ward.rows(AnnotationTask):
            self.change(ward, task.id, state=TaskState.WITHDRAWN)
        ward.change(daily_capacity=3)
        assert self.room(ward, utcnow()) == 3 * 3 - 3

    def test_the_day_s_answers_and_what_is_still_wanted_take_room(self, ward):
        ward.change(daily_capacity=5)
        now = utcnow()
        assert self.room(ward, now) == 10
        task = ward.task()
        assert self.room(ward, now) == 8
        ward.answers(task, ann=RIGHT)  # one given, one still wanted
        assert self.room(ward, now) == 8
        ward.answers(task, ben=RIGHT)
        assert self.room(ward, now) == 8
        assert self.room(ward, now + timedelta(days=1)) == 10

    def test_who_has_a_number_of_their_own_takes_no_room_from_others(self, ward):
        self.known(ward, "ann", "ben", "cem")
        ward.pool("heart", add=["ann", "ben", "cem"])
        ward.change(daily_capacity=5)
        assert self.room(ward, utcnow()) == 15
        self.own(ward, "ann", 1)
        assert self.room(ward, utcnow()) == 1 + 5 + 5
        for _ in range(3):
            ward.answers(task := ward.task(connector=ConnectorKind.NONE), ann=RIGHT)
            self.change(ward, task.id, state=TaskState.WITHDRAWN)
        assert self.room(ward, utcnow()) == 5 + 5
        told = {name: (each["daily_capacity"], each["room_today"]) for name, each in ward.told().items()}
        assert told == {"ann": (1, 0), "ben": (None, 5), "cem": (None, 5)}
        self.own(ward, "ann", None)
        assert self.room(ward, utcnow()) == 2 + 5 + 5
        for absent in ("ann", "ben", "cem"):
            self.own(ward, absent, 0)
        ward.task(state=TaskState.SELECTED)
        assert ward.do(JobKind.SEND) == {"sent": 0}

    def test_a_task_that_asks_more_than_there_are_experts_does_not_block_the_rest(self, ward):
        ward.task(state=TaskState.SELECTED, overlap=9, priority=9.0)
        ward.task(state=TaskState.SELECTED)
        ward.change(daily_capacity=1)
        assert ward.do(JobKind.SEND) == {"sent": 1}
        assert ward.rows(AnnotationTask)[0].state is TaskState.SENT

    def test_a_pool_without_room_keeps_its_own_tasks_waiting_and_no_others(self, ward, monkeypatch):
        monkeypatch.setattr(sending, "PUSH_BATCH", 5)  # fewer than the pool's tasks, which come first
        one = {"state": TaskState.SELECTED, "overlap": 1}
        self.known(ward, "ann", "ben", "cem")
        ward.pool("heart", add=["ann", "ben"])
        ward.pool("skin", add=["cem"])
        for n in range(9):
            ward.task(**one, pool="heart", priority=9.0 + n)
        other = ward.task(**one)
        ward.change(daily_capacity=3)
        assert [self.room(ward, utcnow(), pool) for pool in (None, "heart", "skin")] == [9, 6, 6]
        assert ward.do(JobKind.SEND) == {"sent": 7}
        assert ward.read(AnnotationTask, AnnotationTask.id == other.id).state is TaskState.SENT
        page = person(ward.runtime, Role.AUDITOR, password="").get("/p/clinic/annotators").text
        assert "Experts have room for 2 answers more" in page
        assert "In the pool heart they have room for 0 answers more" in page

    @staticmethod
    def own(ward, account: str, answers: int | None) -> None:
        with ward.runtime.db.transaction() as session:
            capacity.set_own(session, standing.accounts_of(session, account), answers, actor="test")

    @staticmethod
    def known(ward, *names: str) -> None:
        with ward.runtime.db.transaction() as session:
            session.add_all(Annotator(connector=ConnectorKind.NONE, account=name) for name in names)

    @staticmethod
    def room(ward, now: datetime, pool: str | None = None) -> int:
        with ward.runtime.db.reading() as session:
            project = session.get_one(Project, ward.project.id)
            rooms = capacity.rooms(session, project, experts.experts(session, project), now=now)
            return rooms[pool].answers

    @staticmethod
    def change(ward, task_id: UUID, **values: Any) -> None:
        with ward.runtime.db.transaction() as session:
            session.get_one(AnnotationTask, task_id).sqlmodel_update(values)


JOINING = {"name": "mia", "new_password": PASSWORD, "consent": "yes"}


class TestInvitation:
    def test_a_link_shows_the_guidelines_and_makes_somebody_an_expert_once(self, ward, client):
        path = ward.invite()
        for _ in range(2):
            page = client.get(path)
            assert page.status_code == 200 and "clinic" in page.text and 'value="mia"' in page.text
        answer = client.post(path, data=JOINING)
        assert (answer.status_code, path_of(answer)) == (303, "/p/clinic/work")
        assert client.get("/p/clinic/work").status_code == 200
        assert client.get(path).status_code == client.post(path, data=JOINING).status_code == 404
        mia = ward.read(Annotator)
        assert (mia.account, mia.connector) == ("mia@errata.local", LABEL_STUDIO)
        assert (
            ward.read(LedgerEntry, LedgerEntry.action == "expert_joined")
            .facts["guidelines"]
            .startswith("sha256:")
        )
        assert [job.options for job in ward.rows(Job)] == [{"tool": "label-studio"}]

    def test_only_the_link_s_hash_is_kept_and_it_ends(self, ward, client):
        path = ward.invite()
        with ward.runtime.db.transaction() as session:
            link = session.exec(select(UserToken).where(UserToken.joins_id == ward.project.id)).one()
            assert path.rpartition("/")[2] not in repr(link)
            assert timedelta(days=6) < link.expires_at - utcnow() < timedelta(days=8)
            link.expires_at = utcnow()
        assert client.get(path).status_code == client.post(path, data=JOINING).status_code == 404

    def test_it_is_neither_a_token_nor_a_way_in_without_consent(self, ward, client):
        path = ward.invite()
        secret = path.rpartition("/")[2]
        headers = {"Authorization": f"Bearer {secret}"}
        assert client.get("/v1/annotators?project=clinic", headers=headers).status_code == 401
        assert client.get(f"/sign-in/{secret}").status_code == 404
        assert client.post(f"/sign-in/{secret}").status_code == 404
        assert client.get(path).status_code == 200

    @pytest.mark.parametrize(
        ("sent", "why"),
        [
            ({"consent": ""}, "without it nobody can be asked"),
            ({"name": "Mia Müller"}, "lower-case letters"),
            ({"name": "<b>"}, "lower-case letters"),
            ({"name": "olga"}, "olga is taken"),
            ({"name": "ann"}, "ann is taken"),
            ({"name": "expert-1"}, "expert-1 is taken"),
            ({"name": "admin"}, "admin is taken"),
            ({"name": "owner"}, "owner is taken"),
            ({"new_password": "short"}, "it has 5 characters"),
        ],
    )
    def test_what_cannot_be_used_is_said_and_the_link_stays(self, ward, client, sent, why):
        path = ward.invite()
        with ward.runtime.db.transaction() as session:
            builders.add_person(session, Role.OPERATOR, "olga")
            session.add(Annotator(connector=LABEL_STUDIO, account="ann@errata.local"))
        prepare_tool(ward.runtime, "expert-1")
        answer = client.post(path, data=JOINING | sent)
        assert answer.status_code == 422 and why in answer.text
        assert PASSWORD not in answer.text and "<b>" not in answer.text
        assert client.post(path, data=JOINING).status_code == 303

    def test_a_second_invitation_ends_the_first_until_somebody_joined(self, ward, client):
        first, second = ward.invite(), ward.invite()
        assert client.get(first).status_code == 404
        assert client.post(second, data=JOINING).status_code == 303
        with pytest.raises(AlreadyExists, match="'mia'"):
            ward.invite()

    def test_who_is_a_user_already_is_not_invited_under_their_name(self, ward):
        with ward.runtime.db.transaction() as session:
            builders.add_person(session, Role.OPERATOR, "olga")
        with pytest.raises(AlreadyExists):
            ward.invite("olga")

    def test_the_job_makes_the_account_and_its_owner_alone_is_shown_it(self, ward, client, monkeypatch):
        client.post(ward.invite(), data=JOINING)
        assert "is being made" in client.get("/p/clinic/work").text
        prepare_tool(ward.runtime)
        asked = []

        def ensure(url: str, data_dir, names: Sequence[str]) -> None:
            asked.append(list(names))
            prepare_tool(ward.runtime, *names)

        monkeypatch.setattr(label_studio_server, "running", lambda _: Running("http://127.0.0.1:1", "t"))
        monkeypatch.setattr(label_studio_server, "ensure_accounts", ensure)
        ward.do(JobKind.SYNC)
        ward.do(JobKind.SYNC)
        assert asked == [["mia"]]
        page = client.get("/p/clinic/work").text
        assert "mia@errata.local" in page and "the password of mia" in page
        assert "once there is something to answer" in page
        ward.task(state=TaskState.SELECTED)
        ward.do(JobKind.SEND)
        assert f"http://fake.invalid/projects/{ward.there()}" in client.get("/p/clinic/work").text
        ada = person(ward.runtime, Role.ADMIN, password="")
        assert "the password of mia" not in ada.get("/p/clinic/work").text

    def test_an_account_in_a_tool_that_came_later_is_known_to_be_theirs(self, ward, client, monkeypatch):
        client.post(ward.invite(), data=JOINING)
        home = argilla_server.home_of(ward.runtime.settings.data_dir)
        prepare(home, admin="owner", email="owner", token="t")
        monkeypatch.setattr(argilla_server, "running", lambda _: Running("http://127.0.0.1:1", "t"))
        monkeypatch.setattr(argilla_server, "ensure_accounts", lambda *_: [])
        ward.do(JobKind.SYNC, tool="argilla")
        mia = ward.read(User, User.name == "mia")
        assert {(row.connector, row.account, row.user_id) for row in ward.rows(Annotator)} == {
            (LABEL_STUDIO, "mia@errata.local", mia.id),
            (ARGILLA, "mia", mia.id),
        }

    @pytest.mark.parametrize(("password", "status"), [(PASSWORD, 303), ("another long password", 422)])
    def test_an_expert_joins_another_project_with_their_own_password(self, ward, client, password, status):
        client.post(ward.invite(), data=JOINING)
        with ward.runtime.db.transaction() as session:
            other = builders.add_project(session, "other")
            path = f"/join/{experts.invite(session, other, 'mia', actor='test')}"
        page = client.get(path).text
        assert "You are an expert here already: join as mia" in page
        answer = client.post(path, data=JOINING | {"name": "max", "new_password": password})
        assert answer.status_code == status
        assert [row.name for row in ward.rows(User)] == ["mia"]
        assert len(ward.rows(Annotator)) == 1
        assert client.get("/p/other/work").status_code == {303: 200, 422: 403}[status]
        assert client.get("/p/clinic/work").status_code == 200

    def test_for_a_tool_of_the_team_s_own_the_page_says_whom_to_ask(self, ward, client, monkeypatch):
        client.post(ward.invite(), data=JOINING)
        monkeypatch.setattr("service.tools.own", lambda *_: Running("https://labels.example", "t"))
        page = client.get("/p/clinic/work").text
        assert "Ask its administrator for an account" in page and "is being made" not in page

    def test_who_joined_finds_their_work_and_what_waits_there(self, ward, client):
        client.post(ward.invite(), data=JOINING)
        ward.task(sent_at=utcnow())
        ward.task(sent_at=utcnow() - timedelta(days=3))
        ward.task(pool="doctors")
        assert "/p/clinic/work" in client.get("/").text
        assert "2 tasks wait for you, 1 of them new" in client.get("/p/clinic/work").text
        own = client.get(f"/p/clinic/annotators/{ward.read(Annotator).id}").text
        assert "2 waiting for you, 1 new" in own
        assert client.get("/p/clinic/annotators").status_code == 403

    def test_nobody_works_where_they_did_not_join(self, ward, client):
        client.post(ward.invite(), data=JOINING)
        with ward.runtime.db.transaction() as session:
            builders.add_project(session, "other")
        assert client.get("/p/clinic/work/places").status_code == 200
        for path in ("work", "work/places"):
            assert client.get(f"/p/other/{path}").status_code == 403
        assert person(ward.runtime, Role.AUDITOR, password="").get("/p/other/work").status_code == 200


def prepare_tool(runtime: Runtime, *names: str) -> None:
    """Write down accounts as those that a bundled Label Studio has."""
    home = label_studio_server.home_of(runtime.settings.data_dir)
    kept = prepare(home, admin="admin", email="admin@errata.local", token="t")
    accounts = {each.name: each for each in kept.accounts} | {
        name: Account(name, f"{name}@errata.local", f"the password of {name}", "t") for name in names
    }
    _write_secrets(home, Secrets(kept.admin, tuple(accounts.values())))


class TestOffBoarding:
    def test_who_left_is_let_into_no_workspace_any_more(self, ward, monkeypatch):
        ward.answers(ward.task(), ann=RIGHT, ben=RIGHT)
        with ward.runtime.db.transaction() as session:
            for each in session.exec(select(Annotator)).all():
                each.connector = ConnectorKind.ARGILLA
        found = Running("http://127.0.0.1:9", "t", members=("ann", "ben"))
        monkeypatch.setattr("service.tools.running", lambda *_: found)
        let_in = Mock()
        monkeypatch.setattr("service.jobs.labelling.ArgillaConnector", let_in)
        ward.leave("ann")
        with ward.runtime.db.reading() as session:
            known_as = experts.alias(session, ward.runtime.secrets, ConnectorKind.ARGILLA)
        connect(ward.runtime.settings, ConnectorKind.ARGILLA, known_as)
        assert let_in.call_args.kwargs["members"] == ["ben"]

    def test_a_name_becomes_a_pseudonym_everywhere_and_what_was_done_stays(self, ward):
        task = ward.task()
        ward.answers(task, ann=RIGHT, ben=RIGHT)
        ward.pool("doctors", add=["ann"])
        told = ward.leave("ann")
        [alias] = told["known_as"]
        assert alias.startswith("annotator-") and "ann" not in alias.removeprefix("annotator-")
        assert not ward.rows(PoolMember)
        assert {row.account for row in ward.rows(Annotator)} == {alias, "ben"}
        assert len(ward.rows(Annotation)) == 2 and ward.rows(Settlement)
        assert [one["annotator"] for one in ward.read(Job).options["answers"]] == [alias, "ben"]
        reader = person(ward.runtime, Role.AUDITOR, password="")
        for page in ("annotators", f"tasks/{task.id}", "jobs", "ledger"):
            shown = reader.get(f"/p/clinic/{page}").text
            assert ">ann<" not in shown and '"ann"' not in shown
        assert set(ward.told()) == {"ben"}
        actions = [row.action for row in ward.rows(LedgerEntry)]
        assert actions.count("annotator_off_boarded") == 1
        with ward.runtime.db.reading() as session:
            assert not list(ledger.broken(session))

    def test_what_they_answer_afterwards_counts_for_nobody_and_names_nobody(self, ward):
        ward.answers(ward.task(), ann=RIGHT)
        [alias] = ward.leave("ann")["known_as"]
        later = ward.task()
        assert ward.answers(later, ann=RIGHT, ben=RIGHT) is TaskState.SENT
        assert ward.set_aside(later) == {alias: SetAside.LEFT, "ben": None}
        assert ward.answers(later, cem=RIGHT) is TaskState.SETTLED

    def test_who_has_not_left_keeps_their_name(self, ward):
        ward.answers(ward.task(), ann=RIGHT, ben=RIGHT)
        ward.leave("ann")
        ward.answers(ward.task(), ben=RIGHT)
        assert len(ward.rows(Annotator)) == 2

    def test_an_answer_that_is_changed_in_the_tool_later_stays_a_pseudonym_s(self, ward):
        ward.task(state=TaskState.SELECTED)
        ward.do(JobKind.SEND)
        (task,) = ward.tool.projects[ward.there()].tasks
        given = ward.tool.answer(ward.there(), task, "ann", CORRECT)
        ward.do(JobKind.SYNC)
        told = ward.leave("ann")
        assert told["remaining"] == ["ann in label-studio"]
        ward.tool.edit(ward.there(), given, "ann", WRONG)
        ward.do(JobKind.SYNC)
        assert [row.account for row in ward.rows(Annotator)] == told["known_as"]
        assert [row.set_aside for row in ward.rows(Annotation)] == [None, SetAside.LEFT]

    def test_all_accounts_of_a_person_go_together_and_they_sign_in_no_more(self, ward, client):
        client.post(ward.invite(), data=JOINING)
        with ward.runtime.db.transaction() as session:
            mia = session.exec(select(User).where(User.name == "mia")).one()
            session.add(Annotator(connector=ARGILLA, account="mia", user_id=mia.id))
        told = ward.leave("mia")
        assert told["remaining"] == ["mia@errata.local in label-studio", "mia in argilla"]
        assert client.get("/p/clinic/work").status_code == 303
        assert not ward.rows(User, User.name == "mia")
        with pytest.raises(NotFound):
            ward.leave("mia")

    def test_who_does_more_here_than_annotate_stays_a_user(self, ward):
        with ward.runtime.db.transaction() as session:
            olga, _ = builders.add_person(session, Role.OPERATOR, "olga")
            session.add(Annotator(connector=ARGILLA, account="olga", user_id=olga.id))
        ward.leave("olga")
        assert ward.read(User).disabled_at is None and ward.read(User).name == "olga"

    def test_an_admission_that_names_them_names_the_pseudonym(self, ward):
        task = ward.task()
        with ward.runtime.db.transaction() as session:
            row = session.get_one(AnnotationTask, task.id)
            settled = builders.add_settlement(session, row)
            settled.explanation = "sample of its source: 1, bar 0.90; judged by ann, joann and 2 more"
            session.add_all(
                Annotator(connector=ConnectorKind.NONE, account=name) for name in ("ann", "joann")
            )
            settled.admission_id = admission(session, ward.project).id
        [alias] = ward.leave("ann")["known_as"]
        assert ward.read(Settlement).explanation.endswith(f"judged by {alias}, joann and 2 more")

    def test_who_administers_one_project_alone_lets_nobody_go(self, ward):
        ward.answers(ward.task(), ann=RIGHT)
        path = f"/p/clinic/annotators/{ward.read(Annotator).id}/off-board"
        olga = person(ward.runtime, Role.ADMIN, name="olga", project=ward.project, password="")
        assert olga.post(path).status_code == 403
        assert ward.read(Annotator).left_at is None
        answer = person(ward.runtime, Role.ADMIN, name="ada", password="").post(path)
        assert path_of(answer) == "/p/clinic/annotators"
        assert ward.read(Annotator).left_at

    def test_who_left_comes_into_no_pool(self, ward):
        ward.answers(ward.task(), ann=RIGHT)
        [alias] = ward.leave("ann")["known_as"]
        with pytest.raises(Invalid, match="has left"):
            ward.pool("doctors", add=[alias])


def admission(session, project: Project):
    source = session.exec(select(Source.id).where(Source.project_id == project.id)).first()
    found = Admission(
        project_id=project.id, source_id=source, right=1, asked=1, low=0.5, bar=0.9, is_admitted=True
    )
    session.add(found)
    session.flush()
    return found


def test_on_either_database_the_same_are_asked_count_and_go(any_ward):
    ward = any_ward
    ward.change(daily_capacity=5, qualifying_answers=1)
    for _ in range(2):
        ward.answers(ward.gold(), ann=RIGHT, ben=RIGHT)
    task = ward.task(pool="doctors", connector=ConnectorKind.NONE, state=TaskState.SELECTED)
    assert ward.answers(task, ann=RIGHT) is TaskState.SELECTED
    assert {name: told["waiting"] for name, told in ward.told().items()} == {"ann": 0, "ben": 0}
    ward.pool("doctors", add=["ann", "ben"])
    assert {name: told["waiting"] for name, told in ward.told().items()} == {"ann": 0, "ben": 1}
    assert ward.answers(task, ben=RIGHT) is TaskState.SETTLED
    assert TestCapacity.room(ward, utcnow()) == 5 * 2 - 6
    with ward.runtime.db.reading() as session:
        assert not empty_pools(session, ward.project)
    [alias] = ward.leave("ann")["known_as"]
    assert {row.account for row in ward.rows(Annotator)} == {alias, "ben"}


class TestFaces:
    def test_programs_read_what_waits_and_operators_invite_and_pool(self, ward, client):
        ward.answers(ward.task(), ann=RIGHT)
        with ward.runtime.db.transaction() as session:
            key = {"Authorization": f"Bearer {builders.add_key(session, ward.project)}"}
            olga = {"Authorization": f"Bearer {builders.add_person(session, Role.ADMIN)[1]}"}
        ward.task(connector=ConnectorKind.NONE, state=TaskState.SELECTED)
        [ann] = client.get("/v1/annotators", headers=key).json["items"]
        assert (ann["account"], ann["waiting"], ann["new"]) == ("ann", 1, 1)
        about = {"project": "clinic"}
        pooled = client.post(
            "/v1/annotators/pools", json=about | {"pool": "doctors", "add": ["ann"]}, headers=olga
        )
        assert pooled.json == {"pool": "doctors", "accounts": ["ann"]}
        unknown = client.post(
            "/v1/annotators/pools", json=about | {"pool": "doctors", "add": ["eve"]}, headers=olga
        )
        assert (unknown.status_code, unknown.json["code"]) == (404, "not_found")
        invited = client.post("/v1/annotators/invitations", json=about | {"name": "mia"}, headers=olga)
        assert invited.status_code == 201 and "/join/esl_" in invited.json["join_url"]

    def test_the_command_line_does_the_same(self, ward, errata):
        ward.answers(ward.task(), ann=RIGHT)

        def done(*arguments: str) -> dict[str, Any]:
            status, document = errata(*arguments)
            assert status == 0
            return document

        assert "/join/esl_" in done("annotators", "invite", "clinic", "mia")["join_url"]
        assert done("annotators", "pool", "clinic", "doctors", "--add", "ann")["accounts"] == ["ann"]
        assert done("annotators", "capacity", "ann", "--answers", "3")["daily_capacity"] == 3
        assert errata("annotators", "capacity", "ann", "--answers", "-1")[1]["code"] == "invalid"
        [ann] = done("annotators", "list", "clinic")["items"]
        assert (ann["pools"], ann["daily_capacity"], ann["room_today"]) == (["doctors"], 3, None)
        assert done("annotators", "off-board", "ann")["known_as"][0].startswith("annotator-")
        changed = done("projects", "set", "clinic", "--daily-capacity", "40", "--qualifying-answers", "5")
        assert (changed["daily_capacity"], changed["qualifying_answers"]) == (40, 5)
        status, problem = errata("projects", "set", "clinic", "--daily-capacity", "-1")
        assert (status, problem["code"]) == (1, "invalid")
