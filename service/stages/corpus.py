"""Stage 0: take in what a team already has; it teaches only what experts judged, row by row or by a sample."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from random import Random
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from annotation.types import Verdict
from retrain.audit import personal
from retrain.corpus import CorpusRow, Found, nothing_in
from retrain.intervals import wilson
from retrain.types import sha256_of
from service import ledger, projects, routing
from service.answers.corpora import (
    newest_admissions,
    set_aside,
    settled_by_experts,
    share_right,
    size_of,
    unasked,
    why_no_decision,
    why_no_sample,
)
from service.clock import utcnow
from service.errors import Invalid, WrongState
from service.queue import Lease
from service.tables import (
    Admission,
    Annotation,
    AnnotationTask,
    Annotator,
    DocumentKind,
    Project,
    Response,
    Settlement,
    SettlementAnnotation,
    Source,
    TaskPurpose,
    TaskState,
)

BATCH = 500
SAMPLE, MAX_SAMPLE = 60, 1000
PROBLEMS_KEPT, EXPERTS_NAMED = 50, 5
NO_ANSWER = "has no answer, which a project of this kind needs"
UNKNOWN_LABEL = "has a label that the project does not know"

log = structlog.get_logger()


def take(lease: Lease, source_id: UUID, read: Iterable[Found], *, actor: str) -> dict[str, Any]:
    """Import what can be read, a batch in each transaction; what could not be read is told by its place.

    Raises:
        UnreadableCorpus: there is no row at all.
    """
    told, problems, places = Counter(added=0, known=0, unread=0), list[Found](), iter(read)
    with lease.queue.db.reading() as session:
        source = session.get_one(Source, source_id)
        labels = _labels(session, source)
    while batch := list(islice(places, BATCH)):
        rows = [(found.row, _answer(found.row, labels)) for found in batch if found.row]
        unread = [
            Found(found.place, reason=found.reason or NO_ANSWER)
            for found in batch
            if not found.row or not _answer(found.row, labels)
        ]
        problems += unread[: PROBLEMS_KEPT - len(problems)]
        with lease.transaction() as session:
            answered = [(row, answer) for row, answer in rows if answer]
            added, known = _add(session, source, answered, labels)
        told.update(added=added, known=known, unread=len(unread))
        lease.report(**told)
    if not told["added"] + told["known"]:
        raise nothing_in(problems, told["unread"])
    with lease.transaction() as session:
        document = _imported(session, source, told, actor=actor)
    log.info("corpus_imported", source_id=str(source_id), **told)
    listed = [{"place": found.place, "reason": found.reason} for found in problems]
    return {"source": source.name, **document, "problems": listed}


def import_rows(session: Session, source: Source, rows: Sequence[CorpusRow], *, actor: str) -> dict[str, Any]:
    """Add the rows whose content the source does not have yet, all or none.

    Raises:
        Invalid: a row has no answer where the project's kind needs one.
    """
    labels = _labels(session, source)
    answered = [(row, _answer(row, labels)) for row in rows]
    for place, (_, answer) in enumerate(answered):
        if not answer:
            raise Invalid(f"rows/{place}: {NO_ANSWER}")
    added, known = _add(session, source, answered, labels)
    return _imported(session, source, {"added": added, "known": known}, actor=actor)


def draw_sample(session: Session, source: Source, *, size: int = SAMPLE, seed: int = 0, actor: str) -> int:
    """Ask experts about rows that nobody was asked about; the same seed draws the same content.

    Raises:
        Invalid: the size cannot be used.
        WrongState: a sample is with the experts, or there is nothing left to ask about.
    """
    if not 0 < size <= MAX_SAMPLE:
        raise Invalid(f"size: from 1 to {MAX_SAMPLE}")
    _hold(session, source)
    if why := why_no_sample(session, source):
        raise WrongState(f"source {source.name}: {why}")
    rows = session.execute(unasked(source).order_by(col(Response.body_sha256))).all()
    drawn = Random(seed).sample(rows, min(size, len(rows)))
    session.add_all(_tasks(session, source, drawn, state=TaskState.SELECTED, at=utcnow()))
    _note(session, source, "sample_drawn", actor, {"size": len(drawn), "of": len(rows), "seed": seed})
    return len(drawn)


def decide(session: Session, source: Source, *, now: datetime, actor: str) -> Admission:
    """Admit or quarantine a source by what experts settled of its sample; `settle_admitted` does what follows.

    Raises:
        WrongState: there is no sample, or named experts have not settled all of it.
    """
    _hold(session, source)
    if why := why_no_decision(session, source):
        raise WrongState(f"source {source.name}: {why}")
    settled = settled_by_experts(session, source)
    asked, right = len(settled), settled.count(Verdict.CORRECT)
    bar = session.get_one(Project, source.project_id).admission_bar
    # Of a corpus that was judged whole the share is known: a sample's interval would say less.
    low = right / asked if asked == size_of(session, source) else wilson(right, asked).low
    admission = Admission(
        project_id=source.project_id,
        source_id=source.id,
        right=right,
        asked=asked,
        low=low,
        bar=bar,
        is_admitted=low >= bar,
        created_at=now,
    )
    session.add(admission)
    session.flush()
    action = "corpus_admitted" if admission.is_admitted else "corpus_quarantined"
    facts = {"admission": str(admission.id), "right": right, "asked": asked, "low": low, "bar": bar}
    _note(session, source, action, actor, facts)
    return admission


def decide_all(lease: Lease, project_id: UUID, *, actor: str) -> None:
    """Decide on every source whose sample experts have settled, and settle what was admitted."""
    with lease.transaction() as session:
        of_project = select(Source).where(Source.project_id == project_id, col(Source.is_corpus))
        sources = session.exec(of_project.order_by(col(Source.id))).all()
        for source in sources:
            if not why_no_decision(session, source):
                decide(session, source, now=utcnow(), actor=actor)
    for source in sources:
        settle_admitted(lease, source.id)


def settle_admitted(lease: Lease, source_id: UUID) -> dict[str, Any]:
    """Settle every row that the newest decision admits, a batch in each transaction; safe to repeat.

    It covers the rows from which its sample was drawn: what came later waits for a sample of its own.
    """
    with lease.queue.db.reading() as session:
        source = session.get_one(Source, source_id)
        admission = newest_admissions(session, [source_id]).get(source_id)
        if admission is None or not admission.is_admitted:
            return {"source": source.name, "settled": 0}
        until, explanation = _drawn_at(session, admission), _explanation(session, admission)
        is_labels = bool(_labels(session, source))
    settled, after = 0, UUID(int=0)
    while True:
        with lease.transaction() as session:
            _hold(session, source)
            covered = unasked(source).where(col(Response.created_at) <= until, col(Response.id) > after)
            batch = session.execute(covered.order_by(col(Response.id)).limit(BATCH)).all()
            tasks = _tasks(session, source, batch, state=TaskState.SETTLED, at=admission.created_at)
            session.add_all(tasks)
            session.flush()
            for task, row in zip(tasks, batch, strict=True):
                label = row.text if is_labels else None
                session.add(_settlement(task, admission, label=label, explanation=explanation))
        if not batch:
            return {"source": source.name, "settled": settled}
        settled, after = settled + len(batch), batch[-1].id
        lease.report(settled=settled)


def _labels(session: Session, source: Source) -> Sequence[str]:
    """Return the labels that the project chooses from; none where it learns texts."""
    schema = projects.current(session, source.project_id, DocumentKind.LABEL_SCHEMA)
    return tuple(schema.content["labels"])


def _answer(row: CorpusRow, labels: Sequence[str]) -> str:
    return (row.label or row.answer) if labels else row.answer


def _why_aside(row: CorpusRow, answer: str, labels: Sequence[str]) -> str | None:
    """Return what is so wrong with a row that experts are not to see it: a training would be stopped by it."""
    if held := personal.blocking([answer, *(message.content for message in row.messages)]):
        return f"holds {held}"
    return UNKNOWN_LABEL if labels and answer not in labels else None


def _hold(session: Session, source: Source) -> None:
    """Let imports, samples and decisions of one source wait for each other."""
    session.execute(select_columns(col(Source.id)).where(col(Source.id) == source.id).with_for_update())


def _add(
    session: Session, source: Source, rows: Sequence[tuple[CorpusRow, str]], labels: Sequence[str]
) -> tuple[int, int]:
    """Add rows with their answers; return how many are new and how many the source had."""
    _hold(session, source)
    named = {_content(row, answer): (row, answer) for row, answer in rows}
    of_source = select(Response.body_sha256).where(Response.source_id == source.id)
    known = set(session.exec(of_source.where(col(Response.body_sha256).in_(list(named)))))
    new = [
        _response(source, sha256, row, answer, aside=_why_aside(row, answer, labels))
        for sha256, (row, answer) in named.items()
        if sha256 not in known
    ]
    session.add_all(new)
    session.flush()
    return len(new), len(rows) - len(new)


def _content(row: CorpusRow, answer: str) -> str:
    return sha256_of({"messages": [asdict(message) for message in row.messages], "answer": answer})


def _response(source: Source, sha256: str, row: CorpusRow, answer: str, *, aside: str | None) -> Response:
    now = utcnow()
    written = row.written.isoformat() if row.written else ""
    facts = {"author": row.author or source.author, "written": written, "origin": row.source}
    return Response(
        project_id=source.project_id,
        source_id=source.id,
        messages=[asdict(message) for message in row.messages],
        text=answer,
        body_sha256=sha256,
        attributes=dict(row.attributes),
        language=row.language,
        legal_basis=f"licence: {source.licence}"[:200],
        host_metadata={name: fact for name, fact in facts.items() if fact},
        created_at=now,
        triaged_at=now,  # what triage looks at was answered to users
        set_aside=aside,
    )


def _imported(session: Session, source: Source, told: dict[str, int], *, actor: str) -> dict[str, Any]:
    """Write down an import, and return it together with what of the source is set aside by now."""
    document = {**told, "set_aside": set_aside(session, [source.id]).get(source.id, {})}
    _note(session, source, "corpus_imported", actor, {**document, "licence": source.licence})
    return document


def _note(session: Session, source: Source, action: str, actor: str, facts: dict[str, Any]) -> None:
    ledger.append(
        session, actor=actor, action=action, subject=source.name, project_id=source.project_id, facts=facts
    )


def _tasks(
    session: Session, source: Source, rows: Sequence[Any], *, state: TaskState, at: datetime
) -> list[AnnotationTask]:
    schema_id, guidelines_id = projects.questions(session, source.project_id)
    place = routing.routing_of(session, session.get_one(Project, source.project_id)).place()
    return [
        AnnotationTask(
            project_id=source.project_id,
            response_id=row.id,
            purpose=TaskPurpose.CORPUS,
            source_id=source.id,
            schema_id=schema_id,
            guidelines_id=guidelines_id,
            priority=0.0,
            state=state,
            created_at=at,
            **place,
        )
        for row in rows
    ]


def _drawn_at(session: Session, admission: Admission) -> datetime:
    """Return when the sample that an admission rests on was drawn."""
    drawn = select_columns(func.max(AnnotationTask.created_at)).where(*_earlier(admission))
    moment: datetime = session.execute(drawn).scalar_one()
    return moment


def _explanation(session: Session, admission: Admission) -> str:
    """Say what an admission rests on, and who judged the source's samples."""
    experts = session.scalars(
        select_columns(col(Annotator.account))
        .join(Annotation, col(Annotation.annotator_id) == Annotator.id)
        .join(SettlementAnnotation, col(SettlementAnnotation.annotation_id) == Annotation.id)
        .join(AnnotationTask, col(Annotation.task_id) == AnnotationTask.id)
        .where(*_earlier(admission), col(AnnotationTask.created_at) == _drawn_at(session, admission))
        .distinct()
        .order_by(col(Annotator.account))
    ).all()
    more = f" and {len(experts) - EXPERTS_NAMED} more" if len(experts) > EXPERTS_NAMED else ""
    names = f"{', '.join(name[:60] for name in experts[:EXPERTS_NAMED])}{more}"
    return f"sample of its source: {share_right(admission)}, bar {admission.bar:.2f}; judged by {names}"


def _earlier(admission: Admission) -> tuple[Any, ...]:
    return (
        col(AnnotationTask.purpose) == TaskPurpose.CORPUS,
        col(AnnotationTask.source_id) == admission.source_id,
        col(AnnotationTask.created_at) < admission.created_at,
    )


def _settlement(
    task: AnnotationTask, admission: Admission, *, label: str | None, explanation: str
) -> Settlement:
    return Settlement(
        project_id=task.project_id,
        task_id=task.id,
        verdict=Verdict.CORRECT,
        label=label,
        agreeing=0,
        asked=0,
        explanation=explanation,
        admission_id=admission.id,
    )
