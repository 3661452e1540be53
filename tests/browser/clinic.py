"""A project in the middle of its work, with rows on every page of the console, and where those pages are."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import timedelta
from uuid import UUID, uuid4

from flask import Flask
from flask.testing import FlaskClient
from sqlmodel import Session, col, select

from annotation.quality_report import report as assess
from annotation.types import Answer, Cause, Verdict
from annotation.votes import Vote
from retrain.audit import Finding, Severity
from retrain.audit.report import report
from retrain.corpus import CorpusRow, example_of
from retrain.intervals import wilson
from retrain.tuning.plan import SPACE, Budget, Plan, Tried
from retrain.types import Message, Split, TrainingSpec, canonical_json, sha256_of
from service import api_keys, experts, people, sources
from service.clock import utcnow
from service.runtime import Runtime
from service.stages import corpus, promotion
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    Approval,
    AttackSession,
    AuditFinding,
    Bisection,
    ConnectorKind,
    Decision,
    Document,
    DocumentKind,
    Evaluation,
    Feedback,
    GuidelineQuestion,
    Job,
    JobKind,
    JobState,
    KeyKind,
    ModelVersion,
    Notice,
    NoticeKind,
    NoticeState,
    NoticeTarget,
    Project,
    QualityReport,
    Response,
    Role,
    RunState,
    Score,
    Settlement,
    Source,
    SuiteCandidate,
    TaskFlag,
    TaskPurpose,
    TaskState,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
    Tuning,
    User,
)
from tests import builders

QUESTION = "who bills me?"
EMPTY = "empty"
PREFERRED = {
    "tool": "argilla",
    "identical": 3,
    "wins": 31,
    "losses": 12,
    "ties": 5,
    "asked": 48,
    "waiting": 0,
    "rate": 0.72,
    "low": 0.56,
    "high": 0.84,
    "preferred": "challenger",
    "ratings": {"coherence": {"value": 0.2, "low": -0.1, "high": 0.5, "n": 40}},
}
# The set, the run and the evaluation that the pages show are those of version 1.
ROWS = {
    "story_of": Feedback,
    "task": AnnotationTask,
    "why": Response,
    "where": Feedback,
    "annotator": Annotator,
    "training_set": TrainingSet,
    "set_diff": TrainingSet,
    "corpus_rows": Source,
    "audit": Job,
    "run": TrainingRun,
    "run_part": TrainingRun,
    "evaluation": Evaluation,
    "job": Job,
    "job_part": Job,
    "ask_bisection": ModelVersion,
    "bisection": Bisection,
    "ask_tuning": TrainingSet,
    "tuning": Tuning,
}
# Of which of them, where not of the first.
WHICH = {
    "corpus_rows": col(Source.is_corpus),
    "audit": Job.kind == JobKind.CORPUS,
    "ask_bisection": ModelVersion.number == 1,
}


@dataclass(frozen=True, slots=True)
class Clinic:
    """A project whose every text that a person could have written is `said`."""

    runtime: Runtime
    client: FlaskClient
    project: Project
    said: str
    conversation: UUID

    def url_of(self, page: str, slug: str = "clinic") -> str:
        """Return the path of one page, named after its view."""
        return dict(self.pages(slug))[page]

    def pages(self, slug: str = "clinic") -> Iterator[tuple[str, str]]:
        """Yield the name and the path of every page that people open; of a project without rows, its lists."""
        app = self.client.application
        for name in sorted(_views(app)):
            secret = self._invitation if name == "invitation" else self._link
            values = {"slug": slug, "row_id": self._id(name), "secret": secret}
            path = app.url_map.bind("").build(f"console.{name}", values, append_unknown=False)
            if slug != EMPTY or (path.startswith("/p/") and name not in ROWS):
                yield name, path
        if slug != EMPTY:
            yield "conversation", f"/p/{slug}/playground?conversation={self.conversation}"

    def row(self, table: type) -> object:
        """Return the first row of a table."""
        with self.runtime.db.reading() as session:
            return session.exec(select(table).order_by(col(table.id))).first()

    def rows(self, table: type) -> list[object]:
        """Return a table's rows, oldest first."""
        with self.runtime.db.reading() as session:
            return session.exec(select(table).order_by(col(table.id))).all()

    def change(self, table: type, **values: object) -> None:
        """Change a table's first row."""
        with self.runtime.db.transaction() as session:
            session.exec(select(table).order_by(col(table.id))).first().sqlmodel_update(values)

    def decide(self, user: User, *, goes_live: bool) -> None:
        """Have a person approve version 1, for the reason that everybody here gives."""
        with self.runtime.db.transaction() as session:
            evaluation = session.exec(select(Evaluation)).one()
            seen = promotion.what_to_approve(session, evaluation)
            promotion.decide(
                session,
                self.project,
                evaluation_id=evaluation.id,
                model_version=1,
                adapter_sha256=seen["adapter"],
                training_set=seen["training_set"],
                decision=Decision.APPROVED,
                reason=self.said,
                user=user,
            )
            if goes_live:
                promotion.promote(session, self.project, model_version=1, user=user)

    def approvals(self) -> list[tuple[Decision, str]]:
        """Return what was decided, and why."""
        return [(each.decision, each.reason) for each in self.rows(Approval)]

    def _id(self, page: str) -> UUID | None:
        if page not in ROWS:
            return None
        with self.runtime.db.reading() as session:
            rows = select(ROWS[page]).order_by(col(ROWS[page].id))
            return session.exec(rows.where(WHICH[page]) if page in WHICH else rows).first().id

    @property
    def _link(self) -> str:
        with self.runtime.db.transaction() as session:
            return people.invite_again(session, session.exec(select(User)).first(), actor="test")

    @property
    def _invitation(self) -> str:
        with self.runtime.db.transaction() as session:
            return experts.invite(session, session.get_one(Project, self.project.id), "mia", actor="test")


def open_clinic(runtime: Runtime, client: FlaskClient, said: str = QUESTION) -> Clinic:
    """Make a project with rows of every kind, and an empty one beside it."""
    with runtime.db.transaction() as session:
        builders.add_project(session, EMPTY)
        project = builders.add_project(session)
        project.system_prompt = said
        builders.place(session, project, "7", url="http://127.0.0.1:9/projects/7")
        builders.add_criteria(session, project)
        secret = builders.add_key(session, project)
        api_keys.add(session, project, KeyKind.PUBLIC, ["https://clinic.test"], actor="test", name=said[:100])
        people.add_user(session, said[:100], Role.AUDITOR, actor=said[:100])
    asked = [_flagged(client, secret, said) for _ in range(3)]
    with runtime.db.transaction() as session:
        won, lost = (_settled(session, project, flag, said) for flag in asked[:2])
        model = builders.add_challenger(session, project)
        evaluation = builders.add_evaluation(session, project, model)
        _taught(session, evaluation, [won, lost])
        _judged(runtime, session, evaluation, said)
        _goes_on(session, project)
        _assessed(session, project)
        _asked_back(session, project, won, said)
        _brought_along(runtime, session, project, said)
        _told_of(session, project, said)
        _bisected(session, model, won)
        _tuned(session, model)
        conversation = _attacked(session, project, said)
    return Clinic(runtime, client, project, said, conversation)


def _views(app: Flask) -> set[str]:
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("console.")]
    return {
        rule.endpoint.removeprefix("console.")
        for rule in rules
        if "GET" in rule.methods and not rule.endpoint.endswith("_part")
    }


def _flagged(client: FlaskClient, secret: str, said: str) -> UUID:
    """Have somebody ask, be answered and flag it; return the flag's id."""
    headers = {"Authorization": f"Bearer {secret}"}
    answer = {
        "messages": [{"role": "user", "content": said}],
        "response": f"{said} Cardiology",
        "attributes": {said: said},
        "model_version": "v0",
        "language": "en",
    }
    logged = client.post("/v1/responses", json=answer, headers=headers)
    flag = {
        "response_id": logged.json["id"],
        "event_id": str(uuid4()),
        "rating": "down",
        "reasons": ["wrong", said[:64]],
        "comment": said,
        "correction": said,
        "consent": True,
    }
    return UUID(client.post("/v1/feedback", json=flag, headers=headers).json["id"])


def _settled(session: Session, project: Project, flag_id: UUID, said: str) -> Settlement:
    """Let two experts correct what was flagged."""
    flag = session.get_one(Feedback, flag_id)
    task = AnnotationTask(
        project_id=project.id,
        response_id=flag.response_id,
        purpose=TaskPurpose.FLAG,
        flag_id=flag.id,
        schema_id=builders.newest(session, project, DocumentKind.LABEL_SCHEMA),
        guidelines_id=builders.newest(session, project, DocumentKind.GUIDELINES),
        priority=3.0,
        connector=project.connector,
        state=TaskState.SETTLED,
        external_id="7",
        sent_at=utcnow(),
    )
    session.add(task)
    session.flush()
    flag.triaged_at = utcnow()
    session.add(TaskFlag(task_id=task.id, feedback_id=flag.id))
    for account in ("ann", said[:200]):
        session.add(_answer(task, _annotator(session, account), said))
    settlement = Settlement(
        project_id=project.id,
        task_id=task.id,
        verdict=Verdict.INCORRECT,
        label="Billing",
        correction=said,
        cause=Cause.MODEL,
        agreeing=2,
        asked=2,
        explanation="2 of 2 agree",
    )
    session.add(settlement)
    session.flush()
    return settlement


def _annotator(session: Session, account: str) -> Annotator:
    known = session.exec(select(Annotator).where(Annotator.account == account)).first()
    annotator = known or Annotator(connector=ConnectorKind.LABEL_STUDIO, account=account)
    session.add(annotator)
    session.flush()
    return annotator


def _answer(task: AnnotationTask, annotator: Annotator, said: str) -> Annotation:
    return Annotation(
        task_id=task.id,
        annotator_id=annotator.id,
        external_id=uuid4().hex,
        revised_at=utcnow(),
        verdict=Verdict.INCORRECT,
        label="Billing",
        correction=said,
        cause=Cause.MODEL,
        seconds_spent=12.0,
    )


def _taught(session: Session, evaluation: Evaluation, settled: Sequence[Settlement]) -> None:
    """Fill the set that the challenger learned from, and an empty one after it to compare with."""
    for number, settlement in enumerate(settled):
        session.add(
            TrainingSetExample(
                training_set_id=evaluation.training_set_id,
                settlement_id=settlement.id,
                content_sha256=_case(number),
                split=Split.TEST,
                group_name=str(number),
            )
        )
    session.add(
        AuditFinding(
            training_set_id=evaluation.training_set_id,
            check="near_duplicates",
            check_version="1",
            severity="warn",
            keys=[str(session.exec(select(Settlement)).first().id)],
            evidence="two rows are nearly the same",
            repair="nothing: they stay in one part",
        )
    )
    project = session.get_one(Project, evaluation.project_id)
    first = session.get_one(TrainingSet, evaluation.training_set_id)
    first.parent_id = builders.add_set(session, project, version=2).id


def _judged(runtime: Runtime, session: Session, evaluation: Evaluation, said: str) -> None:
    """Give the evaluation its scores, its reasons, and one case that each model alone had right."""
    won, lost = _case(0), _case(1)
    report = {
        "suites": {"test": [won, lost]},
        "right": {"champion": [lost], "challenger": [won]},
        "answers": {
            "champion": {won: f"{said} Cardiology", lost: "Billing"},
            "challenger": {won: f"{said} Billing", lost: "Cardiology"},
        },
    }
    reason = {
        "rule": "better",
        "suite": "test",
        "metric": "accuracy",
        "slice": "",
        "met": True,
        "margin": 0.1,
    }
    figures = {"champion": 0.4, "challenger": 0.8, "low": 0.2, "high": 0.5}
    evaluation.sqlmodel_update(
        {
            "report": runtime.artifacts.put_bytes(canonical_json(report)),
            "reasons": [reason | figures],
            "people": PREFERRED,
            "finished_at": utcnow(),
        }
    )
    for model_id, value in ((evaluation.champion_id, 0.4), (evaluation.model_version_id, 0.8)):
        for part in ("", f"{said[:40]}=yes"):
            session.add(
                Score(
                    evaluation_id=evaluation.id,
                    model_version_id=model_id,
                    suite="test",
                    metric="accuracy",
                    slice=part,
                    value=value,
                    low=value - 0.1,
                    high=value + 0.1,
                    n=50,
                )
            )


def _case(number: int) -> str:
    return sha256_of(["case", number])


def _goes_on(session: Session, project: Project) -> None:
    """Have one run at work, and one job that gave up."""
    run = TrainingRun(
        project_id=project.id,
        training_set_id=session.exec(select(TrainingSet.id)).first(),
        criteria_id=session.exec(select(Document.id).where(Document.kind == DocumentKind.CRITERIA)).one(),
        state=RunState.RUNNING,
        spec={"learning_rate": 0.01, "rank": 4},
        seed=0,
        environment={"torch": "2.13.0"},
    )
    session.add(run)
    session.flush()
    at_work = Job(
        kind=JobKind.TRAIN, project_id=project.id, row_id=run.id, not_before=utcnow(), state=JobState.LEASED
    )
    at_work.sqlmodel_update({"started_at": utcnow(), "attempts": 1})
    gave_up = Job(kind=JobKind.SYNC, project_id=project.id, row_id=project.id, not_before=utcnow())
    gave_up.sqlmodel_update({"state": JobState.DEAD, "failure": "the tool was away", "finished_at": utcnow()})
    session.add_all([at_work, gave_up])


def _told_of(session: Session, project: Project, said: str) -> None:
    """Have somebody hear of it, somebody who is gone, and a notice in each state."""
    host = NoticeTarget(
        project_id=project.id, url="https://hooks.clinic.test/errata", kinds=["alarm", "promoted"]
    )
    gone = NoticeTarget(
        project_id=project.id, url="https://gone.clinic.test/", kinds=["alarm"], problem="answered 410 Gone"
    )
    session.add_all([host, gone])
    session.flush()
    for state in NoticeState:
        failure = said[:200] if state is NoticeState.DEAD else None
        facts = {
            "kind": NoticeKind.ALARM,
            "facts": {"event": "tool_away"},
            "state": state,
            "failure": failure,
        }
        session.add(Notice(project_id=project.id, target_id=host.id, **facts))


def _bisected(session: Session, model: ModelVersion, settlement: Settlement) -> None:
    """Have somebody ask what made version 1 worse, and a batch be named."""
    change = {"id": "v1 batch", "kind": "batch", "title": "of set v1", "added": 1, "removed": 0}
    row = {"row": str(settlement.id), "set": 1, "is_missed": False, "harm": 1.0, "reproducing": True}
    tried = {
        "changes": "of set v1",
        "rows_left_out": 0,
        "kept": {"value": 0, "low": -0.1, "high": 0.1, "n": 3},
    }
    found = Bisection(
        project_id=model.project_id,
        good_id=model.id,
        bad_id=model.id,
        metric="accuracy",
        state=RunState.FINISHED,
        progress={"tried": [tried], "configurations": 1, "seconds": 2.0, "suspects": 1},
    )
    told = {"verdict": "data", "sentence": "batch of set v1 made the model worse", "confidence": 0.99}
    found.result = told | {"changes": [change], "rows": [row], "rows_in_all": 1, "trainings": 3}
    session.add(found)


def _tuned(session: Session, model: ModelVersion) -> None:
    """Have somebody search for better settings: six trials, of which two were ended early."""
    usual = {each.name: each.default for each in fields(TrainingSpec) if each.name in SPACE}
    rates, rights = (5e-3, 4e-4, 2e-5, 6e-4, 9e-4, 5e-4), (11, 17, None, 18, None, 15)
    trials = [
        Tried(
            number=number,
            state="complete" if right else "pruned",
            settings=usual | {"learning_rate": rate, "rank": 4 * number + 4},
            score=wilson(right, 20) if right else None,
            kept=wilson(70 - number, 79) if right else None,
            curve=[
                (share, 3 / (1 + share * (right or 5)))
                for share in (0.25, 0.5, 0.75, 1.0)[: 4 if right else 1]
            ],
            seconds=70.0,
            cpu_seconds=90.0,
            failure="" if right else "worse than the others after 25% of the run",
        )
        for number, (rate, right) in enumerate(zip(rates, rights, strict=True))
    ]
    result = {"best": 3, "settings": dict(trials[3].settings), "better": 0.636}
    found = Tuning(
        project_id=model.project_id,
        training_set_id=session.get_one(TrainingRun, model.training_run_id).training_set_id,
        metric="accuracy",
        plan=asdict(Plan(start=usual, budget=Budget(cost=2.0, compute_hour=0.4, currency="EUR"))),
        state=RunState.FINISHED,
        trials=[asdict(one) for one in trials],
        result=result
        | {"importance": {"learning_rate": 0.7, "rank": 0.3}}
        | {"sentence": "trial 3 has accuracy 0.90 (0.70 to 0.97) on 20 validation rows, the start 0.55"},
    )
    session.add(found)


def _assessed(session: Session, project: Project) -> None:
    """Have those who answered done so for two weeks, not always alike, and been reported on."""
    ann, other = session.exec(select(Annotator).order_by(col(Annotator.id))).all()[:2]
    votes = [
        Vote(f"t{n}", str(who.id), Answer(verdict), utcnow() - timedelta(days=7 * (n % 2)), seconds=30.0)
        for n in range(20)
        for who, verdict in (
            (ann, Verdict.CORRECT if n % 4 else Verdict.UNSURE),
            (other, Verdict.CORRECT if n % 5 else Verdict.UNSURE),
        )
    ]
    told = assess(votes, reasons={"t0": ["wrong"]}, gold={"t1": "correct"}, outcomes={})
    session.add(QualityReport(project_id=project.id, content=told, computed_at=utcnow()))


def _asked_back(session: Session, project: Project, settled: Settlement, said: str) -> None:
    """Have an expert ask about the guidelines, once with an answer."""
    about = {
        "project_id": project.id,
        "guidelines_id": builders.newest(session, project, DocumentKind.GUIDELINES),
        "user_id": session.exec(select(User.id)).first(),
        "text": said,
    }
    answered = {"answer": said, "answered_at": utcnow()}
    session.add_all(
        [GuidelineQuestion(**about, task_id=settled.task_id), GuidelineQuestion(**about, **answered)]
    )


def _brought_along(runtime: Runtime, session: Session, project: Project, said: str) -> None:
    """Have a team bring data along, one row of it set aside, and audit it, in a set as well."""
    source = sources.ensure_source(session, project, sources.NewSource(said[:100], said[:200]))
    rows = [CorpusRow((Message("user", f"{said} {label}"),), label=label) for label in ("Billing", "Surgery")]
    corpus.import_rows(session, source, rows, actor="test")
    aside = session.exec(select(Response).where(col(Response.set_aside).is_not(None))).one()
    found = Finding("personal", 1, Severity.BLOCK, (str(aside.id),), "1 row holds a name", "Leave it out.")
    told = report([replace(example_of(row, str(aside.id)), source=source.name) for row in rows], [found])
    first = session.exec(select(TrainingSet).where(TrainingSet.version == 1)).one()
    first.audit_report = runtime.artifacts.put_bytes(canonical_json(told))
    job = Job(kind=JobKind.CORPUS, project_id=project.id, row_id=project.id, not_before=utcnow())
    done = {"state": JobState.DONE, "result": told, "finished_at": utcnow()}
    job.sqlmodel_update(done | {"options": {"audit": True}})
    session.add(job)


def _attacked(session: Session, project: Project, said: str) -> UUID:
    """Have somebody try to break the model, and return the conversation."""
    conversation = uuid4()
    flag = session.exec(select(Feedback)).first()
    answer = session.get_one(Response, flag.response_id)
    answer.conversation_id = str(conversation)
    user = session.exec(select(User)).first()
    attack = AttackSession(project_id=project.id, user_id=user.id, last_at=utcnow())
    session.add(attack)
    session.flush()
    session.add(SuiteCandidate(attack_session_id=attack.id, response_id=answer.id))
    return conversation
