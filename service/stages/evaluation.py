"""Stage 6: judge a challenger against the champion on suites that nothing was trained on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlmodel import Session, col, select

from retrain import gate, intervals, metrics
from retrain.criteria import read_criteria, read_rules
from retrain.errors import EmptySplit
from retrain.suites import GENERAL, general_cases
from retrain.types import Case, Example, Kind, Message, Split, canonical_json, content_hash, sha256_of
from service import ledger, projects
from service.answers import describe_evaluation, newest_evaluation
from service.clock import utcnow
from service.errors import CriteriaMissing, WrongState
from service.queue import Lease
from service.runtime import Runtime
from service.tables import (
    AnnotationTask,
    Document,
    DocumentKind,
    Evaluation,
    EvaluationState,
    JobKind,
    ModelState,
    ModelVersion,
    Project,
    Response,
    Score,
    Settlement,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
)

TEST = "test"
REGRESSION = "regression"
TITLES = {TEST: "the test split", GENERAL: "general knowledge", REGRESSION: "resolved flags"}
METRICS_OF = {
    "label": ("accuracy", "macro_f1"),
    "exact": ("exact_match", "rouge_l"),
    "contains": ("contains_key",),
}
MAX_NEW_TOKENS = {"label": 0, "exact": 96, "contains": 16}
STATE_OF = {
    gate.Verdict.PASSED: EvaluationState.PASSED,
    gate.Verdict.REFUSED: EvaluationState.REFUSED,
    gate.Verdict.CANNOT_TELL: EvaluationState.CANNOT_TELL,
}

log = structlog.get_logger()


class Model(Protocol):
    """A loaded base model that can put adapters on."""

    def add_adapter(self, name: str, directory: Path) -> None: ...
    def using(self, name: str | None) -> AbstractContextManager[None]: ...
    def answer(self, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int) -> list[str]: ...
    def classify(self, conversations: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[str]: ...


class Examiner(Protocol):
    """What a job hands over, so that this module loads without torch."""

    def read(self, path: Path) -> list[Example]: ...
    def open(self, base_model: str, system_prompt: str) -> Model: ...


def perform(runtime: Runtime, lease: Lease, model_id: UUID, examiner: Examiner) -> dict[str, Any]:
    """Score champion and challenger on every suite and let the gate judge.

    It answers the criteria and rules in force now. Those that the run was requested under stay named in its
    row; an approval is bound to the ones judged by, and a later change makes it stale.

    Raises:
        EmptySplit: the training set has no test split.
        WrongState: the model version is not a challenger.
    """
    evaluation_id = _open(lease, model_id)
    with lease.transaction() as session:
        evaluation = session.get_one(Evaluation, evaluation_id)
        challenger = session.get_one(ModelVersion, evaluation.model_version_id)
        champion = session.get_one(ModelVersion, evaluation.champion_id)
        project = session.get_one(Project, evaluation.project_id)
        criteria, rules, suite = (
            session.get_one(Document, id_)
            for id_ in (evaluation.criteria_id, evaluation.rules_id, evaluation.suite_id)
        )
        sets = _sets_until(session, evaluation.training_set_id)
        labels, slices = _labels(session, project.id), _slices(session, project.id)
    suites = _suites(runtime, examiner, sets, slices, suite.content[GENERAL])
    model = examiner.open(project.base_model, project.system_prompt)
    adapters = {"base": None, "champion": champion.adapter_sha256, "challenger": challenger.adapter_sha256}
    _add_adapters(runtime, model, adapters)
    answers = _answers(lease, model, adapters, [case for cases in suites.values() for case in cases], labels)
    suites[GENERAL] = _known_to_base(suites[GENERAL], answers["base"])
    judged = gate.judge(
        read_criteria(criteria.content["criteria"]),
        read_rules(rules.content),
        [_suite_answers(name, cases, answers) for name, cases in suites.items() if cases],
        seed=evaluation.seed,
    )
    report = runtime.artifacts.put_bytes(canonical_json(_report(suites, answers, judged)))
    hashes = {
        "adapter": challenger.adapter_sha256 or "",
        "champion": champion.adapter_sha256 or "",
        "training_set": sets[0].fingerprint,
        "criteria": criteria.sha256,
        "gate_rules": rules.sha256,
        "suite": suite.sha256,
        "cases": sha256_of({name: sorted(case.key for case in cases) for name, cases in suites.items()}),
    }
    scores = list(_scores(suites, answers, seed=evaluation.seed))
    with lease.transaction() as session:
        evaluation = session.get_one(Evaluation, evaluation_id)
        evaluation.state = STATE_OF[judged.verdict]
        evaluation.sentence, evaluation.report, evaluation.hashes = judged.sentence, report, hashes
        evaluation.reasons = [asdict(reason) for reason in judged.reasons]
        evaluation.finished_at = utcnow()
        if judged.verdict is gate.Verdict.REFUSED:
            session.get_one(ModelVersion, model_id).state = ModelState.REFUSED
        for who, score in scores:
            version = champion if who == "champion" else challenger
            session.add(Score(evaluation_id=evaluation_id, model_version_id=version.id, **score))
        ledger.append(
            session,
            actor="gate",
            action=f"evaluation_{judged.verdict}",
            subject=f"v{challenger.number}",
            project_id=project.id,
            facts={"evaluation": str(evaluation_id), "report": report, **hashes},
        )
        runtime.queue.ask(
            session,
            JobKind.MIRROR,
            evaluation.training_set_id,
            project_id=project.id,
            unique_key=f"{JobKind.MIRROR}:{evaluation.training_set_id}",
        )
        answer = describe_evaluation(session, evaluation)
    log.info("evaluation_finished", verdict=judged.verdict.value, sentence=judged.sentence)
    return answer


def _open(lease: Lease, model_id: UUID) -> UUID:
    """Return the evaluation to work on: one that an earlier attempt left, or a fresh one naming what it uses."""
    with lease.transaction() as session:
        newest = newest_evaluation(session, model_id)
        if newest and newest.state is EvaluationState.RUNNING:
            return newest.id
        challenger = session.get_one(ModelVersion, model_id)
        if challenger.state not in (ModelState.CHALLENGER, ModelState.REFUSED):
            raise WrongState(f"model version {challenger.number} is {challenger.state}, not a challenger")
        challenger.state = ModelState.CHALLENGER
        run = session.get_one(TrainingRun, challenger.training_run_id)
        champion = session.exec(
            select(ModelVersion).where(
                ModelVersion.project_id == challenger.project_id, ModelVersion.state == ModelState.CHAMPION
            )
        ).one()
        evaluation = Evaluation(
            project_id=challenger.project_id,
            model_version_id=model_id,
            champion_id=champion.id,
            training_set_id=run.training_set_id,
            criteria_id=_newest(session, challenger.project_id, DocumentKind.CRITERIA),
            rules_id=_newest(session, challenger.project_id, DocumentKind.GATE_RULES),
            suite_id=_newest(session, challenger.project_id, DocumentKind.SUITE),
        )
        session.add(evaluation)
        return evaluation.id


def _newest(session: Session, project_id: UUID, kind: DocumentKind) -> UUID:
    newest = projects.document(session, project_id, kind)
    if newest is None:
        raise CriteriaMissing(f"the project has no {kind}")
    return newest.id


def _add_adapters(runtime: Runtime, model: Model, adapters: Mapping[str, str | None]) -> None:
    for sha256 in {sha256 for sha256 in adapters.values() if sha256}:
        with TemporaryDirectory() as folder:
            runtime.artifacts.fetch_directory(sha256, Path(folder) / "adapter")
            model.add_adapter(sha256, Path(folder) / "adapter")


def _sets_until(session: Session, set_id: UUID) -> list[TrainingSet]:
    """Return the set and all before it, newest first."""
    training_set = session.get_one(TrainingSet, set_id)
    older = select(TrainingSet).where(
        TrainingSet.project_id == training_set.project_id, TrainingSet.version <= training_set.version
    )
    return list(session.exec(older.order_by(col(TrainingSet.version).desc())))


def _labels(session: Session, project_id: UUID) -> list[str]:
    schema = session.get_one(Document, _newest(session, project_id, DocumentKind.LABEL_SCHEMA))
    return list(schema.content["labels"])


def _slices(session: Session, project_id: UUID) -> dict[str, dict[str, str]]:
    """Return, by content hash, the attributes by which results are told apart; the set's file holds content only."""
    rows = session.exec(
        select(TrainingSetExample.content_sha256, Response.attributes)
        .join(Settlement, col(TrainingSetExample.settlement_id) == Settlement.id)
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .where(Settlement.project_id == project_id, TrainingSetExample.split == Split.TEST)
    )
    return {name: dict(attributes) for name, attributes in rows}


def _suites(
    runtime: Runtime,
    examiner: Examiner,
    sets: Sequence[TrainingSet],
    slices: Mapping[str, Mapping[str, str]],
    general: Iterable[Mapping[str, str]],
) -> dict[str, list[Case]]:
    """Return the newest test split, every earlier one that differs from it, and the general suite.

    Raises:
        EmptySplit: there is no test split to judge by.
    """
    suites: dict[str, list[Case]] = {}
    for number, training_set in enumerate(sets):
        cases = [_case(example, slices) for example in _held_out(runtime, examiner, training_set, Split.TEST)]
        name = f"{TEST}/v{training_set.version}" if number else TEST
        if {case.key for case in cases} not in [{case.key for case in known} for known in suites.values()]:
            suites[name] = [replace(case, suite=name) for case in cases]
    if not suites.get(TEST):
        raise EmptySplit(
            f"training set {sets[0].fingerprint}: has no test split; settle randomly drawn responses"
        )
    resolved = [
        replace(_case(example, slices), suite=REGRESSION)
        for example in _held_out(runtime, examiner, sets[0], Split.REGRESSION)
    ]
    return suites | {GENERAL: general_cases(general)} | ({REGRESSION: resolved} if resolved else {})


def _held_out(runtime: Runtime, examiner: Examiner, training_set: TrainingSet, split: Split) -> list[Example]:
    """Return what nothing was trained on and whose right answer is known."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "set.parquet"
        path.write_bytes(runtime.artifacts.get_bytes(training_set.artifact))
        return [each for each in examiner.read(path) if each.split is split and each.is_wanted]


def _case(example: Example, slices: Mapping[str, Mapping[str, str]]) -> Case:
    key = content_hash(example)
    label = {"label": example.answer} if example.kind is Kind.CLASSIFICATION else {}
    return Case(
        key=key,
        suite=TEST,
        messages=example.messages,
        expected=example.answer,
        check="label" if example.kind is Kind.CLASSIFICATION else "exact",
        slices={**slices.get(key, {}), **label},
    )


def _answers(
    lease: Lease,
    model: Model,
    adapters: Mapping[str, str | None],
    cases: Sequence[Case],
    labels: Sequence[str],
) -> dict[str, dict[str, str]]:
    """Ask each model every case once; return answers by model and case key."""
    unique = list({case.key: case for case in cases}.values())
    answers: dict[str, dict[str, str]] = {}
    for done, (who, adapter) in enumerate(adapters.items()):
        same = next((other for other in answers if adapters[other] == adapter), None)
        lease.report(step=done, steps=len(adapters), asking=who, cases=len(unique))
        if same is None:
            with model.using(adapter):
                answers[who] = _ask(model, unique, labels)
        else:
            answers[who] = answers[same]
    return answers


def _ask(model: Model, cases: Sequence[Case], labels: Sequence[str]) -> dict[str, str]:
    answers: dict[str, str] = {}
    for check, max_new_tokens in MAX_NEW_TOKENS.items():
        asked = [case for case in cases if case.check == check]
        if not asked:
            continue
        conversations = [case.messages for case in asked]
        said = (
            model.classify(conversations, labels)
            if check == "label"
            else model.answer(conversations, max_new_tokens=max_new_tokens)
        )
        answers |= {case.key: answer for case, answer in zip(asked, said, strict=True)}
    return answers


def _known_to_base(cases: Sequence[Case], answers: Mapping[str, str]) -> list[Case]:
    """Keep the questions that the base model answers rightly: only those can be forgotten."""
    knows = metrics.metric_named("contains_key").score
    return [case for case in cases if knows([case.expected], [answers[case.key]]) == 1]


def _suite_answers(
    name: str, cases: Sequence[Case], answers: Mapping[str, Mapping[str, str]]
) -> gate.SuiteAnswers:
    return gate.SuiteAnswers(
        suite=name,
        role=gate.Role.TARGET if name == TEST else gate.Role.PROTECTED,
        cases=cases,
        champion=[answers["champion"][case.key] for case in cases],
        challenger=[answers["challenger"][case.key] for case in cases],
        title=TITLES.get(name, name),
    )


def _scores(
    suites: Mapping[str, Sequence[Case]], answers: Mapping[str, Mapping[str, str]], *, seed: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each model's scores, overall and by slice, as columns of `Score`."""
    for who in ("champion", "challenger"):
        for suite, cases in suites.items():
            for slice_, members in _sliced(cases).items():
                expected = [case.expected for case in members]
                said = [answers[who][case.key] for case in members]
                for metric in (
                    METRICS_OF[members[0].check] if not slice_ else METRICS_OF[members[0].check][:1]
                ):
                    interval = _interval(metric, expected, said, seed)
                    yield who, {"suite": suite, "metric": metric, "slice": slice_, **asdict(interval)}


def _interval(metric: str, expected: Sequence[str], said: Sequence[str], seed: int) -> intervals.Interval:
    rights = metrics.metric_named(metric).rights
    if rights:
        return intervals.wilson(float(rights(expected, said).sum()), len(expected))
    return metrics.bootstrap(expected, said, metric, seed=seed)


def _sliced(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Return all cases under the empty name, then each slice's under `name=value`."""
    sliced: dict[str, list[Case]] = {"": list(cases)} if cases else {}
    for case in cases:
        for name, value in sorted(case.slices.items()):
            sliced.setdefault(f"{name}={value}"[:100], []).append(case)
    return sliced


def _report(
    suites: Mapping[str, Sequence[Case]], answers: Mapping[str, Mapping[str, str]], judged: gate.Judgement
) -> dict[str, Any]:
    """Return what the verdict rests on: each model's answers, in its own words, and which are right, by case key.

    Prompts and expected answers are not repeated: they stay in the training set and the suite.
    """
    return {
        "verdict": judged.verdict.value,
        "sentence": judged.sentence,
        "reasons": [asdict(reason) for reason in judged.reasons],
        "suites": {name: [case.key for case in cases] for name, cases in suites.items()},
        "answers": {who: dict(sorted(said.items())) for who, said in answers.items()},
        "right": {
            who: sorted(
                case.key
                for cases in suites.values()
                for case in cases
                if gate.is_right(case, answers[who][case.key])
            )
            for who in ("champion", "challenger")
        },
    }
