"""People ask to be forgotten, or for what is kept of them: what is done, what is proved, and what stands against it."""

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlmodel import col, select

from annotation.argilla import ArgillaConnector
from annotation.label_studio import LabelStudioConnector
from annotation.types import LabelSchema, NewTask, TaskKind
from retrain.types import Case, Message
from service import backups, comparisons, ledger, reading, rights
from service.backup_keys import Key
from service.clock import utcnow
from service.errors import Invalid, OnHold, PreviewStale, TryAgain
from service.jobs.erasure import forget
from service.queue import LIGHT, rq_queue
from service.stages import erasure
from service.tables import (
    AnnotationTask,
    ConnectorKind,
    Erasure,
    Evaluation,
    Feedback,
    Job,
    JobState,
    LedgerEntry,
    LegalHold,
    Response,
    Role,
    Settlement,
    TaskState,
    TrainingSetExample,
)
from service.web.app import create_app
from tests import builders
from tests.console import person
from tests.integration.test_erasure import MARKER, PATIENT, Clinic

BEN = "Ben"


class ToolClinic(Clinic):
    """A clinic whose tasks stand in a tool, as does one of Ben's with a comment by the patient."""

    def __init__(self, runtime, remote: str, tool=None, kind=ConnectorKind.LABEL_STUDIO) -> None:
        super().__init__(runtime, remote)
        self.tool = tool or self.tool
        self.there = self.tool.set_up(
            slug="forgotten", schema=LabelSchema(TaskKind.GENERATION), hook_url=None, hook_secret=""
        ).external_id
        with runtime.db.transaction() as session:
            builders.place(session, self.project, self.there, tool=kind)
            others = builders.add_response(session, self.project, "long", asked="and Ben?", subject=BEN)
            flag = builders.add_flag(session, self.project, others, comment=f"the {MARKER} disagrees")
            flag.subject = PATIENT
            self.bens = builders.add_task(session, self.project, others, flag=flag).id
            asked = session.exec(
                select(AnnotationTask, Response).join(
                    Response, col(AnnotationTask.response_id) == Response.id
                )
            ).all()
        for task, response in asked:
            [external_id] = self.push(task, response).values()
            with runtime.db.transaction() as session:
                kept = session.get_one(AnnotationTask, task.id)
                kept.external_id, kept.sent_at = external_id, utcnow()
                kept.connector = kind
                if task.id == self.bens:
                    kept.state = TaskState.SENT

    def push(self, task: AnnotationTask, response: Response) -> dict[str, str]:
        shown = NewTask(str(task.id), response.messages[-1]["content"], response.text, reasons=MARKER)
        return self.tool.push(self.there, [shown])

    def in_tool(self) -> list[str]:
        """Return what the tool shows of the patient."""
        held = self.tool.pull(self.there, None)
        return [one.key for one in held if MARKER in json.dumps(dict(one.shown))]


@pytest.fixture
def clinic(runtime, tmp_path) -> Clinic:
    (tmp_path / "remote").mkdir()
    return Clinic(runtime, str(tmp_path / "remote"))


@pytest.fixture
def tool_clinic(runtime, tmp_path) -> ToolClinic:
    (tmp_path / "remote").mkdir()
    return ToolClinic(runtime, str(tmp_path / "remote"))


class TestTools:
    def test_no_tool_shows_a_word_afterwards_and_what_others_asked_is_sent_again(self, tool_clinic):
        assert len(tool_clinic.in_tool()) == 5
        tool_clinic.erase()
        [other] = tool_clinic.in_tool()  # every task of this test says so in its reasons
        with tool_clinic.runtime.db.reading() as session:
            bens = session.get_one(AnnotationTask, tool_clinic.bens)
            kept = session.exec(
                select(AnnotationTask).where(col(AnnotationTask.external_id).is_not(None))
            ).one()
        assert (bens.state, bens.external_id, str(kept.id)) == (TaskState.SELECTED, None, other)

    def test_without_that_step_the_tool_goes_on_showing_them(self, tool_clinic, monkeypatch):
        monkeypatch.setattr(reading, "recall", lambda *_: None)
        tool_clinic.erase()
        assert len(tool_clinic.in_tool()) == 5

    def test_a_task_whose_push_was_not_answered_is_found_by_its_key(self, tool_clinic):
        with tool_clinic.runtime.db.transaction() as session:
            for task in session.exec(select(AnnotationTask)):
                task.external_id = None
        tool_clinic.erase()
        assert len(tool_clinic.in_tool()) == 1

    def test_a_tool_that_is_away_is_asked_again_and_only_then_it_is_certified(self, tool_clinic):
        job = tool_clinic.wish()
        tool_clinic.tool.is_down = True
        with pytest.raises(TryAgain, match="tools still hold what is erased here: label-studio"):
            tool_clinic.do(job)
        assert not tool_clinic.holding()
        with tool_clinic.runtime.db.reading() as session:
            assert not session.exec(select(Erasure)).one().certificate
        tool_clinic.tool.is_down = False
        assert tool_clinic.do(job)["counts"]["tasks"] == 4
        assert len(tool_clinic.in_tool()) == 1

    @pytest.mark.parametrize("kind", [ConnectorKind.LABEL_STUDIO, ConnectorKind.ARGILLA])
    def test_no_file_of_a_real_tool_holds_a_word_afterwards(self, runtime, tmp_path, request, kind):
        running = request.getfixturevalue(kind.value.replace("-", "_"))
        real = {ConnectorKind.LABEL_STUDIO: LabelStudioConnector, ConnectorKind.ARGILLA: ArgillaConnector}[
            kind
        ]
        (tmp_path / "remote").mkdir()
        clinic = ToolClinic(runtime, str(tmp_path / "remote"), real(running.url, running.admin_token), kind)
        assert len(clinic.in_tool()) == 5 and _files_with_marker(running.data_dir)
        clinic.erase()
        assert len(clinic.in_tool()) == 1
        clinic.tool.delete(clinic.there, [one.external_id for one in clinic.tool.pull(clinic.there, None)])
        theirs = runtime.settings.model_copy(update={"data_dir": running.data_dir})
        forget(replace(runtime, settings=theirs))
        assert _files_with_marker(running.data_dir) == []

    def test_what_a_tools_database_only_marks_as_free_is_written_over(self, runtime):
        home = runtime.settings.data_dir / "argilla" / "server"
        home.mkdir(parents=True)
        with closing(sqlite3.connect(home / "argilla.db")) as database:
            database.execute("PRAGMA secure_delete=OFF")
            database.execute("CREATE TABLE record (text)")
            database.executemany("INSERT INTO record VALUES (?)", [(MARKER,)] * 100)
            database.execute("DELETE FROM record")
            database.commit()
        assert _files_with_marker(home) == ["argilla.db"]
        forget(runtime)
        assert _files_with_marker(home) == []


def _files_with_marker(home: Path) -> list[str]:
    return [path.name for path in home.rglob("*") if path.is_file() and MARKER.encode() in path.read_bytes()]


class TestCertificate:
    def test_it_counts_names_no_word_and_is_the_ledgers(self, clinic, tmp_path):
        clinic.judged(clinic.second)
        job = clinic.wish()
        certificate = clinic.do(job)
        assert MARKER not in json.dumps(certificate)
        assert certificate["counts"] == {"responses": 3, "feedback": 3, "tasks": 3, "sets": 2}
        assert [one["set"] for one in certificate["sets"]] == ["clinic/v1", "clinic/v2"]
        assert [one["model"] for one in certificate["models"]] == ["clinic/v7"]
        secrets = clinic.runtime.secrets
        with clinic.runtime.db.transaction() as session:
            assert rights.verify_certificate(session, secrets, certificate)["genuine"]
            for name in ("counts", "erased_at", "sets", "signature"):
                with pytest.raises(Invalid, match="was changed"):
                    rights.verify_certificate(session, secrets, certificate | {name: {"responses": 0}})
            with pytest.raises(Invalid, match="no erasure certificate"):
                rights.verify_certificate(session, secrets, [certificate])
            builders.forget_history(session.connection())
            session.delete(session.exec(select(LedgerEntry).order_by(col(LedgerEntry.seq).desc())).first())
            session.flush()
            with pytest.raises(Invalid, match="the ledger does not know it"):
                rights.verify_certificate(session, secrets, certificate)

    @pytest.mark.parametrize("days", [(5, 90, -3), (5, None)])
    def test_it_names_the_day_by_which_no_backup_can_be_read(self, clinic, tmp_path, days):
        for number, each in enumerate(days):
            dies = each and utcnow().date() + timedelta(days=each)
            key = Key("k", dies, b"0" * 32) if each else None
            backups.write(clinic.runtime, tmp_path / f"backup {number}", with_secrets=False, key=key)
        told = clinic.do(clinic.wish())["backups"]
        last = (utcnow().date() + timedelta(days=90)).isoformat()
        is_open = None in days
        assert told == {"unreadable_by": None if is_open else last, "without_key": int(is_open)}

    def test_a_job_that_breaks_off_after_any_step_is_completed_with_the_same_counts(
        self, clinic, monkeypatch
    ):
        job = clinic.wish()
        for step in ("_refuse_readers", "_empty_sets", "_remove_files", "_forget_mirrored", "_vacuum"):
            with monkeypatch.context() as broken:
                broken.setattr(erasure, step, _break)
                with pytest.raises(KeyboardInterrupt):
                    clinic.do(job)
            _give_back(clinic, job)
        certificate = clinic.do(job)
        assert certificate["counts"] == {"responses": 3, "feedback": 3, "tasks": 3, "sets": 2}
        assert clinic.holding() == set()
        _give_back(clinic, job)
        assert clinic.do(job) == certificate

    def test_messages_of_jobs_are_forgotten(self, clinic):
        redis = clinic.runtime.queue.redis
        for name in ("ours", "waits", "another-application"):
            redis.hset(f"rq:job:{name}", "status", "queued" if name == "waits" else "failed")
        redis.xadd("rq:results:ours", {"exc_string": f"no label {MARKER}"})
        ended = rq_queue(LIGHT, redis).failed_job_registry
        redis.zadd(ended.key, {"ours": 2**40})
        clinic.erase()
        left = {key for key in redis.scan_iter("rq:*") if b"ours" in key or redis.type(key) == b"hash"}
        assert {b"rq:job:waits", b"rq:job:another-application"} <= left
        assert not any(b"ours" in key for key in left) and not ended.get_job_ids()


def _break(*_, **__):
    raise KeyboardInterrupt


def _give_back(clinic: Clinic, job) -> None:
    """Have a job that was killed, or is done, wait again."""
    with clinic.runtime.db.transaction() as session:
        session.get_one(Job, job).sqlmodel_update({"state": JobState.PENDING, "not_before": utcnow()})


class TestWishes:
    def test_what_changed_since_it_was_shown_is_not_erased(self, clinic):
        with clinic.runtime.db.transaction() as session:
            told = rights.preview(session, clinic.runtime.secrets, PATIENT, None)
        assert (told["responses"], told["feedback"], told["tasks"]) == (3, 3, 3)
        clinic.told("one more?")
        asking = (clinic.runtime.queue, clinic.runtime.secrets, PATIENT, None)
        with clinic.runtime.db.transaction() as session, pytest.raises(PreviewStale):
            rights.ask_erasure(session, *asking, confirm=told["confirm"], actor="olga")

    def test_somebody_of_that_name_in_another_project_is_somebody_else(self, clinic):
        with clinic.runtime.db.transaction() as session:
            elsewhere = builders.add_project(session, "elsewhere")
            other = builders.add_response(session, elsewhere, "theirs", subject=PATIENT)
            builders.add_flag(session, elsewhere, other, comment="mine").subject = PATIENT
        clinic.do(clinic.wish(project=clinic.project))
        with clinic.runtime.db.reading() as session:
            left = session.exec(select(Response.text).where(Response.subject == PATIENT)).all()
            said = session.exec(select(Feedback.comment).where(Feedback.subject == PATIENT)).all()
        assert (left, said) == (["theirs"], ["mine"])

    def test_copies_that_people_compare_go_with_the_project_that_they_were_made_of(self, clinic):
        said = clinic.told(f"and nobody's {MARKER}?", subject=None)
        clinic.judged(clinic.curate())
        with clinic.runtime.db.transaction() as session:
            task = session.get_one(AnnotationTask, session.get_one(Settlement, UUID(said)).task_id)
            session.get_one(Feedback, task.flag_id).subject = PATIENT
            _compare(session)
        clinic.do(clinic.wish(project=clinic.project))
        assert clinic.columns() == set()
        with clinic.runtime.db.reading() as session:
            copies = select(Response.text).where(col(Response.copy_of_id).is_not(None))
            assert set(session.exec(copies)) == {"", "champion: long", "challenger: long"}

    @pytest.mark.parametrize("until", [None, timedelta(days=1)])
    def test_a_legal_hold_keeps_words_until_it_is_lifted(self, clinic, until):
        job = clinic.wish()
        told = {"reason": "a court", "until": until and utcnow() + until, "actor": "olga"}
        secrets = clinic.runtime.secrets
        with clinic.runtime.db.transaction() as session:
            rights.hold(session, secrets, PATIENT, clinic.project, **told)
        with pytest.raises(OnHold, match="legal hold by olga"):
            clinic.wish()
        with pytest.raises(OnHold):
            clinic.do(job)
        assert "response.text" in clinic.columns()
        with clinic.runtime.db.transaction() as session:
            assert rights.lift(session, secrets, PATIENT, clinic.project, actor="olga") == 1
            assert session.exec(select(LegalHold.subject)).all() == [None]
        clinic.erase()
        assert clinic.columns() == set()

    def test_a_hold_that_is_over_holds_nothing_and_is_emptied_too(self, clinic):
        told = {"reason": f"{MARKER} sues", "until": utcnow() - timedelta(seconds=1), "actor": "olga"}
        with clinic.runtime.db.transaction() as session:
            rights.hold(session, clinic.runtime.secrets, PATIENT, clinic.project, **told)
        assert {"legal_hold.reason", "legal_hold.subject"} <= clinic.columns()
        clinic.erase()
        assert clinic.columns() == set()

    def test_an_export_holds_all_that_is_a_persons_and_nothing_of_others(self, clinic):
        clinic.spread()
        with clinic.runtime.db.transaction() as session:
            response = session.exec(select(Response).where(Response.subject == PATIENT)).first()
            builders.add_flag(session, clinic.project, response, comment="i disagree").subject = BEN
            session.get_one(Settlement, UUID(clinic.own[0])).explanation = "judged by nurse Joy, a senior"
            session.flush()
            document = rights.export(session, clinic.runtime.secrets, PATIENT, None, actor="olga")
            assert not list(ledger.broken(session))
            assert MARKER not in str(session.exec(select(LedgerEntry)).all())
        assert {
            name: len(document[name]) for name in ("responses", "feedback", "annotations", "questions")
        } == {
            "responses": 5,
            "feedback": 2,
            "annotations": 1,
            "questions": 1,
        }
        told = json.dumps(document)
        assert not [
            word for word in ("moon", BEN, "disagree", "Joy", "annotator_id", "user_id") if word in told
        ]


def _compare(session) -> None:
    """Have people asked which model answers the cases of the evaluation's set better."""
    evaluation = session.exec(select(Evaluation)).one()
    rows = session.exec(
        select(TrainingSetExample.content_sha256, Response)
        .join(Settlement, col(TrainingSetExample.settlement_id) == Settlement.id)
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .where(TrainingSetExample.training_set_id == evaluation.training_set_id)
    ).all()
    cases = [
        Case(key, "test", (Message("user", response.messages[-1]["content"]),), "", "exact")
        for key, response in rows
    ]
    models = ("champion", "challenger")
    answers = {who: {key: f"{who}: {response.text}" for key, response in rows} for who in models}
    comparisons.prepare(session, evaluation, cases, answers, tool="none", most=9)


class TestFaces:
    def test_the_command_shows_then_erases_then_checks(self, errata, runtime, tmp_path, jobs_here):
        with runtime.db.transaction() as session:
            project = builders.add_project(session)
            project.connector = ConnectorKind.NONE
            builders.add_response(session, project, MARKER, subject=PATIENT)
        would = errata("erase", "--subject", PATIENT)[1]["would_erase"]
        assert would["responses"] == 1
        with runtime.db.reading() as session:
            assert session.exec(select(Response.text)).one() == MARKER
        status, certificate = errata("erase", "--subject", PATIENT, "--yes")
        assert (status, certificate["counts"]["responses"]) == (0, 1)
        file = tmp_path / "certificate.json"
        file.write_text(json.dumps(certificate))
        assert errata("erase", "--verify", str(file))[1]["genuine"]
        file.write_text(json.dumps(certificate | {"counts": {}}))
        assert errata("erase", "--verify", str(file))[1]["code"] == "invalid"
        with runtime.db.reading() as session:
            assert session.exec(select(Response.text)).one() == ""

    def test_a_hold_is_imposed_and_lifted_and_a_person_handed_out(self, errata, runtime):
        with runtime.db.transaction() as session:
            builders.add_response(session, builders.add_project(session), MARKER, subject=PATIENT)
        named = ("hold", "clinic", "--subject", PATIENT)
        until = errata(*named, "--reason", "a court", "--until", "2999-01-01")[1]["until"]
        assert until.startswith("2999-01-01")
        assert errata("erase", "--subject", PATIENT, "--yes")[1]["code"] == "legal_hold"
        assert errata(*named, "--lift")[1] == {"lifted": 1}
        assert errata(*named, "--lift")[1]["code"] == "not_found"
        assert errata("subject", "export", PATIENT)[1]["responses"][0]["text"] == MARKER

    def test_the_api_takes_two_steps(self, runtime):
        with runtime.db.transaction() as session:
            builders.add_response(session, builders.add_project(session), MARKER, subject=PATIENT)
            _, token = builders.add_person(session, Role.APPROVER, "olga")
        client, headers = create_app(runtime).test_client(), {"Authorization": f"Bearer {token}"}
        body = {"project": "clinic", "subject": PATIENT}
        shown = client.post("/v1/erasures", json=body, headers=headers)
        assert (shown.status_code, shown.json["would_erase"]["responses"]) == (200, 1)
        forged = client.post("/v1/erasures", json=body | {"confirm": "x"}, headers=headers)
        assert (forged.status_code, forged.json["code"]) == (409, "preview_stale")
        nowhere = client.post("/v1/erasures", json={"subject": PATIENT}, headers=headers)
        assert nowhere.status_code == 422 and "project" in nowhere.text
        asked = client.post("/v1/erasures", json=body | {"confirm": shown.json["confirm"]}, headers=headers)
        assert (asked.status_code, asked.json["state"]) == (202, "asked")
        found = client.get(f"/v1/erasures/{asked.json['id']}", headers=headers).json
        assert (found["state"], found["certificate"]) == ("asked", {})
        exported = client.post("/v1/subjects/export", json=body, headers=headers).json["item"]
        assert exported["responses"][0]["text"] == MARKER

    def test_the_api_holds_lists_and_lifts(self, runtime):
        with runtime.db.transaction() as session:
            builders.add_response(session, builders.add_project(session), MARKER, subject=PATIENT)
            _, token = builders.add_person(session, Role.APPROVER, "olga")
        client, headers = create_app(runtime).test_client(), {"Authorization": f"Bearer {token}"}
        body = {"project": "clinic", "subject": PATIENT}
        told = {"reason": "a court", "until": "2999-01-01"}
        held = client.post("/v1/holds", json=body | told, headers=headers)
        assert (held.status_code, held.json["until"]) == (201, "2999-01-01T00:00:00Z")
        assert client.post("/v1/erasures", json=body, headers=headers).json["code"] == "legal_hold"
        listed = client.get("/v1/holds?project=clinic", headers=headers).json["items"]
        assert listed == [held.json]
        assert client.post("/v1/holds/lift", json=body, headers=headers).json == {"lifted": 1}
        assert client.get("/v1/holds?project=clinic", headers=headers).json["items"] == []
        assert client.post("/v1/holds/lift", json=body, headers=headers).status_code == 404
        assert client.post("/v1/erasures", json=body, headers=headers).status_code == 200

    def test_the_page_hands_out_holds_and_lifts(self, runtime):
        with runtime.db.transaction() as session:
            project = builders.add_project(session)
            builders.add_response(session, project, MARKER, subject=PATIENT)
        approver, auditor = (person(runtime, role, password="") for role in (Role.APPROVER, Role.AUDITOR))
        named, why = {"subject": PATIENT}, {"reason": "a court", "until": "2999-01-01"}
        for path in ("holds", "holds/lift", "subjects/export"):
            assert auditor.post(f"/p/clinic/{path}", **named, reason="x").status_code == 403
        exported = approver.post("/p/clinic/subjects/export", **named)
        assert exported.json["responses"][0]["text"] == MARKER
        assert "attachment" in exported.headers["Content-Disposition"]
        assert approver.post("/p/clinic/holds", **named, **why).status_code == 303
        assert "until 2999-01-01" in approver.get("/p/clinic/erasures").text
        assert PATIENT not in auditor.get("/p/clinic/erasures").text
        assert approver.post("/p/clinic/erasures", **named).status_code == 409
        assert approver.post("/p/clinic/holds/lift", **named).status_code == 303
        assert approver.post("/p/clinic/erasures", **named).status_code == 200

    def test_the_page_shows_what_would_go_and_a_second_button_erases(self, runtime, work):
        with runtime.db.transaction() as session:
            project = builders.add_project(session)
            builders.add_response(session, project, "lost", subject=f" {PATIENT} <b>")
        approver, operator = (person(runtime, role, password="") for role in (Role.APPROVER, Role.OPERATOR))
        named = {"subject": f"{PATIENT} <b>"}
        assert operator.post("/p/clinic/erasures", **named).status_code == 403
        shown = approver.post("/p/clinic/erasures", **named)
        assert "&lt;b&gt; would go:" in shown.text
        confirm = re.search(r'name="confirm" value="([^"]+)"', shown.text)[1]
        assert approver.post("/p/clinic/erasures", **named, confirm="other").status_code == 409
        assert approver.post("/p/clinic/erasures", **named, confirm=confirm).status_code == 303
        work()
        listed = approver.get("/p/clinic/erasures").text
        assert "certified" in listed and MARKER not in listed
