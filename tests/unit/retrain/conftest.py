"""A tiny base model, a toy task that it can learn, and a quick way to train on it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from retrain.base_models import BaseModel, locate
from retrain.lora import train
from retrain.types import Message, Progress, TrainedAdapter, TrainingSpec

SYSTEM_PROMPT = "Answer with the department."
SAID = {
    "Billing": [
        "my bill is wrong",
        "you charged me twice",
        "the invoice is too high",
        "I want my money back",
    ],
    "Cardiology": ["my heart hurts", "I have chest pain", "my heart beats fast", "pain in my chest"],
    "Dermatology": ["I have a rash", "my skin is red", "the skin on my arm itches", "a rash on my leg"],
}
AROUND = ["hello,", "please help,", "good morning,", "hi there,", "since yesterday", "today"]
Row = tuple[str, str]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return locate("bundled:tiny", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def spec(tiny: BaseModel) -> TrainingSpec:
    """Ten steps an epoch over the toy rows."""
    return TrainingSpec(
        base_model=tiny.reference,
        base_sha256=tiny.sha256,
        training_set="sha256:toy",
        system_prompt=SYSTEM_PROMPT,
        learning_rate=1e-2,
        epochs=1,
        dropout=0.1,
        checkpoint_every=4,
    )


@pytest.fixture
def quick_run(tmp_path: Path, tiny: BaseModel) -> Callable[..., TrainedAdapter]:
    """Train on toy rows; each call has a directory of its own unless `name` repeats."""

    def run(
        spec: TrainingSpec,
        *,
        name: str = "run",
        rows: Sequence[Row] | None = None,
        weights: Sequence[float] | None = None,
        wanted: Sequence[bool] | None = None,
        rejected: Sequence[str | None] | None = None,
        replay: Sequence[tuple[Sequence[Message], str]] = (),
        probe: Sequence[Row] = (),
        parent: Path | None = None,
        report: Callable[[Progress], None] = lambda _: None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> TrainedAdapter:
        return train(
            spec,
            base=tiny,
            examples=write_rows(
                tmp_path / f"{name}.parquet", rows or toy_rows(80), weights, wanted, rejected
            ),
            replay=replay,
            probe=[([Message("user", text)], label) for text, label in probe],
            output=tmp_path / name / "adapter",
            checkpoints=tmp_path / name / "checkpoints",
            parent=parent,
            report=report,
            is_cancelled=is_cancelled,
        )

    return run


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory, tiny: BaseModel, spec: TrainingSpec) -> TrainedAdapter:
    """An adapter that has learnt the toy task."""
    directory = tmp_path_factory.mktemp("taught")
    return train(
        replace(spec, epochs=8, dropout=0.0),
        base=tiny,
        examples=write_rows(directory / "rows.parquet", toy_rows(80)),
        replay=[],
        output=directory / "adapter",
        checkpoints=directory / "checkpoints",
        report=lambda _: None,
        is_cancelled=lambda: False,
    )


def toy_rows(count: int, seed: int = 1) -> list[Row]:
    draw = np.random.default_rng(seed).choice
    labels = [str(draw(list(SAID))) for _ in range(count)]
    return [(f"{draw(AROUND)} {draw(SAID[label])} {draw(AROUND)}", label) for label in labels]


def write_rows(
    path: Path,
    rows: Sequence[Row],
    weights: Sequence[float] | None = None,
    wanted: Sequence[bool] | None = None,
    rejected: Sequence[str | None] | None = None,
) -> Path:
    weights, wanted = weights or [1.0] * len(rows), wanted or [True] * len(rows)
    rejected = rejected or [None] * len(rows)
    table = [
        {
            "messages": [{"role": "user", "content": text}],
            "answer": label,
            "weight": weight,
            "is_wanted": is_wanted,
            "rejected": worse,
        }
        for (text, label), weight, is_wanted, worse in zip(rows, weights, wanted, rejected, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(table), path)
    return path
