"""What triage, labelling and curation make of rows, and what the schedule asks for, without the web."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import pytest
import structlog
from sqlmodel import col, select

from annotation.types import Cause, Connector, LabelSchema, TaskKind, Verdict
from retrain.language import language_of
from retrain.recipe import Recipe
from service import label_studio_server, projects, routing, schedule, taking_back
from service.clock import utcnow
from service.errors import Invalid
from service.jobs.sets import Tools
from service.label_studio_server import Running
from service.projects import DEFAULT_REASONS
from service.queue import Lease
from service.runtime import Runtime
from service.stages import curation, intake, labelling, sending, triage
from service.tables import (
    Annotation,
    AnnotationTask,
    ConnectorKind,
    DocumentKind,
    Feedback,
    Job,
    JobKind,
    JobState,
    Project,
    ProjectKind,
    Rating,
    Response,
    Settlement,
    TaskPurpose,
    TaskState,
    TrainingSet,
)
from service.tool_state import Hook
from tests import builders
from tests.fakes import FakeConnector

CORRECTED = {"verdict": "incorrect", "label": "Billing", "cause": "model"}
HOOK = Hook(url="", secret="")
GENERATION = projects.NewProject("letters", ProjectKind.GENERATION, "bundled:tiny")


@dataclass(frozen=True, slots=True)
class Clinic:
    """One project, and the rows that its stages leave."""

    runtime: Runtime
    project: Project

    def respond(self, text: str = "Cardiology", *, prompt: str = "who bills me?", **metadata: object) -> UUID:
        turns = [{"role": "user", "content": prompt}]
        new = intake.NewResponse(messages=turns, response=text, metadata=metadata)
        with self.runtime.db.transaction() as session:
            response, _ = intake.log_response(session, self.project, new, sha256="sha256:0")
        return response.id

    def flag(self, response: UUID | str, *reasons: str) -> UUID:
        new = intake.NewFeedback(event_id=uuid4(), rating=Rating.DOWN, reasons=list(reasons))
        with self.runtime.db.transaction() as session:
            flag, _ = intake.record_feedback(
                session, self.project, new, response_ref=str(response), subject=None, sha256="sha256:0"
            )
        return flag.id

    def add_task(self, response: UUID, state: TaskState = TaskState.SELECTED) -> UUID:
        with self.runtime.db.transaction() as session:
            task = AnnotationTask(
                project_id=self.project.id,
                response_id=response,
                purpose=TaskPurpose.RANDOM,
                schema_id=builders.newest(session, self.project, DocumentKind.LABEL_SCHEMA),
                guidelines_id=builders.newest(session, self.project, DocumentKind.GUIDELINES),
                priority=0.0,
                connector=self.project.connector,
                state=state,
            )
            session.add(task)
        return task.id

    def settle(self, response: UUID, verdict: Verdict, label: str | None = None) -> UUID:
        settlement = Settlement(
            project_id=self.project.id,
            task_id=self.add_task(response, TaskState.SETTLED),
            verdict=verdict,
            label=label,
            cause=Cause.MODEL if label else None,
            agreeing=2,
            asked=2,
            explanation="2 of 2 agree",
        )
        with self.runtime.db.transaction() as session:
            session.add(settlement)
        return settlement.id

    def lease(self, kind: JobKind) -> Lease:
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(session, kind, self.project.id, project_id=self.project.id)
        return self.runtime.queue.lease(job)

    def triage(self, *language_of: Callable[[str], str | None]) -> None:
        triage.run(self.lease(JobKind.TRIAGE), self.project.id, *language_of)

    def send(self, connector: Connector) -> dict:
        return sending.send(
            self.lease(JobKind.SEND), self.project.id, self.project.connector, connector, HOOK
        )

    def import_answers(self, *lines: dict) -> dict:
        return labelling.import_answers(self.lease(JobKind.IMPORT), self.project.id, lines)

    def curate(self) -> dict:
        lease = self.lease(JobKind.CURATE)
        return curation.run(self.runtime, lease, self.project.id, Recipe(), Tools())

    def rows(self, table: type) -> Sequence:
        with self.runtime.db.reading() as session:
            return session.exec(select(table).order_by(col(table.id))).all()

    def change(self, table: type, row_id: UUID, **values) -> None:
        with self.runtime.db.transaction() as session:
            session.get_one(table, row_id).sqlmodel_update(values)

    def asked_for(self) -> list[JobKind]:
        return sorted(job.kind for job in self.rows(Job))


@pytest.fixture
def clinic(runtime) -> Clinic:
    return open_clinic(runtime)


@pytest.fixture
def any_clinic(any_runtime) -> Clinic:
    return open_clinic(any_runtime)


def open_clinic(runtime: Runtime) -> Clinic:
    with runtime.db.transaction() as session:
        return Clinic(runtime, builders.add_project(session))


@pytest.fixture
def label_studio_is_up(monkeypatch) -> None:
    """A bundled Label Studio that answers."""
    monkeypatch.setattr(label_studio_server, "running", lambda data_dir: Running("http://127.0.0.1:1", "t"))


class Interrupted(FakeConnector):
    """A tool during whose push something else happens."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self.meanwhile = meanwhile

    def push(self, project, tasks):
        self.meanwhile()
        return super().push(project, tasks)


def test_a_flag_that_joins_an_open_task_counts_as_if_all_had_come_together(any_clinic):
    for reason in ("wrong", "unsafe", "style"):
        any_clinic.flag(any_clinic.respond(), reason)
        any_clinic.triage()
    (task,) = any_clinic.rows(AnnotationTask)
    assert task.priority == 3 * DEFAULT_REASONS["unsafe"]["severity"]


def test_what_such_flags_taught_and_how_sure_the_model_was_are_parts_of_a_priority(any_clinic):
    decided = {
        "wrong": {"verdict": Verdict.INCORRECT, "cause": Cause.MODEL},
        "style": {"verdict": Verdict.CORRECT},
    }
    for reason in decided:
        any_clinic.flag(any_clinic.respond(prompt=f"a first question that is {reason}"), reason)
    any_clinic.triage()
    with any_clinic.runtime.db.transaction() as session:
        for task in session.exec(select(AnnotationTask)).all():
            (reason,) = session.get_one(Feedback, task.flag_id).reasons
            builders.add_settlement(session, task, **decided[reason])
    asked = {"wrong": {"confidence": 0.9}, "style": {"confidence": "very"}}
    for reason, metadata in asked.items():
        any_clinic.flag(any_clinic.respond(prompt=f"another matter, which is {reason}", **metadata), reason)
    any_clinic.triage()
    newest = sorted(any_clinic.rows(AnnotationTask), key=lambda task: task.created_at)[2:]
    severity = DEFAULT_REASONS["wrong"]["severity"], DEFAULT_REASONS["style"]["severity"]
    assert [task.urgency for task in newest] == [
        {
            "severity": severity[0],
            "flags": 1,
            "uncertainty": pytest.approx(0.6),
            "value": pytest.approx(4 / 3),
        },
        {"severity": severity[1], "flags": 1, "uncertainty": 1.0, "value": pytest.approx(2 / 3)},
    ]
    assert newest[0].priority == pytest.approx(severity[0] * 0.6 * 4 / 3)


def test_what_rows_of_a_reason_are_estimated_to_be_worth_is_a_part_of_a_priority(any_clinic):
    worth = [{"group": "style", "rows": 2, "estimate": 8.0}, {"group": "wrong", "rows": 9, "estimate": 9.0}]
    with any_clinic.runtime.db.transaction() as session:
        project = any_clinic.project.id
        done = {"kind": JobKind.VALUE, "state": JobState.DONE, "not_before": utcnow()}
        session.add(Job(project_id=project, row_id=project, result={"reasons": worth}, **done))
    for reason in ("wrong", "style"):
        any_clinic.flag(any_clinic.respond(prompt=f"a question that is {reason}"), reason)
    any_clinic.triage()
    tasks = sorted(any_clinic.rows(AnnotationTask), key=lambda task: task.created_at)
    assert [task.urgency["value"] for task in tasks] == [0.5, 1.5]


def test_each_answer_to_the_same_question_may_be_drawn(any_clinic):
    with any_clinic.runtime.db.transaction() as session:
        projects.change(
            session, session.get_one(Project, any_clinic.project.id), random_share=1.0, actor="test"
        )
    asked = {any_clinic.respond() for _ in range(3)}
    any_clinic.triage()
    assert {task.response_id for task in any_clinic.rows(AnnotationTask)} == asked


def test_a_withdrawn_flag_makes_its_task_no_more_urgent(any_clinic):
    response = any_clinic.respond()
    first, _ = any_clinic.flag(response, "unsafe"), any_clinic.flag(response, "style")
    any_clinic.triage()
    with any_clinic.runtime.db.transaction() as session:
        taking_back.withdraw(session, session.get_one(Feedback, first))
    any_clinic.flag(response, "style")
    any_clinic.triage()
    (task,) = any_clinic.rows(AnnotationTask)
    assert task.priority == 2 * DEFAULT_REASONS["style"]["severity"]


def test_what_becomes_a_flag_while_triage_reads_is_looked_at_next(clinic, monkeypatch):
    given = clinic.flag(clinic.respond())
    clinic.change(Feedback, given, rating=Rating.UP)
    read, batches = triage._read, []

    def read_and_change(*known):
        batches.append(read(*known))
        if len(batches) == 1:
            clinic.change(Feedback, given, rating=Rating.DOWN)
        return batches[-1]

    monkeypatch.setattr(triage, "_read", read_and_change)
    clinic.triage()
    (task,) = clinic.rows(AnnotationTask)
    assert task.flag_id == given


ASKED = {
    "Ich habe seit gestern starke Brustschmerzen, wohin soll ich gehen?": "de",
    "my heart beats too fast when I climb the stairs at home": "en",
    "je voudrais changer mon rendez-vous de lundi": "fr",
    "who bills me?": None,
}


def test_a_language_that_nobody_said_is_told_by_what_was_asked_before_a_task_is_placed(any_clinic):
    with any_clinic.runtime.db.transaction() as session:
        rules = [{"when": {"languages": ["de"]}, "tool": "argilla"}]
        routing.set_routing(session, any_clinic.project, {"rules": rules}, actor="test")
    answers = {any_clinic.respond(prompt=asked): told for asked, told in ASKED.items()}
    german, english, *_ = answers
    any_clinic.flag(german)
    any_clinic.change(Response, english, language="en-GB")
    any_clinic.triage(language_of)
    told = {row.id: row.language for row in any_clinic.rows(Response)}
    assert told == {**answers, english: "en-GB"}
    (task,) = any_clinic.rows(AnnotationTask)
    assert (task.response_id, task.connector) == (german, ConnectorKind.ARGILLA)


def test_what_is_erased_while_triage_reads_is_given_no_language(clinic):
    def told_too_late(_text: str) -> str:
        clinic.change(Response, erased, erased_at=utcnow())
        return "en"

    erased, other = clinic.respond(), clinic.respond()
    clinic.triage(told_too_late)
    assert [(row.id, row.language) for row in clinic.rows(Response)] == [(erased, None), (other, "en")]


def test_triage_is_asked_for_once_feedback_has_its_response(clinic):
    clinic.flag("chat-9")
    schedule.ask_for_triage(clinic.runtime)
    assert clinic.asked_for() == []
    clinic.flag(clinic.respond())
    schedule.ask_for_triage(clinic.runtime)
    assert clinic.asked_for() == [JobKind.TRIAGE]


@pytest.mark.parametrize(
    ("state", "asked"),
    [
        (TaskState.SELECTED, [JobKind.SEND]),
        (TaskState.SENT, [JobKind.SYNC]),
        (TaskState.CONTESTED, [JobKind.SYNC]),
        (TaskState.SETTLED, []),
        (TaskState.WITHDRAWN, []),
    ],
)
def test_open_tasks_are_sent_or_read_again(clinic, label_studio_is_up, state, asked):
    clinic.add_task(clinic.respond(), state)
    schedule.ask_for_sync(clinic.runtime)
    assert clinic.asked_for() == asked


def test_nothing_is_asked_of_a_label_studio_that_is_not_up_yet(clinic):
    clinic.add_task(clinic.respond())
    schedule.ask_for_sync(clinic.runtime)
    assert clinic.asked_for() == []


def test_nothing_is_asked_for_a_project_without_a_tool(clinic, label_studio_is_up):
    clinic.change(AnnotationTask, clinic.add_task(clinic.respond()), connector=ConnectorKind.NONE)
    schedule.ask_for_sync(clinic.runtime)
    assert clinic.asked_for() == []


def test_a_task_withdrawn_while_it_is_pushed_stays_withdrawn(any_clinic):
    given = any_clinic.flag(any_clinic.respond())
    any_clinic.triage()

    def withdraw() -> None:
        with any_clinic.runtime.db.transaction() as session:
            taking_back.withdraw(session, session.get_one(Feedback, given))

    assert any_clinic.send(Interrupted(withdraw)) == {"sent": 0}
    (task,) = any_clinic.rows(AnnotationTask)
    assert task.state is TaskState.WITHDRAWN


def test_a_repeated_import_adds_each_answer_once(any_clinic):
    response = any_clinic.respond()
    any_clinic.add_task(response)
    lines = [CORRECTED | {"annotator": name, "response_id": str(response)} for name in ("ann", "ben")]
    lease = any_clinic.lease(JobKind.IMPORT)
    outcomes = [labelling.import_answers(lease, any_clinic.project.id, lines) for _ in range(2)]
    assert [outcome["annotations"] for outcome in outcomes] == [2, 0]
    assert [outcome["settled"] for outcome in outcomes] == [1, 0]


def test_the_same_file_again_adds_nothing_and_a_changed_mind_adds_a_revision(any_clinic):
    response = any_clinic.respond()
    any_clinic.add_task(response)
    wrong = CORRECTED | {"annotator": "ann", "response_id": str(response)}
    right = wrong | {"verdict": "correct"}
    added = [any_clinic.import_answers(line)["annotations"] for line in (wrong, wrong, right, right, wrong)]
    assert added == [1, 0, 1, 0, 1]


def test_every_broken_line_of_a_file_is_named_and_nothing_is_taken(clinic):
    response = clinic.respond()
    clinic.add_task(response)
    good = CORRECTED | {"annotator": "ann", "response_id": str(response)}
    broken = [
        good | {"response_id": "7"},
        {name: value for name, value in good.items() if name != "verdict"},
        good | {"response_id": str(uuid4())},
        good | {"seconds_spent": "long"},
    ]
    with pytest.raises(Invalid) as refused:
        clinic.import_answers(good, *broken)
    said = str(refused.value)
    assert (
        "line 2: response_id: not the id of a response; line 3: verdict is missing; line 4: response_id: no task"
        in said
    )
    assert "line 5" in said and "line 1:" not in said
    assert clinic.rows(Annotation) == []


def test_of_several_answers_in_a_file_the_last_counts(clinic):
    response = clinic.respond()
    clinic.add_task(response)
    line = CORRECTED | {"annotator": "ann", "response_id": str(response)}
    clinic.import_answers(line, line | {"verdict": "unsure"})
    assert [annotation.verdict for annotation in clinic.rows(Annotation)] == [Verdict.UNSURE]


def test_an_answer_is_checked_against_the_questions_that_its_task_asked(clinic):
    response = clinic.respond()
    clinic.add_task(response)
    with clinic.runtime.db.transaction() as session:
        content = {"kind": "classification", "labels": ["Accounts", "Cardiology"], "ratings": []}
        projects.add_document(session, clinic.project, DocumentKind.LABEL_SCHEMA, content, actor="test")
    answer = {"annotator": "ann", "response_id": str(response)}
    clinic.import_answers(answer | CORRECTED, answer | CORRECTED | {"annotator": "ben", "label": "Accounts"})
    problems = {one.label: one.problem for one in clinic.rows(Annotation)}
    assert problems == {"Billing": None, None: "label 'Accounts' is not in the schema"}


def test_a_response_that_is_no_label_teaches_none(clinic):
    clinic.settle(clinic.respond("Billing.", prompt="who sends my bill?"), Verdict.CORRECT)
    clinic.settle(clinic.respond("Cardiology", prompt="my chest hurts"), Verdict.CORRECT)
    clinic.settle(clinic.respond("Cardiology.", prompt="I was charged twice"), Verdict.INCORRECT, "Billing")
    with structlog.testing.capture_logs() as logged:
        clinic.curate()
    with clinic.runtime.db.reading() as session:
        learned = curation.examples_of(session, session.exec(select(TrainingSet)).one())
    assert sorted(example.label for example in learned) == ["Billing", "Cardiology"]
    assert {"event": "settlements_left_out", "count": 1} in [
        {name: entry.get(name) for name in ("event", "count")} for entry in logged
    ]


def test_a_project_asks_what_its_schema_says(runtime):
    asked = LabelSchema(TaskKind.GENERATION, ratings=("tone",), guidelines="Be kind.", spans=("rude",))
    with runtime.db.transaction() as session:
        project = projects.create(session, replace(GENERATION, schema=asked), actor="test")
        assert projects.label_schema(session, project) == asked
