"""How a project's corpora look to those who ask: how far each one is, and its rows for the audit."""

from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import exists, func, or_
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from annotation.types import Verdict
from retrain.amounts import how_many
from retrain.intervals import wilson
from retrain.training_set import to_example
from retrain.types import Example, Kind, Message, Split
from service import tools
from service.answers.examples import TAKEN_BACK, settled_answers
from service.answers.outdated import is_superseded
from service.errors import NotFound
from service.settlements import IN_FORCE
from service.tables import (
    Admission,
    AnnotationTask,
    ConnectorKind,
    Project,
    Quarantine,
    Response,
    Settlement,
    SettlementAnnotation,
    Source,
    TaskPurpose,
    TaskState,
    ToolProject,
)

MAX_NEEDED = 10_000
# A host may name a corpus as the source of what its model answered; that is triaged later than it came.
IS_CORPUS_ROW = (col(Response.triaged_at) == col(Response.created_at)) & col(Response.erased_at).is_(None)


def find_source(session: Session, project: Project, name: str) -> Source:
    """Return the project's corpus of this name.

    Raises:
        NotFound: there is none.
    """
    named = select(Source).where(Source.project_id == project.id, Source.name == name, col(Source.is_corpus))
    found = session.exec(named).first()
    if found is None:
        raise NotFound(f"source: project {project.slug} has no corpus {name!r}")
    return found


def corpora(session: Session, project: Project) -> list[dict[str, Any]]:
    """Return the project's corpora as `describe` does."""
    of_project = select(Source).where(Source.project_id == project.id, col(Source.is_corpus))
    return describe(session, session.exec(of_project.order_by(col(Source.name))).all())


def describe(session: Session, sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Return sources as the console and the command line show them, each with how far it is."""
    ids = [source.id for source in sources]
    counted = select_columns(col(Response.source_id), func.count()).where(col(Response.source_id).in_(ids))
    rows = {row[0]: row[1] for row in session.execute(counted.group_by(col(Response.source_id)))}
    aside = set_aside(session, ids)
    samples, admissions = open_samples(session, ids), newest_admissions(session, ids)
    held = set(session.exec(select(Quarantine.source_id).where(col(Quarantine.lifted_at).is_(None))))
    return [
        {
            "source": source.name,
            "rows": rows.get(source.id, 0),
            "set_aside": aside.get(source.id, {}),
            "licence": source.licence,
            "author": source.author,
            "valid_from": source.valid_from.date().isoformat() if source.valid_from else None,
            "valid_to": source.valid_to.date().isoformat() if source.valid_to else None,
            "state": ("in quarantine; " if source.id in held else "")
            + _state(samples.get(source.id), admissions.get(source.id)),
        }
        for source in sources
    ]


def set_aside(session: Session, source_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
    """Count by reason the rows of each source that experts are not asked about."""
    reasons = (
        select_columns(col(Response.source_id), col(Response.set_aside), func.count())
        .where(col(Response.source_id).in_(source_ids), col(Response.set_aside).is_not(None))
        .group_by(col(Response.source_id), col(Response.set_aside))
        .order_by(col(Response.set_aside))
    )
    counts: dict[UUID, dict[str, int]] = {}
    for source_id, reason, count in session.execute(reasons):
        counts.setdefault(source_id, {})[reason] = count
    return counts


def open_samples(session: Session, source_ids: Sequence[UUID]) -> dict[UUID, Counter[TaskState]]:
    """Count by state the tasks of each source's sample that is not decided on yet."""
    tasks = (
        select_columns(col(AnnotationTask.source_id), col(AnnotationTask.state), func.count())
        .where(since_decision(), col(AnnotationTask.source_id).in_(source_ids))
        .group_by(col(AnnotationTask.source_id), col(AnnotationTask.state))
    )
    samples: dict[UUID, Counter[TaskState]] = {}
    for source_id, state, count in session.execute(tasks):
        samples.setdefault(source_id, Counter())[state] += count
    return samples


def since_decision() -> Any:
    """Say which tasks ask about a sample not decided on; those that an admission settles are as old as it is."""
    decided = (
        select_columns(func.max(Admission.created_at))
        .where(col(Admission.source_id) == col(AnnotationTask.source_id))
        .correlate(AnnotationTask)
        .scalar_subquery()
    )
    is_newer = or_(decided.is_(None), col(AnnotationTask.created_at) > decided)
    is_asked = col(AnnotationTask.state) != TaskState.WITHDRAWN
    return (col(AnnotationTask.purpose) == TaskPurpose.CORPUS) & is_newer & is_asked


def newest_admissions(session: Session, source_ids: Sequence[UUID]) -> dict[UUID, Admission]:
    """Return each source's decision that counts."""
    rows = select(Admission).where(col(Admission.source_id).in_(source_ids))
    return {row.source_id: row for row in session.exec(rows.order_by(col(Admission.created_at)))}


def share_right(admission: Admission) -> str:
    """Say what an admission rests on."""
    return f"{admission.right} of {admission.asked} right, at least {admission.low:.2f}"


def why_no_import(session: Session, place: str) -> str:
    """Return why nothing is imported from a place inside a tool: a project of ours asks there; empty if none does.

    Raises:
        Invalid: it names a tool, and no project in it.
    """
    named = tools.named(place)
    if named is None:
        return ""
    kind, there = named
    is_asked = col(ToolProject.connector) == kind
    is_there = is_asked & (col(ToolProject.external_id) == there)
    if kind is ConnectorKind.ARGILLA:
        is_asked |= col(Project.connector) == kind
        is_there = is_asked & (col(Project.slug) == there.partition("/")[0])
    known = select(Project.slug).join(ToolProject, col(ToolProject.project_id) == Project.id, isouter=True)
    slug = session.exec(known.where(is_there)).first()
    return f"project {slug} asks its experts there; their answers come by themselves" if slug else ""


def why_no_sample(session: Session, source: Source) -> str:
    """Return why experts cannot be asked about a sample of a source; nothing where they can."""
    if sample := open_samples(session, [source.id]).get(source.id):
        return f"a sample of {sample.total()} is not decided on yet"
    if session.execute(unasked(source).limit(1)).first():
        return ""
    aside = set_aside(session, [source.id]).get(source.id, {})
    more = "".join(f"; {count} set aside: {reason}" for reason, count in aside.items())
    return f"no row is left that nobody was asked about{more}"


def why_no_decision(session: Session, source: Source) -> str:
    """Return why a source can be neither admitted nor quarantined; nothing where it can."""
    sample = open_samples(session, [source.id]).get(source.id)
    if not sample:
        return "no sample was drawn since the last decision"
    settled = len(settled_by_experts(session, source))
    return (
        f"experts have settled {settled} of {how_many(sample.total(), 'sampled row')}"
        if settled < sample.total()
        else ""
    )


def too_few(size: int, source: Source, session: Session) -> str:
    """Say that a sample is too small to admit a source even if all of it is right; nothing where it is not."""
    bar = session.get_one(Project, source.project_id).admission_bar
    if size >= size_of(session, source) or wilson(size, size).low >= bar:
        return ""
    needed = next((n for n in range(size, MAX_NEEDED) if wilson(n, n).low >= bar), None)
    least = f"at least {needed} rows, or all of them" if needed else "all rows"
    return f"even if all of these are right, they are too few for the bar of {bar:g}: ask about {least}"


def size_of(session: Session, source: Source) -> int:
    """Count the rows of a corpus that experts may be asked about."""
    rows = select_columns(func.count()).select_from(Response).where(col(Response.source_id) == source.id)
    return int(session.scalar(rows.where(IS_CORPUS_ROW, col(Response.set_aside).is_(None))) or 0)


def unasked(source: Source) -> Any:
    """Select the id, content hash and text of the rows that nobody was asked about."""
    asked = exists().where(col(AnnotationTask.response_id) == Response.id)
    columns = select_columns(col(Response.id), col(Response.body_sha256), col(Response.text))
    may_be_asked = (IS_CORPUS_ROW, col(Response.set_aside).is_(None), ~asked)
    return columns.where(col(Response.source_id) == source.id, *may_be_asked)


def settled_by_experts(session: Session, source: Source) -> list[Verdict]:
    """Return the verdicts on the sample that rest on somebody's answer."""
    answered = exists().where(col(SettlementAnnotation.settlement_id) == Settlement.id)
    verdicts = select_columns(col(Settlement.verdict)).join(
        AnnotationTask, col(Settlement.task_id) == AnnotationTask.id
    )
    sampled = (since_decision(), col(AnnotationTask.source_id) == source.id)
    return list(session.scalars(verdicts.where(*sampled, answered, IN_FORCE)))


def examples_of_corpus(session: Session, project: Project) -> list[Example]:
    """Return every row of the project's corpora for the audit, decided on or not; the key is the response's id."""
    rows = (
        select(Response, Source)
        .join(Source, col(Response.source_id) == Source.id)
        .where(Source.project_id == project.id, col(Source.is_corpus), IS_CORPUS_ROW)
        .order_by(col(Response.id))
    )
    kind = Kind(project.kind)
    return [_corpus_example(kind, response, source) for response, source in session.exec(rows)]


def examples_to_audit(session: Session, project: Project) -> list[Example]:
    """Return every row of the corpora, and what experts settled of the model's own answers."""
    corpus = examples_of_corpus(session, project)
    names = {example.source for example in corpus}
    settled = settled_answers(session, project.id, IN_FORCE, ~TAKEN_BACK, ~is_superseded())
    return corpus + [
        to_example(one, one.conversation or one.key, Split.TRAIN)
        for one in settled
        if one.source not in names
    ]


def _state(sample: Counter[TaskState] | None, admission: Admission | None) -> str:
    if sample:
        return f"sample with experts: {sample[TaskState.SETTLED]} of {sample.total()}"
    if admission is None:
        return "not sampled"
    return f"{'admitted' if admission.is_admitted else 'quarantined'}: {share_right(admission)}"


def _corpus_example(kind: Kind, response: Response, source: Source) -> Example:
    written, author = response.host_metadata.get("written"), response.host_metadata.get("author")
    return Example(
        key=str(response.id),
        group=str(response.id),
        messages=tuple(Message(**message) for message in response.messages),
        answer=response.text,
        kind=kind,
        label=response.text if kind is Kind.CLASSIFICATION else None,
        attributes=response.attributes | ({"author": author} if author else {}),
        source=source.name,
        language=response.language,
        written=date.fromisoformat(written) if written else None,
    )
