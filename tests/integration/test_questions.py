"""What experts are asked: changes of the questions, suggestions, and what reaches the tools and the console."""

import json
from dataclasses import replace
from uuid import uuid4

import pytest
from sqlmodel import select

from annotation.suggestions import SuggestionSource
from annotation.types import Abstention, Answer, Cause, Span, Verdict
from retrain.types import Mending, Split
from service import forgetting, projects, taking_back, tool_state
from service.answers.examples import settled_answers
from service.answers.outdated import doubtful, is_superseded
from service.answers.states import settlement_of, state_of
from service.answers.story import story
from service.clock import utcnow
from service.queue import Lease
from service.stages import labelling, sending
from service.stages.asking import ask_again
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    ConnectorKind,
    Document,
    DocumentKind,
    Feedback,
    JobKind,
    LedgerEntry,
    ModelState,
    Project,
    ProjectKind,
    Recheck,
    Role,
    Settlement,
    TaskFlag,
    TaskPurpose,
    TaskState,
    TrainingRun,
    TrainingSetExample,
)
from service.tool_state import Hook
from tests import builders
from tests.console import person
from tests.fakes import FakeConnector
from tests.integration.test_connectors import ANN, BEN, TOOLS
from tests.integration.test_people import quick_hashes

__all__ = ["quick_hashes"]

HOOK = Hook(url="", secret="")
SPLIT = {"kind": "classification", "labels": ["Billing", "Heart", "Vessels"], "ratings": []}
SCRIPT = "<script>alert(1)</script>"
WRONG = Answer(Verdict.INCORRECT, label="Billing", cause=Cause.MODEL)


class Desk:
    """One project, its stages, and a tool in memory."""

    def __init__(self, runtime, project) -> None:
        self.runtime, self.project, self.tool = runtime, project, FakeConnector()

    def add(self, text="Cardiology", *, flag=None, **more):
        with self.runtime.db.transaction() as session:
            response = builders.add_response(session, self.project, text, **more)
            given = builders.add_flag(session, self.project, response, "wrong", **flag) if flag else None
            return builders.add_task(session, self.project, response, flag=given).id

    def lease(self, kind) -> Lease:
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(session, kind, self.project.id, project_id=self.project.id)
        return self.runtime.queue.lease(job)

    def send(self, connector=None):
        return sending.send(
            self.lease(JobKind.SEND), self.project.id, self.project.connector, connector or self.tool, HOOK
        )

    def sync(self):
        return labelling.sync(
            self.lease(JobKind.SYNC), self.project.id, self.project.connector, self.tool, HOOK
        )

    def answer(self, task, annotator, answer):
        row = self.row(AnnotationTask, task)
        self.tool.answer(self.place(), row.external_id, annotator, answer)

    def sent(self, task):
        return self.tool.projects[self.place()].tasks[self.row(AnnotationTask, task).external_id]

    def place(self):
        with self.runtime.db.reading() as session:
            return tool_state.find(session, self.project.id, self.project.connector).external_id

    def row(self, table, row_id):
        with self.runtime.db.reading() as session:
            return session.get_one(table, row_id)

    def rows(self, table):
        with self.runtime.db.reading() as session:
            return session.exec(select(table).order_by(table.id)).all()

    def change(self, **what):
        with self.runtime.db.transaction() as session:
            projects.change(session, session.get_one(Project, self.project.id), actor="test", **what)

    def set_schema(self, content):
        with self.runtime.db.transaction() as session:
            return projects.set_schema(session, self.project, content, actor="test")


@pytest.fixture
def desk(any_runtime):
    with any_runtime.db.transaction() as session:
        return Desk(any_runtime, builders.add_project(session))


@pytest.fixture
def writing(runtime):
    new = projects.NewProject("letters", ProjectKind.GENERATION, "bundled:tiny", system_prompt="")
    with runtime.db.transaction() as session:
        return Desk(runtime, projects.create(session, new, actor="test"))


def settle(desk, text="Cardiology", **facts):
    with desk.runtime.db.transaction() as session:
        response = builders.add_response(session, desk.project, text, asked=f"why {text} {facts}?")
        task = builders.add_task(session, desk.project, response)
        builders.add_settlement(session, task, **facts)
        return task.id


def test_a_change_lists_the_settled_answers_in_doubt_and_asks_each_again_once(desk, shell):
    removed = settle(desk, "Billing", label="Cardiology")
    right = settle(desk, "Cardiology", verdict=Verdict.CORRECT, label=None, cause=None)
    settle(desk, "Cardiology", label="Billing")
    desk.set_schema(SPLIT)
    with desk.runtime.db.reading() as session:
        assert [one.task.id for one in doubtful(session, desk.project)] == [removed, right]
    given = ("tasks", "ask-again", "-p", desk.project.slug)
    for each, asked in (((*given, "--dry-run"), 2), (given, 2), (given, 0)):
        assert shell(*each) == (0, {"asked_again": asked})
    tasks = [task for task in desk.rows(AnnotationTask) if task.rechecks_id]
    assert {task.rechecks_id for task in tasks} == {removed, right}
    assert {task.state for task in tasks} == {TaskState.SELECTED}
    assert [entry.facts for entry in desk.rows(LedgerEntry) if entry.action == "asked_again"] == [
        {"tasks": 2}
    ]


def test_an_answer_that_was_asked_again_teaches_until_the_later_one_is_settled(desk):
    settle(desk, "Billing", label="Cardiology")
    desk.set_schema(SPLIT)

    def learned():
        with desk.runtime.db.reading() as session:
            return [one.label for one in settled_answers(session, desk.project.id, ~is_superseded())]

    with desk.runtime.db.transaction() as session:
        ask_again(session, desk.project, actor="ada")
    assert learned() == ["Cardiology"]
    [again] = [task for task in desk.rows(AnnotationTask) if task.rechecks_id]
    with desk.runtime.db.transaction() as session:
        builders.add_settlement(session, session.get_one(AnnotationTask, again.id), label="Heart")
    assert learned() == ["Heart"]


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"label": "Cardiology"}, "live"),
        ({"label": "Billing"}, "corrected"),
        ({"verdict": Verdict.CORRECT, "label": None, "cause": None}, "declined"),
        ({"label": "Billing", "withdrawn_at": utcnow()}, "live"),
    ],
    ids=["confirmed", "otherwise", "right after all", "taken back"],
)
def test_a_flagger_is_told_what_experts_said_when_they_were_asked_last(desk, facts, state):
    with desk.runtime.db.transaction() as session:
        response = builders.add_response(session, desk.project, "Billing")
        flag = builders.add_flag(session, desk.project, response)
        first = builders.add_task(session, desk.project, response, flag=flag)
        settled = builders.add_settlement(session, first, label="Cardiology")
        builders.add_criteria(session, desk.project)
        model = builders.add_challenger(session, desk.project)
        run = session.get_one(TrainingRun, model.training_run_id)
        row = {"content_sha256": "sha256:0", "group_name": "g", "split": Split.TRAIN}
        session.add(TrainingSetExample(training_set_id=run.training_set_id, settlement_id=settled.id, **row))
        model.state = ModelState.CHAMPION
        session.flush()
        assert state_of(session, flag) == "trained"
        passed = {"passed": True, "reason": Mending.CORRECTED}
        session.add(Recheck(settlement_id=settled.id, model_version_id=model.id, **passed))
        session.flush()
        assert state_of(session, flag) == "live"
        again = builders.add_task(session, desk.project, response, rechecks_id=first.id)
        later = builders.add_settlement(session, again, **facts)
        assert state_of(session, flag) == state
        told = [event.told.split(":")[0] for event in story(session, flag)]
        assert told.count("Settled") == told.count("Experts are asked again") + 1 == 2
        assert settlement_of(session, flag).id == (settled if later.withdrawn_at else later).id


def test_what_was_not_answered_yet_is_asked_by_the_newest_questions(desk):
    task = desk.add()
    desk.send()
    added = desk.set_schema({**SPLIT, "guidelines": "Read twice."})
    assert desk.row(AnnotationTask, task).schema_id == added.id
    assert desk.row(Document, desk.row(AnnotationTask, task).guidelines_id).content == {
        "markdown": "Read twice."
    }
    desk.answer(task, "ann", replace(WRONG, label="Heart"))
    desk.sync()
    [annotation] = desk.rows(Annotation)
    assert (annotation.label, annotation.problem, annotation.schema_id) == ("Heart", None, added.id)


def test_in_argilla_what_was_sent_keeps_its_questions(desk):
    with desk.runtime.db.transaction() as session:
        session.get_one(Project, desk.project.id).connector = ConnectorKind.ARGILLA
    desk.project = desk.row(Project, desk.project.id)
    sent = desk.add()
    desk.send()
    waiting = desk.add("Billing")
    before = desk.row(AnnotationTask, sent).schema_id
    added = desk.set_schema(SPLIT)
    assert [desk.row(AnnotationTask, task).schema_id for task in (sent, waiting)] == [before, added.id]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"kind": "generation"}, "kind"),
        ({**SPLIT, "colour": "red"}, "object"),
        ([], "object"),
        ({**SPLIT, "labels": ["one"]}, "labels"),
    ],
)
def test_questions_that_do_not_fit_the_project_change_nothing(desk, content, why):
    with pytest.raises(Exception, match=why):
        desk.set_schema(content)
    assert [d.version for d in desk.rows(Document) if d.kind is DocumentKind.LABEL_SCHEMA] == [1]


def test_the_blind_share_is_shown_nothing_and_both_are_recorded(writing):
    writing.change(suggestion=SuggestionSource.CORRECTION, blind_share=0.5)
    tasks = [
        writing.add(
            f"Paint {n}.", asked=f"a rash {n}?", flag={"correction": f"See a doctor {n}.", "consent": True}
        )
        for n in range(12)
    ]
    plain = writing.add("Paint it.")
    writing.send()
    kept = {task: writing.row(AnnotationTask, task) for task in tasks}
    assert {row.is_blind for row in kept.values()} == {True, False}
    for n, task in enumerate(tasks):
        suggestion = {"correction": f"See a doctor {n}."}
        assert kept[task].suggestion == suggestion
        assert writing.sent(task).suggestion == ({} if kept[task].is_blind else suggestion)
    assert writing.sent(plain).suggestion == writing.row(AnnotationTask, plain).suggestion == {}


def test_a_users_words_are_suggested_with_their_consent_alone(writing):
    writing.change(suggestion=SuggestionSource.CORRECTION, blind_share=0.0)

    def suggested(consent):
        task = writing.add("Paint it.", flag={"correction": "See a doctor.", "consent": consent})
        writing.send()
        return bool(writing.sent(task).suggestion)

    assert [suggested(consent) for consent in (True, None, False)] == [True, False, False]
    writing.change(presumes_consent=True)
    assert [suggested(consent) for consent in (True, None, False)] == [True, True, False]


@pytest.mark.parametrize(("words", "is_suggested"), [("See a\u200b doctor.", False), ("See a doctor.", True)])
def test_words_in_which_something_hides_are_not_suggested(writing, words, is_suggested):
    writing.change(suggestion=SuggestionSource.CORRECTION, blind_share=0.0)
    task = writing.add("Paint it.", flag={"correction": words, "consent": True})
    writing.send()
    assert bool(writing.sent(task).suggestion) is is_suggested


def test_the_tool_forgets_what_only_flags_led_to_that_were_taken_back(writing):
    tasks = [writing.add("Paint it.", flag={"comment": "no"}) for _ in range(3)]
    writing.send()
    with writing.runtime.db.transaction() as session:
        builders.add_settlement(session, session.get_one(AnnotationTask, tasks[1]))
        for task in tasks[:2]:
            flag = session.exec(select(TaskFlag).where(TaskFlag.task_id == task)).one()
            taking_back.withdraw(session, session.get_one(Feedback, flag.feedback_id))
    writing.sync()
    (held,) = writing.tool.projects.values()
    assert {task.key for task in held.tasks.values()} == {str(tasks[2])}
    rows = [writing.row(AnnotationTask, task) for task in tasks]
    assert [row.external_id is None for row in rows] == [True, True, False]
    assert [row.state for row in rows] == [TaskState.WITHDRAWN, TaskState.SETTLED, TaskState.SENT]


def test_what_was_decided_about_a_suggestion_stays_when_a_push_is_repeated(writing):
    writing.change(suggestion=SuggestionSource.RESPONSE, blind_share=1.0)
    task = writing.add("Paint it.")
    writing.tool.is_down = True
    with pytest.raises(Exception, match="down"):
        writing.send()
    writing.change(blind_share=0.0)
    writing.tool.is_down = False
    with writing.runtime.db.transaction() as session:
        assert session.get_one(AnnotationTask, task).is_blind is None
    writing.send()
    writing.change(blind_share=1.0)
    assert (writing.row(AnnotationTask, task).is_blind, writing.sent(task).suggestion) == (
        False,
        {"correction": "Paint it."},
    )


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(Verdict.INCORRECT, correction="x" * 5_000_000), "5000000 characters"),
        (Answer(Verdict.INCORRECT, correction="x", ratings={"coherence": 9}), "9"),
        (Answer(Verdict.INCORRECT, label=SCRIPT * 100), "alert"),
        (Answer(Verdict.CORRECT, spans=(Span(0, 10_000, "unsafe"),)), "outside"),
        (Answer(Verdict.CORRECT, spans=(Span(0, 1, SCRIPT),)), "alert"),
        (Answer(Verdict.CORRECT, ratings={SCRIPT * 500: 1}), "alert"),
        (Answer(Verdict.INCORRECT, correction="a\x00b"), "no text"),
        (Answer(Verdict.INCORRECT), "corrected response"),
    ],
)
def test_what_is_no_answer_is_kept_with_its_problem_shown_and_settles_nothing(writing, answer, problem):
    task = writing.add("Paint it.", flag={"comment": SCRIPT})
    writing.send()
    for expert in (ANN, BEN):
        writing.answer(task, expert, answer)
    told = writing.sync()
    assert (told["annotations"], told["settled"], told["contested"]) == (2, 0, 0)
    assert all(problem in one.problem and one.verdict is None for one in writing.rows(Annotation))
    page = person(writing.runtime, Role.AUDITOR, password="").get(f"/p/letters/tasks/{task}").text
    assert problem in page
    assert SCRIPT not in page


def test_who_abstains_settles_nothing_and_the_operator_is_told(writing):
    task = writing.add("Paint it.")
    writing.send()
    writing.answer(task, ANN, Answer(Abstention.GUIDELINE_UNCLEAR))
    writing.answer(task, BEN, Answer(Abstention.CANNOT_JUDGE))
    assert writing.sync()["settled"] == 0
    assert [(one.abstention, one.is_skipped) for one in writing.rows(Annotation)] == [
        (Abstention.GUIDELINE_UNCLEAR, False),
        (Abstention.CANNOT_JUDGE, False),
    ]
    olga = person(writing.runtime, Role.OPERATOR, password="")
    assert "guideline unclear" in olga.get("/p/letters/annotators").text
    assert f"/tasks/{task}" in olga.get("/p/letters/tasks?abstained=guideline_unclear").text
    assert "guideline unclear" in olga.get(f"/p/letters/tasks/{task}").text


def test_marks_and_several_labels_are_kept_and_shown(writing):
    task = writing.add("Paint it blue.")
    writing.send()
    for expert in (ANN, BEN):
        writing.answer(task, expert, Answer(Verdict.CORRECT, spans=(Span(9, 13, "unsafe"),)))
    assert writing.sync()["settled"] == 1
    assert [one.spans for one in writing.rows(Annotation)] == [
        [{"start": 9, "end": 13, "label": "unsafe"}]
    ] * 2
    page = person(writing.runtime, Role.AUDITOR, password="").get(f"/p/letters/tasks/{task}").text
    assert "unsafe: <q>blue</q>" in page


def test_several_labels_settle_as_a_set(desk):
    desk.set_schema({**SPLIT, "is_multi_label": True})
    task = desk.add("Billing")
    desk.send()
    for expert, labels in ((ANN, ("Heart", "Vessels")), (BEN, ("Vessels", "Heart"))):
        desk.answer(task, expert, Answer(Verdict.INCORRECT, labels=labels, cause=Cause.MODEL))
    assert desk.sync()["settled"] == 1
    [settlement] = desk.rows(Settlement)
    assert set(settlement.labels) == {"Heart", "Vessels"}
    with desk.runtime.db.reading() as session:
        [taught] = settled_answers(session, desk.project.id)
    assert taught.answer == "Heart; Vessels"


def test_the_pull_of_suggestions_is_measured_and_shown(writing):
    writing.change(suggestion=SuggestionSource.RESPONSE, blind_share=0.5)
    tasks = [writing.add(f"Paint {n}.", asked=f"a rash {n}?") for n in range(24)]
    writing.send()
    for task in tasks:
        was_blind = writing.row(AnnotationTask, task).is_blind
        wrong = Answer(Verdict.INCORRECT, correction="See a doctor.", cause=Cause.MODEL)
        writing.answer(task, ANN, wrong if was_blind else Answer(Verdict.CORRECT))
    writing.sync()
    page = person(writing.runtime, Role.AUDITOR, password="").get("/p/letters/annotators").text
    assert "The difference is +100 points" in page
    assert "Experts follow what is prefilled" in page


def test_the_settings_page_shows_what_is_in_doubt_and_asks_again(desk):
    settle(desk, "Billing", label="Cardiology")
    olga = person(desk.runtime, Role.OPERATOR, password="")
    sent = {"document": json.dumps(SPLIT), "version": "1"}
    assert olga.post("/p/clinic/settings/questions", **sent).status_code == 303
    page = olga.get("/p/clinic/settings").text
    assert "1 settled answers do not fit" in page
    assert "is no label any more" in page
    assert olga.post("/p/clinic/settings/ask-again").status_code == 303
    assert "do not fit" not in olga.get("/p/clinic/settings").text
    assert [t.purpose for t in desk.rows(AnnotationTask) if t.rechecks_id] == [TaskPurpose.RANDOM]
    assert olga.post("/p/clinic/settings/guidelines", document="Be *kind*.", version="1").status_code == 303
    assert "Be *kind*." in olga.get("/p/clinic/settings").text
    assert olga.post("/p/clinic/settings/questions", document="[]", version="2").status_code == 409


def test_the_api_tells_what_a_change_puts_in_doubt(desk):
    task = settle(desk, "Billing", label="Cardiology")
    with desk.runtime.db.transaction() as session:
        _, token = builders.add_person(session, Role.OPERATOR)
    client = person(desk.runtime, Role.AUDITOR, password="").client
    headers = {"Authorization": f"Bearer {token}"}
    body = {"project": "clinic", "label_schema": SPLIT, "ask_again": True}
    told = client.post("/v1/label-schema", json=body, headers=headers)
    assert told.status_code == 201
    assert (told.json["version"], told.json["to_ask_again"], told.json["asked_again"]) == (2, 1, 1)
    assert told.json["items"] == [
        {"task": str(task), "answer": "Cardiology", "why": "'Cardiology' is no label any more"}
    ]
    now = client.get("/v1/label-schema?project=clinic", headers=headers).json
    assert (now["label_schema"]["labels"], now["to_ask_again"]) == (SPLIT["labels"], 0)
    wrong = client.post("/v1/label-schema", json=body | {"label_schema": {"kind": "x"}}, headers=headers)
    assert (wrong.status_code, wrong.json["code"]) == (409, "invalid_schema")


def test_erasure_forgets_what_a_person_had_suggested(writing):
    writing.change(suggestion=SuggestionSource.CORRECTION, blind_share=0.0)
    with writing.runtime.db.transaction() as session:
        response = builders.add_response(session, writing.project, "Paint it.")
        ref = builders.add_flag(
            session, writing.project, response, "wrong", correction="Call Bob Miller.", consent=True
        )
        ref.subject = "patient-7"
        session.add(ref)
        task = builders.add_task(session, writing.project, response, flag=ref).id
    writing.send()
    assert writing.row(AnnotationTask, task).suggestion == {"correction": "Call Bob Miller."}
    with writing.runtime.db.transaction() as session:
        forgetting.erase_words(session, builders.add_erasure(session, "patient-7"))
    assert writing.row(AnnotationTask, task).suggestion == {}


@pytest.mark.parametrize("kind", ["label_studio", "argilla"])
def test_a_tool_is_told_neither_who_flagged_nor_what_others_answered(writing, request, kind):
    tool = TOOLS[kind](request.getfixturevalue(kind))
    task = writing.add("Paint it.", flag={"comment": "this is dangerous"})
    with writing.runtime.db.transaction() as session:
        session.get_one(Project, writing.project.id).slug = f"letters-{uuid4()}"
        flag = session.exec(select(Feedback)).one()
        flag.subject, flag.session, flag.trace_id = "patient-mallory", "mallorys-session", "mallorys-trace"
        annotator = Annotator(connector=ConnectorKind.NONE, account="expert-4711")
        session.add(annotator)
        session.flush()
        answered = {"verdict": Verdict.INCORRECT, "correction": "what 4711 wrote"}
        row = session.get_one(AnnotationTask, task)
        builders.add_annotation(session, row, annotator, **answered)
    writing.send(tool.connector)
    external = writing.row(AnnotationTask, task).external_id
    held = json.dumps(
        tool.people.read(f"/api/tasks/{external}/", {})
        if kind == "label_studio"
        else tool.people.read(f"/api/v1/records/{external}")
    )
    assert "wrong (" in held and "\\u00b7 this is dangerous" in held
    assert not [secret for secret in ("mallory", "4711", str(writing.project.id)) if secret in held]
