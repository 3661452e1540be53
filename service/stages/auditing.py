"""What people decide about an audit's findings: to waive one for a time, to accept a repair, to take it back."""

from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import exists, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from retrain.audit import Repair, RepairKind, Severity
from service import ledger, projects, routing, waivers
from service.answers.examples import to_repair
from service.clock import utcnow
from service.errors import AlreadyDecided, NotFound, WrongState
from service.glossary import add_name, remove_name
from service.settlements import IN_FORCE, OPEN
from service.tables import (
    AcceptedRepair,
    AnnotationTask,
    AuditFinding,
    Document,
    Project,
    Response,
    Settlement,
    TaskPurpose,
    TaskState,
    TrainingSet,
    User,
)


def find(session: Session, project: Project, finding_id: UUID) -> AuditFinding:
    """Return a finding of a project's set.

    Raises:
        NotFound: there is none.
    """
    finding = session.get(AuditFinding, finding_id)
    if finding is None or session.get_one(TrainingSet, finding.training_set_id).project_id != project.id:
        raise NotFound(f"no finding {finding_id} here")
    return finding


def waive(
    session: Session, project: Project, finding_id: UUID, *, user: User, reason: str, until: date
) -> Document:
    """Let a set be trained on although this was found, until a day; it holds for later sets with the same rows.

    Raises:
        NotFound: there is no such finding.
        WrongState: the finding blocks nothing.
        Invalid: there is no reason, or the day is past or more than a year away.
    """
    finding = _held(session, project, finding_id)
    if finding.severity != Severity.BLOCK:
        raise WrongState(f"{finding.check}: it blocks nothing, so there is nothing to waive")
    about = {"check": finding.check}
    waiver = waivers.waive(session, project, finding.name, about, user=user, reason=reason, until=until)
    _record(session, project, finding, user=user, action="finding_waived", facts={"until": until.isoformat()})
    return waiver


def accept(
    session: Session, project: Project, finding_id: UUID, *, place: int, user: User, reason: str
) -> AcceptedRepair:
    """Accept one of a finding's proposals: later sets are built with it, the settlements stay as they are.

    A term enters the glossary, and experts are asked about responses, in the same transaction.

    Raises:
        NotFound: there is no such finding, or it has no such proposal.
        AlreadyDecided: somebody accepted it before.
        Invalid: it names a term that stands for another concept in the glossary.
    """
    finding = _held(session, project, finding_id)
    if not 0 <= place < len(finding.proposals):
        raise NotFound(f"{finding.check}: there is no proposal {place}")
    if before := _in_force(session, finding, place):
        who = session.get_one(User, before.user_id).name
        raise AlreadyDecided(f"{finding.check}: {who} accepted this repair already")
    accepted = AcceptedRepair(
        project_id=project.id, finding_id=finding.id, place=place, user_id=user.id, reason=reason
    )
    session.add(accepted)
    session.flush()
    proposal = to_repair(finding.proposals[place])
    if proposal.kind is RepairKind.TERM:
        add_name(session, project, proposal.put, proposal.find, actor=user.name)
    if proposal.kind is RepairKind.ASK:
        session.add_all(_tasks(session, project, accepted, proposal))
    facts: dict[str, str | int] = {"repair": str(accepted.id), "place": place}
    _record(session, project, finding, user=user, action="repair_accepted", facts=facts)
    return accepted


def undo(session: Session, project: Project, repair_id: UUID, *, user: User) -> AcceptedRepair:
    """Take an accepted repair back; sets that were built with it stay what they are, and so do tasks that were sent.

    Raises:
        NotFound: there is no such repair.
        AlreadyDecided: it was taken back before.
    """
    accepted = session.get(AcceptedRepair, repair_id)
    if accepted is None:
        raise NotFound(f"no repair {repair_id} here")
    finding = _held(session, project, accepted.finding_id)
    session.refresh(accepted)
    if accepted.undone_at:
        raise AlreadyDecided("this repair was taken back already")
    accepted.undone_at, accepted.undone_by = utcnow(), user.id
    session.add(accepted)
    proposal = to_repair(finding.proposals[accepted.place])
    if proposal.kind is RepairKind.TERM:
        remove_name(session, project, proposal.put, proposal.find, actor=user.name)
    unsent = (col(AnnotationTask.repair_id) == accepted.id, col(AnnotationTask.state) == TaskState.SELECTED)
    session.execute(update(AnnotationTask).where(*unsent).values(state=TaskState.WITHDRAWN))
    facts: dict[str, str | int] = {"repair": str(accepted.id)}
    _record(session, project, finding, user=user, action="repair_undone", facts=facts)
    return accepted


def _tasks(
    session: Session, project: Project, accepted: AcceptedRepair, proposal: Repair
) -> list[AnnotationTask]:
    """Return a task for each response that nobody was asked about, and one for each settled row, to be asked again."""
    unasked, settled = _to_ask(project, proposal)
    schema_id, guidelines_id = projects.questions(session, project.id)
    rules = routing.routing_of(session, project)
    causes: list[dict[str, Any]] = [
        *(
            {"response_id": response_id, "purpose": TaskPurpose.COVERAGE} | rules.place()
            for response_id in session.exec(unasked)
        ),
        *(
            {"response_id": task.response_id, "purpose": TaskPurpose.RECHECK, "rechecks_id": task.id}
            | {"flag_id": task.flag_id}
            | rules.place_again(session, task)
            for task in session.exec(settled)
        ),
    ]
    return [
        AnnotationTask(
            project_id=project.id,
            repair_id=accepted.id,
            schema_id=schema_id,
            guidelines_id=guidelines_id,
            priority=0.0,
            **cause,
        )
        for cause in causes
    ]


def _to_ask(project: Project, proposal: Repair) -> tuple[Any, Any]:
    """Select the responses that nobody was asked about, and the tasks of settled rows that nobody is asked again."""
    keys = [UUID(key) for key in proposal.keys]
    asked = exists().where(
        col(AnnotationTask.response_id) == Response.id, col(AnnotationTask.state) != TaskState.WITHDRAWN
    )
    unasked = select(Response.id).where(
        Response.project_id == project.id, col(Response.id).in_(keys), ~asked, col(Response.may_train)
    )
    again = aliased(AnnotationTask)
    is_open = exists().where(col(again.rechecks_id) == AnnotationTask.id, col(again.state).in_(OPEN))
    settled = (
        select(AnnotationTask)
        .join(Settlement, col(Settlement.task_id) == AnnotationTask.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .where(Settlement.project_id == project.id, col(Settlement.id).in_(keys), IN_FORCE, ~is_open)
        .where(col(Response.erased_at).is_(None))
    )
    return unasked.order_by(col(Response.id)), settled.order_by(col(AnnotationTask.id))


def _held(session: Session, project: Project, finding_id: UUID) -> AuditFinding:
    """Return a finding; decisions on one project follow each other, so that each sees what the one before left."""
    session.get_one(Project, project.id, with_for_update=True)
    return find(session, project, finding_id)


def _in_force(session: Session, finding: AuditFinding, place: int) -> AcceptedRepair | None:
    """Return who accepted this very proposal before, also where an earlier set's audit made it."""
    same = select(AuditFinding.id).where(AuditFinding.name == finding.name)
    accepted = session.exec(
        select(AcceptedRepair)
        .where(col(AcceptedRepair.finding_id).in_(same), AcceptedRepair.place == place)
        .where(col(AcceptedRepair.undone_at).is_(None))
    ).all()
    wanted = finding.proposals[place]
    for row in accepted:
        if session.get_one(AuditFinding, row.finding_id).proposals[place] == wanted:
            return row
    return None


def _record(
    session: Session,
    project: Project,
    finding: AuditFinding,
    *,
    user: User,
    action: str,
    facts: dict[str, str | int],
) -> None:
    ledger.append(
        session,
        actor=user.name,
        action=action,
        subject=f"{finding.check}: {finding.name}",
        project_id=project.id,
        facts=facts,
    )
