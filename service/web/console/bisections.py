"""Bisections: what made a model version worse, how far the search is, and what can be done about it."""

import re
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from flask import Response, request, url_for
from pydantic import Field
from sqlalchemy import select as select_columns
from sqlmodel import col, select

from service import bisections
from service.answers.examples import LOOKED_UP
from service.stages import asking
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    Bisection,
    ModelVersion,
    RunState,
    Settlement,
    SettlementAnnotation,
    TrainingSet,
    User,
)
from service.tables import Response as ResponseRow
from service.web.auth import Access
from service.web.console.listing import Badge, Cell, Filter, Link, Listing
from service.web.console.page import Desk, Form, bp, page, parsed
from service.web.state import runtime

END_OF_ID = re.compile(r"\b[0-9a-f]{6}\b")


class BisectForm(Form):
    """Which version was better, by what, and the most configurations to be trained."""

    good: int
    metric: str = Field(max_length=64)
    budget: int | None = None


def _cells(desk: Desk, rows: Sequence[Any]) -> list[dict[str, Cell]]:
    told = [bisections.describe(desk.session, row) for row in rows]
    named = _naming(desk)
    return [
        {
            "question": Link(
                f"why is v{one['bad']} worse than v{one['good']}?",
                url_for(".bisection", slug=desk.project.slug, row_id=one["id"]),
            ),
            "metric": one["metric"].replace("_", " "),
            "answer": named(one["sentence"]) or None,
            "trainings": one["trainings"],
            "state": Badge(one["verdict"] or one["state"]),
        }
        for one in told
    ]


BISECTIONS = Listing(
    title="Bisections",
    rows=lambda: select_columns(Bisection),
    key=col(Bisection.id),
    of_project=col(Bisection.project_id),
    cells=_cells,
    empty="Nobody has asked what made a version worse. Ask on the page Models.",
    filters={"state": Filter("state", lambda text: Bisection.state == text, lambda _: list(RunState))},
)


@bp.get("/p/<slug>/bisections")
@page(Access.READER)
def bisection_list(desk: Desk) -> str | Response:
    """List the bisections."""
    return BISECTIONS.answer(desk)


@bp.get("/p/<slug>/models/<uuid:row_id>/bisect")
@page(Access.OPERATOR)
def ask_bisection(desk: Desk, row_id: UUID) -> str:
    """Ask against which version, and by what, a version is worse; once that is said, tell what it would take."""
    found = desk.row(ModelVersion, row_id)
    asked = parsed(BisectForm, request.args) if request.args else None
    planned = _planned(desk, found, asked) if asked else None
    trained = col(ModelVersion.training_run_id).is_not(None)
    others = select(ModelVersion.number).where(
        ModelVersion.project_id == desk.project.id, trained, ModelVersion.id != found.id
    )
    numbers = desk.session.exec(others.order_by(col(ModelVersion.number).desc())).all()
    return desk.show(
        "bisect.html",
        model=found,
        numbers=numbers,
        metrics=bisections.SHARES,
        asked=asked,
        planned=planned,
        named=_naming(desk),
    )


def _planned(desk: Desk, bad: ModelVersion, asked: BisectForm) -> dict[str, Any]:
    (good,) = bisections.find_versions(desk.session, desk.project, str(asked.good))
    return bisections.plan(runtime(), desk.session, good, bad, metric=asked.metric, budget=asked.budget)


@bp.post("/p/<slug>/models/<uuid:row_id>/bisect")
@page(Access.OPERATOR, form=BisectForm)
def bisect(desk: Desk, form: BisectForm, row_id: UUID) -> Response:
    """Ask what made a version worse than another."""
    (good,) = bisections.find_versions(desk.session, desk.project, str(form.good))
    bad, actor = desk.row(ModelVersion, row_id), desk.user
    desk.let_go()
    row = bisections.request(
        runtime(), good, bad, metric=form.metric, budget=form.budget, actor=actor.name, user=actor
    )
    return desk.done("It is being searched.", "console.bisection", row_id=row.id)


@bp.get("/p/<slug>/bisections/<uuid:row_id>")
@page(Access.READER, shows_text=True)
def bisection(desk: Desk, row_id: UUID) -> str:
    """Show a bisection: its answer, what is to blame, and what can be done about it."""
    facts, row = _facts(desk, row_id), desk.row(Bisection, row_id)
    runs = [bisections.run_of(desk.session, one) for one in (row.good_id, row.bad_id)]
    sets = [desk.session.get_one(TrainingSet, run.training_set_id) for run in runs]
    kinds = {change["kind"] for change in facts["told"]["changes"]}
    asker = desk.session.get(User, runs[1].requested_by) if runs[1].requested_by else None
    return desk.show(
        "bisection.html",
        whose=_whose(desk, facts["told"]["rows"]),
        sets=sets,
        is_code="code" in kinds,
        code=bisections.code_diff(runtime().artifacts, *runs) if "code" in kinds else [],
        asked_by=asker.name if asker and kinds & {"code", "configuration"} else "",
        **facts,
    )


@bp.get("/p/<slug>/bisections/<uuid:row_id>/part")
@page(Access.READER, shows_text=True)
def bisection_part(desk: Desk, row_id: UUID) -> str:
    """Show the part of a bisection that changes while it goes on."""
    return desk.show("_bisection.html", **_facts(desk, row_id))


@bp.post("/p/<slug>/bisections/<uuid:row_id>/ask-again")
@page(Access.OPERATOR)
def ask_about_rows(desk: Desk, row_id: UUID) -> Response:
    """Have experts asked again about the rows that are to blame."""
    rows = desk.row(Bisection, row_id).result.get("rows", [])
    asked = asking.ask_about(
        desk.session, desk.project, [UUID(row["row"]) for row in rows], actor=desk.user.name
    )
    return desk.done(f"{asked} of {len(rows)} rows are asked again.", "console.bisection", row_id=row_id)


def _facts(desk: Desk, row_id: UUID) -> dict[str, Any]:
    row = desk.row(Bisection, row_id)
    told = bisections.describe(desk.session, row)
    progress = told["progress"]
    spent, expected = progress.get("seconds", 0.0), progress.get("expected", {}).get("seconds", 0.0)
    return {
        "told": told,
        "bad_id": row.bad_id,
        "named": _naming(desk),
        "goes_on": told["state"] in bisections.GOES_ON,
        "seconds_left": max(0.0, expected - spent) if expected else None,
    }


def _naming(desk: Desk) -> Callable[[str], str]:
    """Return what puts accounts where a text has the ends of annotators' ids: what is stored names nobody."""
    everybody = desk.session.exec(select(Annotator.id, Annotator.account))
    accounts = {str(annotator)[-6:]: account for annotator, account in everybody}
    return lambda text: END_OF_ID.sub(lambda found: accounts.get(found[0], found[0]), text)


def _whose(desk: Desk, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, by settlement, what was asked, said and learned, the task, the flag behind it, and who answered."""
    keys = [UUID(row["row"]) for row in rows][:LOOKED_UP]
    found = desk.session.exec(
        select(Settlement, AnnotationTask, ResponseRow)
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .join(ResponseRow, col(AnnotationTask.response_id) == ResponseRow.id)
        .where(col(Settlement.id).in_(keys), Settlement.project_id == desk.project.id)
    )
    whose: dict[str, dict[str, Any]] = {
        str(settled.id): {
            "task": task.id,
            "flag": task.flag_id,
            "asked": answer.messages[-1]["content"],
            "said": answer.text,
            "learned": settled.correction or settled.label or ", ".join(settled.labels) or answer.text,
            "by": [],
        }
        for settled, task, answer in found
    }
    answered = desk.session.exec(
        select(SettlementAnnotation.settlement_id, Annotator)
        .join(Annotation, col(Annotation.id) == SettlementAnnotation.annotation_id)
        .join(Annotator, col(Annotator.id) == Annotation.annotator_id)
        .where(col(SettlementAnnotation.settlement_id).in_(keys))
    )
    for key, annotator in answered:
        whose[str(key)]["by"].append(annotator)
    return whose
