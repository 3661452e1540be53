"""Evaluations: what the gate said and why, both models before and after, and where each was better."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from flask import Response as WebResponse
from flask import url_for
from sqlalchemy import select as select_columns
from sqlmodel import col, select

from retrain.errors import RetrainError
from retrain.suites import GENERAL, general_cases
from service.answers import newest_evaluation
from service.clock import utcnow
from service.stages.promotion import what_to_approve
from service.tables import (
    AnnotationTask,
    Approval,
    Document,
    Evaluation,
    EvaluationState,
    ModelState,
    ModelVersion,
    Response,
    Score,
    Settlement,
    TrainingSetExample,
    User,
)
from service.web.auth import Access
from service.web.console.listing import Badge, Cell, Filter, Link, Listing
from service.web.console.page import Desk, bp, page
from service.web.console.text import word_diff
from service.web.state import runtime

SHOWN = 20
OVERALL = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of both models: overall when `slice` is empty."""

    suite: str
    metric: str
    slice: str
    champion: Score | None
    challenger: Score | None


@dataclass(frozen=True, slots=True)
class Example:
    """One case that the models answered differently, and what experts had settled on."""

    asked: str
    expected: str
    champion: str
    challenger: str
    pieces: Sequence[tuple[str, str]]


def _cells(desk: Desk, rows: Sequence[Any]) -> list[dict[str, Cell]]:
    return [
        {
            "version": Link(f"v{number}", url_for(".evaluation", slug=desk.project.slug, row_id=row.id)),
            "begun": row.created_at,
            "verdict": Badge(row.state.value),
            "sentence": row.sentence or row.failure,
        }
        for row, number in rows
    ]


EVALUATIONS = Listing(
    title="Evaluations",
    rows=lambda: select_columns(Evaluation, col(ModelVersion.number)).join(
        ModelVersion, col(Evaluation.model_version_id) == ModelVersion.id
    ),
    key=col(Evaluation.id),
    of_project=col(Evaluation.project_id),
    cells=_cells,
    empty="Nothing has been judged yet. Each run's evaluation follows by itself.",
    filters={
        "verdict": Filter("verdict", lambda text: Evaluation.state == text, lambda _: list(EvaluationState))
    },
)


@bp.get("/p/<slug>/evaluations")
@page(Access.READER)
def evaluations(desk: Desk) -> str | WebResponse:
    """List the verdicts."""
    return EVALUATIONS.answer(desk)


@bp.get("/p/<slug>/evaluations/<uuid:row_id>")
@page(Access.READER)
def evaluation(desk: Desk, row_id: UUID) -> str:
    """Show a verdict, its reasons, and the models side by side; and the form with which a person decides."""
    found = desk.row(Evaluation, row_id)
    challenger = desk.session.get_one(ModelVersion, found.model_version_id)
    champion = desk.session.get_one(ModelVersion, found.champion_id)
    wins, losses = _differences(desk, found)
    decisions = (
        select(Approval, User)
        .join(User, col(Approval.user_id) == User.id)
        .where(Approval.model_version_id == challenger.id)
        .order_by(col(Approval.id))
    )
    newest = newest_evaluation(desk.session, challenger.id)
    return desk.show(
        "evaluation.html",
        evaluation=found,
        challenger=challenger,
        champion=champion,
        compared=_compared(desk, found),
        wins=wins,
        losses=losses,
        shown=SHOWN,
        decisions=desk.session.exec(decisions).all(),
        seen=what_to_approve(desk.session, found),
        newer=newest if newest and newest.id != found.id else None,
        opened_at=utcnow().timestamp(),
        can_decide=challenger.state is ModelState.CHALLENGER and found.state is not EvaluationState.RUNNING,
    )


def _compared(desk: Desk, found: Evaluation) -> list[Compared]:
    scores = desk.session.exec(
        select(Score).where(Score.evaluation_id == found.id).order_by(col(Score.id))
    ).all()
    names = dict.fromkeys((score.suite, score.metric, score.slice) for score in scores)
    by = {(score.suite, score.metric, score.slice, score.model_version_id): score for score in scores}
    return [
        Compared(*name, by.get((*name, found.champion_id)), by.get((*name, found.model_version_id)))
        for name in sorted(names, key=lambda name: (name[2] != OVERALL, name))
    ]


def _differences(desk: Desk, found: Evaluation) -> tuple[list[Example] | None, list[Example] | None]:
    """Return cases that only the challenger got right, and those that only the champion did; None if unknown."""
    try:
        report = json.loads(runtime().artifacts.get_bytes(found.report)) if found.report else {}
    except RetrainError:
        return None, None
    right = {who: set(keys) for who, keys in report.get("right", {}).items()}
    if not right:
        return None, None
    order = list(dict.fromkeys(key for keys in report["suites"].values() for key in keys))
    won = [key for key in order if key in right["challenger"] and key not in right["champion"]]
    lost = [key for key in order if key in right["champion"] and key not in right["challenger"]]
    cases = _cases(desk, found, {*won[:SHOWN], *lost[:SHOWN]})
    return _examples(won, report["answers"], cases), _examples(lost, report["answers"], cases)


def _examples(
    keys: Iterable[str], answers: dict[str, dict[str, str]], cases: dict[str, tuple[str, str]]
) -> list[Example]:
    return [
        Example(
            asked=cases[key][0],
            expected=cases[key][1],
            champion=answers["champion"][key],
            challenger=answers["challenger"][key],
            pieces=word_diff(answers["champion"][key], answers["challenger"][key]),
        )
        for key in keys
        if key in cases
    ]


def _cases(desk: Desk, found: Evaluation, keys: set[str]) -> dict[str, tuple[str, str]]:
    """Return what was asked and what was right, by case: from settlements, and from the suite of general questions."""
    general = general_cases(desk.session.get_one(Document, found.suite_id).content[GENERAL])
    rows = desk.session.exec(
        select(TrainingSetExample.content_sha256, Response, Settlement)
        .join(Settlement, col(TrainingSetExample.settlement_id) == Settlement.id)
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .where(Settlement.project_id == desk.project.id, col(TrainingSetExample.content_sha256).in_(keys))
    )
    settled_on = {
        key: (response.messages[-1]["content"], settled.label or settled.correction or response.text)
        for key, response, settled in rows
    }
    return settled_on | {case.key: (case.messages[-1].content, case.expected) for case in general}
