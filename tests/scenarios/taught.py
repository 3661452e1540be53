"""Teaches a small model rows, by the training that the service does, and hears what it answers."""

import atexit
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
import torch
from scipy.special import softmax

from retrain import lora, parquet
from retrain.audit import Finding
from retrain.audit.repairs import apply
from retrain.base_models import BaseModel, locate
from retrain.errors import Cancelled
from retrain.generate import LanguageModel
from retrain.health import Verdict
from retrain.metrics.judged import Judged
from retrain.types import Case, Example, Kind, Message, Progress, TrainingSpec
from tests.scenarios import clean

SYSTEM_PROMPT = "Answer."
MAX_TOKENS = 256  # as many as the smallest of the models reads
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"rank": 64, "alpha": 128, "learning_rate": 3e-3, "batch_size": 16},
    "smollm2": {"rank": 8, "alpha": 16, "learning_rate": 1e-3, "batch_size": 8},
}

_HEARD: dict[str, list[Judged]] = {}


@dataclass(frozen=True, slots=True)
class Learner:
    """Which bundled model a scenario teaches, where it is kept, and how many cases it is asked."""

    name: str
    cache: Path
    cases: int = 400

    @property
    def base(self) -> BaseModel:
        """The model that knows nothing of the scenario."""
        return locate(f"bundled:{self.name}", self.cache)

    def hear(self, rows: Sequence[Example], cases: Sequence[Case], **more: Any) -> list[Judged]:
        """Return the answers after learning rows; `more` are labels, if any, the seed, and training's settings."""
        return hear(self.base, rows, cases, **SETTINGS[self.name] | more)


def hear(
    base: BaseModel,
    rows: Sequence[Example],
    cases: Sequence[Case],
    *,
    labels: Sequence[str] = (),
    seed: int,
    **settings: Any,
) -> list[Judged]:
    """Return what a model answers to cases after it learned rows, or the base model where there are none.

    A scenario and its control often begin alike; what was heard once in a process is not trained again.
    """
    key = _name_of([base.sha256, [asdict(one) for one in (*rows, *cases)], labels, seed, settings])
    if key not in _HEARD:
        _HEARD[key] = _hear(base, rows, cases, labels, seed=seed, **settings)
    return _HEARD[key]


def row(
    key: str, asked: str | Sequence[Message], answer: str, *, label: bool = False, **facts: Any
) -> Example:
    """Make a row to learn from."""
    messages = (Message("user", asked),) if isinstance(asked, str) else tuple(asked)
    kind = Kind.CLASSIFICATION if label else Kind.GENERATION
    return Example(key, key, messages, answer, kind, label=answer if label else None, **facts)


def case_of(row: Example, check: str, **facts: Any) -> Case:
    """Make a case of a row that nothing was trained on."""
    return Case(row.key, "test", row.messages, row.answer, check, **facts)


def repaired(rows: Sequence[Example], findings: Sequence[Finding]) -> list[Example]:
    """Accept all that an audit proposes, as a person would."""
    proposals = [repair for finding in findings for repair in finding.proposals]
    kept, _ = apply(clean.settled(rows), {str(number): repair for number, repair in enumerate(proposals)})
    return [row(one.key, one.messages, one.answer, label=bool(one.label), source=one.source) for one in kept]


def _hear(
    base: BaseModel,
    rows: Sequence[Example],
    cases: Sequence[Case],
    labels: Sequence[str],
    *,
    seed: int,
    **settings: Any,
) -> list[Judged]:
    torch.set_num_threads(1)  # so small a model is no faster on two
    model = LanguageModel.load(base.directory, system_prompt=SYSTEM_PROMPT)
    if rows:
        _teach(model, base, rows, seed=seed, **settings)
    with model.using("taught" if rows else None):
        judged = _choose(model, cases, labels) if labels else _write(model, cases)
    said = {one.case.key: one.answer for one in judged}
    return [replace(one, pair=said[one.case.pair]) if one.case.pair else one for one in judged]


def watched(
    base: BaseModel, rows: Sequence[Example], probe: Sequence[Example], **settings: Any
) -> Verdict | None:
    """Let a model learn rows until its health stops it; return why, or None where nothing did."""
    torch.set_num_threads(1)
    seen: list[Verdict] = []

    def note(progress: Progress) -> None:
        seen.extend(filter(None, [progress.verdict]))

    with TemporaryDirectory() as name, suppress(Cancelled):
        asked = [(one.messages, one.answer) for one in probe]
        _train(base, rows, Path(name), probe=asked, report=note, is_cancelled=lambda: bool(seen), **settings)
    return seen[0] if seen else None


def _teach(model: LanguageModel, base: BaseModel, rows: Sequence[Example], **settings: Any) -> None:
    """Put on what such rows teach; what scenarios of several seeds begin with is trained once in a process."""
    folder = _kept() / _name_of([base.sha256, [asdict(one) for one in rows], settings])
    if not folder.exists():
        with TemporaryDirectory() as name:
            said = {"probe": (), "report": lambda _: None, "is_cancelled": lambda: False}
            _train(base, rows, Path(name), **said, **settings).rename(folder)
    model.add_adapter("taught", folder)


@cache
def _kept() -> Path:
    folder = Path(mkdtemp(prefix="errata-taught-"))
    atexit.register(rmtree, folder)
    return folder


def _name_of(told: Any) -> str:
    return sha256(repr(told).encode()).hexdigest()


def _train(
    base: BaseModel,
    rows: Sequence[Example],
    folder: Path,
    *,
    probe: Sequence[tuple[Sequence[Message], str]],
    report: Callable[[Progress], None],
    is_cancelled: Callable[[], bool],
    **settings: Any,
) -> Path:
    spec = TrainingSpec(
        base_model=base.reference,
        base_sha256=base.sha256,
        training_set="",
        system_prompt=SYSTEM_PROMPT,
        max_tokens=MAX_TOKENS,
        **settings,
    )
    parquet.write(rows, folder / "set.parquet")
    lora.train(
        spec,
        base=base,
        examples=folder / "set.parquet",
        replay=[],
        probe=probe,
        output=folder / "adapter",
        checkpoints=folder / "checkpoints",
        report=report,
        is_cancelled=is_cancelled,
    )
    return folder / "adapter"


def _choose(model: LanguageModel, cases: Sequence[Case], labels: Sequence[str]) -> list[Judged]:
    """Take each case's likeliest label, and say how sure the model is of every one."""
    scores = np.array(model.score_labels([case.messages for case in cases], labels))
    return [
        Judged(case, labels[sure.argmax()], probabilities=dict(zip(labels, sure.tolist(), strict=True)))
        for case, sure in zip(cases, softmax(scores, axis=1), strict=True)
    ]


def _write(model: LanguageModel, cases: Sequence[Case]) -> list[Judged]:
    said = model.answer([case.messages for case in cases], max_new_tokens=30)
    return list(map(Judged, cases, said))
