"""How rows look to those who ask: what the API and the command line answer, and how rows are named there."""

from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from service.answers.audits import blocking, describe_finding, findings_of
from service.answers.erasures import erased_rows
from service.clock import utcnow
from service.errors import NotFound, WrongState
from service.tables import (
    Evaluation,
    EvaluationState,
    Job,
    JobKind,
    ModelVersion,
    Project,
    Promotion,
    RunState,
    Score,
    TrainingRun,
    TrainingSet,
)
from service.waivers import in_force, of_effort

VERDICTS = (EvaluationState.PASSED, EvaluationState.REFUSED, EvaluationState.CANNOT_TELL)
MIN_PREFIX = 8
MAX_DIGITS = 9


def find_set(session: Session, name: str, *, project_id: UUID | None = None) -> TrainingSet:
    """Return a set by its fingerprint, a prefix of at least 8 hexadecimal digits, or `PROJECT/vN`.

    Raises:
        NotFound: there is no such set, or the prefix fits several.
    """
    slug, slash, version = name.partition("/v")
    sets = select(TrainingSet)
    if project_id:
        sets = sets.where(TrainingSet.project_id == project_id)
    if slash:
        if not version.isdecimal() or len(version) > MAX_DIGITS:
            raise NotFound(f"no training set {name!r}: a version is PROJECT/vN")
        sets = sets.join(Project, col(TrainingSet.project_id) == Project.id).where(
            Project.slug == slug, TrainingSet.version == int(version)
        )
    else:
        digits = name.removeprefix("sha256:")
        if len(digits) < MIN_PREFIX or not digits.isalnum():
            raise NotFound(f"no training set {name!r}: give at least {MIN_PREFIX} digits of its fingerprint")
        sets = sets.where(col(TrainingSet.fingerprint).startswith(f"sha256:{digits}"))
    found = session.exec(sets.order_by(col(TrainingSet.id).desc())).all()
    # Equal content has an equal name in every project: any of these sets is the one meant.
    if len({each.fingerprint for each in found}) > 1:
        raise NotFound(f"several training sets fit {name!r}")
    if not found:
        raise NotFound(f"no training set {name!r}")
    return found[0]


def set_of(session: Session, project: Project, name: str | None) -> TrainingSet:
    """Return a project's set by its name, of which `vN` is enough, or the newest if none is given.

    Raises:
        NotFound: the project has no such set.
    """
    if not name:
        found = newest_set(session, project.id)
    elif name[0] == "v" and name[1:].isdecimal():
        found = find_set(session, f"{project.slug}/{name}", project_id=project.id)
    else:
        found = find_set(session, name, project_id=project.id)
    if found is None or found.project_id != project.id:
        raise NotFound(f"project {project.slug} has no such training set")
    return found


def newest_set(session: Session, project_id: UUID) -> TrainingSet | None:
    """Return the set that the project's settlements came to last."""
    sets = select(TrainingSet).where(TrainingSet.project_id == project_id)
    newest = sets.order_by(col(TrainingSet.current_at).desc(), col(TrainingSet.version).desc())
    return session.exec(newest.limit(1)).first()


def find_model(session: Session, project: Project, number: int | None) -> ModelVersion:
    """Return the version of this number, or the newest that an adapter was trained for.

    Raises:
        NotFound: there is none.
    """
    versions = select(ModelVersion).where(ModelVersion.project_id == project.id, ModelVersion.number > 0)
    if number is not None:
        versions = versions.where(ModelVersion.number == number)
    found = session.exec(versions.order_by(col(ModelVersion.number).desc()).limit(1)).first()
    if found is None:
        raise NotFound(f"project {project.slug} has no trained model version {number or ''}".rstrip())
    return found


def find_version(session: Session, name: str) -> ModelVersion:
    """Return a model version by `PROJECT/vN` or its id.

    Raises:
        NotFound: there is no such version.
    """
    slug, slash, number = name.partition("/v")
    found = None
    if slash and number.isdecimal() and len(number) <= MAX_DIGITS:
        of_project = select(ModelVersion).join(Project, col(ModelVersion.project_id) == Project.id)
        named = of_project.where(Project.slug == slug, ModelVersion.number == int(number))
        found = session.exec(named).first()
    elif not slash:
        try:
            found = session.get(ModelVersion, UUID(name))
        except ValueError:
            found = None
    if found is None:
        raise NotFound(f"no model version {name!r}: name it PROJECT/vN or by its id")
    return found


def newest_evaluation(session: Session, model_id: UUID) -> Evaluation | None:
    """Return a model version's newest evaluation."""
    of_model = select(Evaluation).where(Evaluation.model_version_id == model_id)
    return session.exec(of_model.order_by(col(Evaluation.id).desc()).limit(1)).first()


def describe_set(session: Session, training_set: TrainingSet) -> dict[str, Any]:
    """Return a set as the API and the command line show it."""
    project = session.get_one(Project, training_set.project_id)
    waived = in_force(session, training_set.project_id, utcnow().date())
    return {
        "id": str(training_set.id),
        "name": f"{project.slug}/v{training_set.version}",
        "fingerprint": training_set.fingerprint,
        "counts": training_set.counts,
        "is_blocked": bool(blocking(session, training_set, utcnow().date())),
        "recipe": training_set.recipe,
        "dropped": len(training_set.dropped),
        "erased": erased_rows(session, training_set),
        "findings": [
            describe_finding(finding, waived.get(finding.name))
            for finding in findings_of(session, training_set)
        ],
    }


def made_by(session: Session, run: TrainingRun) -> ModelVersion:
    """Return the version that a run made.

    Raises:
        WrongState: it has not finished.
    """
    made = session.exec(select(ModelVersion).where(ModelVersion.training_run_id == run.id)).first()
    if run.state is not RunState.FINISHED or made is None:
        raise WrongState(f"run {run.id} is {run.state.value}: only one that made an adapter can be repeated")
    return made


def describe_run(session: Session, run: TrainingRun) -> dict[str, Any]:
    """Return a run as the API and the command line show it."""
    training_set = session.get_one(TrainingSet, run.training_set_id)
    model = session.exec(select(ModelVersion).where(ModelVersion.training_run_id == run.id)).first()
    jobs = select(Job).where(
        Job.project_id == run.project_id, Job.kind == JobKind.TRAIN, Job.row_id == run.id
    )
    job = session.exec(jobs.order_by(col(Job.id).desc()).limit(1)).first()
    return {
        "id": str(run.id),
        "state": run.state.value,
        "training_set": training_set.fingerprint,
        "spec": run.spec,
        "is_only_watched": run.is_only_watched,
        "code_archive": run.code_archive,
        "package_lock": run.package_lock,
        "report": run.report,
        "progress": job.progress if job else {},
        "job": str(job.id) if job else None,
        "model_version": model.number if model else None,
        "failure": run.failure,
    }


def describe_evaluation(session: Session, evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as the API and the command line show it."""
    scores = session.exec(
        select(Score, ModelVersion)
        .join(ModelVersion, col(Score.model_version_id) == ModelVersion.id)
        .where(Score.evaluation_id == evaluation.id)
        .order_by(col(Score.id))
    )
    model = session.get_one(ModelVersion, evaluation.model_version_id)
    return {
        "id": str(evaluation.id),
        "model_version": model.number,
        "state": evaluation.state.value,
        "verdict": evaluation.state.value if evaluation.state in VERDICTS else None,
        "sentence": evaluation.sentence or "",
        "reasons": evaluation.reasons,
        "people": evaluation.people,
        "contaminated": evaluation.contaminated,
        "hashes": evaluation.hashes,
        "scores": [
            {
                "model_version": version.number,
                **{
                    name: getattr(score, name)
                    for name in ("suite", "metric", "slice", "value", "low", "high", "n")
                },
            }
            for score, version in scores
        ],
    }


def describe_today(session: Session, evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation with the waiver that lets its version be approved today though the gate did not pass it."""
    waiver = of_effort(session, evaluation)
    told = {"by": waiver.author, **waiver.content} if waiver else None
    return describe_evaluation(session, evaluation) | {"waived": told}


def describe_promotion(promotion: Promotion, model: ModelVersion) -> dict[str, Any]:
    """Return a promotion as the API and the command line show it."""
    return {
        "seq": promotion.seq,
        "kind": promotion.kind.value,
        "model_version": model.number,
        "base_model": model.base_model,
        "adapter_uri": f"artifact:{model.adapter_sha256}" if model.adapter_sha256 else None,
        "sha256": model.adapter_sha256,
        "promoted_at": promotion.created_at.isoformat(),
    }
