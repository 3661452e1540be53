"""Settlement with what is known of annotators, the report on them, their pages, and who decides what is contested."""

import re
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from uuid import UUID

import pytest
from sqlmodel import col, select

from annotation.types import Cause, Verdict
from retrain.audit import Repair, RepairKind, Severity
from retrain.types import Split
from service import people, schedule, settlements
from service.answers import annotators
from service.clock import utcnow
from service.jobs.quality import assess
from service.runtime import Runtime
from service.stages import labelling, quality
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    ConnectorKind,
    Job,
    JobKind,
    ModelState,
    Project,
    QualityReport,
    Role,
    Settlement,
    SettlementAnnotation,
    TaskPurpose,
    TaskState,
    TrainingSet,
    TrainingSetExample,
)
from tests import builders
from tests.console import person

BILLING = {"verdict": "incorrect", "label": "Billing", "cause": "model"}
RIGHT = {"verdict": "correct"}


@dataclass
class Clinic:
    """A project in which two are asked, and what experts answer there without a tool."""

    runtime: Runtime
    project: Project
    numbers: count

    def task(self) -> AnnotationTask:
        with self.runtime.db.transaction() as session:
            asked = f"question {next(self.numbers)}"
            response = builders.add_response(session, self.project, asked=asked)
            return builders.add_task(session, self.project, response, state=TaskState.SENT)

    def answers(self, task: AnnotationTask, seconds: float = 30.0, **said: dict) -> TaskState:
        lines = [
            answer | {"annotator": name, "response_id": str(task.response_id), "seconds_spent": seconds}
            for name, answer in said.items()
        ]
        labelling.import_answers(self._lease(JobKind.IMPORT), self.project.id, lines)
        return self.state(task)

    def state(self, task: AnnotationTask) -> TaskState:
        return self.read(AnnotationTask, AnnotationTask.id == task.id).state

    def assess(self) -> dict:
        assess(self.runtime, self._lease(JobKind.QUALITY))
        return self.read(QualityReport, QualityReport.project_id == self.project.id).content

    def read(self, table, *conditions):
        with self.runtime.db.reading() as session:
            return session.exec(select(table).where(*conditions)).one()

    def settlement(self, task: AnnotationTask) -> Settlement:
        return self.read(Settlement, Settlement.task_id == task.id)

    def name(self, annotator: str) -> str:
        return self.read(Annotator, Annotator.id == UUID(annotator)).account

    def annotator(self, account: str) -> Annotator:
        return self.read(Annotator, Annotator.account == account)

    def careless_ben(self) -> None:
        """Ben answers twenty tasks otherwise than Ann and Cem, who agree."""
        for _ in range(20):
            self.answers(self.task(), ann=RIGHT, cem=RIGHT, ben=BILLING)

    def _lease(self, kind: JobKind):
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(session, kind, self.project.id, project_id=self.project.id)
        return self.runtime.queue.lease(job)


@pytest.fixture
def clinic(runtime) -> Clinic:
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
    return Clinic(runtime, project, count())


class TestSettling:
    def test_two_newcomers_who_agree_settle_and_the_row_says_how_surely(self, clinic):
        task = clinic.task()
        assert clinic.answers(task, ann=RIGHT, ben=RIGHT) is TaskState.SETTLED
        settled = clinic.settlement(task)
        assert settled.posterior == pytest.approx(81 / 82)
        assert settled.explanation == "2 of 2 annotators agree, posterior 0.99"

    def test_who_was_seldom_right_so_far_is_no_second_voice(self, clinic):
        clinic.careless_ben()
        assert clinic.answers(clinic.task(), ann=RIGHT, ben=RIGHT) is TaskState.SETTLED
        clinic.assess()
        assert clinic.answers(clinic.task(), ann=RIGHT, ben=RIGHT) is TaskState.CONTESTED
        assert clinic.answers(clinic.task(), ann=RIGHT, cem=RIGHT) is TaskState.SETTLED

    def test_a_settlement_keeps_what_was_known_of_each_at_that_time(self, clinic):
        task = clinic.task()
        clinic.answers(task, ann=RIGHT, ben=RIGHT)
        clinic.careless_ben()
        clinic.assess()
        with clinic.runtime.db.reading() as session:
            counted = session.exec(
                select(SettlementAnnotation.accuracy)
                .join(Settlement, Settlement.id == SettlementAnnotation.settlement_id)
                .where(Settlement.task_id == task.id)
            ).all()
        assert counted == [0.9, 0.9]

    def test_two_accounts_of_one_person_are_one_voice(self, clinic):
        clinic.answers(clinic.task(), ann=RIGHT, ben=RIGHT)
        with clinic.runtime.db.transaction() as session:
            user, _ = builders.add_person(session, Role.ANNOTATOR)
            for account in ("ann", "ben"):
                session.merge(clinic.annotator(account)).user_id = user.id
        assert clinic.answers(clinic.task(), ann=RIGHT, ben=RIGHT) is TaskState.SENT


@pytest.mark.parametrize(("tool", "is_hasty"), [("argilla", True), ("none", False)])
def test_too_fast_is_told_of_argilla_by_the_time_between_answers(clinic, tool, is_hasty):
    tasks = [clinic.task() for _ in range(12)]
    with clinic.runtime.db.transaction() as session:
        for name, every in (("ann", 60), ("ben", 60), ("eve", 4)):
            who = Annotator(connector=ConnectorKind(tool), account=name)
            session.add(who)
            session.flush()
            begun = utcnow() - timedelta(days=1)
            # Ann looks through her own answers later and saves each again.
            rounds = ((begun, every), (begun + timedelta(hours=9), 4)) if name == "ann" else ((begun, every),)
            for start, seconds in rounds:
                for at, task in enumerate(tasks):
                    then, facts = start + timedelta(seconds=at * seconds), {"external_id": f"{name} {at}"}
                    builders.add_annotation(
                        session, task, who, verdict=Verdict.CORRECT, revised_at=then, **facts
                    )
    known = {clinic.name(who): each["is_hasty"] for who, each in clinic.assess()["annotators"].items()}
    assert known == {"ann": False, "ben": False, "eve": is_hasty}


class TestSettlingAgain:
    """Two of three agree, which is not enough for the project's bar while the third is taken for an expert."""

    @pytest.fixture
    def strict(self, clinic) -> Clinic:
        with clinic.runtime.db.transaction() as session:
            project = session.get_one(Project, clinic.project.id)
            project.overlap, project.settlement_bar = 3, 0.95
        return clinic

    def test_what_is_contested_is_settled_once_weights_make_it_sure(self, strict):
        task = strict.task()
        assert strict.answers(task, ann=RIGHT, cem=RIGHT, ben=BILLING) is TaskState.CONTESTED
        strict.assess()
        assert strict.state(task) is TaskState.CONTESTED
        strict.careless_ben()
        strict.assess()
        assert strict.state(task) is TaskState.SETTLED
        assert strict.settlement(task).posterior > 0.95

    def test_a_second_run_settles_nothing_more_and_order_does_not_matter(self, strict):
        before = strict.task()
        strict.answers(before, ann=RIGHT, cem=RIGHT, ben=BILLING)
        strict.careless_ben()
        strict.assess()
        after = strict.task()
        strict.answers(after, ben=BILLING, cem=RIGHT, ann=RIGHT)
        one, other = strict.settlement(before), strict.settlement(after)
        assert (one.posterior, one.explanation) == (other.posterior, other.explanation)
        strict.assess()
        assert strict.settlement(before).id == one.id

    def test_no_weight_takes_a_settlement_back(self, clinic):
        task = clinic.task()
        assert clinic.answers(task, ann=RIGHT, ben=RIGHT) is TaskState.SETTLED
        clinic.careless_ben()
        clinic.assess()
        assert clinic.answers(clinic.task(), ann=RIGHT, ben=RIGHT) is TaskState.CONTESTED
        clinic.assess()
        assert clinic.state(task) is TaskState.SETTLED
        assert clinic.settlement(task).withdrawn_at is None


class TestAdjudication:
    def test_a_third_decides_with_a_reason(self, clinic):
        task = clinic.task()
        assert clinic.answers(task, ann=RIGHT, ben=BILLING) is TaskState.CONTESTED
        ada = person(clinic.runtime, Role.OPERATOR, name="ada")
        page = ada.get(f"/p/clinic/tasks/{task.id}").text
        assert "Decide it" in page
        ada.post(f"/p/clinic/tasks/{task.id}/adjudicate", **BILLING, reason="the bill <b>is</b> meant")
        settled = clinic.settlement(task)
        assert (settled.verdict, settled.label, settled.cause) == (Verdict.INCORRECT, "Billing", Cause.MODEL)
        assert settled.explanation == (
            "adjudicated: 2 of 3 annotators agree, posterior 0.89; overruled: 1 for correct"
        )
        page = ada.get(f"/p/clinic/tasks/{task.id}").text
        assert "the bill &lt;b&gt;is&lt;/b&gt; meant" in page
        assert "Decide it" not in page

    def test_a_command_decides_for_the_person_whose_token_it_is_given(self, clinic, shell):
        task = clinic.task()
        clinic.answers(task, ann=RIGHT, ben=BILLING)
        with clinic.runtime.db.transaction() as session:
            _, token = builders.add_person(session, Role.OPERATOR, "ada")
        said = ("--verdict", "incorrect", "--label", "Billing", "--cause", "model", "--reason", "the bill")
        decides = ("tasks", "adjudicate", str(task.id), "-p", "clinic", *said)
        assert shell(*decides)[1]["code"] == "unauthenticated"
        status, told = shell(*decides, "--token", token, "--dry-run")
        assert (status, told["state"], clinic.state(task)) == (0, "settled", TaskState.CONTESTED)
        assert shell(*decides, "--token", token)[0] == 0
        assert clinic.settlement(task).label == "Billing"
        assert shell(*decides, "--token", token)[1]["code"] == "wrong_state"

    def test_none_of_those_who_answered_decides(self, clinic):
        task = clinic.task()
        clinic.answers(task, ada=RIGHT, ben=BILLING)
        ada = person(clinic.runtime, Role.OPERATOR, name="ada")
        answer = ada.post(f"/p/clinic/tasks/{task.id}/adjudicate", **RIGHT, reason="I said so")
        assert answer.status_code == 403
        assert "somebody else has to decide" in answer.text
        assert clinic.read(AnnotationTask, AnnotationTask.id == task.id).state is TaskState.CONTESTED

    @pytest.mark.parametrize(
        ("account", "is_own", "status"),
        [
            ("label-studio:ada@errata.local", False, 403),
            ("argilla:ada", False, 403),
            ("label-studio:ada", False, 303),
            ("argilla:ada", True, 303),  # whoever chose that name there
        ],
    )
    def test_an_account_is_a_person_s_where_we_made_it(self, clinic, monkeypatch, account, is_own, status):
        task = clinic.task()
        clinic.answers(task, ada=RIGHT, ben=BILLING)
        with clinic.runtime.db.transaction() as session:
            row = session.get_one(Annotator, clinic.annotator("ada").id)
            tool, _, row.account = account.partition(":")
            row.connector = ConnectorKind(tool)
        if is_own:
            monkeypatch.setattr("service.tools.own", lambda *_: object())
        ada = person(clinic.runtime, Role.OPERATOR, name="ada")
        with clinic.runtime.db.reading() as session:
            found = annotators.of_person(session, people.find(session, "ada"), clinic.runtime.settings)
        assert [identifier for _, identifier in found] == ([row.id] if status == 403 else [])
        answer = ada.post(f"/p/clinic/tasks/{task.id}/adjudicate", **RIGHT, reason="I said so")
        assert answer.status_code == status

    def test_what_is_not_contested_is_not_decided(self, clinic):
        task = clinic.task()
        ada = person(clinic.runtime, Role.OPERATOR, name="ada")
        answer = ada.post(f"/p/clinic/tasks/{task.id}/adjudicate", **RIGHT, reason="so it is")
        assert answer.status_code == 409

    @pytest.mark.parametrize("sent", [RIGHT, BILLING | {"label": "Surgery", "reason": "so it is"}])
    def test_a_decision_needs_a_reason_and_an_answer_that_was_asked_for(self, clinic, sent):
        task = clinic.task()
        clinic.answers(task, ann=RIGHT, ben=BILLING)
        ada = person(clinic.runtime, Role.OPERATOR, name="ada")
        assert ada.post(f"/p/clinic/tasks/{task.id}/adjudicate", **sent).status_code >= 400
        with clinic.runtime.db.reading() as session:
            assert session.exec(select(Annotation).where(Annotation.task_id == task.id)).all()
            assert not session.exec(select(Settlement)).all()


class TestReport:
    def test_while_answers_are_read_nobody_s_writing_is_waited_for(self, clinic, monkeypatch):
        clinic.answers(clinic.task(), ann=RIGHT, ben=RIGHT)
        lease, read = clinic._lease(JobKind.QUALITY), []
        monkeypatch.delattr("service.queue.Lease.transaction")
        with pytest.raises(AttributeError):  # where the report is written
            quality.run(lease, clinic.project.id, lambda votes, **facts: read.append(len(votes)))
        assert read == [2]

    def test_it_says_who_cannot_be_trusted(self, clinic):
        clinic.careless_ben()
        told = clinic.assess()
        ann, ben = (told["annotators"][str(clinic.annotator(name).id)] for name in ("ann", "ben"))
        assert ann["right"]["value"] == pytest.approx(1, abs=0.05)
        assert ben["right"]["value"] == pytest.approx(0, abs=0.05)
        assert ben["is_straight"]
        assert ben["weight"] <= 0.5 < ann["weight"]
        with clinic.runtime.db.reading() as session:
            known = settlements.accuracies(session, clinic.project.id)
        assert known[str(clinic.annotator("ben").id)] == ben["weight"]

    def test_an_answer_to_a_known_task_counts_as_gold(self, clinic):
        known, again = clinic.task(), clinic.task()
        clinic.answers(known, cem=RIGHT, dev=RIGHT)
        with clinic.runtime.db.transaction() as session:
            session.merge(again).gold_of_id = known.id
        clinic.answers(again, ann=RIGHT, ben=BILLING)
        told = clinic.assess()["annotators"]
        gold = [told[str(clinic.annotator(name).id)]["gold"]["value"] for name in ("ann", "ben")]
        assert gold == [1, 0]

    def test_it_is_asked_for_once_somebody_has_answered_since(self, clinic):
        schedule.ask_for_quality(clinic.runtime)
        clinic.answers(clinic.task(), ann=RIGHT)
        for _ in range(2):
            schedule.ask_for_quality(clinic.runtime)
        job = clinic.read(Job, Job.kind == JobKind.QUALITY)
        assess(clinic.runtime, clinic.runtime.queue.lease(job.id))
        schedule.ask_for_quality(clinic.runtime)
        assert clinic.read(Job, Job.kind == JobKind.QUALITY)


class TestPages:
    def test_operators_see_agreement_and_what_waits(self, clinic):
        clinic.careless_ben()
        clinic.answers(clinic.task(), ann=RIGHT, ben=BILLING)
        clinic.assess()
        page = person(clinic.runtime, Role.AUDITOR).get("/p/clinic/annotators").text
        for told in (
            "Krippendorff",
            "By pair",
            "Contested, to be decided",
            "does not count",
            "Time to label",
        ):
            assert told in page

    def test_how_often_the_model_errs_is_told_by_what_nobody_flagged(self, clinic):
        for number, said in enumerate((RIGHT, RIGHT, BILLING), start=1):
            flagged, drawn = clinic.task(), clinic.task()
            with clinic.runtime.db.transaction() as session:
                session.get_one(AnnotationTask, flagged.id).purpose = TaskPurpose.FLAG
                session.get_one(AnnotationTask, drawn.id).purpose = TaskPurpose.RANDOM
            clinic.answers(drawn, ann=said, ben=said)
            clinic.answers(flagged, ann=BILLING, ben=BILLING)
            known = clinic.assess()["unflagged"]
            assert (known["n"], known["value"] * number) == (number, int(said is BILLING))
        assert (round(known["low"], 2), round(known["high"], 2)) == (0.06, 0.79)
        page = person(clinic.runtime, Role.OPERATOR).get("/p/clinic/annotators").text
        assert "without a flag, this share was wrong" in page and "0.33" in page

    @pytest.mark.parametrize("weeks", [1, 2])
    def test_agreement_over_two_weeks_is_drawn(self, clinic, weeks):
        for _ in range(4):
            clinic.answers(clinic.task(), ann=RIGHT, ben=RIGHT)
            clinic.answers(clinic.task(), ann=BILLING, ben=BILLING)
        with clinic.runtime.db.transaction() as session:
            for number, one in enumerate(session.exec(select(Annotation).order_by(col(Annotation.task_id)))):
                one.revised_at -= timedelta(weeks=(weeks - 1) * (number < 8))
        clinic.assess()
        page = person(clinic.runtime, Role.OPERATOR).get("/p/clinic/annotators").text
        assert ("A curve needs two weeks" in page) is (weeks == 1)
        drawn = re.findall(r'aria-label="Alpha by week: \d+-W\d\d 1.00, \d+-W\d\d 1.00"', page)
        assert len(drawn) == weeks - 1
        assert ('<polyline points="45.0,15.0 605.0,15.0 "' in page) is (weeks == 2)

    def test_without_a_report_the_page_says_when_there_will_be_one(self, clinic):
        clinic.answers(clinic.task(), ann=RIGHT)
        page = person(clinic.runtime, Role.OPERATOR).get("/p/clinic/annotators").text
        assert "computed every hour" in page
        assert "Compute it now" in page

    def test_annotators_see_their_own_page_and_nobody_elses(self, clinic):
        clinic.answers(clinic.task(), ann=RIGHT, ben=RIGHT)
        clinic.assess()
        ann = person(clinic.runtime, Role.ANNOTATOR, name="ann")
        own, other = (f"/p/clinic/annotators/{clinic.annotator(name).id}" for name in ("ann", "ben"))
        assert own in ann.get("/").text
        page = ann.get(own)
        assert page.status_code == 200
        assert "What your answers achieved" in page.text
        assert (ann.get(other).status_code, ann.get("/p/clinic/annotators").status_code) == (404, 403)

    def test_what_answers_achieved_is_counted_up_to_the_model_in_use(self, clinic):
        tasks = [clinic.task() for _ in range(3)]
        for task, ben in zip(tasks, (RIGHT, RIGHT, BILLING), strict=True):
            clinic.answers(task, ann=RIGHT, ben=ben)
        settlement, ann = clinic.settlement(tasks[0]), clinic.annotator("ann")
        with clinic.runtime.db.transaction() as session:
            project = session.merge(clinic.project)
            builders.add_criteria(session, project)
            model = builders.add_challenger(session, project)
            training_set = session.exec(select(TrainingSet)).one()
            facts = {"content_sha256": "x", "split": Split.TRAIN, "group_name": "g"}
            session.add(
                TrainingSetExample(training_set_id=training_set.id, settlement_id=settlement.id, **facts)
            )
        counts = []
        for state in (ModelState.CHALLENGER, ModelState.CHAMPION):
            with clinic.runtime.db.transaction() as session:
                session.merge(model).state = state
                counts.append(annotators.achieved(session, session.merge(clinic.project), ann.id))
        assert counts == [annotators.Achieved(3, 2, 1, in_model) for in_model in (0, 1)]

    def test_a_command_says_whose_account_it_is_and_makes_the_report(self, clinic, shell, monkeypatch):
        clinic.answers(clinic.task(), ann=RIGHT)
        expert = person(clinic.runtime, Role.ANNOTATOR, name="Dr. Ann")
        assert shell("annotators", "person", "clinic", "ann", "Dr. Ann")[0] == 0
        assert expert.get(f"/p/clinic/annotators/{clinic.annotator('ann').id}").status_code == 200
        assert shell("annotators", "person", "clinic", "cem", "Dr. Ann")[1]["code"] == "not_found"
        asked = shell("annotators", "report", "clinic", "--no-wait")[1]["job"]
        assert str(clinic.read(Job, Job.kind == JobKind.QUALITY).id) == asked
        monkeypatch.setattr("service.cli.annotators.do", lambda *_, **__: clinic.assess())
        status, told = shell("annotators", "report", "clinic")
        assert (status, list(told["annotators"])) == (0, [str(clinic.annotator("ann").id)])

    def test_an_administrator_says_whose_account_it_is_and_how_much_they_can_do(self, clinic):
        clinic.answers(clinic.task(), ann=RIGHT)
        expert = person(clinic.runtime, Role.ANNOTATOR, name="Dr. Ann")
        own = f"/p/clinic/annotators/{clinic.annotator('ann').id}"
        assert expert.get(own).status_code == 404
        olga = person(clinic.runtime, Role.ADMIN, name="olga", project=clinic.project)
        assert olga.post(f"{own}/person", name="Dr. Ann").status_code == 403
        assert olga.post(f"{own}/capacity", daily_capacity="7").status_code == 403
        ada = person(clinic.runtime, Role.ADMIN)
        with clinic.runtime.db.transaction() as session:
            builders.add_project(session, "other")
        elsewhere = own.replace("clinic", "other")
        assert ada.post(f"{elsewhere}/person", name="Dr. Ann").status_code == 404
        assert expert.get(own).status_code == 404
        ada.post(f"{own}/person", name="Dr. Ann")
        assert expert.get(own).status_code == 200
        for said, kept in (("7", 7), ("", None)):
            ada.post(f"{own}/capacity", daily_capacity=said)
            assert clinic.annotator("ann").daily_capacity == kept

    def test_the_bar_is_a_switch_of_the_project(self, clinic):
        with clinic.runtime.db.transaction() as session:
            project = session.get_one(Project, clinic.project.id)
            project.overlap = project.needed = 1
        ada = person(clinic.runtime, Role.ADMIN)
        switches = {"random_share": "0", "admission_bar": "0.9"}
        assert ada.post("/p/clinic/settings/switches", **switches, settlement_bar="1").status_code == 422
        assert clinic.answers(clinic.task(), ann=RIGHT) is TaskState.SETTLED
        ada.post("/p/clinic/settings/switches", **switches, settlement_bar="0.95")
        assert clinic.answers(clinic.task(), ann=RIGHT) is TaskState.CONTESTED


def test_an_accepted_repair_asks_again_about_settled_rows_once(desk):
    key = desk.settle("who?", "Ann")
    desk.finds(key, severity=Severity.WARN, proposals=[Repair(RepairKind.ASK, (key,))])
    accepted = desk.accept(desk.finding(desk.curate()))
    with desk.runtime.db.reading() as session:
        again = session.exec(select(AnnotationTask).where(AnnotationTask.repair_id == accepted.id)).one()
        settled = session.exec(select(Settlement)).one()
    assert (again.purpose, again.rechecks_id) == (TaskPurpose.RECHECK, settled.task_id)
    assert (again.state, again.response_id) == (TaskState.SELECTED, _response_of(desk, settled))


def test_an_audit_doubts_what_later_knowledge_doubts(desk):
    key = desk.settle("who?", "Ann")
    with desk.runtime.db.transaction() as session:
        task = session.exec(select(Settlement)).one().task_id
        content = {"annotators": {}, "doubtful": {str(task): 0.2}}
        session.add(QualityReport(project_id=desk.project.id, content=content, computed_at=utcnow()))
    desk.curate()
    assert desk.reviewer.seen.doubts == {key: pytest.approx(0.8)}


def _response_of(desk, settled: Settlement):
    with desk.runtime.db.reading() as session:
        return session.get_one(AnnotationTask, settled.task_id).response_id
