"""Stage 4: make an immutable, audited training set of what experts settled on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlalchemy import delete, func
from sqlmodel import Session, col, select

from retrain import audit
from retrain.amounts import how_many
from retrain.artifacts import name_of
from retrain.audit.report import report, wordless
from retrain.recipe import Recipe
from retrain.training_set import Built, build, fingerprint
from retrain.types import Example, Split, canonical_json, content_hash
from service import ledger
from service.answers import describe_set, newest_set
from service.answers.audits import context_of
from service.answers.cards import card_of
from service.answers.erasures import AUDITED_AGAIN, FILLED_AGAIN, erased_rows
from service.answers.examples import (
    examples_of,
    placed_answers,
    to_document,
)
from service.answers.lineage import consents
from service.answers.material import History, held_out, material_of
from service.clock import utcnow
from service.errors import Invalid, TryAgain
from service.queue import Lease
from service.runtime import Runtime
from service.tables import (
    AcceptedRepair,
    AuditFinding,
    JobKind,
    Project,
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
    def versions(self, checks: Iterable[str], /) -> dict[str, int]: ...
    def encode(self, texts: Sequence[str], /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Frozen:
    """A set before it is a row: its examples, what repairs did to them, what the audit found, and what allows it."""

    built: Built
    touched: Mapping[str, list[str]]
    dropped: Mapping[str, str]
    findings: Sequence[audit.Finding]
    recipe: Recipe
    artifact: str
    report: str
    consent: Mapping[UUID, dict[str, Any]]


def run(runtime: Runtime, lease: Lease, project_id: UUID, recipe: Recipe, tools: Tools) -> dict[str, Any]:
    """Build the next set; when nothing changed, the newest one is the answer.

    Raises:
        Invalid: nothing is settled that could be learned from, or repairs and recipe leave nothing of it.
        UnknownCheck: the recipe names a check that does not exist.
        TryAgain: another set was built meanwhile.
    """
    with runtime.db.reading() as session:
        project = session.get_one(Project, project_id)
        material = material_of(session, project)
        context = context_of(session, project, tools.encode)
    history = material.history
    built = build(material.rows, earlier=history.placed, assigned=history.assigned, recipe=recipe)
    dropped = dict(material.dropped) | dict(built.dropped)
    if not built.examples:
        raise _nothing_left(project, dropped)
    findings = tools.audit(
        built.examples,
        replace(context, earlier=held_out(history, built.examples), near_threshold=recipe.near_threshold),
        checks=recipe.checks,
        report=lambda *step: _report(lease, *step),
    )
    with runtime.db.reading() as session:
        consent = consents(session, [UUID(example.key) for example in built.examples])
    frozen = Frozen(
        built=built,
        touched=material.touched,
        dropped=dropped,
        findings=findings,
        recipe=recipe,
        artifact=_stored(runtime, built.examples, tools.write, runtime.artifacts.put_file),
        report=runtime.artifacts.put_bytes(_told(built, findings, tools.versions(recipe.checks))),
        consent=consent,
    )
    with lease.transaction() as session:
        training_set = _add(runtime, session, project_id, history, frozen)
        answer = describe_set(session, training_set)
    log.info("training_set_frozen", fingerprint=training_set.fingerprint, **training_set.counts)
    return answer


def _told(built: Built, findings: Sequence[audit.Finding], versions: Mapping[str, int]) -> bytes:
    # What findings quote stands in rows of the database, where an erasure finds it.
    return canonical_json(wordless(report(built.examples, findings)) | {"versions": versions})


def _nothing_left(project: Project, dropped: Mapping[str, str]) -> Invalid:
    why = ", ".join(sorted(set(dropped.values()))[:3])
    return Invalid(
        f"project {project.slug}: repairs and recipe leave none of {how_many(len(dropped), 'settlement')}: {why}"
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
    artifact = _stored(runtime, examples, tools.write, name_of) if examples else ""
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
    lost = ", ".join(f"{how_many(count, 'row')} {what}" for what, count in told.items() if count)
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


def _stored(
    runtime: Runtime,
    examples: Sequence[Example],
    write: Callable[[Sequence[Example], Path], None],
    keep: Callable[[Path], str],
) -> str:
    """Write rows to a file for `keep`, and return what that names it."""
    with runtime.scratch() as folder:
        path = folder / "examples.parquet"
        write(examples, path)
        return keep(path)


def _add(
    runtime: Runtime, session: Session, project_id: UUID, history: History, frozen: Frozen
) -> TrainingSet:
    _refuse_other_history(session, project_id, history)
    if known := _same(session, project_id, frozen.built.examples, frozen.recipe):
        return _again(runtime, session, known, frozen)
    examples, recipe = frozen.built.examples, frozen.recipe.to_json()
    added = TrainingSet(
        project_id=project_id,
        parent_id=history.newest.id if history.newest else None,
        version=_next_version(session, project_id),
        fingerprint=fingerprint(examples, recipe),
        artifact=frozen.artifact,
        recipe=recipe,
        counts={split.value: sum(e.split is split for e in examples) for split in Split},
        dropped=dict(frozen.dropped),
    )
    session.add(added)
    session.flush()
    _ask_for_mirror(runtime, session, added)
    session.add_all(_example_rows(added.id, frozen))
    session.add_all(_assignments(added, frozen.built))
    _audited(runtime, session, added, frozen)
    _record(session, added, "training_set_frozen", artifact=frozen.artifact, dropped=len(frozen.dropped))
    return added


def _refuse_other_history(session: Session, project_id: UUID, history: History) -> None:
    """Refuse to place rows by what was read before another set was built: it may test what this one would train on.

    Raises:
        TryAgain: another set was built since; this one is to be built by its groups and splits.
    """
    session.get_one(Project, project_id, with_for_update=True)
    newest = newest_set(session, project_id)
    if (newest and (newest.id, newest.current_at)) != history.newest_at:
        raise TryAgain("another set was built meanwhile, by whose splits this one has to go")


def _again(runtime: Runtime, session: Session, known: TrainingSet, frozen: Frozen) -> TrainingSet:
    """Let a set that is built once more be the newest; mirror it anew where its rows, its audit or its card changed."""
    known.current_at = utcnow()
    before = known.audit_report, known.card
    is_other = erased_rows(session, known) and _has_others(session, known, frozen)
    if is_other:
        _fill_again(session, known, frozen)
    _audited(runtime, session, known, frozen)
    if is_other:
        _record(session, known, FILLED_AGAIN, artifact=frozen.artifact)
    elif before != (known.audit_report, known.card):
        _record(session, known, AUDITED_AGAIN, report=frozen.report)
    else:
        return known
    _ask_for_mirror(runtime, session, known)
    return known


def _same(
    session: Session, project_id: UUID, examples: Sequence[Example], recipe: Recipe
) -> TrainingSet | None:
    """Return the set of these rows by this recipe, also by one written down when it had fewer fields."""
    written = session.exec(select(TrainingSet.recipe).where(TrainingSet.project_id == project_id))
    forms = {canonical_json(form): form for form in written if Recipe.from_json(form) == recipe}
    names = [fingerprint(examples, form) for form in forms.values()]
    same = select(TrainingSet).where(
        TrainingSet.project_id == project_id, col(TrainingSet.fingerprint).in_(names)
    )
    return session.exec(same.order_by(col(TrainingSet.version).desc())).first()


def _has_others(session: Session, emptied: TrainingSet, frozen: Frozen) -> bool:
    """Say whether an emptied set lacks rows that it is built with now."""
    left = select(TrainingSetExample.settlement_id).where(
        TrainingSetExample.training_set_id == emptied.id, col(TrainingSetExample.erased_at).is_(None)
    )
    return set(session.exec(left)) != {UUID(example.key) for example in frozen.built.examples}


def _fill_again(session: Session, emptied: TrainingSet, frozen: Frozen) -> None:
    """Give an emptied set the rows that came since and equal the erased ones, whose marks stay."""
    left = col(TrainingSetExample.training_set_id) == emptied.id, col(TrainingSetExample.erased_at).is_(None)
    session.exec(delete(TrainingSetExample).where(*left))
    session.add_all(_example_rows(emptied.id, frozen))
    session.add_all(_assignments(emptied, frozen.built))
    emptied.artifact, emptied.dropped = frozen.artifact, dict(frozen.dropped)


def _record(session: Session, training_set: TrainingSet, action: str, **facts: str | int) -> None:
    ledger.append(
        session,
        actor="curation",
        action=action,
        subject=training_set.fingerprint,
        project_id=training_set.project_id,
        facts={"version": training_set.version, **facts},
    )


def _ask_for_mirror(runtime: Runtime, session: Session, training_set: TrainingSet) -> None:
    key = f"{JobKind.MIRROR}:{training_set.id}"
    runtime.queue.ask(
        session, JobKind.MIRROR, training_set.id, project_id=training_set.project_id, unique_key=key
    )


def _next_version(session: Session, project_id: UUID) -> int:
    last = select(func.max(TrainingSet.version)).where(TrainingSet.project_id == project_id)
    return (session.exec(last).one() or 0) + 1


def _audited(runtime: Runtime, session: Session, training_set: TrainingSet, frozen: Frozen) -> None:
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
    card = card_of(session, training_set, frozen.built.examples, frozen.findings)
    training_set.card = runtime.artifacts.put_bytes(card.encode())


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


def _example_rows(set_id: UUID, frozen: Frozen) -> list[TrainingSetExample]:
    return [
        TrainingSetExample(
            training_set_id=set_id,
            settlement_id=UUID(example.key),
            content_sha256=content_hash(example),
            split=example.split,
            group_name=example.group,
            repairs=frozen.touched.get(example.key, []),
            consent=frozen.consent[UUID(example.key)],
        )
        for example in frozen.built.examples
    ]


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
