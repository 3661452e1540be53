"""Beside the loop: each training set, and each run on it that was judged, as a tag of a Git and DVC repository.

Personal text lies in the rows' files alone, which DVC holds and an erasure can remove; Git holds references.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from sqlmodel import Session, col, select

from retrain.amounts import how_many
from retrain.errors import LostContent, MissingArtifact, RemoteRefused, RetrainError
from retrain.types import Contents, version_tag
from service.answers import describe_evaluation, newest_set
from service.answers.erasures import ERASED_SETS, REVISION, Repository, RowFiles, erased_shards, revision_of
from service.answers.lineage import facts_of, pretty
from service.clock import utcnow
from service.errors import TryAgain
from service.queue import Lease
from service.runtime import Runtime
from service.tables import (
    Evaluation,
    Mirror,
    ModelVersion,
    Project,
    ProjectKind,
    RunState,
    Score,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
)

JUDGED = ("passed", "refused", "cannot_tell")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Judged:
    """A finished run, the model version it made, and one verdict on it; `name` is its tag's: `v7`, then `v7-2`."""

    project: Project
    training_set: TrainingSet
    run: TrainingRun
    model: ModelVersion
    evaluation: Evaluation
    metrics: Mapping[str, float]
    verdict: Mapping[str, Any]
    name: str


def run(
    runtime: Runtime,
    lease: Lease,
    set_id: UUID,
    repository: Repository,
    files: RowFiles,
    *,
    track: Callable[[Judged, str], object] | None,
) -> dict[str, Any]:
    """Publish a set and its judged runs, and push what the remote lacks; what is there already stays as it is.

    Raises:
        RetrainError: it cannot be put into the repository.
        TryAgain: a file was just replaced, or the remote or the tracker refuses; the next attempt goes on.
    """
    with lease.transaction() as session:
        training_set = session.get_one(TrainingSet, set_id)
        project = session.get_one(Project, training_set.project_id)
        judged = _judged(session, project, training_set)
        revision = revision_of(session, training_set)
    try:
        tag, commit, tagged = _tag(
            runtime, project.slug, training_set, judged, repository, files=files, revision=revision
        )
    except MissingArtifact as error:
        _record(lease, set_id, "", failure=str(error))
        raise TryAgain(f"{error}: an erasure may have put another in its place") from error
    except RetrainError as error:
        _record(lease, set_id, "", failure=str(error))
        raise
    this = ERASED_SETS.where(TrainingSetExample.training_set_id == set_id)
    erased = partial(erased_shards, runtime, repository, files, this)
    # Rows may have been erased before this, or while they were copied.
    _try(lease, set_id, commit, partial(repository.forget, erased))
    sent = _try(lease, set_id, commit, repository.push)
    tags = [tag, *(f"{project.slug}/run-{each.name}" for each in judged)]
    _try(lease, set_id, commit, lambda: _check(repository, tags, erased()))
    if track:
        for each, at in zip(judged, tagged, strict=True):
            _try(lease, set_id, commit, partial(track, each, at))
    _record(lease, set_id, commit, failure=None)
    log.info("training_set_mirrored", commit=commit, runs=len(judged), sent=sent)
    return {"commit": commit, "tag": tag, "runs": len(judged), "sent": sent}


def collect(lease: Lease, repository: Repository) -> dict[str, Any]:
    """Free the room of sets that no model needs: their rows leave DVC's cache here, never a remote.

    What was not pushed yet stays.

    Raises:
        TryAgain: the remote does not say what it has.
    """
    kept: list[str] = []

    def needed() -> list[str]:
        with lease.transaction() as session:
            # What a mirror still waits to publish has nothing here yet.
            kept.extend(sorted({*needed_tags(session)} & {*repository.tags()}))
        return kept

    try:
        removed = repository.collect(needed)
    except RemoteRefused as error:
        raise TryAgain(f"nothing is collected: {error}") from error
    return {"kept": len(kept), "removed": removed}


def needed_tags(session: Session) -> list[str]:
    """Return what is live, could be rolled back to, bisected or trained on next: every trained set, and the newest."""
    trained = select(TrainingRun.training_set_id).distinct()
    newest = [newest_set(session, project_id) for project_id in session.exec(select(Project.id)).all()]
    sets = session.exec(
        select(Project.slug, TrainingSet.version, REVISION)
        .join(TrainingSet, col(TrainingSet.project_id) == Project.id)
        .where(
            col(TrainingSet.id).in_(trained) | col(TrainingSet.id).in_([each.id for each in newest if each])
        )
    ).all()
    models = session.exec(
        select(Project.slug, ModelVersion.number)
        .join(ModelVersion, col(ModelVersion.project_id) == Project.id)
        .join(Evaluation, col(Evaluation.model_version_id) == ModelVersion.id)
        .where(col(ModelVersion.training_run_id).is_not(None), col(Evaluation.state).in_(JUDGED))
        .distinct()
    ).all()
    return sorted(
        [f"{slug}/{version_tag(version, revision)}" for slug, version, revision in sets]
        + [f"{slug}/run-v{n}" for slug, n in models]
    )


def _tag(
    runtime: Runtime,
    slug: str,
    training_set: TrainingSet,
    judged: Sequence[Judged],
    repository: Repository,
    *,
    files: RowFiles,
    revision: int,
) -> tuple[str, str, list[str]]:
    """Publish what has no tag yet; return the set's tag and commit, and each run's commit."""
    version = training_set.version
    tag = f"{slug}/{version_tag(version, revision)}"
    with runtime.scratch() as folder:
        whole = folder / "whole.parquet"
        whole.write_bytes(runtime.artifacts.get_bytes(training_set.artifact))
        rows = {f"rows/{name}": path for name, path in files.shards(whole, folder).items()}
        with runtime.db.reading() as session:
            contents = Contents(rows, facts_of(runtime, session, training_set), training_set.created_at)
        # A tag is what it was: rows may have been erased, and lineage salted anew, since it was made.
        commit = repository.commit_of(tag) or repository.publish(slug, version, contents, revision=revision)
        return (
            tag,
            commit,
            [
                repository.commit_of(f"{slug}/run-{each.name}")
                or repository.add_run(
                    slug,
                    version,
                    each.name,
                    _run_contents(runtime, each, folder / each.name),
                    revision=revision,
                )
                for each in judged
            ],
        )


def _try(lease: Lease, set_id: UUID, commit: str, act: Any) -> Any:
    """Do what needs another machine; when that refuses, write down why."""
    try:
        return act()
    except RetrainError as error:
        _record(lease, set_id, commit, failure=str(error))
        raise TryAgain(f"the set is committed here, but {error}") from error


def _check(repository: Repository, tags: Sequence[str], erased: set[str]) -> None:
    """Refuse to call tags complete whose files the remote lacks, erased ones aside.

    Raises:
        LostContent: it lacks some.
    """
    if lost := repository.unpushed(tags) - erased:
        raise LostContent(f"the remote lacks {how_many(len(lost), 'file')} of {', '.join(tags)}")


def _record(lease: Lease, set_id: UUID, commit: str, *, failure: str | None) -> None:
    with lease.transaction() as session:
        mirror = session.exec(select(Mirror).where(Mirror.training_set_id == set_id)).first()
        mirror = mirror or Mirror(training_set_id=set_id, git_commit="")
        mirror.git_commit, mirror.failure = commit or mirror.git_commit, failure
        mirror.pushed_at = mirror.pushed_at if failure else utcnow()
        session.add(mirror)


def _judged(session: Session, project: Project, training_set: TrainingSet) -> list[Judged]:
    finished = session.exec(
        select(TrainingRun, ModelVersion)
        .join(ModelVersion, col(ModelVersion.training_run_id) == TrainingRun.id)
        .where(TrainingRun.training_set_id == training_set.id, TrainingRun.state == RunState.FINISHED)
        .order_by(col(ModelVersion.number))
    ).all()
    return [
        Judged(
            project=project,
            training_set=training_set,
            run=one,
            model=model,
            evaluation=evaluation,
            metrics=_metrics(session, evaluation),
            verdict=_verdict(session, project, evaluation),
            name=f"v{model.number}-{place}" if place > 1 else f"v{model.number}",
        )
        for one, model in finished
        for place, evaluation in enumerate(_evaluations(session, model), start=1)
    ]


def _evaluations(session: Session, model: ModelVersion) -> Sequence[Evaluation]:
    judged = select(Evaluation).where(
        Evaluation.model_version_id == model.id, col(Evaluation.state).in_(JUDGED)
    )
    return session.exec(judged.order_by(col(Evaluation.id))).all()


def _metrics(session: Session, evaluation: Evaluation) -> dict[str, float]:
    scores = session.exec(
        select(Score).where(
            Score.evaluation_id == evaluation.id, Score.model_version_id == evaluation.model_version_id
        )
    )
    return {f"{score.suite}.{score.metric}": round(score.value, 6) for score in scores if not score.slice}


def _verdict(session: Session, project: Project, evaluation: Evaluation) -> dict[str, Any]:
    """Tell of a verdict without the figures of slices that hosts name: an erasure deletes those, and not in Git."""
    told = describe_evaluation(session, evaluation)
    is_label = f"{'label' if project.kind is ProjectKind.CLASSIFICATION else ''}="
    kept = [one for one in told["scores"] if not one["slice"] or one["slice"].startswith(is_label)]
    return told | {"scores": kept}


def _run_contents(runtime: Runtime, judged: Judged, folder: Path) -> Contents:
    run, evaluation = judged.run, judged.evaluation
    code = {"archive": run.code_archive, "packages": run.package_lock, "environment": run.environment}
    facts = {
        "spec.json": pretty({"spec": run.spec, "code": code, "adapter": judged.model.adapter_sha256}),
        "metrics.json": pretty(judged.metrics),
        "evaluation.json": pretty(judged.verdict),
    }
    files = _adapter(runtime, judged.model, folder)
    return Contents(files, facts, evaluation.finished_at or evaluation.created_at)


def _adapter(runtime: Runtime, model: ModelVersion, folder: Path) -> dict[str, Path]:
    if model.adapter_sha256 is None:
        return {}
    runtime.artifacts.fetch_directory(model.adapter_sha256, folder)
    return {f"adapter/{path.name}": path for path in sorted(folder.iterdir()) if path.is_file()}
