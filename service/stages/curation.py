"""Stage 4: make an immutable, audited training set of what experts settled on."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlalchemy import delete, func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from retrain import audit, card
from retrain.artifacts import name_of
from retrain.audit.repairs import apply
from retrain.audit.report import report, wordless
from retrain.recipe import Recipe
from retrain.training_set import Built, Placed, build, fingerprint, to_example
from retrain.types import Example, Kind, Split, canonical_json, content_hash
from service import ledger
from service.answers import describe_set, newest_set
from service.answers.audits import context_of
from service.answers.erasures import erased_rows
from service.answers.examples import (
    IN_FORCE,
    accepted_repairs,
    examples_of,
    placed_answers,
    settled_answers,
    to_document,
    withdrawn_answers,
)
from service.clock import utcnow
from service.errors import Invalid
from service.queue import Lease
from service.runtime import Runtime
from service.tables import (
    AcceptedRepair,
    AnnotationTask,
    AuditFinding,
    JobKind,
    Project,
    Response,
    Settlement,
    Source,
    SplitAssignment,
    TrainingSet,
    TrainingSetExample,
)

log = structlog.get_logger()


class Tools(Protocol):
    """What curation needs of libraries that only a worker loads."""

    def write(self, examples: Sequence[Example], path: Path, /) -> None: ...
    def audit(
        self,
        examples: Sequence[Example],
        context: audit.Context,
        *,
        checks: Iterable[str],
        report: Callable[[str, int, int], None],
    ) -> list[audit.Finding]: ...
    def encode(self, texts: Sequence[str], /) -> Any: ...


@dataclass(frozen=True, slots=True)
class History:
    """All that earlier versions fixed: which rows are in which group, and which group is in which split."""

    placed: list[Placed]
    assigned: dict[str, Split]
    newest: TrainingSet | None


@dataclass(frozen=True, slots=True)
class Frozen:
    """A set before it is a row: its examples, what repairs did to them, and what the audit found."""

    built: Built
    touched: Mapping[str, list[str]]
    dropped: Mapping[str, str]
    findings: Sequence[audit.Finding]
    recipe: Recipe
    artifact: str
    report: str


def run(runtime: Runtime, lease: Lease, project_id: UUID, recipe: Recipe, tools: Tools) -> dict[str, Any]:
    """Build the next set; when nothing changed, the newest one is the answer.

    Raises:
        Invalid: nothing is settled that could be learned from, or repairs and recipe leave nothing of it.
        UnknownCheck: the recipe names a check that does not exist.
    """
    with runtime.db.reading() as session:
        settled = settled_answers(session, project_id, IN_FORCE)
        withdrawn = withdrawn_answers(session, project_id)
        history = _history(session, project_id)
        repaired, touched = apply(settled, accepted_repairs(session, project_id))
        project = session.get_one(Project, project_id)
        context = context_of(session, project, tools.encode)
    if not settled:
        raise Invalid(f"project {project.slug}: no settlement can be learned from yet")
    built = build(repaired, earlier=history.placed, assigned=history.assigned, recipe=recipe)
    left = {one.key for one in repaired}
    out = {one.key: f"repair {touched[one.key][-1]}" for one in settled if one.key not in left}
    dropped = withdrawn | out | dict(built.dropped)
    if not built.examples:
        raise _nothing_left(project, dropped)
    findings = tools.audit(
        built.examples,
        replace(context, earlier=_held_out(history, built)),
        checks=recipe.checks,
        report=lambda *step: _report(lease, *step),
    )
    frozen = Frozen(
        built=built,
        touched=touched,
        dropped=dropped,
        findings=findings,
        recipe=recipe,
        artifact=_stored(built.examples, tools.write, runtime.artifacts.put_file),
        # What findings quote stands in rows of the database, where an erasure finds it.
        report=runtime.artifacts.put_bytes(canonical_json(wordless(report(built.examples, findings)))),
    )
    with lease.transaction() as session:
        training_set = _add(runtime, session, project_id, history, frozen)
        answer = describe_set(session, training_set)
    log.info("training_set_frozen", fingerprint=training_set.fingerprint, **training_set.counts)
    return answer


def _nothing_left(project: Project, dropped: Mapping[str, str]) -> Invalid:
    why = ", ".join(sorted(set(dropped.values()))[:3])
    return Invalid(
        f"project {project.slug}: repairs and recipe leave none of {len(dropped)} settlements: {why}"
    )


def newest_recipe(runtime: Runtime, project_id: UUID) -> dict[str, Any]:
    """Return the recipe that holds until another is given: the newest set's; none for a first set."""
    with runtime.db.reading() as session:
        newest = newest_set(session, project_id)
    return dict(newest.recipe) if newest else {}


def rebuild(runtime: Runtime, lease: Lease, set_id: UUID, tools: Tools) -> dict[str, Any]:
    """Build a set again from its settlements alone and compare name and bytes with what is stored.

    Where rows were erased, or may not be read any more, the others are compared with what they were when it was frozen.
    """
    with runtime.db.reading() as session:
        stored = session.get_one(TrainingSet, set_id)
        examples = examples_of(session, stored)
        rows = session.exec(
            select(TrainingSetExample).where(TrainingSetExample.training_set_id == set_id)
        ).all()
        readable = {one.key for one in placed_answers(session, stored.project_id)}
    runtime.artifacts.verify(stored.artifact)
    name = fingerprint(examples, stored.recipe)
    artifact = _stored(examples, tools.write, name_of) if examples else ""
    left = {example.key: content_hash(example) for example in examples}
    gone = [row for row in rows if str(row.settlement_id) not in left]
    erased = sum(row.erased_at is not None for row in gone)
    withheld = sum(str(row.settlement_id) in readable for row in gone)
    missing = len(gone) - erased - withheld
    # The file still holds rows that only may not be read any more.
    equal = (
        not missing
        and set(left.values()) <= {row.content_sha256 for row in rows}
        and (name == stored.fingerprint or bool(gone))
        and (artifact == stored.artifact or bool(withheld) or not left)
    )
    told = {"erased": erased, "not to be learned from any more": withheld, "missing": missing}
    lost = ", ".join(f"{count} rows {what}" for what, count in told.items() if count)
    was = "as it was" if equal else "not as it was"
    return {
        "set": stored.fingerprint,
        "fingerprint": name,
        "artifact": artifact,
        "erased": erased,
        "withheld": withheld,
        "missing": missing,
        "equal": equal,
        "sentence": f"{lost}, what is left is {was}" if lost else f"it is {was}",
    }


def _report(lease: Lease, check: str, done: int, of: int) -> None:
    lease.report(step=done, steps=of, checking=check)


def _history(session: Session, project_id: UUID) -> History:
    """Return each placed settlement under its newest group, and each group's newest split.

    Rows that have left, by a repair or a withdrawn consent, are among them: what is near them stays in their split.
    """
    rows = session.exec(
        select(TrainingSetExample.settlement_id, TrainingSetExample.group_name)
        .join(TrainingSet, col(TrainingSetExample.training_set_id) == TrainingSet.id)
        .where(TrainingSet.project_id == project_id)
        .order_by(col(TrainingSet.version))
    )
    group_of = {str(settlement_id): group for settlement_id, group in rows}
    assignments = select(SplitAssignment).where(SplitAssignment.project_id == project_id)
    return History(
        placed=[
            Placed(one, group_of[one.key])
            for one in placed_answers(session, project_id)
            if one.key in group_of
        ],
        assigned={
            row.group_name: row.split for row in session.exec(assignments.order_by(col(SplitAssignment.id)))
        },
        newest=newest_set(session, project_id),
    )


def _held_out(history: History, built: Built) -> list[Example]:
    """Return rows of earlier versions that models are judged by and which are not in this one."""
    present = {example.key for example in built.examples}
    return [
        to_example(each.settled, each.group, split)
        for each in history.placed
        if each.settled.key not in present
        and (split := history.assigned.get(each.group)) in (Split.TEST, Split.REGRESSION)
        and split is not None
    ]


def _stored(
    examples: Sequence[Example],
    write: Callable[[Sequence[Example], Path], None],
    keep: Callable[[Path], str],
) -> str:
    """Write rows to a file for `keep`, and return what that names it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "examples.parquet"
        write(examples, path)
        return keep(path)


def _add(
    runtime: Runtime, session: Session, project_id: UUID, history: History, frozen: Frozen
) -> TrainingSet:
    examples, recipe = frozen.built.examples, frozen.recipe.to_json()
    name = fingerprint(examples, recipe)
    same = select(TrainingSet).where(TrainingSet.project_id == project_id, TrainingSet.fingerprint == name)
    if known := session.exec(same).first():
        known.current_at = utcnow()
        if erased_rows(session, known):
            _fill_again(session, known, frozen)
        return _audited(session, known, frozen)
    added = TrainingSet(
        project_id=project_id,
        parent_id=history.newest.id if history.newest else None,
        version=_next_version(session, project_id),
        fingerprint=name,
        artifact=frozen.artifact,
        recipe=recipe,
        counts={split.value: sum(e.split is split for e in examples) for split in Split},
        dropped=dict(frozen.dropped),
    )
    session.add(added)
    session.flush()
    key = f"{JobKind.MIRROR}:{added.id}"
    runtime.queue.ask(session, JobKind.MIRROR, added.id, project_id=project_id, unique_key=key)
    session.add_all(_example_row(added.id, example, frozen.touched) for example in examples)
    session.add_all(_assignments(added, frozen.built))
    _audited(session, added, frozen)
    added.card = runtime.artifacts.put_bytes(_card(session, added, frozen).encode())
    ledger.append(
        session,
        actor="curation",
        action="training_set_frozen",
        subject=name,
        project_id=project_id,
        facts={"version": added.version, "artifact": frozen.artifact, "dropped": len(frozen.dropped)},
    )
    return added


def _fill_again(session: Session, emptied: TrainingSet, frozen: Frozen) -> None:
    """Give an emptied set the rows that came since and equal the erased ones, whose marks stay."""
    left = col(TrainingSetExample.training_set_id) == emptied.id, col(TrainingSetExample.erased_at).is_(None)
    session.exec(delete(TrainingSetExample).where(*left))
    session.add_all(_example_row(emptied.id, each, frozen.touched) for each in frozen.built.examples)
    session.add_all(_assignments(emptied, frozen.built))
    emptied.artifact, emptied.dropped = frozen.artifact, dict(frozen.dropped)
    ledger.append(
        session,
        actor="curation",
        action="training_set_filled_again",
        subject=emptied.fingerprint,
        project_id=emptied.project_id,
        facts={"version": emptied.version, "artifact": frozen.artifact},
    )


def _next_version(session: Session, project_id: UUID) -> int:
    last = select(func.max(TrainingSet.version)).where(TrainingSet.project_id == project_id)
    return (session.exec(last).one() or 0) + 1


def _audited(session: Session, training_set: TrainingSet, frozen: Frozen) -> TrainingSet:
    """Put what the newest audit found in the place of what an earlier one did; findings that were repaired stay."""
    is_repaired = select(AcceptedRepair.id).where(AcceptedRepair.finding_id == AuditFinding.id).exists()
    of_set = select(AuditFinding).where(AuditFinding.training_set_id == training_set.id)
    wanted = {finding.name: finding for finding in frozen.findings}
    kept = set()
    for row, repaired in session.execute(of_set.add_columns(is_repaired)).all():
        if row.name in wanted and row.check_version == str(wanted[row.name].version):
            kept.add(row.name)
        elif not repaired:
            session.delete(row)
    session.add_all(
        _finding_row(training_set.id, finding) for name, finding in wanted.items() if name not in kept
    )
    training_set.audit_report = frozen.report
    training_set.is_blocked = any(one.severity is audit.Severity.BLOCK for one in frozen.findings)
    session.add(training_set)
    session.flush()
    return training_set


def _card(session: Session, added: TrainingSet, frozen: Frozen) -> str:
    """Describe a set for people, without a word of its rows."""
    project = session.get_one(Project, added.project_id)
    examples = frozen.built.examples
    sources = session.exec(select(Source).where(Source.project_id == project.id)).all()
    present = {example.source for example in examples}
    of_set = (
        select_columns(col(Response.legal_basis), col(Settlement.agreeing), col(Settlement.asked))
        .select_from(TrainingSetExample)
        .join(Settlement, col(TrainingSetExample.settlement_id) == Settlement.id)
        .join(AnnotationTask, col(Settlement.task_id) == AnnotationTask.id)
        .join(Response, col(AnnotationTask.response_id) == Response.id)
        .where(col(TrainingSetExample.training_set_id) == added.id)
    )
    people = session.execute(of_set).all()
    shared = [agreeing == asked for _, agreeing, asked in people if asked > 1]
    findings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for finding in frozen.findings:
        findings[finding.check][finding.severity.value] += 1
    return card.render(
        card.CardFacts(
            name=f"{project.slug}/v{added.version}",
            fingerprint=added.fingerprint,
            kind=Kind(project.kind),
            frozen=added.created_at.date(),
            counts=card.count(examples),
            recipe=frozen.recipe.to_json(),
            findings=findings,
            agreement={"rows on which all experts agreed": sum(shared) / len(shared)} if shared else {},
            consent=Counter(basis or "not stated" for basis, _, _ in people),
            licences={source.name: source.licence for source in sources if source.name in present},
        )
    )


def _assignments(added: TrainingSet, built: Built) -> list[SplitAssignment]:
    contaminated = {name for merge in built.merges for name in merge.contaminated}
    return [
        SplitAssignment(
            project_id=added.project_id,
            training_set_id=added.id,
            group_name=group,
            split=split,
            is_contaminated=group in contaminated,
        )
        for group, split in built.assignments.items()
    ]


def _example_row(set_id: UUID, example: Example, touched: Mapping[str, list[str]]) -> TrainingSetExample:
    return TrainingSetExample(
        training_set_id=set_id,
        settlement_id=UUID(example.key),
        content_sha256=content_hash(example),
        split=example.split,
        group_name=example.group,
        repairs=touched.get(example.key, []),
    )


def _finding_row(set_id: UUID, finding: audit.Finding) -> AuditFinding:
    return AuditFinding(
        training_set_id=set_id,
        check=finding.check,
        check_version=str(finding.version),
        severity=finding.severity.value,
        keys=list(finding.keys),
        evidence=finding.evidence,
        repair=finding.repair,
        name=finding.name,
        proposals=[to_document(repair) for repair in finding.proposals],
    )
