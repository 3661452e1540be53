"""All that the decision on a model version rests on, in one archive that anybody can check without us."""

import hashlib
from collections.abc import Iterator
from typing import Any

from sqlmodel import Session, col, select

from retrain.archive import zipped
from retrain.types import canonical_json
from service import ledger
from service import tables as t
from service.answers import describe_evaluation
from service.answers.lineage import facts_of, pretty
from service.runtime import Runtime
from service.waivers import effort_name

README = """# Evidence for {name}

What this version was made of, how it was judged, who decided, and when it went live; no end user's words. Of a suite
there is the hash alone, of an evaluation's report the artifact's name: both may quote users, and stay where they are.

To check it: `sha256sum --check SHA256SUMS`. Packing the version again gives the same bytes, unless something was added
or somebody's rows were erased since. Each line of `ledger.jsonl` has a `sha256`, that of its other fields as JSON with
sorted keys, without spaces, in UTF-8; `errata ledger verify` walks the chain that they are links of. An approval's
`hashes` are those of the adapter, the set, the criteria and the rules in here.
"""


def pack(runtime: Runtime, session: Session, model: t.ModelVersion) -> bytes:
    """Return a ZIP file: the same bytes for the same rows. No user's words are in it; reasons that people gave are.

    Raises:
        MissingArtifact, BrokenArtifact: the set's card or audit is not in the store as it was put there.
    """
    project = session.get_one(t.Project, model.project_id)
    run = session.get(t.TrainingRun, model.training_run_id) if model.training_run_id else None
    training_set = session.get_one(t.TrainingSet, run.training_set_id) if run else None
    evaluations = _of_model(session, t.Evaluation, model)
    files = {
        "README.md": README.format(name=f"{project.slug}/v{model.number}").encode(),
        "model.json": pretty(_model(session, project, model, run)),
        "evaluations.json": pretty([_evaluation(session, each) for each in evaluations]),
        "approvals.json": pretty([_by(session, each) for each in _of_model(session, t.Approval, model)]),
        "promotions.json": pretty([_by(session, each) for each in _of_model(session, t.Promotion, model)]),
        **{f"documents/{name}": content for name, content in _documents(session, run, evaluations)},
    }
    subjects = {f"v{model.number}", *(f"evaluation {each.id}" for each in evaluations)}
    if run and training_set:
        found = facts_of(runtime, session, training_set)
        files |= {f"training_set/{name}": content for name, content in found.items()}
        files["waivers.json"] = pretty(_waivers(session, training_set, evaluations))
        subjects |= {str(run.id), training_set.fingerprint, f"training_set {training_set.id}"}
    files["ledger.jsonl"] = _ledger(session, project, subjects, training_set)
    files = dict(sorted(files.items()))
    sums = (f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    return zipped(files | {"SHA256SUMS": "".join(sums).encode()})


def _of_model(session: Session, table: Any, model: t.ModelVersion) -> list[Any]:
    rows = select(table).where(table.model_version_id == model.id).order_by(col(table.id))
    return list(session.exec(rows))


def _model(
    session: Session, project: t.Project, model: t.ModelVersion, run: t.TrainingRun | None
) -> dict[str, Any]:
    parent = session.get(t.ModelVersion, model.parent_id) if model.parent_id else None
    told = model.model_dump(mode="json", exclude={"state", "project_id", "parent_id", "training_run_id"})
    asked_for = session.get(t.User, run.requested_by) if run and run.requested_by else None
    return told | {
        "project": project.slug,
        "parent": parent and {"number": parent.number, "adapter_sha256": parent.adapter_sha256},
        "training_run": run and run.model_dump(mode="json") | {"requested_by": asked_for and asked_for.name},
    }


def _evaluation(session: Session, evaluation: t.Evaluation) -> dict[str, Any]:
    used = {
        kind: session.get_one(t.Document, row_id).sha256
        for kind, row_id in (
            ("criteria", evaluation.criteria_id),
            ("gate_rules", evaluation.rules_id),
            ("suite", evaluation.suite_id),
        )
    }
    champion = session.get_one(t.ModelVersion, evaluation.champion_id).number
    facts = evaluation.model_dump(mode="json", include={"created_at", "finished_at", "report", "seed"})
    return describe_evaluation(session, evaluation) | facts | {"champion": champion, "judged_by": used}


def _by(session: Session, decision: t.Approval | t.Promotion) -> dict[str, Any]:
    user = session.get(t.User, decision.user_id) if decision.user_id else None
    return decision.model_dump(mode="json", exclude={"project_id", "user_id"}) | {"by": user and user.name}


def _documents(
    session: Session, run: t.TrainingRun | None, evaluations: list[t.Evaluation]
) -> Iterator[tuple[str, bytes]]:
    """Yield the documents that were used; a suite may hold cases that users wrote."""
    used = {row_id for each in evaluations for row_id in (each.criteria_id, each.rules_id, each.suite_id)}
    used |= {run.criteria_id} if run else set()
    for row in session.exec(select(t.Document).where(col(t.Document.id).in_(used))):
        left_out = {"id", "project_id"} | ({"content"} if row.kind is t.DocumentKind.SUITE else set())
        yield f"{row.kind}-v{row.version}.json", pretty(row.model_dump(mode="json", exclude=left_out))


def _waivers(
    session: Session, training_set: t.TrainingSet, evaluations: list[t.Evaluation]
) -> list[dict[str, Any]]:
    """Return the waivers of what the audit found, and of time that validation lacked."""
    found = select(t.AuditFinding.name).where(t.AuditFinding.training_set_id == training_set.id)
    efforts = [effort_name(each) for each in evaluations]
    rows = select(t.Document).where(
        t.Document.project_id == training_set.project_id,
        t.Document.kind == t.DocumentKind.WAIVER,
        col(t.Document.name).in_(found) | col(t.Document.name).in_(efforts),
    )
    waivers = session.exec(rows.order_by(col(t.Document.id)))
    return [row.model_dump(mode="json", exclude={"id", "project_id", "kind"}) for row in waivers]


def _ledger(
    session: Session, project: t.Project, subjects: set[str], training_set: t.TrainingSet | None
) -> bytes:
    """Return the entries about these subjects, and about what the set's audit found, one a line."""
    found = select(col(t.AuditFinding.check) + ": " + col(t.AuditFinding.name)).where(
        t.AuditFinding.training_set_id == (training_set.id if training_set else None)
    )
    about = col(t.LedgerEntry.subject)
    rows = select(t.LedgerEntry).where(
        t.LedgerEntry.project_id == project.id, about.in_(subjects) | about.in_(found)
    )
    entries = session.exec(rows.order_by(col(t.LedgerEntry.seq)))
    return b"".join(
        canonical_json(ledger.document(entry) | {"sha256": entry.sha256}) + b"\n" for entry in entries
    )
