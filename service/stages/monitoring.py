"""Stage 8: watch what the champion's users flag and ask, and raise an alarm once where either is not as before."""

from collections.abc import Sequence
from random import Random
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from retrain.monitoring import FEWEST_ANSWERS, FEWEST_PROMPTS, Drift, Rise, drift, rise
from retrain.near_duplicates import nearest, text_of
from retrain.types import Message, Split
from service import ledger
from service.answers.monitors import DRIFTED, ROSE, Span, alarms_of, live_spans, newest_answers, reasons_given
from service.queue import Lease
from service.tables import (
    AnnotationTask,
    Project,
    Response,
    Settlement,
    TrainingRun,
    TrainingSetExample,
)

WATCHED, COMPARED = 5_000, 2_000  # of a version's answers, and of its set's prompts, the newest
PROMPTS, FIRST = 200, 200

log = structlog.get_logger()


def perform(lease: Lease, project_id: UUID) -> dict[str, Any]:
    """Look at what is live, and note in the ledger what is not as it was; of each kind once since it went live."""
    with lease.queue.db.reading() as session:
        project = session.get_one(Project, project_id)
        span = live_spans(session, project)[0]
        raised = {entry.action for entry in alarms_of(session, project, span)}
        rose = None if ROSE in raised else _rise(session, span)
        learned, asked = ([], []) if DRIFTED in raised else _prompts(session, span)
    drifted = _drift(learned, asked)
    told: dict[str, Any] = {"model_version": span.model.number}
    if rose:
        told[ROSE] = {"usual": round(rose.usual, 4), "answers": rose.answers}
    if drifted and drifted.is_alarming:
        told[DRIFTED] = {"farther": round(drifted.farther, 3), "answers": drifted.n}
    with lease.transaction() as session:
        for action in (ROSE, DRIFTED):
            if action in told:
                facts = {"model_version": f"v{span.model.number}", **told[action]}
                subject = f"v{span.model.number}"
                ledger.append(
                    session,
                    actor="monitoring",
                    action=action,
                    subject=subject,
                    project_id=project_id,
                    facts=facts,
                )
    log.info("monitored", version=span.model.number, alarms=len(told) - 1)
    return told


def _rise(session: Session, span: Span) -> Rise | None:
    """Compare with the version before, or, where it answered too little, with the first answers of this one."""
    flagged = [reasons is not None for reasons in reasons_given(session, span.model, most=WATCHED)]
    usual = [reasons is not None for reasons in reasons_given(session, span.before)] if span.before else []
    if len(usual) < FEWEST_ANSWERS:
        usual, flagged = flagged[:FIRST], flagged[FIRST:]
    return rise(usual, flagged)


def _prompts(session: Session, span: Span) -> tuple[list[str], list[str]]:
    """Return what a version learned from, and what it was asked last."""
    if span.model.training_run_id is None:
        return [], []
    set_id = session.get_one(TrainingRun, span.model.training_run_id).training_set_id
    learned = (
        select(Response.messages)
        .join(AnnotationTask, col(AnnotationTask.response_id) == Response.id)
        .join(Settlement, col(Settlement.task_id) == AnnotationTask.id)
        .join(TrainingSetExample, col(TrainingSetExample.settlement_id) == Settlement.id)
        .where(TrainingSetExample.training_set_id == set_id, TrainingSetExample.split == Split.TRAIN)
        .where(col(Response.erased_at).is_(None))
        .order_by(col(Settlement.id).desc())
        .limit(COMPARED)
    )
    newest = newest_answers(span.model, most=PROMPTS)
    asked = select_columns(col(Response.messages)).join(newest, newest.c.id == Response.id)
    return (
        [_text(messages) for messages in session.exec(learned)],
        [_text(messages) for (messages,) in session.execute(asked)],
    )


def _text(messages: Sequence[dict[str, str]]) -> str:
    return text_of([Message(**turn) for turn in messages])


def _drift(learned: Sequence[str], asked: Sequence[str]) -> Drift | None:
    if min(len(learned), len(asked)) < FEWEST_PROMPTS:
        return None
    drawn = Random(0).sample(range(len(learned)), min(PROMPTS, len(learned)))
    return drift(nearest(learned, drawn), nearest(learned, asked))
