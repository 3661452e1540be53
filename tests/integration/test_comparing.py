"""People compare two models' answers: blind, in balance, as few as needed, and the gate hears them."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from random import Random
from uuid import UUID

import pytest
from sqlmodel import Session, col, select

from annotation.types import Verdict
from retrain import gate
from retrain.types import Case, Message, Split, canonical_json
from service import comparisons, goalposts, schedule, verdicts
from service.answers.overview import effort
from service.clock import utcnow
from service.errors import TryAgain
from service.runtime import Runtime
from service.stages import comparing, labelling, sending
from service.tables import (
    AnnotationTask,
    ConnectorKind,
    DocumentKind,
    Evaluation,
    EvaluationState,
    Job,
    JobKind,
    ModelState,
    ModelVersion,
    Part,
    Project,
    ProjectKind,
    Response,
    Settlement,
    TaskState,
    TimeEntry,
    TrainingSetExample,
)
from service.tool_state import Hook
from tests import builders
from tests.desk import Desk, Parrot
from tests.fakes import FakeConnector

BETTER, WORSE, SAME = "the better answer", "the worse answer", "the same answer"
PASSED = gate.Judgement(gate.Verdict.PASSED, "Passed: better; nothing got worse beyond its margin.", ())
RULES = {"ask_people": "none", "max_comparisons": 100}


@dataclass(frozen=True, slots=True)
class Panel:
    """A project with a challenger whose answers people are to compare."""

    runtime: Runtime
    project: Project
    evaluation_id: UUID

    def compare(self) -> dict:
        with self.runtime.db.transaction() as session:
            comparisons.ask_for_count(session, self.runtime.queue, self.evaluation_id, self.project.id)
            job = session.exec(
                select(Job).where(Job.kind == JobKind.COMPARE).order_by(col(Job.id).desc())
            ).first()
            job_id = job.id
        lease = self.runtime.queue.lease(job_id)
        told = comparing.perform(self.runtime, lease, self.evaluation_id)
        lease.finish(told)
        return told

    def open_tasks(self) -> Sequence[tuple[AnnotationTask, Response]]:
        with self.runtime.db.reading() as session:
            return session.exec(
                select(AnnotationTask, Response)
                .join(Response, col(AnnotationTask.response_id) == Response.id)
                .where(col(AnnotationTask.evaluation_id) == self.evaluation_id)
                .where(col(AnnotationTask.state).in_(comparisons.OPEN))
            ).all()

    def companion(self) -> Project:
        with self.runtime.db.reading() as session:
            return session.exec(select(Project).where(Project.compares_id == self.project.id)).one()

    def answer(self, say: Callable[[str], str]) -> int:
        """Let experts say of each open comparison what they see in its first answer."""
        lines = [
            {
                "response_id": str(first.id),
                "annotator": "ann",
                "verdict": say(first.text),
                "seconds_spent": 60,
            }
            | {"ratings": {"coherence": 1 if say(first.text) == "a" else 5}}
            for _, first in self.open_tasks()
        ]
        project_id = self.companion().id
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(session, JobKind.IMPORT, project_id, project_id=project_id)
        labelling.import_answers(self.runtime.queue.lease(job), project_id, lines)
        return len(lines)

    def evaluation(self) -> Evaluation:
        with self.runtime.db.reading() as session:
            return session.get_one(Evaluation, self.evaluation_id)

    def until_decided(self, say: Callable[[str], str]) -> Evaluation:
        for _ in range(20):
            self.compare()
            if self.evaluation().state is not EvaluationState.AWAITING_PEOPLE:
                break
            self.answer(say)
        return self.evaluation()


def open_panel(runtime: Runtime, *, identical: int = 0, judged: gate.Judgement = PASSED) -> Panel:
    cases = [
        Case(f"case-{i}", "test", (Message("user", f"question {i}?"),), "", "exact", {"language": "en"})
        for i in range(120)
    ]
    same = {case.key for case in cases[:identical]}
    answers = {
        "champion": {case.key: SAME if case.key in same else WORSE for case in cases},
        "challenger": {case.key: SAME if case.key in same else BETTER for case in cases},
    }
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
        builders.add_criteria(session, project)
        goalposts.set_rules(session, project, RULES, actor="olga")
        challenger = builders.add_challenger(session, project)
        evaluation = builders.add_evaluation(session, project, challenger, state=EvaluationState.RUNNING)
        evaluation.report = runtime.artifacts.put_bytes(canonical_json({"machines": asdict(judged)}))
        for case in cases:
            add_original(session, project, evaluation, case)
        comparisons.prepare(session, evaluation, cases, answers, tool="none", most=100)
        verdicts.await_people(session, runtime.queue, evaluation, judged)
    return Panel(runtime, project, evaluation.id)


def add_original(session: Session, project: Project, evaluation: Evaluation, case: Case) -> None:
    """A row of the evaluation's set, and the response that it was made of."""
    response = builders.add_response(session, project, WORSE, asked=case.messages[0].content)
    settlement = builders.add_settlement(session, builders.add_task(session, project, response))
    row = {"settlement_id": settlement.id, "content_sha256": case.key, "group_name": case.key}
    session.add(TrainingSetExample(training_set_id=evaluation.training_set_id, split=Split.TEST, **row))


@pytest.fixture
def panel(any_runtime: Runtime) -> Panel:
    return open_panel(any_runtime)


def prefers(wanted: str, *, rate: float = 1.0, seed: int = 0) -> Callable[[str], str]:
    """Make an expert who takes the wanted answer at this rate, wherever it stands."""
    rng = Random(seed)

    def say(first: str) -> str:
        takes_wanted = rng.random() < rate
        return "a" if (first == wanted) == takes_wanted else "b"

    return say


def test_people_who_prefer_the_challenger_let_it_pass_after_few_judgements(panel):
    ended = panel.until_decided(prefers(BETTER))
    assert ended.state is EvaluationState.PASSED
    assert (ended.people["wins"], ended.people["losses"]) == (20, 0)
    assert "people prefer it in 20 and the champion in 0 of 20 comparisons" in ended.sentence
    assert [reason["rule"] for reason in ended.reasons] == ["preferred"]
    assert ended.people["ratings"]["coherence"]["value"] == 1
    assert all(task.state is not TaskState.SELECTED for task, _ in panel.open_tasks())


def test_people_who_prefer_the_champion_refuse_what_machines_passed(panel):
    ended = panel.until_decided(prefers(WORSE))
    assert ended.state is EvaluationState.REFUSED and ended.sentence.startswith("Refused: people prefer")
    with panel.runtime.db.reading() as session:
        assert session.get_one(ModelVersion, ended.model_version_id).state is ModelState.REFUSED


def test_who_always_takes_the_first_answer_decides_nothing(panel):
    ended = panel.until_decided(lambda _: "a")
    assert (ended.people["wins"], ended.people["losses"]) == (50, 50)
    assert ended.state is EvaluationState.CANNOT_TELL


def test_without_balance_the_same_person_would_decide(any_runtime, monkeypatch):
    monkeypatch.setattr(comparisons, "is_challenger_first", lambda place, *, seed: True)
    ended = open_panel(any_runtime).until_decided(lambda _: "a")
    assert ended.state is EvaluationState.PASSED


def test_equal_answers_are_ties_that_nobody_is_asked_about(any_runtime):
    panel = open_panel(any_runtime, identical=110)
    ended = panel.until_decided(prefers(BETTER))
    assert (ended.people["wins"], ended.people["ties"], ended.people["asked"]) == (10, 110, 10)


def test_what_machines_cannot_tell_people_cannot_make_pass(any_runtime):
    unsure = gate.Judgement(gate.Verdict.CANNOT_TELL, "Cannot tell: too few cases.", ())
    ended = open_panel(any_runtime, judged=unsure).until_decided(prefers(BETTER))
    assert (ended.state, ended.sentence) == (EvaluationState.CANNOT_TELL, "Cannot tell: too few cases.")


def test_no_more_are_asked_than_are_in_hand(panel):
    panel.compare()
    assert panel.evaluation().sentence == f"Awaiting people; machines say: {PASSED.sentence}"
    assert len(panel.open_tasks()) == comparing.BATCH
    panel.compare()
    assert len(panel.open_tasks()) == comparing.BATCH


def test_an_expert_sees_two_answers_and_not_whose_they_are(panel, monkeypatch):
    panel.compare()
    companion, connector, pushed = panel.companion(), FakeConnector(), []
    monkeypatch.setattr(
        connector, "push", lambda _, tasks: pushed.extend(tasks) or {task.key: task.key for task in tasks}
    )
    with panel.runtime.db.transaction() as session:
        job = panel.runtime.queue.ask(session, JobKind.SEND, companion.id, project_id=companion.id)
    lease = panel.runtime.queue.lease(job)
    sending.send(lease, companion.id, ConnectorKind.NONE, connector, Hook(url="", secret=""))
    assert len(pushed) == comparing.BATCH
    assert all({task.response, task.rival} == {BETTER, WORSE} for task in pushed)
    assert not any(word in str(task) for task in pushed for word in ("challenger", "champion"))


def test_of_a_case_that_was_erased_while_models_answered_nothing_is_kept(any_runtime, monkeypatch):
    kept, prepare = [], comparisons.prepare

    def erased_meanwhile(session, evaluation, cases, *rest, **more):
        rows = select(TrainingSetExample).where(TrainingSetExample.content_sha256 != cases[7].key)
        for row in session.exec(rows):
            row.erased_at = utcnow()
        kept.append(cases[7].messages[0].content)
        prepare(session, evaluation, cases, *rest, **more)

    monkeypatch.setattr(comparisons, "prepare", erased_meanwhile)
    panel = open_panel(any_runtime)
    with panel.runtime.db.reading() as session:
        copies = session.exec(select(Response).where(Response.project_id == panel.companion().id)).all()
        originals = {session.get_one(Response, copy.copy_of_id).messages[-1]["content"] for copy in copies}
    assert (sorted(copy.text for copy in copies), originals) == ([BETTER, WORSE], set(kept))


def test_comparing_teaches_nothing_and_counts_as_validation(panel):
    panel.until_decided(prefers(BETTER))
    with panel.runtime.db.reading() as session:
        own = select(Settlement).where(Settlement.project_id == panel.companion().id)
        assert {settled.verdict for settled in session.exec(own)} == {Verdict.A, Verdict.B}
        people, _ = effort(session, panel.project, now=utcnow())
    assert (people.data, people.validation) == (0, 20 * 60)


def test_the_schedule_asks_for_a_count_once(panel):
    schedule.ask_for_comparisons(panel.runtime)
    schedule.ask_for_comparisons(panel.runtime)
    with panel.runtime.db.reading() as session:
        assert len(session.exec(select(Job).where(Job.kind == JobKind.COMPARE)).all()) == 1
    panel.until_decided(prefers(BETTER))
    before = panel.evaluation().finished_at
    panel.compare()
    assert panel.evaluation().finished_at == before


def test_what_nobody_would_judge_is_a_tie_and_holds_nothing_up(panel):
    panel.compare()
    panel.answer(lambda _: "cannot_judge")
    panel.compare()
    found = panel.evaluation().people
    assert (found["ties"], found["waiting"]) == (comparing.BATCH, comparing.BATCH)


def test_a_version_that_was_decided_on_is_compared_no_further(panel):
    panel.compare()
    with panel.runtime.db.transaction() as session:
        session.get_one(ModelVersion, panel.evaluation().model_version_id).state = ModelState.REFUSED
    panel.compare()
    ended = panel.evaluation()
    assert (ended.state, ended.failure) == (EvaluationState.FAILED, "version 1 is refused already")
    assert ended.sentence is None
    assert panel.open_tasks() == []


def test_a_report_from_which_words_were_erased_meanwhile_is_not_written_back(panel, monkeypatch):
    read = panel.runtime.artifacts.get_bytes

    def erased_meanwhile(_, sha256):
        with panel.runtime.db.transaction() as session:
            session.get_one(Evaluation, panel.evaluation_id).report = "sha256:redacted"
        return read(sha256)

    panel.compare()
    panel.answer(prefers(BETTER))
    monkeypatch.setattr(type(panel.runtime.artifacts), "get_bytes", erased_meanwhile)
    with pytest.raises(TryAgain):
        panel.compare()
    assert panel.evaluation().report == "sha256:redacted"


class Pair(Parrot):
    """A base model that is always wrong, and an adapter that is always right."""

    def __init__(self) -> None:
        super().__init__(WORSE)
        self.asked = 0

    @contextmanager
    def using(self, name):
        self.said = BETTER if name else WORSE
        yield

    def answer(self, conversations, *, max_new_tokens):
        self.asked += len(conversations)
        return super().answer(conversations, max_new_tokens=max_new_tokens)


class Judged(Panel):
    """The same, after an evaluation that machines began; people had spent an hour on other things than validation."""

    @classmethod
    def by(cls, runtime: Runtime, pair: Pair, **rules: float) -> tuple["Judged", Desk]:
        desk = Desk(runtime, ProjectKind.GENERATION)
        with runtime.db.transaction() as session:
            wanted = [{"metric": "exact_match", "suite": "test"}]
            goalposts.set_criteria(session, desk.project, wanted, actor="olga")
            goalposts.set_rules(session, desk.project, {"ask_people": "none", **rules}, actor="olga")
            for number in range(60):
                asked = f"sum up: {' '.join(f'{number}{letter}' for letter in 'abcdefgh')}"
                response = builders.add_response(session, desk.project, BETTER, asked=asked)
                task = builders.add_task(session, desk.project, response)
                builders.add_settlement(session, task, verdict=Verdict.CORRECT, label=None)
            spent = {"part": Part.DATA, "seconds_spent": 3600.0, "who": "olga"}
            session.add(TimeEntry(project_id=desk.project.id, **spent))
        learned = desk.curate(test_share=0.99, validation_share=0.0, regression_share=0.0)
        evaluation, _ = desk.judge(learned, pair)
        return cls(runtime, desk.project, evaluation.id), desk


@pytest.mark.parametrize(("share", "state"), [(0.2, "passed"), (0.3, "cannot_tell")])
def test_the_time_spent_on_comparing_counts_for_the_verdict_it_was_spent_on(runtime, share, state):
    judged, _ = Judged.by(runtime, Pair(), min_validation_share=share)
    said = "Awaiting people; machines say: Cannot tell: people spent 0% of 1 hours on validation"
    assert judged.evaluation().sentence.startswith(said)
    ended = judged.until_decided(prefers(BETTER))
    assert (ended.state, ended.people["wins"]) == (EvaluationState(state), 20)
    [effort_of] = [reason for reason in ended.reasons if reason["rule"] == "effort"]
    assert (effort_of["challenger"], effort_of["met"]) == (pytest.approx(0.25), state == "passed")


def test_asking_again_while_people_compare_keeps_what_they_said(runtime):
    pair = Pair()
    judged, desk = Judged.by(runtime, pair, min_validation_share=0.0)
    judged.compare()
    judged.answer(prefers(BETTER))
    model_id, asked = judged.evaluation().model_version_id, pair.asked
    desk.judge_again(model_id, pair)
    assert (judged.evaluation().state, pair.asked) == (EvaluationState.AWAITING_PEOPLE, asked)
    judged.compare()
    assert judged.evaluation().state is EvaluationState.PASSED


def test_asking_again_by_other_rules_begins_anew(runtime):
    judged, desk = Judged.by(runtime, Pair(), min_validation_share=0.0)
    with runtime.db.transaction() as session:
        session.add(builders.successor(session, desk.project, DocumentKind.SUITE))
    desk.judge_again(judged.evaluation().model_version_id, Pair())
    assert judged.evaluation().failure == "it is judged again"
