"""Beside stage 6: people compare both models' answers until it is clear which they prefer."""

import json
from dataclasses import asdict
from typing import Any
from uuid import UUID

import structlog

from retrain import gate
from retrain.criteria import read_rules
from retrain.preference import Preference, Preferred, preference
from retrain.types import canonical_json
from service import comparisons, verdicts
from service.answers import describe_evaluation
from service.errors import TryAgain
from service.queue import Lease
from service.runtime import Runtime
from service.tables import Document, Evaluation, EvaluationState, ModelState, ModelVersion

BATCH = 20  # comparisons in people's hands at a time: more would be asked in vain once it is clear

log = structlog.get_logger()


def perform(runtime: Runtime, lease: Lease, evaluation_id: UUID) -> dict[str, Any]:
    """Count what people said; ask about more cases, or let the gate speak once that decides it or nothing is left."""
    with lease.transaction() as session:
        evaluation = session.get_one(Evaluation, evaluation_id)
        if evaluation.state is not EvaluationState.AWAITING_PEOPLE:
            return describe_evaluation(session, evaluation)
        model = session.get_one(ModelVersion, evaluation.model_version_id)
        if model.state is not ModelState.CHALLENGER:
            comparisons.give_up(session, evaluation, why=f"version {model.number} is {model.state} already")
            return describe_evaluation(session, evaluation)
        rules = read_rules(session.get_one(Document, evaluation.rules_id).content)
        tally = comparisons.tally_of(session, evaluation)
        found = preference(
            tally.wins,
            tally.losses,
            tally.ties + evaluation.people["identical"],
            confidence=rules.confidence,
            matters=rules.matters,
        )
        more = 0
        if found.preferred is Preferred.OPEN and tally.waiting < BATCH / 2:
            more = comparisons.ask_more(session, evaluation, BATCH - tally.waiting)
        evaluation.people = (
            evaluation.people
            | asdict(found)
            | {
                "asked": tally.asked + more,
                "waiting": tally.waiting + more,
                "ratings": comparisons.ratings_of(session, evaluation, confidence=rules.confidence),
            }
        )
        if found.preferred is Preferred.OPEN and tally.waiting + more:
            return describe_evaluation(session, evaluation)
        report_sha256 = evaluation.report or ""
    return _close(runtime, lease, evaluation_id, found, report_sha256)


def _close(
    runtime: Runtime, lease: Lease, evaluation_id: UUID, found: Preference, report_sha256: str
) -> dict[str, Any]:
    report = json.loads(runtime.artifacts.get_bytes(report_sha256))
    said = report.get("machines", report)  # a report from before is the machines' alone
    reasons = tuple(gate.Reason(**reason) for reason in said["reasons"])
    machines = gate.Judgement(gate.Verdict(said["verdict"]), said["sentence"], reasons)
    with lease.transaction() as session:
        evaluation = session.get_one(Evaluation, evaluation_id)
        if evaluation.report != report_sha256:  # somebody's words were erased from it meanwhile
            raise TryAgain("the report has changed; it is counted again")
        # Comparing took time, too, and users went on meanwhile.
        judged = gate.with_people(verdicts.with_use(session, evaluation, machines), found)
        told = {"people": evaluation.people, "reasons": [asdict(reason) for reason in judged.reasons]}
        judged_as = {"verdict": judged.verdict.value, "sentence": judged.sentence}
        evaluation.report = runtime.artifacts.put_bytes(canonical_json(report | told | judged_as))
        comparisons.stop_asking(session, evaluation)
        verdicts.close(session, runtime.queue, evaluation, judged)
        answer = describe_evaluation(session, evaluation)
    log.info("people_compared", verdict=judged.verdict.value, comparisons=found.n)
    return answer
