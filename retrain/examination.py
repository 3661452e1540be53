"""An examination: suites of cases, the answers of several models to them, and what these come to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from math import exp, inf, isfinite, isnan
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from retrain.criteria import Criterion
from retrain.errors import EmptySplit, MetricFailed, WrongSuite
from retrain.evidence import Role, SuiteAnswers
from retrain.gate import Judgement
from retrain.metrics import CHECKS, is_right, metric_named
from retrain.metrics.judged import Answer, Known, judged_of
from retrain.metrics.statistics import measure
from retrain.near_duplicates import text_of
from retrain.suites import GENERAL
from retrain.suites.document import bundled_suites, read_known, with_own
from retrain.suites.expansion import Suite, expand, leaked
from retrain.types import Case, Example, Kind, Message, content_hash, sha256_of

TEST = "test"
REGRESSION = "regression"
TITLES = {TEST: "the test split", GENERAL: "general knowledge", REGRESSION: "resolved flags"}
# Metrics that are shown with a check's own, where they apply.
SAID_BESIDE = {
    "label": ("macro_f1", "calibration_error", "misdirection", "abstention", "cost"),
    "exact": ("rouge_l",),
}
MAX_NEW_TOKENS = {"contains": 16}
USUAL_NEW_TOKENS = 96
PORTION = 240  # of cases, between two looks at how far it is
NAMED = 3
LENGTHS = ((15, "short"), (60, "middling"), (inf, "long"))  # of a prompt, in words

Answers = Mapping[str, Mapping[str, Answer]]
"""Answers by model, then by case key."""


class Model(Protocol):
    """A loaded base model that can put adapters on."""

    def add_adapter(self, name: str, directory: Path) -> None: ...
    def using(self, name: str | None) -> AbstractContextManager[None]: ...
    def answer(self, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int) -> list[str]: ...
    def score_labels(
        self, conversations: Sequence[Sequence[Message]], labels: Sequence[str]
    ) -> list[list[float]]: ...


def behaviour_suites(
    wanted: Sequence[str],
    own: Sequence[Any],
    *,
    test: Sequence[Case],
    trained: Sequence[str],
    seed: int,
    has_labels: bool,
) -> list[Suite]:
    """Draw the behavioural suites that a project wants; `own` are its documents, `test` its cases that some vary.

    One that the project has no cases for is left out. `trained` are the prompts of training, as `text_of` gives them.

    Raises:
        WrongSuite: one is not known, cannot be read, or its cases are nearly what was trained on.
    """
    known = with_own(bundled_suites(), own)
    suites = []
    for name in wanted:
        if name not in known:
            raise WrongSuite(f"no suite is called {name!r}; there are {', '.join(sorted(known))}")
        try:
            suite = expand(known[name], seed=seed, own=test, has_labels=has_labels)
        except EmptySplit:
            continue
        if not known[name].transform and (keys := set(leaked(suite.cases, trained))):
            said = [text_of(case.messages)[:60] for case in suite.cases if case.key in keys][:NAMED]
            raise WrongSuite(
                f"suite {name!r}: {len(keys)} cases are nearly what was trained on, such as {said}; "
                "take them out of the suite or of the training set"
            )
        suites.append(replace(suite, cases=[replace(case, suite=name) for case in suite.cases]))
    return suites


def known_of(document: Any, learned: Sequence[Example]) -> Known:
    """Put together what a project's document says of it, and what the rows of training say.

    Raises:
        WrongSuite: the document cannot be read.
    """
    said = read_known(document)
    return Known(
        **said.model_dump(exclude={"costs", "roles"}, exclude_defaults=True),
        approved=[row.answer for row in learned],
        learned=[text for row in learned for text in (*(turn.content for turn in row.messages), row.answer)],
        costs={(right, given): cost for right, row in said.costs.items() for given, cost in row.items()},
    )


def case_of(example: Example, slices: Mapping[str, str] = MappingProxyType({})) -> Case:
    """Make a case of a row that nothing was trained on; its label is a slice too, and how long its prompt is."""
    is_label = example.kind is Kind.CLASSIFICATION
    length = next(name for most, name in LENGTHS if len(example.prompt.split()) <= most)
    return Case(
        key=content_hash(example),
        suite=TEST,
        messages=example.messages,
        expected=example.answer,
        check="label" if is_label else "exact",
        slices={"length": length, **slices, **({"label": example.answer} if is_label else {})},
    )


def answer_all(
    model: Model,
    adapters: Mapping[str, str | None],
    cases: Sequence[Case],
    labels: Sequence[str],
    *,
    heard: Mapping[str | None, Mapping[str, Answer]] = MappingProxyType({}),
    only: Mapping[str, Sequence[Case]] = MappingProxyType({}),
    report: Callable[..., None],
) -> Answers:
    """Ask each model every case once, the base under None; what an adapter was heard to say is not asked again.

    A model that `only` names is asked those cases alone, unless it is the same as one that is asked all.
    """
    unique = list({case.key: case for case in cases}.values())
    asked = {adapter: list(only.get(who, unique)) for who, adapter in adapters.items()}
    asked |= {adapter: unique for who, adapter in adapters.items() if who not in only}
    said = dict(heard)
    step, steps = 0, sum(len(own) for adapter, own in asked.items() if adapter not in said)
    for who, adapter in adapters.items():
        report(step=step, steps=steps, asking=who)
        if adapter not in said:
            said[adapter] = own = dict[str, Answer]()
            with model.using(adapter):
                for answers in _in_portions(model, asked[adapter], labels):
                    own |= answers
                    step += len(answers)
                    report(step=step, steps=steps, asking=who)
    return {who: said[adapter] for who, adapter in adapters.items()}


def exam_of(
    base: str, system_prompt: str, cases: Sequence[Case], labels: Sequence[str], *, answered_by: object
) -> str:
    """Return the hash of all that an adapter's answers hang on: base, questions in their order, labels, code, machine.

    Batches go by the order, and bfloat16 rounds by the batch. `answered_by` is JSON that names code, packages, machine.
    """
    questions = {case.key: [asdict(turn) for turn in case.messages] for case in cases}
    checks = {case.key: case.check for case in cases}
    return sha256_of([base, system_prompt, list(questions.items()), checks, list(labels), answered_by])


def heard_in(report: Mapping[str, Any], who: str, cases: Sequence[Case]) -> dict[str, Answer] | None:
    """Return one model's answers from an earlier report, if it still has all."""
    said, sure = report["answers"].get(who, {}), report.get("probabilities", {}).get(who, {})
    if any(case.key not in said for case in cases):
        return None
    labels = report.get("labels", ())
    return {
        key: Answer(text, dict(zip(labels, sure[key], strict=True)) if key in sure else None)
        for key, text in said.items()
    }


def ask(model: Model, cases: Sequence[Case], labels: Sequence[str]) -> dict[str, Answer]:
    """Return one model's answers by case key: the likeliest label, where there are any, or what it writes.

    Raises:
        MetricFailed: a label's likelihood is no number; the case is named.
    """
    return {key: one for answers in _in_portions(model, cases, labels) for key, one in answers.items()}


def _in_portions(model: Model, cases: Sequence[Case], labels: Sequence[str]) -> Iterator[dict[str, Answer]]:
    """Yield answers a few batches at a time, so that somebody who waits sees how far it is; long cases come first."""
    ordered = sorted(cases, key=lambda case: -sum(len(turn.content) for turn in case.messages))
    chosen = [case for case in ordered if case.is_labelled and labels]
    for portion in _parted(chosen):
        likelihoods = model.score_labels([case.messages for case in portion], labels)
        yield {
            case.key: _likeliest(case, row, labels) for case, row in zip(portion, likelihoods, strict=True)
        }
    written = [case for case in ordered if not (case.is_labelled and labels)]
    for tokens in sorted({_tokens(case) for case in written}):
        for portion in _parted([case for case in written if _tokens(case) == tokens]):
            said = model.answer([case.messages for case in portion], max_new_tokens=tokens)
            yield {case.key: Answer(text) for case, text in zip(portion, said, strict=True)}


def _parted(cases: Sequence[Case]) -> Iterator[Sequence[Case]]:
    return (cases[start : start + PORTION] for start in range(0, len(cases), PORTION))


def _likeliest(case: Case, likelihoods: Sequence[float], labels: Sequence[str]) -> Answer:
    """Choose the likeliest label, of equal ones the first; the probabilities are among these labels."""
    best = max(likelihoods)
    if not isfinite(best) or any(map(isnan, likelihoods)):
        raise MetricFailed("likelihood", case.key, f"scored {likelihoods}")
    weights = [exp(each - best) for each in likelihoods]
    total = sum(weights)  # rounded, so that a report says all of it
    chances = {label: round(weight / total, 6) for label, weight in zip(labels, weights, strict=True)}
    return Answer(labels[likelihoods.index(best)], chances)


def known_to_base(cases: Sequence[Case], answers: Mapping[str, Answer]) -> list[Case]:
    """Keep the questions that the base model answers rightly: only those can be forgotten."""
    return [one.case for one in judged_of(cases, answers) if is_right(one)]


def suite_answers(suite: Suite, answers: Answers, *, behaviour: bool) -> SuiteAnswers:
    """Put both models' answers beside each other; cases that are known to waver judge nobody."""
    role = Role.BEHAVIOUR if behaviour else Role.TARGET if suite.name == TEST else Role.PROTECTED
    champion, challenger = (judged_of(suite.steady, answers[who]) for who in ("champion", "challenger"))
    return SuiteAnswers(suite.name, role, champion, challenger, title=suite.title)


def scores(
    suites: Sequence[Suite], answers: Answers, criteria: Sequence[Criterion], *, known: Known, seed: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each model's scores with their intervals, overall and by slice; what a metric fails on has none."""
    for who in ("champion", "challenger"):
        for suite in suites:
            for slice_, members in _sliced(suite.steady).items():
                said = judged_of(members, answers[who])
                for metric in [CHECKS[members[0].check]] if slice_ else _measured(suite, criteria):
                    try:
                        interval = measure(said, metric, seed=seed, known=known)
                    except (MetricFailed, EmptySplit):
                        continue
                    yield who, {"suite": suite.name, "metric": metric, "slice": slice_, **asdict(interval)}


def _measured(suite: Suite, criteria: Sequence[Criterion]) -> list[str]:
    """Return the metrics of a suite: by how its cases are checked, what is said beside, and what criteria name."""
    checks = dict.fromkeys(case.check for case in suite.cases)
    names = [name for check in checks for name in (CHECKS[check], *SAID_BESIDE.get(check, ()))]
    return list(dict.fromkeys([*names, *(each.metric for each in criteria if each.suite == suite.name)]))


def report_of(
    suites: Sequence[Suite],
    answers: Answers,
    judged: Judgement,
    criteria: Sequence[Criterion],
    labels: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what the verdict rests on: each model's answers, in its own words, and which are right, by case key.

    Where a model chose among labels, `probabilities` are theirs in the order of `labels`, and `sure` is its answer's.
    Prompts and expected answers are not repeated: they stay in the training set and the suite. The metrics' and the
    suites' versions are told, and who owns the cases that waver.
    """
    metrics = {name for suite in suites for name in _measured(suite, criteria)}
    return {
        "verdict": judged.verdict.value,
        "sentence": judged.sentence,
        "reasons": [asdict(reason) for reason in judged.reasons],
        "metrics": {name: metric_named(name).version for name in sorted(metrics)},
        "suites": {suite.name: [case.key for case in suite.cases] for suite in suites},
        "versions": {suite.name: suite.version for suite in suites if suite.version},
        "flaky": {key: owner for suite in suites for key, owner in suite.flaky.items()},
        "answers": {who: {key: said[key].text for key in sorted(said)} for who, said in answers.items()},
        "labels": list(labels),
        "probabilities": {
            who: {
                key: [one.probabilities[label] for label in labels]
                for key, one in sorted(said.items())
                if one.probabilities is not None
            }
            for who, said in answers.items()
        },
        "sure": {
            who: {key: round(one.sure, 4) for key, one in sorted(said.items()) if one.sure is not None}
            for who, said in answers.items()
        },
        "right": {
            who: sorted(
                one.case.key
                for suite in suites
                for one in judged_of(suite.cases, answers[who])
                if is_right(one)
            )
            for who in ("champion", "challenger")
        },
    }


def report_without(told: Any, hashes: set[str]) -> Any:
    """Return a report without the entries and list items of these cases, and of `SUITE:KEY`, which varies one."""

    def is_named(one: Any) -> bool:
        return isinstance(one, str) and not hashes.isdisjoint((one, one.partition(":")[2]))

    if isinstance(told, dict):
        return {key: report_without(value, hashes) for key, value in told.items() if not is_named(key)}
    if isinstance(told, list):
        return [report_without(one, hashes) for one in told if not is_named(one)]
    return told


def slice_named(name: str, value: str) -> str:
    """Return what the figures of cases with this attribute are kept under."""
    return f"{name}={value}"[:100]


def _sliced(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Return all cases under the empty name, then each slice's under `name=value`."""
    sliced: dict[str, list[Case]] = {"": list(cases)} if cases else {}
    for case in cases:
        for name, value in sorted(case.slices.items()):
            sliced.setdefault(slice_named(name, value), []).append(case)
    return sliced


def _tokens(case: Case) -> int:
    return MAX_NEW_TOKENS.get(case.check, USUAL_NEW_TOKENS)
