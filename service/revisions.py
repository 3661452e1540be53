"""One annotator's answer as it was at one time: checked, kept, and told of where it cannot count."""

from sqlmodel import Session, col, select

from annotation.answers import check, values_of
from annotation.errors import InvalidAnswer
from annotation.types import Abstention, Answer, LabelSchema, PulledAnnotation, Verdict
from service import ledger, notices, standing, tool_state
from service.clock import utcnow
from service.settlements import CHANGED_BY_ANOTHER, CONTENT, QUARANTINED, schema_of
from service.tables import Annotation, AnnotationTask, Annotator, ConnectorKind, NoticeKind, Response

MAX_PROBLEM_CHARS = 500


def store(
    session: Session,
    task: AnnotationTask,
    pulled: PulledAnnotation,
    connector: ConnectorKind,
    *,
    tool_task: str | None = None,
) -> bool:
    """Add one revision, unless it is known already or what it is about was erased; say whether it was added."""
    if _is_erased(session, task):
        return False
    annotator = _annotator(session, connector, pulled.annotator)
    judged = session.get_one(Response, task.response_id).text
    revision = _revision(pulled, task, annotator, schema=schema_of(session, task), response=judged)
    revision.tool_task = tool_task
    # Who answers reads the guidelines on the tool's page, which goes on showing earlier ones until the next look.
    page = tool_state.find(session, task.project_id, connector)
    revision.guidelines_id = tool_state.guidelines_at(page, pulled.updated_at) or task.guidelines_id
    # A tool says when an answer was revised, a file does not: the same file again must add nothing.
    if connector is ConnectorKind.NONE and _is_newest(session, revision):
        return False
    revision.set_aside = standing.judge(session, task, annotator)
    session.add(revision)
    session.flush()
    if revision.abstention is Abstention.GUIDELINE_UNCLEAR:
        told = {"event": "guideline_unclear", "task": str(task.id)}
        notices.tell(session, task.project_id, NoticeKind.ALARM, [told])
    if revision.problem in QUARANTINED:
        tool_state.of(session, task.project_id, connector).quarantined_at = utcnow()
        ledger.append(
            session,
            actor=connector.value,
            action="annotation_quarantined",
            subject=str(task.id),
            project_id=task.project_id,
            facts={"annotation": str(revision.id), "reason": revision.problem},
        )
    return True


def _is_erased(session: Session, task: AnnotationTask) -> bool:
    # Locked, so that on PostgreSQL an erasure waits for what we add and finds it.
    return session.get_one(Response, task.response_id, with_for_update=True).erased_at is not None


def _revision(
    pulled: PulledAnnotation,
    task: AnnotationTask,
    annotator: Annotator,
    *,
    schema: LabelSchema,
    response: str,
) -> Annotation:
    answer, problem = _checked(pulled, schema, response)
    abstention = answer.verdict if answer and isinstance(answer.verdict, Abstention) else None
    return Annotation(
        task_id=task.id,
        annotator_id=annotator.id,
        schema_id=task.schema_id,
        guidelines_id=task.guidelines_id,
        external_id=pulled.external_id,
        revised_at=pulled.updated_at,
        is_skipped=answer is None and problem is None,
        problem=problem,
        abstention=abstention,
        verdict=answer.verdict if answer and isinstance(answer.verdict, Verdict) else None,
        label=answer.label if answer else None,
        labels=sorted(answer.labels) if answer else [],
        correction=answer.correction if answer else None,
        cause=answer.cause if answer else None,
        spans=values_of(answer).get("spans", []) if answer else [],
        ratings=dict(answer.ratings) if answer else {},
        seconds_spent=pulled.seconds_spent,
    )


def _is_newest(session: Session, revision: Annotation) -> bool:
    """Say whether this annotator's newest answer to the task has the same content."""
    newest = session.exec(
        select(Annotation)
        .where(Annotation.task_id == revision.task_id, Annotation.annotator_id == revision.annotator_id)
        .order_by(col(Annotation.revised_at).desc(), col(Annotation.id).desc())
        .limit(1)
    ).first()
    return newest is not None and newest.model_dump(include=CONTENT) == revision.model_dump(include=CONTENT)


def _checked(
    pulled: PulledAnnotation, schema: LabelSchema, response: str
) -> tuple[Answer | None, str | None]:
    """Return the answer as far as it counts, or why it cannot: neither tool checks what arrives by its API."""
    if pulled.annotator != pulled.changed_by:
        return None, CHANGED_BY_ANOTHER
    if pulled.answer is None:
        return None, pulled.problem and pulled.problem[:MAX_PROBLEM_CHARS]
    try:
        return check(pulled.answer, schema, response), None
    except InvalidAnswer as error:
        return None, str(error)[:MAX_PROBLEM_CHARS]


def _annotator(session: Session, connector: ConnectorKind, account: str) -> Annotator:
    known = select(Annotator).where(Annotator.connector == connector, Annotator.account == account)
    found = session.exec(known).first()
    if found is None:
        found = Annotator(connector=connector, account=account)
        session.add(found)
        session.flush()
    return found
