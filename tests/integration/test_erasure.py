"""Nothing that a person said outlives its erasure: in no file, row, Git object, cache or remote."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import JSON, Enum, String
from sqlalchemy.exc import OperationalError
from sqlmodel import SQLModel, col, select

from annotation import quality_report
from annotation.types import TaskKind, Verdict
from retrain import parquet
from retrain.artifacts import ArtifactStore
from retrain.audit import Finding, Repair, RepairKind, Severity
from retrain.recipe import Recipe
from retrain.remotes import Cache, digest_of
from retrain.types import Split, canonical_json
from retrain.versions import DataRepository
from service import db, ledger, orphans, projects, revisions, rights
from service.answers import describe_evaluation
from service.answers.erasures import erased_rows, learned_from_erased
from service.answers.next_step import next_step
from service.clock import utcnow
from service.db import Database
from service.errors import NotFound, TryAgain
from service.jobs.erasure import forget
from service.stages import curation, erasure, labelling, mirroring, quality, training
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    ConnectorKind,
    DocumentKind,
    Erasure,
    Evaluation,
    Feedback,
    GuidelineQuestion,
    Job,
    JobKind,
    LegalHold,
    ModelState,
    ModelVersion,
    Notice,
    NoticeKind,
    NoticeTarget,
    Outcome,
    Project,
    QualityReport,
    Quarantine,
    Response,
    Role,
    RunState,
    Score,
    Settlement,
    SplitAssignment,
    TaskState,
    TrainingRun,
    TrainingSetExample,
)
from tests import builders
from tests.clones import checked_out, dvc, git_objects
from tests.console import person
from tests.fakes import FakeConnector
from tests.integration.test_mirror import Team
from tests.storage import running_storage
from tests.words import columns_with, readable

MARKER = "xylophone-of-a-patient"
PATIENT = f"{MARKER}, Ann"
NAMES_OF_RESPONSE = ("conversation_id", "external_id", "language", "trace_id")
FREE_TEXTS = ("language", "legal_basis")
FACTS = {"attributes": {"ward": MARKER}, "host_metadata": {"patient": MARKER}}
NAMES_OF_FEEDBACK = ("response_ref", "session", "span_id", "trace_id")
COLUMNS = {
    *(f"response.{name}" for name in (*NAMES_OF_RESPONSE, "attributes", "context", "host_metadata")),
    *(f"feedback.{name}" for name in (*NAMES_OF_FEEDBACK, "selection")),
    *("annotation.correction", "annotation.problem", "audit_finding.evidence", "audit_finding.proposals"),
    *(
        "feedback.comment",
        "feedback.correction",
        "feedback.subject",
        "job.options",
        "job.result",
        "audit_finding.repair",
    ),
    *("guideline_question.answer", "guideline_question.text"),
    *(
        "annotation.reason",
        "annotation.spans",
        "annotation_task.suggestion",
        "erasure.subject",
        "feedback.reasons",
    ),
    *(
        "job.failure",
        "legal_hold.reason",
        "legal_hold.subject",
        "notice.facts",
        "outcome.name",
        "outcome.unit",
    ),
    "settlement.ticket_url",
    *("response.legal_basis", "training_set_example.consent"),
    *("quarantine.reason", "quarantine.subject"),
    *("response.messages", "response.subject", "response.text", "score.slice", "settlement.correction"),
}
BY_OPERATORS = "what operators and experts decide on, whose words are theirs"
BY_MACHINES = "numbers, ids, digests and words of ours"
BY_FIGURES = (
    "figures by ids, settings and what operators named: labels, sources, and reasons that could be chosen"
)
# Every other column that can hold text is seeded: a new one is found, or somebody says here why it needs no erasure.
# That real reports, searches and suites hold no words is shown where they are made: by the test of figures below, and
# in test_bisecting, test_tuning and test_flagged_suites.
EXEMPT = {
    BY_OPERATORS: {
        *(
            "accepted_repair.reason",
            "annotator.account",
            "api_key.name",
            "api_key.origins",
            "approval.reason",
        ),
        *("document.author", "document.content", "document.name", "erasure.actor", "job.lease_owner"),
        *("legal_hold.actor", "legal_hold.lifted_by", "notice_target.kinds", "notice_target.url"),
        *("pool_member.pool", "annotation_task.pool", "project.base_model", "project.slug"),
        *("project.system_prompt", "promotion.reason", "settlement.explanation"),
        *("source.author", "source.licence", "source.name", "time_entry.note", "time_entry.who", "user.name"),
        *("annotation.label", "annotation.labels", "settlement.label", "settlement.labels"),
        *("model_version.base_model", "tool_project.external_id", "tool_project.url", "user_session.browser"),
        *("response.model_version", "user.password", "tool_project.hook_secret", "schedule_turn.name"),
        *("api_key.scopes", "response.channel"),
        *(f"serving_target.{name}" for name in ("base_name", "place", "seen_as", "served", "told", "url")),
    },
    BY_MACHINES: {
        *(
            "annotation.external_id",
            "annotation.ratings",
            "annotation.tool_task",
            "annotation_task.external_id",
        ),
        *("annotation_task.urgency", "approval.hashes", "audit_finding.check", "audit_finding.check_version"),
        *("audit_finding.keys", "audit_finding.name", "audit_finding.severity", "erasure.certificate"),
        *("erasure.counts", "erasure.recalled", "erasure.salted", "job.failure_code", "job.progress"),
        *("job.unique_key", "ledger_entry.action", "ledger_entry.actor", "ledger_entry.facts"),
        *("ledger_entry.previous", "ledger_entry.subject", "mirror.failure", "mirror.git_commit"),
        *("notice.failure", "notice_target.problem", "response.set_aside", "score.metric", "score.suite"),
        *("split_assignment.group_name", "text_read.page", "tool_project.problem", "training_run.failure"),
        *("training_run.code_archive", "training_run.environment", "training_run.package_lock"),
        *("training_run.report", "training_run.spec", "training_set_example.group_name"),
        *(
            "training_set_example.repairs",
            "inbox_event.facts",
            "inbox_event.natural_key",
            "inbox_event.source",
        ),
        *(f"training_set.{name}" for name in ("artifact", "audit_report", "card", "counts", "dropped")),
        *("training_set.fingerprint", "training_set.recipe"),
        *("feedback.earlier_events", "feedback.held_for", "feedback.masked", "response.masked"),
        *("influence.rows", "project.token_keys", "recheck.reason", "schedule_turn.problem"),
        "tool_project.guidelines_shown",
        *(f"evaluation.{name}" for name in ("failure", "hashes", "people", "reasons", "report", "sentence")),
    },
    BY_FIGURES: {
        "quality_report.content",
        *(f"bisection.{name}" for name in ("failure", "metric", "progress", "result", "trainings")),
        *(f"tuning.{name}" for name in ("failure", "metric", "plan", "result", "trials")),
    },
}
FILES = {"artifacts", "data-repository", "errata.db", "remote", "work"}


class Clinic(Team):
    """Two mirrored sets with rows of a patient and of others, and all else in which the patient's words may stand."""

    def __init__(self, runtime, remote: str, options: dict[str, str] | None = None) -> None:
        super().__init__(runtime, remote, options)
        self.tool = FakeConnector()
        self.other = self.settle("how long is the way to the moon?", "long")
        own = [
            self.told(f"how is my {MARKER}?"),
            self.told(f"when will the {MARKER} play again?", of_flag={"comment": f"no {MARKER}"}),
        ]
        with self.runtime.db.transaction() as session:
            for response in session.exec(select(Response).where(Response.subject == PATIENT)):
                response.sqlmodel_update({**dict.fromkeys(FREE_TEXTS, MARKER), **FACTS})
        self.find(*own, proposal=Repair(RepairKind.REPLACE, tuple(own), find=MARKER))
        self.first = self.curate()
        self.mirror(self.first)
        own.append(self.told(f"where did it go, that {MARKER} of mine?"))
        self.second = self.curate()
        self.mirror(self.second)
        self.own = own

    def told(self, asked: str, **more) -> str:
        """A patient asks and is answered wrongly, which experts correct."""
        words = {"correction": f"your {MARKER} is well", "subject": PATIENT} | more
        return self.settle(asked, f"which {MARKER}?", Verdict.INCORRECT, **words)

    def find(self, *keys: str, proposal: Repair) -> None:
        told = f"{len(keys)} answers share {MARKER!r}"
        self.reviewer.findings.append(
            Finding("boilerplate", 1, Severity.WARN, keys, told, f"Leave {MARKER} out.", (proposal,))
        )

    def spread(self) -> None:
        """Leave the patient's words wherever else work on a set leaves them."""
        self.judged(self.second)
        with self.runtime.db.transaction() as session:
            settlement = session.get_one(Settlement, UUID(self.own[0]))
            response = session.exec(select(Response).where(Response.subject == PATIENT)).first()
            flag = builders.add_flag(session, self.project, response, correction=f"a {MARKER}")
            flag.sqlmodel_update({**dict.fromkeys(NAMES_OF_FEEDBACK, MARKER), "subject": PATIENT})
            flag.selection = {"text": MARKER}
            response.sqlmodel_update(dict.fromkeys(NAMES_OF_RESPONSE, MARKER))
            response.context = [{"text": MARKER}]
            for row in session.exec(select(TrainingSetExample)):  # as it was frozen once
                row.consent = {"basis": MARKER if str(row.settlement_id) in self.own else None, "flags": {}}
                row.split = Split.TEST
            self.scored(session, f"ward={MARKER}")
            turn = {"asked": f"and the other {MARKER}?", "conversation_id": MARKER}
            builders.add_response(session, self.project, **turn)
            judged = builders.add_response(session, self.project, f"your {MARKER} is lost")
            builders.add_flag(session, self.project, judged).subject = PATIENT
            expert = Annotator(connector=ConnectorKind.NONE, account="ada")
            session.add(expert)
            session.flush()
            session.add(
                Annotation(
                    task_id=settlement.task_id,
                    annotator_id=expert.id,
                    external_id="1",
                    revised_at=utcnow(),
                    correction=f"your {MARKER} is well",
                    problem=f"no label {MARKER}",
                    reason=f"the {MARKER} is well",
                    spans=[{"start": 0, "end": 2, "label": "x", "text": MARKER}],
                )
            )
            spellings = (str(response.id), str(response.id).upper(), response.id.hex)
            self.remember(session, settlement, response, flag)
            held = {"project_id": self.project.id, "user_id": self.olga.id}
            doubt = {"task_id": settlement.task_id, "text": f"a {MARKER}?", "answer": f"yes, a {MARKER}"}
            guidelines_id = builders.newest(session, self.project, DocumentKind.GUIDELINES)
            session.add(GuidelineQuestion(guidelines_id=guidelines_id, **doubt, **held))
            session.add(Quarantine(subject=PATIENT, reason=f"that {MARKER}", **held))
            answers = [{"response_id": each, "correction": MARKER} for each in spellings]
            self.runtime.queue.ask(
                session,
                JobKind.IMPORT,
                self.project.id,
                project_id=self.project.id,
                options={"answers": answers},
            )
            session.exec(select(Job).where(Job.kind == JobKind.IMPORT)).one().failure = f"no label {MARKER}"
            evaluation = session.exec(select(Evaluation)).one()
            rows = session.exec(select(TrainingSetExample)).all()
            hashes = [row.content_sha256 for row in rows if str(row.settlement_id) in self.own]
            varied = [f"typos:{name}" for name in hashes]
            evaluation.report = self.report(dict.fromkeys([*hashes, *varied], f"the {MARKER} plays"))
        self.mirror_again(self.second)
        with self.runtime.db.transaction() as session:
            failed = session.get_one(TrainingRun, self.model(session).training_run_id)
            failed.state = RunState.FAILED
        work = self.runtime.settings.work / str(failed.id)
        work.mkdir(parents=True)
        (work / "train.parquet").write_bytes(self.runtime.artifacts.get_bytes(self.second.artifact))

    def remember(self, session, settlement: Settlement, response: Response, flag: Feedback) -> None:
        """Leave the patient's words in what was decided, told and found about their answer."""
        of_project, of_answer = {"project_id": self.project.id}, {"response_id": response.id}
        settlement.ticket_url = f"https://tickets.example/{MARKER}"
        session.get_one(AnnotationTask, settlement.task_id).suggestion = {"correction": MARKER}
        flag.reasons = ["wrong", MARKER]
        over = {"subject": PATIENT, "reason": f"that {MARKER}", "until": utcnow(), "actor": "olga"}
        target = NoticeTarget(**of_project, url="https://hooks.example", kinds=[])
        session.add_all([target, LegalHold(**of_project, **over)])
        session.flush()
        told = {"kind": NoticeKind.FLAG_ANSWERED, "facts": {"said": MARKER}, "about_id": flag.id}
        known = {"event_id": uuid4(), "name": MARKER, "unit": MARKER, "value": 1, "body_sha256": ""}
        session.add_all(
            [Notice(**of_project, target_id=target.id, **told), Outcome(**of_project, **of_answer, **known)]
        )
        session.add(Erasure(**of_project, subject=PATIENT, salted="", actor="olga"))

    def leave_behind(self) -> None:
        """Leave the patient's rows where killed jobs leave theirs."""
        artifacts, work = self.runtime.settings.data_dir / "artifacts", self.runtime.settings.work
        for left in (artifacts / "unfinished/killed", work / "scratch/killed/rows", work / f"{uuid4()}/rows"):
            left.parent.mkdir(parents=True, exist_ok=True)
            left.write_text(MARKER)
        unnamed = self.runtime.settings.data_dir / "unnamed"
        unnamed.write_text(MARKER)
        self.runtime.artifacts.put_file(unnamed)
        Cache(self.repository.directory / ".dvc" / "cache").add(unnamed, digest_of(unnamed))
        unnamed.unlink()

    def scored(self, session, *slices: str) -> None:
        """Have the evaluation's test set told apart by these slices."""
        overall = session.exec(select(Score)).one()
        figures = overall.model_dump(exclude={"id", "created_at", "slice"})
        session.add_all(Score(**figures, slice=name) for name in slices)

    def report(self, answers: dict[str, str]) -> str:
        """A report of an evaluation with these answers to cases, all of them right."""
        keys = list(answers)
        told = {"answers": {"champion": answers}, "suites": {"test": keys}, "right": {"champion": keys}}
        return self.runtime.artifacts.put_bytes(canonical_json({"verdict": "passed", **told}))

    def model(self, session) -> ModelVersion:
        return session.exec(select(ModelVersion).where(ModelVersion.number == 7)).one()

    def erase(self, subject: str = PATIENT, *, files=parquet) -> dict[str, int]:
        """Ask for an erasure and do it; return what its certificate counts."""
        return self.do(self.wish(subject), files=files)["counts"]

    def wish(self, subject: str = PATIENT, project=None) -> UUID:
        with self.runtime.db.transaction() as session:
            told = rights.preview(session, self.runtime.secrets, subject, project)
            _, job = rights.ask_erasure(
                session,
                self.runtime.queue,
                self.runtime.secrets,
                subject,
                project,
                confirm=told["confirm"],
                actor="olga",
            )
        return job

    def do(self, job: UUID, *, files=parquet) -> dict:
        lease = self.runtime.queue.lease(job)
        try:
            certificate = erasure.run(
                self.runtime,
                lease,
                self.repository,
                files,
                connect=lambda kind: self.tool,
                forget=partial(forget, self.runtime),
            )
        except Exception as error:
            with suppress(OperationalError):  # of a locked database, as some tests want it
                lease.fail(error, code="unexpected")
            raise
        lease.finish({"erasure": certificate["erasure"], **certificate["counts"]})
        return certificate

    def holding(self) -> set[str]:
        """Return every place in which the marker stands: kinds of files, columns, Git's objects."""
        home = self.runtime.settings.data_dir
        files = [*home.rglob("*"), *Path(home.parent, "remote").rglob("*")]
        places = {self.place(path, home) for path in files if path.is_file() and MARKER in readable(path)}
        if MARKER.encode() in git_objects(self.repository):
            places.add("git")
        return places | self.columns()

    def place(self, path: Path, home: Path) -> str:
        return path.relative_to(home).parts[0].removesuffix("-wal") if path.is_relative_to(home) else "remote"

    def columns(self) -> set[str]:
        return columns_with(self.runtime.db, MARKER)


def corrected(response: Response) -> dict[str, str]:
    """An expert's answer about a response, as a file brings it."""
    said = {"verdict": "incorrect", "correction": MARKER, "cause": "model"}
    return {"response_id": str(response.id), "annotator": "ada", **said}


@pytest.fixture
def clinic(runtime, tmp_path) -> Clinic:
    (tmp_path / "remote").mkdir()
    return Clinic(runtime, str(tmp_path / "remote"))


@pytest.fixture
def any_clinic(any_runtime, tmp_path) -> Clinic:
    return Clinic(any_runtime, str(tmp_path / "remote"))


def test_after_an_erasure_no_word_is_left_anywhere(clinic):
    clinic.spread()
    assert clinic.holding() == FILES | COLUMNS
    assert clinic.erase() == {"responses": 5, "feedback": 5, "tasks": 3, "sets": 2}
    assert clinic.holding() == set()


def test_every_column_that_can_hold_words_is_looked_at_or_exempt_for_a_reason():
    texts = {
        f"{table.name}.{column.name}"
        for table in SQLModel.metadata.sorted_tables
        for column in table.columns
        if isinstance(kind := getattr(column.type, "impl", column.type), String | JSON)
        and not isinstance(kind, Enum)
    }
    digests = {name for name in texts if name.endswith("sha256")}
    exempt = set().union(*EXEMPT.values())
    assert texts - digests == COLUMNS | exempt
    assert not COLUMNS & exempt


def test_reasons_that_could_be_chosen_outlive_an_erasure(clinic):
    clinic.erase()
    with clinic.runtime.db.reading() as session:
        assert session.exec(select(Feedback.reasons)).all() == [["wrong"]] * 4


@pytest.mark.parametrize("is_offered", [False, True], ids=["what nobody offered", "were it offered"])
def test_figures_stand_under_reasons_that_could_be_chosen_alone(clinic, monkeypatch, is_offered):
    if is_offered:
        monkeypatch.setattr(projects, "reason_codes", lambda *_: {"wrong", MARKER})
    with clinic.runtime.db.transaction() as session:
        answered = col(AnnotationTask.response_id) == Response.id
        own = select(AnnotationTask).join(Response, answered).where(Response.subject == PATIENT)
        tasks = session.exec(own.order_by(col(AnnotationTask.id)).limit(2)).all()
        experts = [Annotator(connector=ConnectorKind.NONE, account=name) for name in ("ann", "ben")]
        session.add_all(experts)
        session.flush()
        for task, verdict in zip(tasks, (Verdict.CORRECT, Verdict.INCORRECT), strict=True):
            session.get_one(Feedback, task.flag_id).reasons = ["wrong", MARKER]
            for expert in experts:
                builders.add_annotation(session, task, expert, verdict=verdict)
        project = clinic.project.id
        job = clinic.runtime.queue.ask(session, JobKind.QUALITY, project, project_id=project)
    quality.run(clinic.runtime.queue.lease(job), clinic.project.id, quality_report.report)
    with clinic.runtime.db.reading() as session:
        named = [each["name"] for each in session.exec(select(QualityReport)).one().content["reasons"]]
    assert named == ["wrong", *([MARKER] if is_offered else [])]
    clinic.erase()
    assert clinic.holding() == ({"errata.db", "quality_report.content"} if is_offered else set())


def test_a_slice_that_a_host_names_would_stay_in_git(clinic, monkeypatch):
    told = lambda session, project, evaluation: describe_evaluation(session, evaluation)  # noqa: E731
    monkeypatch.setattr(mirroring, "_verdict", told)
    clinic.spread()
    clinic.erase()
    assert clinic.holding() == {"git"}


def test_what_killed_jobs_left_is_erased_too(clinic, monkeypatch):
    clinic.leave_behind()
    with monkeypatch.context() as without:
        without.setattr(orphans, "remove", lambda *_, **__: None)
        without.setattr(Cache, "remove_others", lambda *_: 0)
        clinic.erase()
        assert clinic.holding() == {"artifacts", "data-repository", "work"}
    clinic.erase()
    assert clinic.holding() == set()


def test_what_a_job_at_work_has_not_named_yet_stays_until_it_ends(clinic):
    with clinic.runtime.db.transaction() as session:
        elsewhere = builders.add_project(session, "elsewhere").id
        job = clinic.runtime.queue.ask(session, JobKind.TRAIN, elsewhere, project_id=elsewhere)
    lease = clinic.runtime.queue.lease(job)
    stored = clinic.runtime.artifacts.put_bytes(b"an adapter")
    own = clinic.runtime.settings.work / str(elsewhere)
    own.mkdir(parents=True)
    with clinic.runtime.scratch() as lent:
        with pytest.raises(TryAgain, match="1 file may be"):
            clinic.erase()
        assert clinic.holding() == set()
        assert lent.exists() and own.exists() and clinic.runtime.artifacts.exists(stored)
    lease.finish({})
    clinic.erase()
    assert not clinic.runtime.artifacts.exists(stored) and not own.exists()


@pytest.mark.parametrize(
    ("step", "places"),
    [
        ("erase_words", {"errata.db", "response.text", "feedback.comment", "artifacts", "data-repository"}),
        ("_erase_findings", {"audit_finding.evidence", "audit_finding.proposals", "job.result", "errata.db"}),
        ("_empty_sets", {"artifacts", "data-repository", "remote"}),
        ("_empty_reports", {"artifacts"}),
        ("_remove_files", {"artifacts", "work"}),
        ("vacuum", {"errata.db"}),
        ("_forget_mirrored", {"data-repository", "remote"}),
    ],
)
def test_each_step_of_an_erasure_is_needed(clinic, monkeypatch, step, places):
    clinic.spread()
    if step == "vacuum":
        monkeypatch.setattr(Database, step, lambda db: True)
    else:
        monkeypatch.setattr(erasure, step, lambda *_, **__: {} if step == "erase_words" else 0)
    clinic.erase()
    assert clinic.holding() >= places


def test_an_import_keeps_what_else_it_was_asked(clinic):
    with clinic.runtime.db.transaction() as session:
        response = session.exec(select(Response).where(Response.subject == PATIENT)).first()
        kept, gone = {"response_id": "another"}, {"response_id": str(response.id)}
        asked = [
            clinic.runtime.queue.ask(
                session, JobKind.IMPORT, clinic.project.id, project_id=clinic.project.id, options=options
            )
            for options in ({"answers": [gone, kept], "by": "olga"}, {"by": "olga"})
        ]
    clinic.erase()
    with clinic.runtime.db.reading() as session:
        left = [session.get_one(Job, job).options for job in asked]
    assert left == [{"answers": [kept], "by": "olga"}, {"by": "olga"}]


def test_a_report_keeps_what_it_says_of_the_rows_of_others(clinic):
    clinic.spread()
    with clinic.runtime.db.transaction() as session:
        evaluation = session.exec(select(Evaluation)).one()
        rows = session.exec(select(TrainingSetExample)).all()
        hashes = {row.content_sha256: str(row.settlement_id) for row in rows}
        varied = [f"typos:{name}" for name in hashes]
        evaluation.report = clinic.report(dict.fromkeys([*hashes, *varied], "yes"))
    clinic.erase()
    with clinic.runtime.db.reading() as session:
        left = session.exec(select(Evaluation.report)).one()
    [kept] = {name for name, key in hashes.items() if key == clinic.other}
    assert left == clinic.report({kept: "yes", f"typos:{kept}": "yes"})


def test_figures_of_a_slice_that_others_made_too_stay(clinic):
    clinic.judged(clinic.second)
    with clinic.runtime.db.transaction() as session:
        for response in session.exec(select(Response)):
            own = response.subject == PATIENT
            response.language = "fr" if own else "de"
            response.attributes = {"house": "a"} | ({"ward": "7", "visit": "3"} if own else {"visit": "4"})
        for row in session.exec(select(TrainingSetExample)):
            row.split = Split.TEST
        own_alone = ("ward=7", "visit=3", "language=fr")
        clinic.scored(session, "house=a", *own_alone, "visit=4", "language=de", "label=billing")
    clinic.erase()
    with clinic.runtime.db.reading() as session:
        left = set(session.exec(select(Score.slice)))
    assert left == {"", "house=a", "visit=4", "language=de", "label=billing"}


def test_what_others_said_is_not_a_persons(any_clinic):
    with any_clinic.runtime.db.transaction() as session:
        response = session.exec(select(Response).where(Response.subject == PATIENT)).first()
        response.conversation_id = "a talk"
        talk = {"conversation_id": "a talk", "asked": "and i?"}
        builders.add_response(session, any_clinic.project, "turn", **talk)
        builders.add_response(session, any_clinic.project, "Ben's turn", **talk, subject="Ben")
        judged = builders.add_response(session, any_clinic.project, "Ben's", subject="Ben")
        builders.add_flag(session, any_clinic.project, judged).subject = PATIENT
        elsewhere = builders.add_project(session, "elsewhere")
        builders.add_response(session, elsewhere, "elsewhere", **talk)
    assert any_clinic.erase()["responses"] == 4
    with any_clinic.runtime.db.reading() as session:
        left = select(Response.text).where(col(Response.erased_at).is_(None))
        assert set(session.exec(left)) == {"long", "Ben's turn", "Ben's", "elsewhere"}


def test_what_is_left_of_a_set_is_what_it_was(any_clinic):
    before = any_clinic.examples(any_clinic.second)
    assert any_clinic.rebuild(any_clinic.second)["sentence"] == "it is as it was"
    any_clinic.erase()
    rebuilt = any_clinic.rebuild(any_clinic.second)
    assert (rebuilt["erased"], rebuilt["equal"]) == (3, True)
    assert rebuilt["sentence"] == "3 rows erased, what is left is as it was"
    assert any_clinic.examples(any_clinic.second) == {any_clinic.other: before[any_clinic.other]}
    with any_clinic.runtime.db.transaction() as session:
        assert not list(ledger.broken(session))
        settlement = session.get_one(Settlement, UUID(any_clinic.other))
        settlement.correction, settlement.verdict = "edited", Verdict.INCORRECT
    rebuilt = any_clinic.rebuild(any_clinic.second)
    assert (rebuilt["equal"], rebuilt["sentence"]) == (False, "3 rows erased, what is left is not as it was")


def test_the_next_set_is_built_without_erased_rows_and_says_why(any_clinic):
    any_clinic.erase()
    third = any_clinic.curate()
    assert set(any_clinic.examples(third)) == {any_clinic.other} and third.version == 3
    gone = any_clinic.compare(any_clinic.second, third)["removed"]
    assert {(row["row"]["key"], row["cause"]["kind"], row["row"]["prompt"]) for row in gone} == {
        (key, "erasure", "") for key in any_clinic.own
    }


def test_an_emptied_set_has_all_its_rows_again_once_others_say_the_same(any_clinic):
    whole = any_clinic.runtime.artifacts.get_bytes(any_clinic.second.artifact)
    any_clinic.erase()
    others = [
        any_clinic.told(f"how is my {MARKER}?", subject="Ben"),
        any_clinic.told(f"when will the {MARKER} play again?", subject="Ben", of_flag={"comment": "no"}),
        any_clinic.told(f"where did it go, that {MARKER} of mine?", subject="Ben"),
    ]
    again = any_clinic.curate()
    assert (again.id, again.fingerprint) == (any_clinic.second.id, any_clinic.second.fingerprint)
    assert any_clinic.examples(again).keys() == {any_clinic.other, *others}
    assert any_clinic.runtime.artifacts.get_bytes(again.artifact) == whole
    assert any_clinic.rebuild(again)["equal"]


def test_a_set_of_one_person_is_empty_afterwards(clinic):
    clinic.told("what else?")
    with clinic.runtime.db.transaction() as session:
        session.exec(select(Response).where(Response.text == "long")).one().subject = PATIENT
    clinic.erase()
    rebuilt = clinic.rebuild(clinic.first)
    assert (rebuilt["erased"], rebuilt["equal"]) == (3, True)
    clinic.settle("may i ask?", "yes")
    assert clinic.curate().version == 3


def test_sets_and_the_models_that_learned_from_them_are_marked(clinic):
    clinic.judged(clinic.second)
    with clinic.runtime.db.transaction() as session:
        learner = clinic.model(session)
        for row in session.exec(select(TrainingSetExample)):
            row.split = Split.TRAIN
        child = ModelVersion(
            project_id=clinic.project.id,
            number=8,
            base_model="bundled:tiny",
            parent_id=learner.id,
            state=ModelState.CHALLENGER,
        )
        session.add(child)
        assert not learned_from_erased(session, clinic.project.id)
    clinic.erase()
    clinic.judged(clinic.second, number=9)
    with clinic.runtime.db.reading() as session:
        assert learned_from_erased(session, clinic.project.id) == {learner.id, child.id}
        assert (erased_rows(session, clinic.first), erased_rows(session, clinic.second)) == (2, 3)
    auditor = person(clinic.runtime, Role.AUDITOR, password="")
    assert "<dt>erased</dt><dd>3</dd>" in auditor.get(f"/p/clinic/sets/{clinic.second.id}").text
    assert auditor.get("/p/clinic/models").text.count("learned from rows erased since") == 2


def test_the_next_step_after_an_erasure_is_to_train_without_its_rows(clinic):
    clinic.judged(clinic.second)
    clinic.promote()

    def step() -> tuple[str, UUID | None]:
        with clinic.runtime.db.reading() as session:
            found = next_step(session, session.get_one(Project, clinic.project.id))
        return found.button, found.row_id

    with clinic.runtime.db.transaction() as session:
        builders.add_key(session, clinic.project)
        for row in session.exec(select(TrainingSetExample)):
            row.split = Split.TRAIN
    assert step()[0] != "Train without them"
    clinic.erase()
    third = clinic.curate()
    assert step() == ("Train without them", third.id)
    with clinic.runtime.db.transaction() as session:  # goes on from what had learned from them
        continued = training.request(clinic.runtime, session, third, {"mode": "continue"})
    assert step()[0] == "Train without them"
    operator = person(clinic.runtime, Role.OPERATOR, name="ann", password="")
    assert "Train without the erased rows" in operator.get("/p/clinic/models").text
    assert operator.post(f"/p/clinic/sets/{third.id}/train").status_code == 303
    assert step()[0] != "Train without them" and continued.spec["mode"] == "continue"
    assert "Train without the erased rows" not in operator.get("/p/clinic/models").text


def test_the_rows_of_others_keep_group_and_split(clinic):
    with clinic.runtime.db.transaction() as session:
        rows = session.exec(select(TrainingSetExample)).all()
        shared = next(row.group_name for row in rows if str(row.settlement_id) == clinic.own[0])
        for row in rows:
            if str(row.settlement_id) == clinic.other:
                row.group_name, row.split = shared, Split.TEST
        for row in session.exec(select(SplitAssignment).where(SplitAssignment.group_name == shared)):
            row.split = Split.TEST
    clinic.erase()
    clinic.settle("something else altogether", "yes")
    assert clinic.examples(clinic.curate())[clinic.other].split is Split.TEST
    with clinic.runtime.db.reading() as session:
        for table in (TrainingSetExample, SplitAssignment):
            assert shared not in session.exec(select(table.group_name)).all()


def test_a_repair_goes_on_for_the_rows_of_others(clinic):
    sign = clinic.settle("who signs?", "nurse Joy, regards")
    also = clinic.told("who signs here?", correction="nurse Joy, regards")
    clinic.reviewer.findings.clear()
    clinic.find(sign, also, proposal=Repair(RepairKind.REPLACE, (sign, also), find=", regards", put="."))
    clinic.accept(clinic.finding(clinic.curate()))
    repaired = clinic.curate()
    clinic.erase()
    assert clinic.examples(repaired)[sign].answer == "nurse Joy."
    assert clinic.rebuild(repaired)["equal"]


def test_while_a_job_holds_rows_an_erasure_waits_and_then_finds_what_the_job_made(clinic):
    later = clinic.told("and now?")
    with clinic.runtime.db.transaction() as session:
        job = clinic.runtime.queue.ask(
            session, JobKind.CURATE, clinic.project.id, project_id=clinic.project.id
        )
    lease, wish = clinic.runtime.queue.lease(job), clinic.wish()
    audit = clinic.reviewer.audit

    def erased_meanwhile(*arguments, **more):
        with pytest.raises(TryAgain, match=f"job {job}"):
            clinic.do(wish)
        return audit(*arguments, **more)

    clinic.reviewer.audit = erased_meanwhile
    made = curation.run(clinic.runtime, lease, clinic.project.id, Recipe(), clinic.reviewer)
    lease.finish(made)
    with clinic.runtime.db.reading() as session:
        held = select(TrainingSetExample).where(TrainingSetExample.settlement_id == UUID(later))
        assert session.exec(held).one().erased_at is None
    assert clinic.do(wish)["counts"]["sets"] == 3
    assert clinic.holding() == set()


def test_an_erasure_that_breaks_off_is_completed_by_the_next(clinic, monkeypatch):
    def break_off(store, name):
        raise OSError(name)

    with monkeypatch.context() as broken:
        broken.setattr(ArtifactStore, "remove", break_off)
        with pytest.raises(OSError, match="sha256:"):
            clinic.erase()
    assert "artifacts" in clinic.holding()
    clinic.erase()
    assert clinic.holding() == set()


def test_a_remote_that_refuses_is_emptied_when_it_no_longer_does(runtime):
    with running_storage() as storage:
        clinic = Clinic(runtime, storage.url, {"method": "PUT"})
        storage.is_refusing = True
        with pytest.raises(TryAgain, match="erased here, but"):
            clinic.erase()
        assert clinic.holding() == set() and len(storage.objects) == 2
        storage.is_refusing = False
        clinic.erase()
        assert not storage.objects


@pytest.mark.parametrize(
    ("busy", "refusal"), [("BEGIN; SELECT * FROM job", "reads"), ("BEGIN IMMEDIATE", "is locked")]
)
def test_a_busy_database_does_not_keep_rows_in_the_mirror(clinic, monkeypatch, busy, refusal):
    monkeypatch.setattr(db, "BUSY_SECONDS", 0.1)
    clinic.runtime = replace(clinic.runtime, db=Database(clinic.runtime.db.url))
    forget = DataRepository.forget
    with closing(sqlite3.connect(clinic.runtime.settings.data_dir / "errata.db")) as other:

        def forget_while_busy(*arguments):
            forget(*arguments)
            for statement in busy.split(";"):
                other.execute(statement).fetchone()

        monkeypatch.setattr(DataRepository, "forget", forget_while_busy)
        with pytest.raises(TryAgain, match=refusal):
            clinic.erase()
    assert not clinic.holding() & {"data-repository", "remote"}
    monkeypatch.undo()
    clinic.erase()
    assert clinic.holding() == set()


def test_rows_that_were_being_mirrored_while_they_were_erased_do_not_come_back(clinic, monkeypatch):
    publish = DataRepository.publish

    def erase_first(*arguments, **more):
        clinic.erase()
        return publish(*arguments, **more)

    clinic.told("may i ask?")
    third = clinic.curate()
    monkeypatch.setattr(DataRepository, "publish", erase_first)
    clinic.mirror(third)
    assert "clinic/v3" in clinic.repository.tags()
    assert clinic.holding() == set()


def test_a_set_is_not_forgotten_with_an_emptied_one_of_the_same_rows(clinic, tmp_path):
    clinic.told("may i ask?")
    emptied = clinic.curate()
    clinic.erase()
    clinic.mirror(emptied)
    after = clinic.curate()
    clinic.mirror(after)
    clinic.mirror(emptied)
    clinic.erase()
    assert after.version == 4 and clinic.examples(after).keys() == {clinic.other}
    clone = checked_out(clinic.repository, "clinic/v4", tmp_path / "clone")
    assert dvc(clone, "pull").returncode == 0
    [rows] = (clone / "sets/clinic/rows").glob("*.parquet")
    assert rows.read_bytes() == clinic.runtime.artifacts.get_bytes(after.artifact)


def test_an_answer_taken_in_during_an_erasure_is_erased_too(any_clinic, monkeypatch):
    schema_of, queue = revisions.schema_of, any_clinic.runtime.queue
    with any_clinic.runtime.db.transaction() as session:
        response = session.exec(select(Response).where(Response.subject == PATIENT)).first()
        job = queue.ask(session, JobKind.IMPORT, any_clinic.project.id, project_id=any_clinic.project.id)
    with ThreadPoolExecutor(1) as pool:
        erasing = []

        def erase_meanwhile(*arguments):
            erasing.append(pool.submit(any_clinic.erase))
            wait(erasing, timeout=1)
            return replace(schema_of(*arguments), kind=TaskKind.GENERATION, labels=())

        monkeypatch.setattr(revisions, "schema_of", erase_meanwhile)
        taken = labelling.import_answers(queue.lease(job), any_clinic.project.id, [corrected(response)])
    assert taken["annotations"] == 1 and erasing[0].result()["responses"] == 3
    assert any_clinic.columns() == set()


def test_nothing_can_be_said_about_what_was_erased(clinic):
    with clinic.runtime.db.transaction() as session:
        response = session.exec(select(Response).where(Response.subject == PATIENT)).first()
        task = builders.add_task(session, clinic.project, response)
    clinic.erase()
    with clinic.runtime.db.transaction() as session, pytest.raises(NotFound):
        builders.add_flag(session, clinic.project, response, comment="again")
    with clinic.runtime.db.transaction() as session:
        assert session.get_one(AnnotationTask, task.id).state is TaskState.WITHDRAWN
        job = clinic.runtime.queue.ask(
            session, JobKind.IMPORT, clinic.project.id, project_id=clinic.project.id
        )
    taken = labelling.import_answers(
        clinic.runtime.queue.lease(job), clinic.project.id, [corrected(response)]
    )
    assert taken == {"annotations": 0, "settled": 0, "contested": 0}


def test_two_erasures_at_once_do_not_undo_each_other(clinic):
    key = clinic.settle("is the other one well?", "yes", subject="Ben")
    clinic.curate()

    class Meanwhile:
        names, shards = staticmethod(parquet.names), staticmethod(parquet.shards)

        def leave_out(self, *arguments):
            parquet.leave_out(*arguments)
            clinic.erase("Ben")

    with pytest.raises(TryAgain, match="by somebody else"):
        clinic.erase(files=Meanwhile())
    clinic.erase()
    assert clinic.holding() == set()
    assert key not in clinic.examples(clinic.curate())


def test_an_erasure_takes_only_the_shards_that_hold_the_persons_rows(clinic, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_A_SHARD", 1)
    clinic.settle("is the other one well?", "quite")
    third = clinic.curate()
    clinic.mirror(third)
    before = clinic.repository.shards("clinic/v3")
    clinic.erase()
    kept = {path for path, digest in before.items() if clinic.repository.content(digest)}
    assert (len(before), len(kept)) == (5, 2)
    assert not clinic.repository.unpushed(["clinic/v3"]) & {before[path] for path in kept}
    assert clinic.holding() == set()


def test_without_an_erasure_no_file_is_looked_into(clinic, monkeypatch):
    looked = []
    monkeypatch.setattr(parquet, "names", lambda path: looked.append(path) or set())
    clinic.mirror(clinic.second)
    assert looked == []
    clinic.erase()
    assert looked
