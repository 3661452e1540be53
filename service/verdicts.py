"""How an evaluation ends: its verdict, and what follows from it."""

from dataclasses import asdict

from sqlmodel import Session

from retrain import gate
from retrain.criteria import read_criteria, read_rules
from service import comparisons, ledger
from service.answers.outcomes import of_both
from service.answers.overview import effort
from service.clock import utcnow
from service.queue import JobQueue
from service.tables import (
    Document,
    Evaluation,
    EvaluationState,
    JobKind,
    ModelState,
    ModelVersion,
    Project,
)

STATE_OF = {
    gate.Verdict.PASSED: EvaluationState.PASSED,
    gate.Verdict.REFUSED: EvaluationState.REFUSED,
    gate.Verdict.CANNOT_TELL: EvaluationState.CANNOT_TELL,
}


def with_use(session: Session, evaluation: Evaluation, machines: gate.Judgement) -> gate.Judgement:
    """Add what came of both models' answers in use, and what people spent their time on, as both stand now."""
    criteria, rules, champion, challenger = (
        session.get_one(Document, evaluation.criteria_id).content["criteria"],
        read_rules(session.get_one(Document, evaluation.rules_id).content),
        session.get_one(ModelVersion, evaluation.champion_id),
        session.get_one(ModelVersion, evaluation.model_version_id),
    )
    came = of_both(session, champion, challenger)
    people, _ = effort(session, session.get_one(Project, evaluation.project_id), now=utcnow())
    judged = gate.with_outcomes(machines, read_criteria(criteria), came)
    return gate.with_effort(judged, rules, validating=people.validation, spent=people.total)


def await_people(session: Session, queue: JobQueue, evaluation: Evaluation, judged: gate.Judgement) -> None:
    """Write down what machines say, and leave the last word to people."""
    _note(evaluation, judged)
    evaluation.sentence = f"Awaiting people; machines say: {judged.sentence}"
    evaluation.state = EvaluationState.AWAITING_PEOPLE
    comparisons.ask_for_count(session, queue, evaluation.id, evaluation.project_id)


def close(session: Session, queue: JobQueue, evaluation: Evaluation, judged: gate.Judgement) -> None:
    """Give the verdict: a refused challenger is none any more, the ledger knows, and the set's tag gets the report."""
    _note(evaluation, judged)
    evaluation.state, evaluation.finished_at = STATE_OF[judged.verdict], utcnow()
    challenger = session.get_one(ModelVersion, evaluation.model_version_id)
    if judged.verdict is gate.Verdict.REFUSED and challenger.state is ModelState.CHALLENGER:
        challenger.state = ModelState.REFUSED
    ledger.append(
        session,
        actor="gate",
        action=f"evaluation_{judged.verdict}",
        subject=f"v{challenger.number}",
        project_id=evaluation.project_id,
        facts={"evaluation": str(evaluation.id), "report": evaluation.report, **evaluation.hashes},
    )
    queue.ask(
        session,
        JobKind.MIRROR,
        evaluation.training_set_id,
        project_id=evaluation.project_id,
        unique_key=f"{JobKind.MIRROR}:{evaluation.training_set_id}",
    )


def _note(evaluation: Evaluation, judged: gate.Judgement) -> None:
    evaluation.sentence = judged.sentence
    evaluation.reasons = [asdict(reason) for reason in judged.reasons]
