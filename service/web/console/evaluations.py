"""Evaluations: what the gate said and why, both models before and after, and where each was better."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from flask import Response as WebResponse
from flask import url_for
from sqlalchemy import select as select_columns
from sqlmodel import col, select

from retrain.intervals import Interval
from service import waivers
from service.answers import newest_evaluation
from service.answers.cases import MODELS, SHOWN, Told, cases_of
from service.champions import persons_missing
from service.clock import utcnow
from service.stages.promotion import asked_for, what_to_approve
from service.tables import (
    Approval,
    Document,
    Evaluation,
    EvaluationState,
    ModelState,
    ModelVersion,
    Score,
    User,
)
from service.web.auth import Access
from service.web.console.listing import Badge, Cell, Filter, Link, Listing
from service.web.console.page import Desk, bp, page
from service.web.console.text import word_diff
from service.web.state import runtime

OVERALL = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of both models: overall when `slice` is empty."""

    suite: str
    metric: str
    slice: str
    champion: Score | None
    challenger: Score | None

    @property
    def most(self) -> float:
        """The end of the scale on which both are drawn."""
        return max([1.0, *(score.high for score in (self.champion, self.challenger) if score)])


def _cells(desk: Desk, rows: Sequence[Any]) -> list[dict[str, Cell]]:
    return [
        {
            "version": Link(f"v{number}", url_for(".evaluation", slug=desk.project.slug, row_id=row.id)),
            "begun": row.created_at,
            "verdict": Badge(row.state.value),
            "sentence": _sentence(row, waivers.of_effort(desk.session, row)),
        }
        for row, number in rows
    ]


def _sentence(row: Evaluation, waiver: Document | None) -> str | None:
    said = row.sentence or row.failure
    return f"{said} Waived by {waiver.author} until {waiver.content['until']}." if waiver else said


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
@page(Access.READER, shows_text=True)
def evaluation(desk: Desk, row_id: UUID) -> str:
    """Show a verdict, its reasons, and the models side by side; and the form with which a person decides."""
    found = desk.row(Evaluation, row_id)
    challenger = desk.session.get_one(ModelVersion, found.model_version_id)
    champion = desk.session.get_one(ModelVersion, found.champion_id)
    cases = cases_of(desk.session, runtime().artifacts, found)
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
        preferred=_preferred(found.people),
        compared=_compared(desk, found),
        cases=cases,
        shown=SHOWN,
        pieces=_pieces,
        decisions=desk.session.exec(decisions).all(),
        seen=what_to_approve(desk.session, found),
        is_own=asked_for(desk.session, desk.project, challenger, desk.user),
        persons=persons_missing(desk.session, desk.project, found),
        waiver=waivers.of_effort(desk.session, found),
        may_waive=waivers.lacks_effort_alone(found),
        newer=newest if newest and newest.id != found.id else None,
        opened_at=utcnow().timestamp(),
        can_decide=challenger.state is ModelState.CHALLENGER and found.state is not EvaluationState.RUNNING,
    )


def _preferred(people: dict[str, Any]) -> list[tuple[str, Interval]]:
    """Return how far people prefer the challenger, over all and in each respect: 1 always, one half no difference."""
    shown = []
    if judged := people.get("wins", 0) + people.get("losses", 0):
        shown.append(("over all", Interval(people["rate"], people["low"], people["high"], judged)))
    for name, rated in people.get("ratings", {}).items():
        value, low, high = ((1 + rated[end]) / 2 for end in ("value", "low", "high"))
        shown.append((name, Interval(value, max(0.0, low), min(1.0, high), rated["n"])))
    return shown


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


def _pieces(examples: Sequence[Told]) -> list[tuple[Told, Sequence[tuple[str, str]]]]:
    """Put beside each case what the challenger said, word by word against the champion."""
    return [(each, word_diff(*(each.said[who] for who in MODELS))) for each in examples]
