"""Beside the loop: estimate what each flag, source, reason and annotator's hour was worth to a model."""

import shutil
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from sqlmodel import Session, col, select

from retrain.bisect.trials import Scores
from retrain.bisect.value import Value, check, estimate
from retrain.errors import EmptySplit
from retrain.types import Example, Split, TrainingSpec, content_hash
from service import projects
from service.answers.erasures import set_before
from service.answers.examples import LOOKED_UP, contents, examples_of
from service.answers.flags import ANSWERED, FLAG
from service.answers.histories import FEWEST_CASES
from service.errors import Invalid
from service.learning import learn
from service.queue import Lease
from service.runtime import Runtime
from service.scoring import Bench, examined
from service.tables import (
    Annotation,
    AnnotationTask,
    Influence,
    ModelVersion,
    Response,
    Settlement,
    SettlementAnnotation,
    Source,
    TrainingRun,
    TrainingSet,
)

SHOWN, KEPT = 50, 1_000
CHECKED = "sources"  # few enough, and large enough to show, to be left out one by one
HOUR = 3600

log = structlog.get_logger()
Groups = Mapping[str, Collection[str]]


@dataclass(frozen=True, slots=True)
class Taught:
    """What a model learned and is asked: rows are named by their settlements, groups hold such names."""

    spec: TrainingSpec
    adapter: str
    rows: Sequence[Example]
    cases: Sequence[Example]
    labels: Sequence[str]
    earlier: Collection[str]
    groups: Mapping[str, Groups]
    hours: Mapping[str, float]


def perform(
    runtime: Runtime, lease: Lease, model_id: UUID, bench: Bench, *, repeats: int = 0
) -> dict[str, Any]:
    """Estimate by gradients what each group of a model's training rows does for what it is asked; best first.

    With `repeats`, some sources are left out and the rest trained so often, to see how far estimates agree with that.

    Raises:
        Invalid: the model was not trained here.
        EmptySplit: there is nothing to judge by.
        TooFewGroups: there are too few sources to be checked.
    """
    with runtime.db.reading() as session:
        taught = _taught(session, session.get_one(ModelVersion, model_id))
    work = runtime.settings.work / str(lease.row_id)
    # What an attempt that was ended left is another training's.
    shutil.rmtree(work, ignore_errors=True)
    runtime.artifacts.fetch_directory(taught.adapter, work / "adapter")
    weights = [1 / len(taught.cases)] * len(taught.cases)
    found = bench.harms(
        taught.spec,
        work / "adapter",
        taught.rows,
        taught.cases,
        weights,
        labels=taught.labels,
        is_cancelled=lease.is_lost,
    )
    harm = dict(zip((row.key for row in taught.rows), found, strict=True))
    with lease.transaction() as session:
        _keep(session, model_id, harm)
    values = {
        kind: estimate(groups, harm, hours=taught.hours if kind == "annotators" else None)
        for kind, groups in taught.groups.items()
    }
    told: dict[str, Any] = {"rows": len(taught.rows), "cases": len(taught.cases)}
    if repeats:
        values[CHECKED], told["agreement"] = _checked(
            runtime, lease, bench, taught, values[CHECKED], repeats=repeats, work=work
        )
    shutil.rmtree(work, ignore_errors=True)
    log.info("valued", rows=len(taught.rows), cases=len(taught.cases))
    return told | {kind: [asdict(one) for one in _ends(each)] for kind, each in values.items()}


def _keep(session: Session, model_id: UUID, harm: Mapping[str, float]) -> None:
    """Keep the rows that matter most, of which lineage tells; an earlier estimate is replaced."""
    most = sorted(harm, key=lambda key: (-abs(harm[key]), key))[:KEPT]
    kept = session.exec(select(Influence).where(Influence.model_version_id == model_id)).first()
    kept = kept or Influence(model_version_id=model_id, rows={})
    kept.rows = {key: -harm[key] for key in most}
    session.add(kept)


def _ends(values: Sequence[Value]) -> Sequence[Value]:
    """Return all, or of many the best and the worst."""
    return values if len(values) <= 2 * SHOWN else [*values[:SHOWN], *values[-SHOWN:]]


def _checked(
    runtime: Runtime,
    lease: Lease,
    bench: Bench,
    taught: Taught,
    values: Sequence[Value],
    *,
    repeats: int,
    work: Path,
) -> tuple[list[Value], float]:
    """Train without the best source, the worst and some between."""
    asked = examined("accuracy" if taught.labels else "exact_match", taught.cases, taught.labels)
    model = bench.open(taught.spec.base_model, taught.spec.system_prompt)

    def train(left_out: str | None, seed: int) -> Scores:
        gone = taught.groups[CHECKED].get(left_out or "", ())
        learned = learn(
            runtime,
            bench,
            replace(taught.spec, seed=taught.spec.seed + seed),
            rows=[row for row in taught.rows if row.key not in gone],
            earlier=taught.earlier,
            work=work / "without",
            report=lambda _: None,
            is_cancelled=lease.is_lost,
        )
        scores = Scores(asked.score(model, Path(learned.directory)), learned.seconds)
        shutil.rmtree(work / "without")
        lease.report(left_out=left_out or "nothing", seed=seed)
        return scores

    return check(values, train, repeats=repeats)


def _taught(session: Session, model: ModelVersion) -> Taught:
    run = session.get(TrainingRun, model.training_run_id) if model.training_run_id else None
    if run is None or not model.adapter_sha256:
        raise Invalid(f"v{model.number} was not trained here, so that nothing can be said of what it learned")
    training_set = session.get_one(TrainingSet, run.training_set_id)
    found = [row for row in examples_of(session, training_set) if row.is_wanted]
    rows = sorted((row for row in found if row.split is Split.TRAIN), key=content_hash)
    cases = sorted((row for row in found if row.split is Split.TEST), key=content_hash)
    if len(cases) < FEWEST_CASES or not rows:
        raise EmptySplit(
            f"set v{training_set.version}: a test split of {FEWEST_CASES} rows or more is needed"
        )
    spec = TrainingSpec.from_json(run.spec)
    codes = projects.reason_codes(session, model.project_id)
    groups, hours = _groups(session, [UUID(row.key) for row in rows], codes)
    return Taught(
        spec=spec,
        # What a model has not learned yet says most about what it should; else its own weights have to do.
        adapter=spec.parent_adapter or model.adapter_sha256,
        rows=rows,
        cases=cases,
        labels=projects.labels_to_choose(session, model.project_id),
        earlier=contents(session, set_before(session, training_set), Split.TRAIN),
        groups=groups,
        hours=hours,
    )


def _groups(
    session: Session, rows: Sequence[UUID], codes: Collection[str]
) -> tuple[dict[str, Groups], dict[str, float]]:
    """Return settlements by the flags, reasons, sources and annotators that they go back to, and annotators' hours.

    An annotator is named by their id here, and where no tool tells hours each answer counts as one.
    """
    groups: dict[str, defaultdict[str, set[str]]] = {
        kind: defaultdict(set) for kind in ("flags", "reasons", "sources", "annotators")
    }
    seconds: defaultdict[str, float] = defaultdict(float)
    for start in range(0, len(rows), LOOKED_UP):
        part = col(Settlement.id).in_(rows[start : start + LOOKED_UP])
        flagged = select(Settlement.id, FLAG.id, FLAG.reasons)
        flagged = flagged.join(AnnotationTask, col(AnnotationTask.id) == Settlement.task_id)
        for row, flag, reasons in session.exec(flagged.where(part, *ANSWERED)):
            groups["flags"][str(flag)].add(str(row))
            for reason in set(reasons).intersection(codes):
                groups["reasons"][reason].add(str(row))
        sourced = select(Settlement.id, Source.name)
        sourced = sourced.join(AnnotationTask, col(AnnotationTask.id) == Settlement.task_id)
        sourced = sourced.join(Response, col(Response.id) == AnnotationTask.response_id)
        sourced = sourced.join(Source, col(Source.id) == Response.source_id)
        for row, source in session.exec(sourced.where(part)):
            groups["sources"][source].add(str(row))
        answered = select(Settlement.id, Annotation.annotator_id, Annotation.seconds_spent)
        answered = answered.join(
            SettlementAnnotation, col(SettlementAnnotation.settlement_id) == Settlement.id
        )
        answered = answered.join(Annotation, col(Annotation.id) == SettlementAnnotation.annotation_id)
        for row, annotator, spent in session.exec(answered.where(part)):
            groups["annotators"][str(annotator)].add(str(row))
            seconds[str(annotator)] += spent
    hours = {who: spent / HOUR for who, spent in seconds.items() if spent}
    return dict(groups), {who: hours.get(who, len(groups["annotators"][who])) for who in seconds}
