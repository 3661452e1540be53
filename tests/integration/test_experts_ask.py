"""What experts ask and bring themselves, and tasks that nobody is left to answer."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlmodel import col, select

from annotation.types import Abstention, Verdict
from service import experts, guideline_questions, people, projects, reading, schedule
from service.answers.annotators import left_alone
from service.clock import utcnow
from service.errors import Forbidden, Invalid, NotFound, WrongState
from service.tables import (
    AnnotationTask,
    ConnectorKind,
    GuidelineQuestion,
    InboxEvent,
    JobKind,
    LedgerEntry,
    Notice,
    NoticeTarget,
    Project,
    ProjectKind,
    Response,
    Role,
    Settlement,
    TaskPurpose,
    TaskState,
    User,
)
from service.web.app import create_app
from tests import builders
from tests.console import path_of, person
from tests.integration.test_annotators_asked import JOINING, RIGHT, Ward, _open

SCRIPT = "<script>alert(1)</script> & “what if”?"


@pytest.fixture
def ward(runtime, monkeypatch, client) -> Ward:
    """A ward whose expert mia has joined and sits before `client`."""
    ward = _open(runtime, monkeypatch)
    client.post(ward.invite(), data=JOINING)
    with runtime.db.transaction() as session:
        session.add(NoticeTarget(project_id=ward.project.id, url="https://hooks.example/x", kinds=["alarm"]))
    ward.browser = person(runtime, Role.OPERATOR, name="olga", password="")
    ward.mia = person_of(client)
    return ward


def person_of(client):
    """Who sits before a client, with the token of their forms."""

    class Sitting:
        def get(self, path: str):
            return client.get(path)

        def post(self, path: str, **sent: str):
            page = client.get("/p/clinic/work").text
            csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
            return client.post(path, data=sent | {"csrf": csrf})

    return Sitting()


def user(session, name: str = "mia") -> User:
    return session.exec(select(User).where(User.name == name)).one()


def ask(ward: Ward, text: str = "Is a typo wrong?", task: UUID | None = None) -> GuidelineQuestion:
    with ward.runtime.db.transaction() as session:
        return guideline_questions.ask(session, ward.project, user(session), text, task_id=task)


class TestQuestions:
    def test_an_expert_asks_the_owner_answers_and_the_expert_sees_it(self, ward):
        task = ward.task()
        page = ward.mia.get("/p/clinic/work").text
        assert f'<option value="{task.id}">question 0' in page
        asked = ward.mia.post("/p/clinic/work/questions", text=SCRIPT, task=str(task.id))
        assert path_of(asked).startswith("/p/clinic/work")
        assert "waits for an answer" in ward.mia.get("/p/clinic/work").text

        [notice] = ward.rows(Notice)
        question = ward.read(GuidelineQuestion)
        owner = {"event": "guideline_question", "question": str(question.id), "owner": "test"}
        assert notice.facts == owner | {"task": str(task.id)}

        console = ward.browser.get("/p/clinic/annotators").text
        assert "1 waiting" in console and f"/p/clinic/tasks/{task.id}" in console
        assert SCRIPT not in console and "&lt;script&gt;alert(1)&lt;/script&gt;" in console
        assert "/p/clinic/settings#guidelines" in console
        answered = ward.browser.post(f"/p/clinic/annotators/questions/{question.id}", answer=SCRIPT)
        assert path_of(answered).startswith("/p/clinic/annotators")
        page = ward.mia.get("/p/clinic/work").text
        assert "Answered by olga" in page and SCRIPT not in page and page.count("&lt;script&gt;") == 2
        assert "waits for an answer" not in page
        assert "1 waiting" not in ward.browser.get("/p/clinic/annotators").text
        assert ward.read(LedgerEntry, LedgerEntry.action == "guideline_question_answered").actor == "olga"

    def test_no_other_expert_sees_it(self, ward, runtime):
        ask(ward, "Is a typo wrong?")
        client = ward.browser.client.application.test_client()
        client.post(ward.invite("max"), data=JOINING | {"name": "max"})
        assert "Is a typo wrong?" not in client.get("/p/clinic/work").text
        assert "Is a typo wrong?" in ward.mia.get("/p/clinic/work").text

    @pytest.mark.parametrize("text", ["", " \n ", "x" * (guideline_questions.MAX_CHARS + 1)])
    def test_nothing_and_too_much_are_refused(self, ward, text):
        with pytest.raises(Invalid, match="text"):
            ask(ward, text)
        assert not ward.rows(GuidelineQuestion)

    def test_only_who_joined_asks_and_only_about_what_they_are_shown(self, ward):
        with ward.runtime.db.transaction() as session:
            other, _ = builders.add_person(session, Role.ANNOTATOR, "eve")
            with pytest.raises(Forbidden):
                guideline_questions.ask(session, ward.project, other, "?")
        for hidden in (ward.task(pool="doctors"), ward.task(state=TaskState.SETTLED)):
            with pytest.raises(NotFound):
                ask(ward, task=hidden.id)
        assert ask(ward, task=ward.task().id)

    def test_a_hidden_task_that_asks_once_more_does_not_stand_out(self, ward):
        first = ward.task()
        with ward.runtime.db.transaction() as session:
            response = session.get_one(Response, first.response_id)
            facts = {"purpose": TaskPurpose.GOLD, "gold_of_id": first.id, "state": TaskState.SENT}
            copy = builders.add_task(session, ward.project, response, **facts)
        with ward.runtime.db.reading() as session:
            assert experts.shown_to(session, ward.project, user(session)) == {copy.id: "question 0"}

    def test_one_expert_cannot_bury_the_others(self, ward):
        for number in range(guideline_questions.MAX_WAITING):
            ask(ward, f"question {number}")
        with pytest.raises(WrongState, match="wait for an answer"):
            ask(ward)
        with ward.runtime.db.transaction() as session:
            first = session.exec(select(GuidelineQuestion).order_by(col(GuidelineQuestion.id))).first()
            guideline_questions.answer(session, first, "Yes.", user=None, actor="test")
        assert ask(ward)

    def test_programs_and_the_command_line_do_the_same(self, ward, client, errata):
        asked = str(ask(ward).id)
        with ward.runtime.db.transaction() as session:
            tokens = [people.add_token(session, name, actor="test") for name in ("mia", "olga")]
        mia, olga = ({"Authorization": f"Bearer {token}"} for token in tokens)
        path = f"/v1/annotators/questions/{asked}/answer"
        assert client.post(path, json={"answer": "No."}, headers=mia).status_code == 403
        assert client.post(path, json={"answer": "No."}, headers=olga).json == {"id": asked}
        listed = client.get("/v1/annotators/questions?project=clinic", headers=olga).json
        assert (listed["waiting"], listed["items"][0]["answer"]) == (0, "No.")
        status, _ = errata("annotators", "answer", asked, "Yes.")
        assert status == 0
        _, told = errata("annotators", "questions", "clinic")
        assert [(each["text"], each["answer"]) for each in told["items"]] == [("Is a typo wrong?", "Yes.")]


CASE = {"prompt": SCRIPT, "response": "Call 911.", "context": "a leaflet"}


class TestOwnCases:
    @pytest.mark.parametrize("tool", [ConnectorKind.LABEL_STUDIO, ConnectorKind.ARGILLA])
    def test_an_expert_adds_a_case_that_is_asked_in_the_project_s_tool(self, ward, tool):
        with ward.runtime.db.transaction() as session:
            session.get_one(Project, ward.project.id).connector = tool
        assert path_of(ward.mia.post("/p/clinic/work/cases", **CASE)) == "/p/clinic/work"
        assert ward.do(JobKind.SEND, tool=tool.value) == {"sent": 1}
        task = ward.read(AnnotationTask)
        assert (task.purpose, task.connector, task.state) == (TaskPurpose.ADDED, tool, TaskState.SENT)
        [there] = ward.tool.projects[ward.there()].tasks.values()
        assert there.shown == CASE
        assert ward.read(LedgerEntry, LedgerEntry.action == "case_added").actor == "mia"

    def test_what_is_missing_or_too_long_is_refused_and_kept_in_the_form(self, ward):
        for lacking in ("prompt", "response"):
            answer = ward.mia.post("/p/clinic/work/cases", **CASE | {lacking: " "})
            assert answer.status_code == 422 and "a leaflet" in answer.text
        said = {"prompt": "x" * 60_000, "answer": "y" * 60_000, "context": ""}
        with ward.runtime.db.transaction() as session:
            mia = user(session)
            with pytest.raises(Invalid, match="characters"):
                experts.add_case(session, ward.project, mia, **said)
        assert not ward.rows(AnnotationTask)

    def test_who_did_not_join_adds_none_and_none_fits_a_comparison(self, ward):
        said = {"prompt": "a", "answer": "b", "context": ""}
        with ward.runtime.db.transaction() as session:
            with pytest.raises(Forbidden):
                experts.add_case(session, ward.project, user(session, "olga"), **said)
            project = session.get_one(Project, ward.project.id)
            project.kind = ProjectKind.COMPARISON
            with pytest.raises(WrongState):
                experts.add_case(session, project, user(session), **said)


class TestNobodyLeft:
    """Ann and ben are asked, two must agree: they are all who answer without a tool."""

    @pytest.fixture(autouse=True)
    def known(self, ward):
        self.ward = ward
        ward.answers(self.task(), ann=RIGHT, ben=RIGHT)

    def task(self, **more) -> AnnotationTask:
        facts = {"connector": ConnectorKind.NONE, "state": TaskState.SELECTED}
        return self.ward.task(**facts | more)

    def alone(self) -> list[UUID]:
        with self.ward.runtime.db.reading() as session:
            project = session.get_one(Project, self.ward.project.id)
            return left_alone(session, project, experts.experts(session, project))

    def test_abstentions_of_all_leave_it_to_a_third_and_the_console_says_so(self):
        ward, task = self.ward, self.task()
        ward.answers(task, ann={"verdict": Abstention.CANNOT_JUDGE.value})
        assert self.alone() == []
        assert ward.answers(task, ben=RIGHT) is TaskState.SELECTED
        assert self.alone() == [task.id]
        page = ward.browser.get("/p/clinic/annotators").text
        assert "1 task waits for answers that nobody is left to give" in page
        page = ward.browser.get(f"/p/clinic/tasks/{task.id}").text
        assert "needs people" in page and "Decide it" in page
        decided = ward.browser.post(
            f"/p/clinic/tasks/{task.id}/adjudicate", verdict="correct", reason="as ben says"
        )
        assert decided.status_code == 303
        assert ward.read(Settlement, Settlement.task_id == task.id).verdict is Verdict.CORRECT
        assert ward.read(LedgerEntry, LedgerEntry.action == "task_left_alone").actor == "olga"
        assert self.alone() == []

    def test_another_expert_ends_it_as_does_a_pool_that_has_more_members(self):
        ward, task = self.ward, self.task(overlap=3)
        ward.answers(task, ann=RIGHT, ben={"verdict": "incorrect", "label": "Billing", "cause": "model"})
        assert self.alone() == [task.id]
        ward.answers(self.task(), cem=RIGHT)  # so that cem is known
        assert self.alone() == []
        pooled = self.task(pool="doctors")
        ward.pool("doctors", add=["ann", "cem"])
        ward.answers(pooled, ann=RIGHT)
        assert self.alone() == []
        ward.pool("doctors", remove=["cem"])
        assert self.alone() == [pooled.id]

    def test_who_is_not_left_decides_nothing_yet(self):
        ward, task = self.ward, self.task()
        ward.answers(task, ann=RIGHT)
        assert "Decide it" not in ward.browser.get(f"/p/clinic/tasks/{task.id}").text
        refused = ward.browser.post(f"/p/clinic/tasks/{task.id}/adjudicate", verdict="correct", reason="hm")
        assert refused.status_code == 409
        assert ward.read(AnnotationTask, AnnotationTask.id == task.id).state is TaskState.SELECTED


def test_on_either_database_the_same_is_asked_back_and_left_alone(any_runtime, monkeypatch):
    ward = _open(any_runtime, monkeypatch)
    create_app(any_runtime).test_client().post(ward.invite(), data=JOINING)
    shown = ward.task()
    first, second = ask(ward, "first", shown.id), ask(ward, "second")
    ward.answers(ward.task(connector=ConnectorKind.NONE, state=TaskState.SELECTED), ann=RIGHT)
    with ward.runtime.db.transaction() as session:
        guideline_questions.answer(session, session.merge(first), "yes", user=user(session), actor="test")
        told = guideline_questions.told(session, ward.project)
        assert [each["id"] for each in told] == [str(second.id), str(first.id)]
        assert guideline_questions.waiting(session, ward.project) == 1
        [alone] = left_alone(session, ward.project, experts.experts(session, ward.project))
        assert experts.shown_to(session, ward.project, user(session)) == {shown.id: "question 0"}
    assert alone not in (shown.id, None)


def test_two_answers_that_are_compared_are_decided_as_such(ward):
    with ward.runtime.db.transaction() as session:
        new = projects.NewProject("duel", ProjectKind.COMPARISON, "tiny", connector=ConnectorKind.NONE)
        duel = projects.create(session, new, actor="test")
        one, other = (builders.add_response(session, duel, text) for text in ("answer one", "answer other"))
        task = builders.add_task(session, duel, one, rival_id=other.id, state=TaskState.CONTESTED)
    page = ward.browser.get(f"/p/duel/tasks/{task.id}").text
    assert "answer other" in page and 'value="tie"' in page and 'value="correct"' not in page
    path = f"/p/duel/tasks/{task.id}/adjudicate"
    assert ward.browser.post(path, verdict="correct", reason="x").status_code == 409
    assert ward.browser.post(path, verdict="b", reason="x").status_code == 303
    assert ward.read(Settlement, Settlement.task_id == task.id).verdict is Verdict.B


def test_webhooks_that_were_read_long_ago_are_dropped_and_no_others(ward, monkeypatch):
    now, old = utcnow(), utcnow() - timedelta(days=40)
    monkeypatch.setattr(reading, "PRUNED_AT_ONCE", 2)
    with ward.runtime.db.transaction() as session:
        for number, (came, handled) in enumerate(
            [(old, old), (old, old), (old, None), (old, now), (now, now), (old, old)]
        ):
            facts = {"project_id": ward.project.id, "source": "label-studio", "natural_key": str(number)}
            session.add(InboxEvent(**facts, facts={}, created_at=came, handled_at=handled))
    schedule.prune(ward.runtime)
    assert len(ward.rows(InboxEvent)) == 4
    schedule.prune(ward.runtime)
    assert {row.natural_key for row in ward.rows(InboxEvent)} == {"2", "3", "4"}
