"""Stage 7: a person's yes, bound to everything they saw, and the switch."""

from collections.abc import Mapping
from datetime import date
from uuid import UUID

from sqlmodel import Session, col, select

from retrain.amounts import how_many
from service import champions, people, projects, queue, waivers
from service.answers import newest_evaluation
from service.clock import utcnow
from service.errors import (
    AlreadyDecided,
    ApprovalMissing,
    ApprovalStale,
    Invalid,
    NotFound,
    SamePerson,
    WrongState,
)
from service.tables import (
    Approval,
    Decision,
    Document,
    DocumentKind,
    Evaluation,
    EvaluationState,
    Job,
    JobKind,
    ModelState,
    ModelVersion,
    Project,
    Promotion,
    PromotionKind,
    TrainingRun,
    TrainingSet,
    User,
)


def what_to_approve(session: Session, evaluation: Evaluation) -> dict[str, str]:
    """Return the hashes that an approval of this evaluation is bound to, as they are now."""
    model = session.get_one(ModelVersion, evaluation.model_version_id)
    training_set = session.get_one(TrainingSet, evaluation.training_set_id)
    return {
        "adapter": model.adapter_sha256 or "",
        "training_set": training_set.fingerprint,
        "criteria": projects.current(session, evaluation.project_id, DocumentKind.CRITERIA).sha256,
        "gate_rules": projects.current(session, evaluation.project_id, DocumentKind.GATE_RULES).sha256,
        "suite": projects.current(session, evaluation.project_id, DocumentKind.SUITE).sha256,
        "report": evaluation.report or "",
        "champion": str(champions.newest_promotion(session, evaluation.project_id).model_version_id),
    }


def decide(
    session: Session,
    project: Project,
    *,
    evaluation_id: UUID,
    model_version: int,
    adapter_sha256: str,
    training_set: str,
    decision: Decision,
    reason: str,
    user: User,
    seconds_spent: float = 0.0,
    seen_decisions: int | None = None,
) -> Approval:
    """Record a person's decision on a challenger that the gate passed.

    Raises:
        NotFound: there is no such evaluation in the project.
        AlreadyDecided: somebody decided since the person saw `seen_decisions` decisions on this version.
        ApprovalStale: what the person saw is not what is there now.
        SamePerson: the project wants another person to approve than asked for the training, or this one waived a rule.
        WrongState: the gate did not pass this challenger and no waiver lets it through, or it is not one any more.
        Invalid: no reason is given.
    """
    _refuse_unsaid(reason)
    champions.take_turns(session, project)
    evaluation = _of_project(session, project, evaluation_id)
    model = session.get_one(ModelVersion, evaluation.model_version_id)
    seen = {"model_version": str(model_version), "adapter": adapter_sha256, "training_set": training_set}
    current = what_to_approve(session, evaluation) | {"model_version": str(model.number)}
    _refuse_stale({name: current[name] for name in seen}, seen)
    if seen_decisions is not None:
        _refuse_decided(session, model, seen_decisions)
    _refuse_undecidable(session, project, evaluation, decision=decision, user=user)
    approval = Approval(
        project_id=project.id,
        evaluation_id=evaluation.id,
        model_version_id=model.id,
        user_id=user.id,
        decision=decision,
        reason=reason,
        seconds_spent=seconds_spent,
        hashes=what_to_approve(session, evaluation),
    )
    session.add(approval)
    session.flush()
    if decision is Decision.REJECTED:
        model.state = ModelState.REFUSED
        champions.mirror(session, model)
    champions.note(session, model, user=user, action=decision.value, facts=approval.hashes)
    return approval


def asked_for(session: Session, project: Project, model: ModelVersion, user: User) -> bool:
    """Say whether a person asked for the training of a version that the project wants another one to approve."""
    run = session.get(TrainingRun, model.training_run_id) if model.training_run_id else None
    return bool(project.persons_needed > 1 and run and run.requested_by == user.id)


def waive_effort(
    session: Session, project: Project, evaluation_id: UUID, *, user: User, reason: str, until: date
) -> Document:
    """Let another person approve, until a day, what lacks nothing but time that people spent on validation.

    Raises:
        NotFound: there is no such evaluation in the project.
        WrongState: the gate passed it, or misses something else.
        Invalid: there is no reason, or the day is past or more than a year away.
    """
    evaluation = _of_project(session, project, evaluation_id)
    if not waivers.lacks_effort_alone(evaluation):
        raise WrongState("only a verdict that misses nothing but time on validation can be waived")
    about = {"rule": waivers.EFFORT, "evaluation": str(evaluation.id)}
    name = waivers.effort_name(evaluation)
    waiver = waivers.waive(session, project, name, about, user=user, reason=reason, until=until)
    model = session.get_one(ModelVersion, evaluation.model_version_id)
    champions.note(session, model, user=user, action="effort_waived", facts=waiver.content)
    return waiver


def promote(session: Session, project: Project, *, model_version: int | None, user: User) -> Promotion:
    """Make an approved challenger the champion.

    Raises:
        NotFound: there is no such version.
        ApprovalStale: something the approval names has changed since.
        ApprovalMissing: nobody approved it, or fewer persons than the project wants.
        WrongState: it is not a challenger, or somebody else promoted at the same moment.
    """
    champions.take_turns(session, project)
    live = champions.newest_promotion(session, project.id)
    found = _newest_approval(session, project, model_version)
    if found is None:
        raise ApprovalMissing(f"project {project.slug}: no approved version {model_version or ''}".rstrip())
    approval, model = found
    if model.state is not ModelState.CHALLENGER:
        raise WrongState(f"version {model.number} is {model.state}, not a challenger")
    evaluation = session.get_one(Evaluation, approval.evaluation_id)
    _refuse_stale(what_to_approve(session, evaluation), approval.hashes)
    _refuse_outdated(session, evaluation)
    if missing := champions.persons_missing(session, project, evaluation):
        raise ApprovalMissing(
            f"version {model.number}: {how_many(missing, 'more person', 'have')} to approve it"
        )
    why, kind = approval.reason, PromotionKind.PROMOTION
    promotion = champions.switch(
        session, project, model, kind, live=live, user=user, reason=why, approval=approval
    )
    _recheck(session, model)
    return promotion


def roll_back(
    session: Session, project: Project, *, reason: str, user: User, seen_seq: int | None = None
) -> Promotion:
    """Make the version that was live before the champion live again.

    Raises:
        ApprovalStale: the champion is no longer the one of the promotion `seen_seq`, which the person saw.
        WrongState: nothing was live before.
        Invalid: no reason is given.
    """
    _refuse_unsaid(reason)
    champions.take_turns(session, project)
    live = champions.newest_promotion(session, project.id)
    if seen_seq is not None and live.seq != seen_seq:
        raise ApprovalStale("the champion has changed since; look again at what is live")
    history = (
        select(Promotion.kind, Promotion.model_version_id)
        .where(Promotion.project_id == project.id)
        .order_by(col(Promotion.seq))
    )
    # A rollback takes the last promotion off, so that a second one goes further back and never forward.
    stack: list[UUID] = []
    for kind, model_id in session.exec(history):
        if kind is PromotionKind.ROLLBACK:
            stack.pop()
        else:
            stack.append(model_id)
    if len(stack) < 2:
        raise WrongState(f"project {project.slug}: nothing was live before the present champion")
    previous = session.get_one(ModelVersion, stack[-2])
    return champions.switch(
        session, project, previous, PromotionKind.ROLLBACK, live=live, user=user, reason=reason
    )


def override(
    session: Session, project: Project, *, model_version: int, reason: str, user: User, second_token: str
) -> Promotion:
    """Put a version live at once past gate and approval, by two persons; everybody who may hear of alarms does.

    Raises:
        NotFound: there is no such version.
        SamePerson: the token is not that of another person who may approve.
        WrongState: it is live already.
        Invalid: no reason is given.
    """
    _refuse_unsaid(reason)
    champions.take_turns(session, project)
    live = champions.newest_promotion(session, project.id)
    of_number = (ModelVersion.project_id == project.id, ModelVersion.number == model_version)
    model = session.exec(select(ModelVersion).where(*of_number)).first()
    if model is None:
        raise NotFound(f"project {project.slug} has no version {model_version}")
    second = people.second_approver(session, project.id, user, second_token)
    if second is None:
        raise SamePerson("an override needs the token of a second person who may approve")
    if model.state is ModelState.CHAMPION:
        raise WrongState(f"version {model.number} is live already")
    facts = {"second": str(second.id), "was": model.state.value}
    promotion = champions.switch(
        session, project, model, PromotionKind.OVERRIDE, live=live, user=user, reason=reason, facts=facts
    )
    _recheck(session, model)
    return promotion


def _recheck(session: Session, model: ModelVersion) -> None:
    """Have what users flagged asked of the version that learned from it: only then they hear that it is fixed."""
    job = Job(kind=JobKind.RECHECK, project_id=model.project_id, row_id=model.id, not_before=utcnow())
    job.unique_key = f"{JobKind.RECHECK}:{model.id}"
    queue.add(session, job)


def _newest_approval(
    session: Session, project: Project, number: int | None
) -> tuple[Approval, ModelVersion] | None:
    """Return the newest approval that no later decision on the same version took back."""
    decisions = (
        select(Approval, ModelVersion)
        .join(ModelVersion, col(Approval.model_version_id) == ModelVersion.id)
        .where(Approval.project_id == project.id)
        .order_by(col(Approval.id).desc())
    )
    if number is not None:
        decisions = decisions.where(ModelVersion.number == number)
    decided: set[UUID] = set()
    for approval, model in session.exec(decisions):
        if model.id not in decided and approval.decision is Decision.APPROVED:
            return approval, model
        decided.add(model.id)
    return None


def _of_project(session: Session, project: Project, evaluation_id: UUID) -> Evaluation:
    evaluation = session.get(Evaluation, evaluation_id)
    if evaluation is None or evaluation.project_id != project.id:
        raise NotFound(f"no evaluation {evaluation_id} in project {project.slug}")
    return evaluation


def _refuse_unsaid(reason: str) -> None:
    if not reason.strip():
        raise Invalid("reason: say why")


def _refuse_undecidable(
    session: Session, project: Project, evaluation: Evaluation, *, decision: Decision, user: User
) -> None:
    """Refuse what does not hold any more, and an approval that the gate, or the project, wants another person for."""
    model = session.get_one(ModelVersion, evaluation.model_version_id)
    _refuse_outdated(session, evaluation)
    if decision is Decision.APPROVED and evaluation.state is not EvaluationState.PASSED:
        _refuse_unwaived(session, evaluation, model, user)
    if model.state is not ModelState.CHALLENGER:
        raise WrongState(f"version {model.number} is {model.state}, not a challenger")
    if decision is Decision.APPROVED:
        _refuse_same_person(session, project, model, user)


def _refuse_unwaived(session: Session, evaluation: Evaluation, model: ModelVersion, user: User) -> None:
    waiver = waivers.of_effort(session, evaluation)
    if waiver is None:
        raise WrongState(f"version {model.number} was not passed by the gate: {evaluation.sentence}")
    if waiver.author == user.name:
        raise SamePerson(f"version {model.number}: {user.name} waived a rule for it; somebody else approves")


def _refuse_decided(session: Session, model: ModelVersion, seen: int) -> None:
    decided = session.exec(
        select(Approval, User)
        .join(User, col(Approval.user_id) == User.id)
        .where(Approval.model_version_id == model.id)
        .order_by(col(Approval.id))
    ).all()
    if len(decided) != seen:
        newest, who = decided[-1]
        raise AlreadyDecided(f"version {model.number} was {newest.decision} by {who.name} already")


def _refuse_same_person(session: Session, project: Project, model: ModelVersion, user: User) -> None:
    if asked_for(session, project, model, user):
        raise SamePerson(
            f"version {model.number}: {user.name} asked for its training; somebody else approves"
        )


def _refuse_outdated(session: Session, evaluation: Evaluation) -> None:
    """Refuse an evaluation that a newer one replaced, or that was judged by or against what is not in force now."""
    newest = newest_evaluation(session, evaluation.model_version_id)
    if newest and newest.id != evaluation.id:
        raise ApprovalStale(f"evaluation {evaluation.id}: there is a newer one, {newest.id}")
    judged_by = {
        "champion": str(evaluation.champion_id),
        "criteria": session.get_one(Document, evaluation.criteria_id).sha256,
        "gate_rules": session.get_one(Document, evaluation.rules_id).sha256,
        "suite": session.get_one(Document, evaluation.suite_id).sha256,
    }
    _refuse_stale(what_to_approve(session, evaluation), judged_by)


def _refuse_stale(current: Mapping[str, str], seen: Mapping[str, str]) -> None:
    changed = sorted(name for name, value in seen.items() if current.get(name) != value)
    if changed:
        raise ApprovalStale(f"{', '.join(changed)}: changed since; look at the evaluation again")
