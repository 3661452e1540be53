"""A project that has been at work for months: as many rows as its pages must stay fast with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import insert
from sqlmodel import Session, SQLModel, col, func, select

from annotation.types import Cause, Verdict
from retrain.types import Split, sha256_of
from service.clock import utcnow
from service.projects import DEFAULT_REASONS
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    Approval,
    ConnectorKind,
    Decision,
    DocumentKind,
    Evaluation,
    EvaluationState,
    Feedback,
    Job,
    JobKind,
    JobState,
    LedgerEntry,
    ModelState,
    ModelVersion,
    Project,
    Promotion,
    PromotionKind,
    Rating,
    Response,
    Role,
    RunState,
    Score,
    Settlement,
    SettlementAnnotation,
    Source,
    TaskFlag,
    TaskPurpose,
    TaskState,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
)
from tests.builders import add_criteria, add_key, add_person, add_project, newest

DAYS, BATCH, VERSIONS, ANNOTATORS, RUNS, SETS, SLICES = 90, 5000, 5, 12, 100, 20, 30
REASONS = tuple(DEFAULT_REASONS)
LANGUAGES = ("en", "de", "ta", "ar")
WORDS = (
    "appointment",
    "blood",
    "letter",
    "knee",
    "tablet",
    "nurse",
    "referral",
    "parking",
    "scan",
    "invoice",
    "ward",
)
SENTENCES = [" ".join(Random(n).choices(WORDS, k=12)) for n in range(1000)]
STATES = (
    *[TaskState.SETTLED] * 6,
    TaskState.SENT,
    TaskState.SELECTED,
    TaskState.CONTESTED,
    TaskState.WITHDRAWN,
)
TIMES = ("started_at", "finished_at")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many rows there are to be; a fifth of the feedback waits for triage, and a twentieth became tasks."""

    feedback: int
    jobs: int = 5000
    entries: int = 5000

    @property
    def tasks(self) -> int:
        return self.feedback // 20


@dataclass(frozen=True, slots=True)
class Filling:
    """What every part of the project is made with."""

    session: Session
    project: Project
    crowd: Crowd
    since: datetime
    dice: Random = field(default_factory=lambda: Random(0))

    def document(self, kind: DocumentKind) -> UUID:
        return newest(self.session, self.project, kind)

    def born(self, at: datetime) -> Row:
        """An id that grows with time, and the time."""
        chance = self.dice.getrandbits
        number = int(at.timestamp() * 1000) << 80 | 0x7 << 76 | chance(12) << 64 | 0b10 << 62 | chance(62)
        return {"id": UUID(int=number), "created_at": at}

    def moments(self, count: int) -> Iterator[datetime]:
        step = timedelta(days=DAYS) / (count + 1)
        return (self.since + step * n for n in range(count))

    def insert(self, table: type[SQLModel], rows: Sequence[Mapping[str, Any]]) -> None:
        self.session.flush()
        for start in range(0, len(rows), BATCH):
            self.session.connection().execute(insert(table.__table__), rows[start : start + BATCH])


def fill(session: Session, crowd: Crowd) -> Project:
    """Make the project `crowded`, in bulk; it is the same each time, but for the ids and the day on which it ends."""
    project = add_project(session, "crowded")
    add_criteria(session, project)
    add_key(session, project)
    on = Filling(session, project, crowd, utcnow() - timedelta(days=DAYS))
    versions = _versions(on)
    feedback = _feedback(on, _responses(on, versions))
    _learning(on, versions, _labelling(on, feedback))
    _keeping(on)
    return project


def _versions(on: Filling) -> list[ModelVersion]:
    """The base model and versions that went live one after another; the last is the champion."""
    base = on.session.exec(select(ModelVersion).where(ModelVersion.project_id == on.project.id)).one()
    base.state = ModelState.RETIRED
    versions = [base]
    for number in range(1, VERSIONS):
        made = ModelVersion(
            project_id=on.project.id,
            number=number,
            base_model=on.project.base_model,
            state=ModelState.CHAMPION if number == VERSIONS - 1 else ModelState.RETIRED,
            created_at=on.since + timedelta(days=DAYS * number / VERSIONS),
            adapter_sha256=sha256_of(["adapter", number]),
        )
        live = Promotion(
            project_id=on.project.id,
            seq=number,
            kind=PromotionKind.PROMOTION,
            model_version_id=made.id,
            created_at=made.created_at,
        )
        on.session.add(made)
        on.session.flush()
        on.session.add(live)
        versions.append(made)
    return versions


def _responses(on: Filling, versions: Sequence[ModelVersion]) -> list[Row]:
    source = on.session.exec(select(Source.id).where(Source.project_id == on.project.id)).one()
    always = defaults(Response, project_id=on.project.id, source_id=source, body_sha256=sha256_of("a body"))
    rows = []
    for number, at in enumerate(on.moments(on.crowd.feedback)):
        version = versions[number * VERSIONS // on.crowd.feedback]
        more = {
            "messages": [
                {"role": "user", "content": f"{on.dice.choice(SENTENCES)} {on.dice.choice(SENTENCES)}"}
            ],
            "text": on.dice.choice(SENTENCES),
            "model_version_id": version.id,
            "model_version": f"v{version.number}",
            "conversation_id": f"c{number // 3}",
            "language": on.dice.choice(LANGUAGES),
            "triaged_at": at,
        }
        rows.append(always | on.born(at) | more)
    on.insert(Response, rows)
    return rows


def _feedback(on: Filling, responses: Sequence[Row]) -> list[Row]:
    reasons = on.document(DocumentKind.REASONS)
    always = defaults(Feedback, project_id=on.project.id, reasons_id=reasons, body_sha256=sha256_of("a body"))
    rows = []
    for number, response in enumerate(responses):
        at = response["created_at"] + timedelta(seconds=30)
        is_flag = on.dice.random() < 0.7
        more = {
            "event_id": UUID(int=on.dice.getrandbits(128)),
            "response_id": response["id"],
            "response_ref": str(response["id"]),
            "rating": Rating.DOWN if is_flag else Rating.UP,
            "reasons": on.dice.sample(REASONS, k=2) if is_flag else [],
            "comment": on.dice.choice(SENTENCES) if on.dice.random() < 0.4 else None,
            "correction": on.dice.choice(SENTENCES) if is_flag and on.dice.random() < 0.2 else None,
            "triaged_at": at if number < 0.8 * on.crowd.feedback else None,
            "withdrawn_at": at if on.dice.random() < 0.02 else None,
        }
        rows.append(always | on.born(at) | more)
    on.insert(Feedback, rows)
    return rows


def _labelling(on: Filling, feedback: Sequence[Row]) -> list[Row]:
    """Tasks in every state, each for two flags; two answers to those that have any, and what they came to."""
    experts = [
        Annotator(connector=ConnectorKind.LABEL_STUDIO, account=f"expert-{n}") for n in range(ANNOTATORS)
    ]
    on.session.add_all(experts)
    on.session.flush()
    schema, guidelines = map(on.document, (DocumentKind.LABEL_SCHEMA, DocumentKind.GUIDELINES))
    asked = defaults(
        AnnotationTask,
        project_id=on.project.id,
        purpose=TaskPurpose.FLAG,
        connector=on.project.connector,
        schema_id=schema,
        guidelines_id=guidelines,
    )
    said = {"verdict": Verdict.INCORRECT, "label": "Billing", "cause": Cause.MODEL}
    answered = defaults(Annotation, **said)
    counts = {"agreeing": 2, "asked": 2, "explanation": "2 of 2 agree"}
    settled = defaults(Settlement, project_id=on.project.id, **said, **counts)
    tables = (AnnotationTask, TaskFlag, Annotation, Settlement, SettlementAnnotation)
    rows: dict[type[SQLModel], list[Row]] = {table: [] for table in tables}
    for flags in _pairs(feedback, on.crowd.tasks):
        at, state = flags[0]["created_at"] + timedelta(minutes=1), on.dice.choice(STATES)
        later = at + timedelta(hours=3)
        task = asked | on.born(at) | {"state": state, "sent_at": at, "priority": on.dice.random() * 10}
        task |= {"response_id": flags[0]["response_id"], "flag_id": flags[0]["id"]}
        of_task = {"task_id": task["id"]}
        rows[AnnotationTask].append(task)
        rows[TaskFlag] += [on.born(at) | of_task | {"feedback_id": flag["id"]} for flag in flags]
        if state in (TaskState.SETTLED, TaskState.CONTESTED):
            answers = [
                answered
                | on.born(later)
                | of_task
                | {"annotator_id": expert.id, "external_id": expert.account, "revised_at": later}
                | {"seconds_spent": on.dice.uniform(5, 90)}
                for expert in on.dice.sample(experts, k=2)
            ]
            rows[Annotation] += answers
        if state is TaskState.SETTLED:
            settlement = settled | on.born(later) | of_task
            rows[Settlement].append(settlement)
            rows[SettlementAnnotation] += [
                on.born(later) | {"settlement_id": settlement["id"], "annotation_id": answer["id"]}
                for answer in answers
            ]
    for table, some in rows.items():
        on.insert(table, some)
    return rows[Settlement]


def _learning(on: Filling, versions: Sequence[ModelVersion], settlements: Sequence[Row]) -> None:
    """Sets that grow, runs on them, of which some made the versions, and each run's evaluation and approval."""
    sets = _sets(on, settlements)
    used = {"criteria_id": on.document(DocumentKind.CRITERIA)}
    run = defaults(
        TrainingRun,
        project_id=on.project.id,
        seed=0,
        state=RunState.FINISHED,
        spec={"learning_rate": 0.001},
        report={"seconds": 60.0, "tokens": 6000, "losses": [1.0, 0.5]},
        **used,
    )
    runs = [
        run | on.born(at) | {"training_set_id": sets[n * SETS // RUNS]["id"]}
        for n, at in enumerate(on.moments(RUNS))
    ]
    on.insert(TrainingRun, runs)
    job = defaults(
        Job, kind=JobKind.TRAIN, project_id=on.project.id, row_id=on.project.id, not_before=on.since
    ) | {"state": JobState.DONE}
    on.insert(
        Job,
        [
            job
            | on.born(each["created_at"])
            | {"row_id": each["id"]}
            | dict.fromkeys(TIMES, each["created_at"])
            for each in runs
        ],
    )
    for version, made_by in zip(versions[1:], runs[10::20], strict=False):
        version.training_run_id = made_by["id"]
    used |= {"rules_id": on.document(DocumentKind.GATE_RULES), "suite_id": on.document(DocumentKind.SUITE)}
    judged = defaults(Evaluation, project_id=on.project.id, sentence="better on what users ask", **used)
    evaluations = [
        judged
        | on.born(each["created_at"])
        | {"model_version_id": versions[1 + n % 4].id, "champion_id": versions[n % 4].id}
        | {"training_set_id": each["training_set_id"], "finished_at": each["created_at"]}
        | {"state": EvaluationState.PASSED if n % 3 else EvaluationState.REFUSED}
        for n, each in enumerate(runs)
    ]
    on.insert(Evaluation, evaluations)
    on.insert(Score, [score for each in evaluations for score in _scores(on, each)])
    user, _ = add_person(on.session, Role.APPROVER)
    said = {"decision": Decision.APPROVED, "reason": "better", "seconds_spent": 120.0, "hashes": {}}
    approved = defaults(Approval, project_id=on.project.id, user_id=user.id, **said)
    of = ("model_version_id", "created_at")
    on.insert(
        Approval,
        [
            approved
            | on.born(each["created_at"])
            | {name: each[name] for name in of}
            | {"evaluation_id": each["id"]}
            for each in evaluations
        ],
    )


def _sets(on: Filling, settlements: Sequence[Row]) -> list[Row]:
    always = defaults(TrainingSet, project_id=on.project.id, artifact=sha256_of("a file"), recipe={})
    sets = [
        always
        | on.born(at)
        | {"version": n + 1, "fingerprint": sha256_of([on.project.slug, n]), "counts": {"train": 100 * n}}
        for n, at in enumerate(on.moments(SETS))
    ]
    names = [sha256_of(n) for n in range(len(settlements))]
    examples = [
        on.born(each["created_at"])
        | {"training_set_id": each["id"], "settlement_id": settlements[number]["id"]}
        | {"content_sha256": names[number], "split": Split.TRAIN, "group_name": f"g{number}"}
        for n, each in enumerate(sets)
        for number in range(len(settlements) * (n + 1) // (SETS + 1))
    ]
    on.insert(TrainingSet, sets)
    on.insert(TrainingSetExample, examples)
    return sets


def _scores(on: Filling, evaluation: Row) -> list[Row]:
    always = {"evaluation_id": evaluation["id"], "suite": "test", "metric": "accuracy", "n": 100}
    always |= {"value": 0.8, "low": 0.7, "high": 0.9}
    return [
        always
        | on.born(evaluation["created_at"])
        | {"model_version_id": evaluation[whose], "slice": f"slice {n}" if n else ""}
        for whose in ("champion_id", "model_version_id")
        for n in range(SLICES)
    ]


def _keeping(on: Filling) -> None:
    """Jobs that were done, and the ledger."""
    done = defaults(
        Job, kind=JobKind.SYNC, project_id=on.project.id, row_id=on.project.id, not_before=on.since
    )
    jobs = [
        done
        | on.born(at)
        | {"kind": on.dice.choice((JobKind.TRIAGE, JobKind.SEND, JobKind.SYNC)), "state": JobState.DONE}
        | {"started_at": at, "finished_at": at + timedelta(seconds=20)}
        for at in on.moments(on.crowd.jobs)
    ]
    entry = {
        "project_id": on.project.id,
        "actor": "olga",
        "action": "criteria_set",
        "subject": on.project.slug,
    }
    entry |= {"facts": {}, "previous": sha256_of("one"), "sha256": sha256_of("other")}
    first = on.session.exec(select(func.max(col(LedgerEntry.seq)))).one() + 1
    entries = [on.born(at) | entry | {"seq": first + n} for n, at in enumerate(on.moments(on.crowd.entries))]
    on.insert(Job, jobs)
    on.insert(LedgerEntry, entries)


def defaults(table: type[SQLModel], **fixed: Any) -> Row:
    """What the table's class gives the columns that are not named; not what each row has of its own."""
    return {name: value for name, value in dict(table(**fixed)).items() if name not in ("id", "created_at")}


def _pairs(feedback: Sequence[Row], count: int) -> list[Sequence[Row]]:
    flags = [row for row in feedback if row["rating"] is Rating.DOWN and row["triaged_at"]]
    step = len(flags) // count
    return [flags[n * step : n * step + 2] for n in range(count)]
