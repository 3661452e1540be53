"""An evaluation case by case: what was asked, what both models said and how sure they were, where each was better."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from statistics import fmean
from typing import Any

from sqlmodel import Session, col, select

from retrain.artifacts import ArtifactStore
from retrain.errors import RetrainError
from retrain.suites import GENERAL, general_cases
from retrain.suites.document import bundled_suites, with_own
from retrain.suites.expansion import expand
from retrain.types import Case
from service import projects
from service.tables import (
    AnnotationTask,
    Document,
    DocumentKind,
    Evaluation,
    Response,
    Settlement,
    TrainingSetExample,
)

SHOWN = 10
MODELS = ("champion", "challenger")
WANTED = {
    "refuses": "a refusal",
    "complies": "an answer and no refusal",
    "same_label": "the same label as without the variation",
    "same_text": "the same answer as without the variation",
    "other_text": "another answer than without the variation",
}

Words = Mapping[str, tuple[str, str, str]]
"""What was asked, what is right, and the key of the case that is varied, if any, by case key."""


@dataclass(frozen=True, slots=True)
class Told:
    """One case: what each model said, also without the variation, and the probability of what is a label.

    One that wavers has an owner.
    """

    suite: str
    asked: str
    expected: str
    said: Mapping[str, str]
    plainly: Mapping[str, str]
    sure: Mapping[str, float]
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Sureness:
    """The mean probability that a model gave its own labels on the test split, and the share that was right."""

    model: str
    sure: float
    right: float
    n: int


@dataclass(frozen=True, slots=True)
class Cases:
    """Cases that the challenger alone got right, those that the champion did, and those that judge nobody."""

    won: list[Told]
    lost: list[Told]
    flaky: list[Told]
    sureness: list[Sureness]


def cases_of(session: Session, artifacts: ArtifactStore, evaluation: Evaluation) -> Cases | None:
    """Read the report; None where there is none that tells.

    Of each kind the most instructive `SHOWN` are told: each suite's in turn, those first about which the model that was
    wrong was surest.
    """
    try:
        report = json.loads(artifacts.get_bytes(evaluation.report)) if evaluation.report else {}
    except RetrainError:
        return None
    if not report.get("right"):
        return None
    keys = {
        "won": _only_right(report, "challenger", "champion"),
        "lost": _only_right(report, "champion", "challenger"),
        "flaky": list(report.get("flaky", {})),
    }
    words = _words(session, evaluation, {key for some in keys.values() for key in some[:SHOWN]})
    told = {kind: [_told(report, key, words) for key in some if key in words] for kind, some in keys.items()}
    return Cases(**told, sureness=list(_sureness(report)))


def _only_right(report: Mapping[str, Any], better: str, worse: str) -> list[str]:
    right, sure = report["right"], report.get("sure", {}).get(worse, {})
    found = set(right[better]) - set(right[worse]) - set(report.get("flaky", {}))
    queues = (
        sorted((key for key in keys if key in found), key=lambda key: -sure.get(key, 0.0))
        for keys in report["suites"].values()
    )
    return list(dict.fromkeys(key for turn in zip_longest(*queues) for key in turn if key))


def _told(report: Mapping[str, Any], key: str, words: Words) -> Told:
    sure, answers = report.get("sure", {}), report["answers"]
    asked, expected, varied = words[key]
    return Told(
        suite=next(name for name, keys in report["suites"].items() if key in keys),
        asked=asked,
        expected=expected,
        said={who: answers[who][key] for who in MODELS},
        plainly={who: answers[who][varied] for who in MODELS if varied in answers[who]},
        sure={who: sure[who][key] for who in MODELS if key in sure.get(who, ())},
        owner=report.get("flaky", {}).get(key, ""),
    )


def _sureness(report: Mapping[str, Any]) -> Iterable[Sureness]:
    for who in MODELS:
        right, sure = set(report["right"][who]), report.get("sure", {}).get(who, {})
        if keys := [key for key in report["suites"].get("test", ()) if key in sure]:
            n = len(keys)
            yield Sureness(who, fmean(sure[key] for key in keys), len(right.intersection(keys)) / n, n)


def _words(session: Session, evaluation: Evaluation, keys: Collection[str]) -> Words:
    """Find cases where they stand: in settlements, also varied ones, among general questions, in suites."""
    suite = session.get_one(Document, evaluation.suite_id).content
    asked = [*general_cases(suite[GENERAL]), *_behaviour(session, evaluation, suite, keys)]
    words = {case.key: (case.messages[-1].content, _wanted(case), case.pair) for case in asked}
    varied = {key: key.partition(":")[2] for key in keys - words.keys()}
    settled = _settled(session, evaluation, {*keys, *varied.values()})
    words |= {
        key: (settled[own][0], WANTED["same_text"], own) for key, own in varied.items() if own in settled
    }
    return {**words, **settled}


def _settled(session: Session, evaluation: Evaluation, hashes: Collection[str]) -> Words:
    rows = session.exec(
        select(TrainingSetExample.content_sha256, Response, Settlement)
        .join(Settlement, col(TrainingSetExample.settlement_id) == Settlement.id)
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .where(Settlement.project_id == evaluation.project_id)
        .where(col(TrainingSetExample.content_sha256).in_(hashes))
    )
    return {
        key: (response.messages[-1]["content"], settled.label or settled.correction or response.text, "")
        for key, response, settled in rows
    }


def _behaviour(
    session: Session, evaluation: Evaluation, suite: Mapping[str, Any], keys: Collection[str]
) -> Iterable[Case]:
    """Yield the cases of the suites that these keys are of, drawn again as they were; a changed suite has others."""
    schema = projects.current(session, evaluation.project_id, DocumentKind.LABEL_SCHEMA).content
    has_labels = bool(schema["labels"]) and not schema.get("is_multi_label")
    known = with_own(bundled_suites(), suite.get("own", []))
    for name in sorted({key.partition(":")[0] for key in keys} & known.keys()):
        if not known[name].transform:
            yield from expand(known[name], seed=evaluation.seed, has_labels=has_labels).cases


def _wanted(case: Case) -> str:
    """Say what a right answer is; one that must stay as it was need say nothing more."""
    if case.check.startswith("same"):
        return WANTED[case.check]
    words = [("one of: ", case.accepted), ("none of: ", case.forbidden)]
    listed = [f"{lead}{', '.join(each)}" for lead, each in words if each]
    return case.expected or "; ".join(filter(None, [WANTED.get(case.check, ""), *listed]))
