"""Stage 6: judge a challenger against the champion on suites that nothing was trained on."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlmodel import Session, col, select

from retrain import archive, gate
from retrain.criteria import Criterion, read_criteria, read_rules
from retrain.errors import EmptySplit
from retrain.examination import (
    REGRESSION,
    TEST,
    TITLES,
    Answers,
    Model,
    answer_all,
    behaviour_suites,
    case_of,
    exam_of,
    known_of,
    known_to_base,
    report_of,
    scores,
    suite_answers,
)
from retrain.metrics.judged import Known
from retrain.near_duplicates import text_of
from retrain.suites import GENERAL, general_cases
from retrain.suites.expansion import Suite
from retrain.types import Case, Example, Split, canonical_json, content_hash, sha256_of
from service import comparisons, projects, verdicts
from service.answers import describe_evaluation, newest_evaluation
from service.answers.examinations import (
    NOTHING,
    About,
    about_cases,
    contaminated_rows,
    earlier_evaluations,
    flagged_rows,
    heard_in_reports,
)
from service.errors import CriteriaMissing, WrongState
from service.goalposts import FLAGGED
from service.learning import environment, read_set
from service.queue import Lease
from service.runtime import Runtime
from service.tables import (
    Document,
    DocumentKind,
    Evaluation,
    EvaluationState,
    ModelState,
    ModelVersion,
    Project,
    Score,
    TrainingRun,
    TrainingSet,
)

log = structlog.get_logger()


class Examiner(Protocol):
    """What a job hands over, so that this module loads without torch."""

    def read(self, path: Path) -> list[Example]: ...
    def open(self, base_model: str, system_prompt: str) -> Model: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What is judged, and by what."""

    evaluation: Evaluation
    project: Project
    champion: ModelVersion
    challenger: ModelVersion
    criteria: Document
    rules: Document
    suite: Document
    sets: Sequence[TrainingSet]
    labels: Sequence[str]
    about: Mapping[str, About]
    contaminated: Collection[str]
    flagged: Mapping[str, set[str]]

    @property
    def adapters(self) -> dict[str, str | None]:
        """The adapters of the models that are asked."""
        return {
            "base": None,
            "champion": self.champion.adapter_sha256,
            "challenger": self.challenger.adapter_sha256,
        }


@dataclass(frozen=True, slots=True)
class Examined:
    """Every suite, both models' answers, what they are judged by, and what the gate makes of these alone."""

    suites: Sequence[Suite]
    answers: Answers
    criteria: Sequence[Criterion]
    known: Known
    judged: gate.Judgement
    exam: str


def perform(runtime: Runtime, lease: Lease, model_id: UUID, examiner: Examiner) -> dict[str, Any]:
    """Score champion and challenger on every suite and let the gate judge.

    It answers the criteria and rules in force now. Those that the run was requested under stay named in its
    row; an approval is bound to the ones judged by, and a later change makes it stale. While people compare the same
    models by the same documents, nothing is examined again: what they said so far counts.

    Raises:
        EmptySplit: the training set has no test split.
        WrongState: the model version is not a challenger.
    """
    evaluation_id = _open(lease, model_id)
    with lease.transaction() as session:
        opened = session.get_one(Evaluation, evaluation_id)
        if opened.state is EvaluationState.AWAITING_PEOPLE:
            return describe_evaluation(session, opened)
        asked = _asked(session, evaluation_id)
    examined = _examine(runtime, lease, examiner, asked)
    suites, answers, criteria = examined.suites, examined.answers, examined.criteria
    with lease.transaction() as session:
        judged = verdicts.with_use(session, session.get_one(Evaluation, evaluation_id), examined.judged)
    report = report_of(suites, answers, judged, criteria, asked.labels) | {
        "machines": asdict(examined.judged)
    }
    kept = runtime.artifacts.put_bytes(canonical_json(report))
    scored = list(scores(suites, answers, criteria, known=examined.known, seed=asked.evaluation.seed))
    with lease.transaction() as session:
        evaluation = session.get_one(Evaluation, evaluation_id)
        evaluation.report, evaluation.hashes = kept, _hashes(asked, examined)
        evaluation.contaminated = len(asked.contaminated)
        for who, score in scored:
            version = asked.champion if who == "champion" else asked.challenger
            session.add(Score(evaluation_id=evaluation_id, model_version_id=version.id, **score))
        _close(session, runtime, evaluation, examined, judged)
        answer = describe_evaluation(session, evaluation)
    log.info("evaluation_finished", verdict=judged.verdict.value, sentence=judged.sentence)
    return answer


def _asked(session: Session, evaluation_id: UUID) -> Asked:
    evaluation = session.get_one(Evaluation, evaluation_id)
    project = session.get_one(Project, evaluation.project_id)
    champion = session.get_one(ModelVersion, evaluation.champion_id)
    challenger = session.get_one(ModelVersion, evaluation.model_version_id)
    suite = session.get_one(Document, evaluation.suite_id)
    sets = _sets_until(session, evaluation.training_set_id)
    return Asked(
        evaluation=evaluation,
        project=project,
        champion=champion,
        challenger=challenger,
        criteria=session.get_one(Document, evaluation.criteria_id),
        rules=session.get_one(Document, evaluation.rules_id),
        suite=suite,
        sets=sets,
        labels=projects.labels_to_choose(session, project.id),
        about=about_cases(session, project.id, roles=suite.content.get("known", {}).get("roles", [])),
        contaminated=contaminated_rows(session, sets[0], (champion, challenger)),
        flagged=flagged_rows(session, sets[0], suite.content),
    )


def _examine(runtime: Runtime, lease: Lease, examiner: Examiner, asked: Asked) -> Examined:
    """Ask the models every case, and judge; no transaction is open meanwhile."""
    suites = _suites(runtime, examiner, asked)
    learned = _rows(runtime, examiner, asked.sets[0], Split.TRAIN)
    known = known_of(asked.suite.content.get("known", {}), learned)
    behaviour = behaviour_suites(
        asked.suite.content.get("behaviour", []),
        asked.suite.content.get("own", []),
        test=suites[TEST].cases,
        trained=[text_of(each.messages) for each in learned],
        seed=asked.evaluation.seed,
        has_labels=bool(asked.labels),
    )
    behaviour += _of_reasons(asked.flagged, suites)
    cases = [case for each in (*suites.values(), *behaviour) for case in (*each.cases, *each.originals)]
    answers, exam = _ask(runtime, lease, examiner, asked, cases, general=suites[GENERAL].cases)
    general = known_to_base(suites[GENERAL].cases, answers["base"])
    suites[GENERAL] = replace(suites[GENERAL], cases=general)
    everything = [*suites.values(), *behaviour]
    criteria, rules = read_criteria(asked.criteria.content["criteria"]), read_rules(asked.rules.content)
    judged = gate.judge(
        criteria,
        rules,
        [suite_answers(each, answers, behaviour=each in behaviour) for each in everything if each.steady],
        seed=asked.evaluation.seed,
        known=known,
    )
    return Examined(everything, answers, criteria, known, judged, exam)


def _ask(
    runtime: Runtime,
    lease: Lease,
    examiner: Examiner,
    asked: Asked,
    cases: Sequence[Case],
    *,
    general: Sequence[Case],
) -> tuple[Answers, str]:
    """Return what each model answers, and the exam's hash; what was heard in that exam before is not asked again."""
    model = examiner.open(asked.project.base_model, asked.project.system_prompt)
    _add_adapters(runtime, model, asked.adapters)
    exam = exam_of(
        asked.challenger.base_sha256 or "",
        asked.project.system_prompt,
        cases,
        asked.labels,
        answered_by=[archive.sha256(), environment(runtime.settings)],
    )
    with lease.transaction() as session:
        earlier = earlier_evaluations(session, asked.project.id, exam)
    # Of a base model that is not judged only what can be forgotten is wanted.
    is_judged = None in (adapter for who, adapter in asked.adapters.items() if who != "base")
    of_base = cases if is_judged else general
    heard = heard_in_reports(runtime.artifacts, earlier, cases, of_base=of_base)
    only = {"base": general}
    return answer_all(
        model, asked.adapters, cases, asked.labels, heard=heard, only=only, report=lease.report
    ), exam


def _hashes(asked: Asked, examined: Examined) -> dict[str, str]:
    """Return what an approval of this evaluation rests on."""
    return {
        "adapter": asked.challenger.adapter_sha256 or "",
        "champion": asked.champion.adapter_sha256 or "",
        "training_set": asked.sets[0].fingerprint,
        "criteria": asked.criteria.sha256,
        "gate_rules": asked.rules.sha256,
        "suite": asked.suite.sha256,
        "exam": examined.exam,
        "cases": sha256_of({each.name: sorted(case.key for case in each.cases) for each in examined.suites}),
    }


def _close(
    session: Session,
    runtime: Runtime,
    evaluation: Evaluation,
    examined: Examined,
    judged: gate.Judgement,
) -> None:
    """Give the verdict, or leave the last word to people, whom a refused challenger would only cost time."""
    rules = read_rules(session.get_one(Document, evaluation.rules_id).content)
    if not rules.ask_people or judged.verdict is gate.Verdict.REFUSED:
        verdicts.close(session, runtime.queue, evaluation, judged)
        return
    [test] = [suite for suite in examined.suites if suite.name == TEST]
    comparisons.prepare(
        session,
        evaluation,
        test.cases,
        {who: {key: one.text for key, one in said.items()} for who, said in examined.answers.items()},
        tool=rules.ask_people,
        most=rules.max_comparisons,
    )
    verdicts.await_people(session, runtime.queue, evaluation, judged)


def _open(lease: Lease, model_id: UUID) -> UUID:
    """Return the evaluation that an earlier attempt or people are at, or a fresh one naming what it uses."""
    with lease.transaction() as session:
        newest = newest_evaluation(session, model_id)
        if newest and newest.state is EvaluationState.RUNNING:
            return newest.id
        challenger = session.get_one(ModelVersion, model_id)
        if challenger.state not in (ModelState.CHALLENGER, ModelState.REFUSED):
            raise WrongState(f"model version {challenger.number} is {challenger.state}, not a challenger")
        judged_by: dict[str, Any] = {
            "criteria_id": _newest(session, challenger.project_id, DocumentKind.CRITERIA),
            "rules_id": _newest(session, challenger.project_id, DocumentKind.GATE_RULES),
            "suite_id": _newest(session, challenger.project_id, DocumentKind.SUITE),
        }
        champion = session.exec(
            select(ModelVersion).where(
                ModelVersion.project_id == challenger.project_id, ModelVersion.state == ModelState.CHAMPION
            )
        ).one()
        if newest and challenger.state is ModelState.REFUSED:
            _refuse_moved(challenger, newest, judged_by)
        if newest and newest.state is EvaluationState.AWAITING_PEOPLE:
            if comparisons.is_about(newest, judged_by, champion, challenger):
                return newest.id
            comparisons.give_up(session, newest, why="it is judged again")
        challenger.state = ModelState.CHALLENGER
        run = session.get_one(TrainingRun, challenger.training_run_id)
        evaluation = Evaluation(
            project_id=challenger.project_id,
            model_version_id=model_id,
            champion_id=champion.id,
            training_set_id=run.training_set_id,
            **judged_by,
        )
        session.add(evaluation)
        return evaluation.id


def _refuse_moved(challenger: ModelVersion, refused: Evaluation, judged_by: Mapping[str, UUID]) -> None:
    """Refuse to judge what was refused by other goalposts: those of today are for what is trained from now on."""
    if any(getattr(refused, name) != id_ for name, id_ in judged_by.items()):
        raise WrongState(
            f"version {challenger.number} was refused by other criteria, rules or suites than today's; train anew"
        )


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


def _suites(runtime: Runtime, examiner: Examiner, asked: Asked) -> dict[str, Suite]:
    """Return the newest test split, every earlier one that differs from it, resolved flags and the general suite.

    Test rows that a model learned judge nobody.

    Raises:
        EmptySplit: there is no test split to judge by.
    """
    found: dict[str, list[Case]] = {}
    sets, about = asked.sets, asked.about
    for number, training_set in enumerate(sets):
        rows = _rows(runtime, examiner, training_set, Split.TEST)
        cases = [case for row in rows if (case := _case(row, about)).key not in asked.contaminated]
        name = f"{TEST}/v{training_set.version}" if number else TEST
        if {case.key for case in cases} not in [{case.key for case in known} for known in found.values()]:
            found[name] = cases
    if not found.get(TEST):
        raise EmptySplit(
            f"training set {sets[0].fingerprint}: has no test split that is new to both models; "
            "settle randomly drawn responses"
        )
    resolved = [_case(example, about) for example in _rows(runtime, examiner, sets[0], Split.REGRESSION)]
    found |= {GENERAL: general_cases(asked.suite.content[GENERAL])} | (
        {REGRESSION: resolved} if resolved else {}
    )
    return {
        name: Suite(name, TITLES.get(name, name), "", [replace(case, suite=name) for case in cases])
        for name, cases in found.items()
    }


def _of_reasons(flagged: Mapping[str, set[str]], suites: Mapping[str, Suite]) -> Iterator[Suite]:
    """Make suites of the cases that are held out with each reason; cases that no set holds yet wait for the next."""
    held_out = [case for name in (TEST, REGRESSION) if name in suites for case in suites[name].cases]
    for reason, keys in flagged.items():
        name = f"{FLAGGED}/{reason}"
        if cases := [replace(case, suite=name) for case in held_out if case.key in keys]:
            yield Suite(name, f"flags of {reason.replace('_', ' ')}", "", cases)


def _rows(runtime: Runtime, examiner: Examiner, training_set: TrainingSet, split: Split) -> list[Example]:
    """Return a part of a set's rows whose right answer is known."""
    rows = read_set(runtime, training_set, examiner.read)
    return [each for each in rows if each.split is split and each.is_wanted]


def _case(example: Example, about: Mapping[str, About]) -> Case:
    known = about.get(content_hash(example), NOTHING)
    return replace(case_of(example, known.attributes), context=known.context, roles=known.roles)
