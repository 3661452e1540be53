"""Beside stage 5: score base models on a set's validation rows, before one is chosen to be trained."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from retrain.errors import EmptySplit
from retrain.examination import Model, ask, case_of
from retrain.metrics.judged import judged_of
from retrain.metrics.statistics import measure
from retrain.types import Case, Example, Message, Split, content_hash
from service import projects
from service.learning import read_set
from service.queue import Lease
from service.runtime import Runtime
from service.tables import Project, TrainingSet

FEW = 4


class Examiner(Protocol):
    """What a job hands over, so that this module loads without torch."""

    def read(self, path: Path) -> list[Example]: ...
    def open(self, base_model: str, system_prompt: str) -> Model: ...
    def facts_of(self, base_model: str) -> dict[str, Any]: ...


def compare(
    runtime: Runtime, lease: Lease, set_id: UUID, bases: Sequence[str], examiner: Examiner
) -> dict[str, Any]:
    """Ask each base model every validation row, alone and after `FEW` rows of training with their answers.

    Labels are judged by accuracy, texts by ROUGE-L; no model is trained.

    Raises:
        UnknownBaseModel: one cannot be loaded; that shows before any is asked.
        EmptySplit: the set has no validation rows.
    """
    with lease.transaction() as session:
        training_set = session.get_one(TrainingSet, set_id)
        project = session.get_one(Project, training_set.project_id)
        labels = projects.labels_to_choose(session, project.id)
    facts = {base: examiner.facts_of(base) for base in bases}
    rows = [row for row in read_set(runtime, training_set, examiner.read) if row.is_wanted]
    cases = [case_of(row) for row in rows if row.split is Split.VALIDATION]
    if not cases:
        raise EmptySplit(
            f"set v{training_set.version} has no validation rows to compare models by; "
            "build the next one with a larger validation_share"
        )
    shown = shots([row for row in rows if row.split is Split.TRAIN])
    metric = "accuracy" if cases[0].is_labelled else "rouge_l"
    found = []
    for place, base in enumerate(bases):
        lease.report(step=place, steps=len(bases), asking=base, cases=2 * len(cases))
        model = examiner.open(base, project.system_prompt)
        begun = time.monotonic()
        alone = _score(model, cases, labels, metric)
        seconds = time.monotonic() - begun
        after = _score(
            model, [replace(case, messages=(*shown, *case.messages)) for case in cases], labels, metric
        )
        speed = round(len(cases) / seconds, 2)
        found.append(
            {"base": base, "zero_shot": alone, "few_shot": after, **facts[base], "answers_per_second": speed}
        )
    return {"training_set": training_set.fingerprint, "metric": metric, "shots": FEW, "bases": found}


def shots(rows: Sequence[Example]) -> tuple[Message, ...]:
    """Return `FEW` rows with their answers as a conversation: each label once, as far as that goes."""
    ordered = sorted((row for row in rows if row.messages[0].role != "system"), key=content_hash)
    firsts = {row.label or row.key: row for row in reversed(ordered)}.values()
    rest = [row for row in ordered if row not in firsts]
    chosen = [*sorted(firsts, key=content_hash), *rest][:FEW]
    return tuple(turn for row in chosen for turn in (*row.messages, Message("assistant", row.answer)))


def _score(model: Model, cases: Sequence[Case], labels: Sequence[str], metric: str) -> dict[str, Any]:
    with model.using(None):
        return asdict(measure(judged_of(cases, ask(model, cases, labels)), metric, seed=0))
