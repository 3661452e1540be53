"""Model versions and the decisions about them: approve, reject, promote, roll back, and what was live when."""

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

from flask import Response
from pydantic import Field
from sqlmodel import col, select

from service.answers import newest_set
from service.answers.consolidation import proposal
from service.answers.erasures import learned_from_erased
from service.answers.next_step import relearning
from service.answers.outcomes import outcomes_of
from service.champions import persons_missing
from service.clock import utcnow
from service.stages import promotion
from service.tables import Approval, Decision, Evaluation, JobKind, ModelState, ModelVersion, Promotion, User
from service.web.auth import Access
from service.web.console.audits import WaiverForm
from service.web.console.page import Desk, Form, bp, page
from service.web.limits import guesses_again

SHOWN = 100
MAX_REVIEW_SECONDS = 3600.0  # a page left open over night is no review


class DecisionForm(Form):
    """A decision, with everything that its page showed: what has changed since is refused."""

    model_version: int
    adapter_sha256: str = Field(max_length=71)
    training_set: str = Field(max_length=71)
    decision: Literal["approved", "rejected"]
    reason: str = Field(min_length=1, max_length=2000)
    decisions: int
    opened_at: float = 0


class PromoteForm(Form):
    """Which version is to go live."""

    model_version: int


class RollbackForm(Form):
    """Why the champion goes, and which one the person meant."""

    seq: int
    reason: str = Field(min_length=1, max_length=2000)


class OverrideForm(Form):
    """Which version is to be live at once, why, and who else says so."""

    model_version: int
    reason: str = Field(min_length=1, max_length=2000)
    second_token: str = Field(max_length=200)


@bp.get("/p/<slug>/models")
@page(Access.READER)
def models(desk: Desk) -> str:
    """Show every version, what may be done with it, and the history of what was live."""
    versions = desk.session.exec(
        select(ModelVersion)
        .where(ModelVersion.project_id == desk.project.id)
        .order_by(col(ModelVersion.number).desc())
        .limit(SHOWN)
    ).all()
    shown = [version.id for version in versions]
    judged = desk.session.exec(
        select(Evaluation).where(col(Evaluation.model_version_id).in_(shown)).order_by(col(Evaluation.id))
    ).all()
    approvals = desk.session.exec(
        select(Approval, User)
        .join(User, col(Approval.user_id) == User.id)
        .where(col(Approval.model_version_id).in_(shown))
        .order_by(col(Approval.id))
    ).all()
    history = desk.session.exec(
        select(Promotion, ModelVersion, User)
        .join(ModelVersion, col(Promotion.model_version_id) == ModelVersion.id)
        .join(User, col(Promotion.user_id) == User.id, isouter=True)
        .where(Promotion.project_id == desk.project.id)
        .order_by(col(Promotion.seq).desc())
        .limit(SHOWN)
    ).all()
    return desk.show(
        "models.html",
        versions=versions,
        evaluation_of={each.model_version_id: each for each in judged},
        approval_of={approval.model_version_id: (approval, user) for approval, user in approvals},
        missing=_missing(desk, versions, judged),
        history=history,
        outcomes=outcomes_of(desk.session, desk.project),
        newest_set=newest_set(desk.session, desk.project.id),
        proposal=" ".join(
            proposal(desk.session, each) for each in versions if each.state is ModelState.CHAMPION
        ),
        learned_from_erased=learned_from_erased(desk.session, desk.project.id),
        relearning=relearning(desk.session, desk.project),
    )


@bp.post("/p/<slug>/models/<uuid:row_id>/evaluate")
@page(Access.OPERATOR)
def evaluate(desk: Desk, row_id: UUID) -> Response:
    """Ask for a version to be judged again."""
    job_id = desk.ask(JobKind.EVALUATE, desk.row(ModelVersion, row_id).id)
    return desk.done("It is being judged.", "console.job", row_id=job_id)


@bp.post("/p/<slug>/evaluations/<uuid:row_id>/decide")
@page(Access.APPROVER, form=DecisionForm)
def decide(desk: Desk, form: DecisionForm, row_id: UUID) -> Response:
    """Approve or reject a challenger, as it was on the page."""
    found = desk.row(Evaluation, row_id)
    spent = 0.0
    if form.opened_at:
        spent = min(max(0.0, utcnow().timestamp() - form.opened_at), MAX_REVIEW_SECONDS)
    promotion.decide(
        desk.session,
        desk.project,
        evaluation_id=found.id,
        model_version=form.model_version,
        adapter_sha256=form.adapter_sha256,
        training_set=form.training_set,
        decision=Decision(form.decision),
        reason=form.reason,
        user=desk.user,
        seconds_spent=spent,
        seen_decisions=form.decisions,
    )
    return desk.done(f"Version {form.model_version} is {form.decision}.", "console.models")


@bp.post("/p/<slug>/evaluations/<uuid:row_id>/waive")
@page(Access.APPROVER, form=WaiverForm)
def waive_effort(desk: Desk, form: WaiverForm, row_id: UUID) -> Response:
    """Let somebody else approve what lacks nothing but time on validation."""
    promotion.waive_effort(desk.session, desk.project, row_id, user=desk.user, **form.model_dump())
    return desk.done(f"It is waived until {form.until}.", "console.evaluation", row_id=row_id)


@bp.post("/p/<slug>/promote")
@page(Access.APPROVER, form=PromoteForm)
@guesses_again
def promote(desk: Desk, form: PromoteForm) -> Response:
    """Make an approved version the champion, once its promoter has said their password."""
    desk.confirm()
    promotion.promote(desk.session, desk.project, model_version=form.model_version, user=desk.user)
    return desk.done(f"Version {form.model_version} is live.", "console.models")


@bp.post("/p/<slug>/rollback")
@page(Access.APPROVER, form=RollbackForm)
@guesses_again
def roll_back(desk: Desk, form: RollbackForm) -> Response:
    """Take the champion back that the page showed, once whoever does it has said their password."""
    desk.confirm()
    done = promotion.roll_back(
        desk.session, desk.project, reason=form.reason, user=desk.user, seen_seq=form.seq
    )
    number = desk.session.get_one(ModelVersion, done.model_version_id).number
    return desk.done(f"Version {number} is live again.", "console.models")


@bp.post("/p/<slug>/override")
@page(Access.APPROVER, form=OverrideForm)
@guesses_again
def override(desk: Desk, form: OverrideForm) -> Response:
    """Put any version live past gate and approval: two persons, and everybody hears it."""
    desk.confirm()
    promotion.override(desk.session, desk.project, user=desk.user, **form.model_dump())
    return desk.done(f"Version {form.model_version} is live, past the gate.", "console.models")


def _missing(desk: Desk, versions: Sequence[ModelVersion], judged: Sequence[Evaluation]) -> dict[UUID, int]:
    """Return how many more persons must approve each challenger that one has approved."""
    waiting = {each.id for each in versions if each.state is ModelState.CHALLENGER}
    return {
        each.model_version_id: persons_missing(desk.session, desk.project, each)
        for each in judged
        if each.model_version_id in waiting
    }
