"""What training, evaluation and bisecting need of torch, the tokenizers and `datasets`, as the stages ask for it."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from retrain import archive, lora, parallel, parquet, reload
from retrain.base_models import BaseModel, facts_of, locate
from retrain.bisect.influence import harms
from retrain.errors import TrainingBroke
from retrain.generate import LanguageModel
from retrain.gradients import gradients
from retrain.types import Example, Message, TrainedAdapter, TrainingSpec
from service.settings import Settings

REPLAY_TOKENS = 48
COUNTS = 1e-3  # of the heaviest case's weight: what is lighter is not worth a gradient


@dataclass(frozen=True, slots=True)
class TorchTools:
    """The `Trainer` of the training stage, the `Examiner` of the evaluation stage and the `Bench` of bisecting."""

    settings: Settings

    reload_equals = staticmethod(reload.reload_equals)
    read = staticmethod(parquet.read)
    write = staticmethod(parquet.write)

    def __post_init__(self) -> None:
        """Use as many threads as the settings say; else OMP_NUM_THREADS or every core."""
        if self.settings.training_threads:
            torch.set_num_threads(self.settings.training_threads)

    def train(self, spec: TrainingSpec, **asked: Any) -> TrainedAdapter:
        """Train by the engine that the settings name."""
        if self.settings.engine == "accelerate":
            return parallel.train(spec, processes=self.settings.training_processes, **asked)
        return lora.train(spec, **asked)

    def locate(self, reference: str) -> BaseModel:
        return locate(reference, self.settings.cache_dir / "models")

    def facts_of(self, base_model: str) -> dict[str, Any]:
        """Return what a base model is and takes, as JSON."""
        return asdict(facts_of(self.locate(base_model)))

    def open(self, base_model: str, system_prompt: str) -> LanguageModel:
        return LanguageModel.load(self.locate(base_model).directory, system_prompt=system_prompt)

    def answer_as_base(self, base: BaseModel, conversations: Sequence[Sequence[Message]]) -> list[str]:
        model = LanguageModel.load(base.directory, system_prompt="")
        return model.answer(conversations, max_new_tokens=REPLAY_TOKENS)

    def harms(
        self,
        spec: TrainingSpec,
        adapter: Path,
        rows: Sequence[Example],
        cases: Sequence[Example],
        weights: Sequence[float],
        *,
        labels: Sequence[str],
        is_cancelled: Callable[[], bool],
    ) -> list[float]:
        """Estimate by how much learning each row raises the weighed cases' loss, or draws them to another label."""
        least = max(weights) * COUNTS
        judged = [(case, weight) for case, weight in zip(cases, weights, strict=True) if weight >= least]
        chosen = [case for case, _ in judged]
        found = gradients(
            self.locate(spec.base_model).directory,
            adapter,
            [*rows, *chosen],
            spec=spec,
            rivals={len(rows) + place: rival for place, rival in self._rivals(spec, adapter, chosen, labels)},
            is_cancelled=is_cancelled,
        )
        of_rows, of_cases = found[: len(rows)], found[len(rows) :]
        raised = np.array([weight for _, weight in judged]) @ of_cases
        return [float(harm) for harm in harms(of_rows, raised)]

    def _rivals(
        self, spec: TrainingSpec, adapter: Path, cases: Sequence[Example], labels: Sequence[str]
    ) -> Iterator[tuple[int, str]]:
        """Yield the places of cases that are answered by a label, and which other one the model comes nearest to."""
        places = [place for place, case in enumerate(cases) if case.answer in labels and len(labels) > 1]
        if not places:
            return
        model = self.open(spec.base_model, spec.system_prompt)
        model.add_adapter("judged", adapter)
        with model.using("judged"):
            scores = model.score_labels([cases[place].messages for place in places], labels)
        for place, row in zip(places, scores, strict=True):
            others = [pair for pair in zip(row, labels, strict=True) if pair[1] != cases[place].answer]
            yield place, max(others)[1]

    def archived(self, code: bytes) -> "ArchivedTools":
        return ArchivedTools(self.settings, code)


@dataclass(frozen=True, slots=True)
class ArchivedTools(TorchTools):
    """The same, but archived code trains, in a process of its own."""

    code: bytes = field(repr=False)

    def can_run(self) -> bool:
        """Say whether the code loads with this Python and these packages."""
        with TemporaryDirectory() as folder:
            return archive.run(self.code, ["retrain.again"], workdir=Path(folder)).returncode == 0

    def train(self, spec: TrainingSpec, **asked: Any) -> TrainedAdapter:
        """Train as `lora.train` does, but tell of nothing on the way; the process ends with this one.

        Raises:
            TrainingBroke: the archived code failed.
        """
        is_cancelled = asked.pop("is_cancelled")
        for told in ("probe", "report"):
            asked.pop(told, None)
        file = parallel.write_order(spec, threads=torch.get_num_threads(), **asked)
        again = ["retrain.again", str(file)]
        done = archive.run(self.code, again, workdir=file.parent, is_cancelled=is_cancelled)
        if done.returncode:
            raise TrainingBroke(f"the archived code failed: {done.stderr.strip().rpartition(chr(10))[2]}")
        return TrainedAdapter(**json.loads(done.stdout.splitlines()[-1]))
