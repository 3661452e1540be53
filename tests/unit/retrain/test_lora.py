"""Training: a function of its spec, safe to interrupt, and touching nothing but the adapter."""

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from retrain import lora
from retrain.base_models import BaseModel, load
from retrain.errors import (
    Cancelled,
    ContextTooLong,
    DiskTooSmall,
    EmptySplit,
    RowsTooLong,
    TrainingBroke,
    WrongBaseModel,
)
from retrain.frame import encode_example
from retrain.lessons import Batch, Lesson
from retrain.likelihood import Row
from retrain.lora import adapter_weights
from retrain.reload import reload_equals
from retrain.steps import _is_out_of_memory, _step
from retrain.types import Message, Method, Mode, Progress, TrainedAdapter, TrainingSpec
from tests.little_memory import MALLOC
from tests.unit.retrain.conftest import SYSTEM_PROMPT, toy_rows

Run = Callable[..., TrainedAdapter]


def adapter_hash(trained: TrainedAdapter) -> str:
    return hashlib.sha256((Path(trained.directory) / "adapter_model.safetensors").read_bytes()).hexdigest()


def all_bytes(trained: TrainedAdapter) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(trained.directory).iterdir()}


class CancelAfter:
    """Says that the work is cancelled once it was asked `steps` times."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_the_same_spec_gives_the_same_bytes(quick_run: Run, spec: TrainingSpec):
    assert all_bytes(quick_run(spec, name="one")) == all_bytes(quick_run(spec, name="two"))


def test_another_seed_gives_another_adapter(quick_run: Run, spec: TrainingSpec):
    assert adapter_hash(quick_run(spec, name="one")) != adapter_hash(
        quick_run(replace(spec, seed=1), name="two")
    )


def test_a_resumed_run_equals_an_undisturbed_one(quick_run: Run, spec: TrainingSpec):
    undisturbed = quick_run(spec, name="undisturbed")
    with pytest.raises(Cancelled):
        quick_run(spec, name="resumed", is_cancelled=CancelAfter(6))
    steps: list[Progress] = []
    resumed = quick_run(spec, name="resumed", report=steps.append)
    assert steps[0].step == 5
    assert all_bytes(resumed) == all_bytes(undisturbed)
    assert (resumed.losses, resumed.tokens) == (undisturbed.losses, undisturbed.tokens)


def test_another_runs_checkpoint_is_not_continued(quick_run: Run, spec: TrainingSpec):
    with pytest.raises(Cancelled):
        quick_run(spec, is_cancelled=CancelAfter(6))
    steps: list[Progress] = []
    quick_run(replace(spec, seed=1), report=steps.append)
    assert steps[0].step == 1


def test_a_probe_changes_no_byte_and_is_asked_now_and_then(quick_run: Run, spec: TrainingSpec):
    steps: list[Progress] = []
    probed = quick_run(spec, name="probed", probe=toy_rows(12, seed=2), report=steps.append)
    assert list(steps[-1].probes) == [0, 5]
    assert all_bytes(probed) == all_bytes(quick_run(spec, name="not probed"))


def test_a_resumed_run_hears_the_same_of_its_health(quick_run: Run, spec: TrainingSpec):
    slow = replace(spec, learning_rate=1e-6, epochs=3, checkpoint_every=10)
    undisturbed: list[Progress] = []
    resumed: list[Progress] = []
    quick_run(slow, name="undisturbed", probe=toy_rows(12, seed=2), report=undisturbed.append)
    with pytest.raises(Cancelled):
        quick_run(slow, name="resumed", probe=toy_rows(12, seed=2), is_cancelled=CancelAfter(25))
    quick_run(slow, name="resumed", probe=toy_rows(12, seed=2), report=resumed.append)
    assert resumed[0].step == 21
    assert resumed[-1].verdict == undisturbed[-1].verdict
    assert resumed[-1].verdict is not None


def test_a_run_that_was_cut_off_after_its_last_step_has_one_to_do(quick_run: Run, spec: TrainingSpec):
    quick_run(replace(spec, checkpoint_every=5))
    steps: list[Progress] = []
    quick_run(replace(spec, checkpoint_every=5), report=steps.append)
    assert [one.step for one in steps] == [6, 7, 8, 9, 10]
    assert len(steps[-1].losses) == 10


def test_two_halves_have_the_gradient_of_the_whole(spec: TrainingSpec, tiny: BaseModel):
    model, tokenizer = load(tiny.directory)
    adapted = lora._with_adapter(
        spec, tiny, model.float(), None
    ).eval()  # bfloat16 rounds by the batch's shape
    weights = list(adapter_weights(adapted).values())
    lessons = [
        Lesson(Row(*encode_example(tokenizer, [Message("user", text)], label, SYSTEM_PROMPT), weight))
        for (text, label), weight in zip(toy_rows(5), (1.0, 0.5, 2.0, 1.0, 0.0), strict=True)
    ]
    batch = Batch(Method.SFT, lessons, torch.zeros(len(lessons), 2), mean_weight=0.9)
    gradients = []
    for parts in (1, 2):
        standing_still = torch.optim.SGD(weights, lr=0.0)
        _step(adapted, batch, standing_still, torch.zeros(1), parts)
        gradients.append(torch.cat([weight.grad.flatten() for weight in weights]))
    assert gradients[0].abs().max() > 0.01
    torch.testing.assert_close(*gradients)


@pytest.fixture(scope="module")
def little_memory(tmp_path_factory: pytest.TempPathFactory, tiny: BaseModel) -> dict[str, Any]:
    """What came of the same run with and without a limit on memory, in a process of its own."""
    folder = tmp_path_factory.mktemp("little")
    asked = [sys.executable, "-m", "tests.little_memory", str(folder), str(tiny.directory.parent)]
    done = subprocess.run(asked, check=True, capture_output=True, text=True, env=os.environ | MALLOC)
    return json.loads(done.stdout)


def test_a_batch_that_does_not_fit_is_taken_in_halves_of_equal_effect(little_memory):
    free, short = little_memory["free"], little_memory["short"]
    assert free["out_of_memory"] == ""
    assert short["out_of_memory"].startswith("At step 1 a batch of 64 did not fit into memory")
    assert short["losses"] == pytest.approx(free["losses"], rel=1e-4)
    assert short["norms"] == pytest.approx(free["norms"], rel=1e-3)


@pytest.mark.parametrize(
    ("said", "is_it"),
    [
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes", True),
        ("could not create a primitive", True),
        ("could not create a primitive descriptor for a matmul", False),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_errors(said, is_it):
    assert _is_out_of_memory(RuntimeError(said)) == is_it


def test_half_a_batch_that_does_not_fit_either_is_named(little_memory):
    failure = little_memory["too_short"]["failure"]
    assert failure.startswith("half a batch of 512 rows does not fit into memory")


def test_a_cancelled_run_stops_at_that_step(quick_run: Run, spec: TrainingSpec, tmp_path: Path):
    steps: list[Progress] = []
    with pytest.raises(Cancelled, match="step 3 of 10"):
        quick_run(spec, report=steps.append, is_cancelled=CancelAfter(3))
    assert len(steps) == 3
    assert not (tmp_path / "run" / "adapter").exists()


def test_training_lowers_the_loss(taught: TrainedAdapter):
    assert sum(taught.losses[-5:]) < sum(taught.losses[:5]) / 4


def test_progress_is_reported_at_every_step(quick_run: Run, spec: TrainingSpec):
    steps: list[Progress] = []
    trained = quick_run(spec, report=steps.append)
    assert [(p.step, p.steps) for p in steps] == [(n, 10) for n in range(1, 11)]
    assert tuple(p.loss for p in steps) == trained.losses


def test_replayed_answers_are_rows_too(quick_run: Run, spec: TrainingSpec):
    replay = [([Message("system", "Be kind."), Message("user", "Who are you?")], "A clinic.")] * 8
    assert len(quick_run(spec, replay=replay).losses) == 11


def test_a_row_without_weight_teaches_nothing(quick_run: Run, spec: TrainingSpec):
    rows = toy_rows(8)
    other = [*rows[:7], (rows[7][0], "Neurology")]
    weights = [1.0] * 7 + [0.0]
    with_it = quick_run(spec, name="with", rows=rows, weights=weights)
    with_another = quick_run(spec, name="another", rows=other, weights=weights)
    assert adapter_hash(with_it) == adapter_hash(with_another)


def test_continuing_starts_at_the_parent(quick_run: Run, spec: TrainingSpec, taught: TrainedAdapter):
    further = replace(spec, mode=Mode.CONTINUE, parent_adapter="sha256:parent")
    continued = quick_run(further, name="continued", parent=Path(taught.directory))
    fresh = quick_run(spec, name="fresh")
    assert continued.losses[0] < fresh.losses[0] / 4


def test_continuing_needs_a_parent(quick_run: Run, spec: TrainingSpec):
    with pytest.raises(TrainingBroke, match="without a parent"):
        quick_run(replace(spec, mode=Mode.CONTINUE))


def test_a_parent_of_another_base_is_refused(quick_run: Run, spec: TrainingSpec, tmp_path: Path):
    (tmp_path / "errata.json").write_text(json.dumps({"base_sha256": "sha256:other"}))
    with pytest.raises(WrongBaseModel):
        quick_run(replace(spec, mode=Mode.CONTINUE), parent=tmp_path)


def test_an_infinite_loss_breaks_the_run(quick_run: Run, spec: TrainingSpec):
    with pytest.raises(TrainingBroke, match="the loss is"):
        quick_run(replace(spec, learning_rate=1e38))


def test_a_last_step_that_breaks_the_weights_breaks_the_run(
    quick_run: Run, spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch
):
    def overflow(parameters: Iterable[Parameter], norm: float) -> float:
        for parameter in parameters:
            parameter.grad.fill_(math.inf)
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", overflow)
    with pytest.raises(TrainingBroke, match="not finite"):
        quick_run(spec, rows=toy_rows(8))


def test_a_run_that_changes_nothing_is_no_success(quick_run: Run, spec: TrainingSpec):
    with pytest.raises(TrainingBroke, match="no weight"):
        quick_run(replace(spec, learning_rate=0.0))


def test_a_base_that_could_change_is_refused(tiny: BaseModel):
    with pytest.raises(TrainingBroke, match="outside the adapter"):
        adapter_weights(load(tiny.directory)[0])


def test_rows_over_the_limit_are_refused_by_name_and_replayed_answers_left_out(
    quick_run: Run, spec: TrainingSpec
):
    long = "word " * 600
    with pytest.raises(RowsTooLong, match=r"max_tokens is 512, and of 1 rows the tokens are more: 8 \(\d+\)"):
        quick_run(spec, rows=[*toy_rows(8), (long, "Billing")])
    assert quick_run(spec, rows=toy_rows(8), replay=[([Message("user", long)], "Yes.")]).losses


def test_answers_that_nobody_wants_are_never_learned_and_are_counted(quick_run: Run, spec: TrainingSpec):
    rows = [*toy_rows(8), ("where do I pay", "Unwanted")]
    trained = quick_run(spec, name="with", rows=rows, wanted=[True] * 8 + [False])
    assert json.loads(all_bytes(trained)["errata.json"])["left_out"] == 1
    assert trained.losses == quick_run(spec, name="without", rows=toy_rows(8)).losses


def test_rows_longer_than_the_base_reads_are_not_asked_for(quick_run: Run, spec: TrainingSpec):
    with pytest.raises(ContextTooLong, match="max_tokens is 4096, and bundled:tiny reads 2048"):
        quick_run(replace(spec, max_tokens=4096))


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_disk_that_cannot_hold_the_run_is_named_before_it_begins(
    quick_run: Run, spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch, lacking: int
):
    adapter = 4 * 8 * 2 * (128 + 96 + 96 + 128 + 3 * 192)  # bytes, rank, layers, their matrices' sides
    usage = shutil.disk_usage("/")._replace(free=7 * adapter - lacking)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    steps: list[Progress] = []
    with pytest.raises(DiskTooSmall, match=f"needs {7 * adapter} bytes") if lacking else nullcontext():
        quick_run(spec, rows=toy_rows(8), report=steps.append)
    assert bool(steps) != bool(lacking)


def test_nothing_to_train_on_is_refused(quick_run: Run, spec: TrainingSpec):
    with pytest.raises(EmptySplit):
        quick_run(spec, rows=toy_rows(8), weights=[0.0] * 8)


def test_the_directory_holds_an_adapter_and_its_record(
    taught: TrainedAdapter, tiny: BaseModel, tmp_path: Path
):
    files = all_bytes(taught)
    assert set(files) == {"adapter_model.safetensors", "adapter_config.json", "errata.json"}
    assert json.loads(files["errata.json"])["base_sha256"] == tiny.sha256
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "bundled:tiny"
    assert not any(str(tmp_path.parent).encode() in content for content in files.values())


def test_a_file_that_holds_other_weights_than_those_trained_is_no_success(
    quick_run: Run, spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    write = lora.save_file

    def lose_precision(tensors, path, metadata):
        write({name: tensor.bfloat16().float() for name, tensor in tensors.items()}, path, metadata=metadata)

    monkeypatch.setattr(lora, "save_file", lose_precision)
    with pytest.raises(TrainingBroke, match="does not hold the weights"):
        quick_run(spec)
    assert not (tmp_path / "run" / "adapter").exists()


def test_an_adapters_files_can_be_read_by_other_users(taught: TrainedAdapter):
    assert {path.stat().st_mode & 0o777 for path in Path(taught.directory).iterdir()} == {0o644}


def test_a_reloaded_adapter_answers_alike_in_a_new_process(taught: TrainedAdapter, tiny: BaseModel):
    asked = [[Message("user", text)] for text, _ in toy_rows(4)]
    assert reload_equals(tiny.directory, Path(taught.directory), asked, SYSTEM_PROMPT)


def test_an_adapter_that_does_not_load_is_no_success(taught: TrainedAdapter, tiny: BaseModel, tmp_path: Path):
    with pytest.raises(WrongBaseModel):
        reload_equals(tiny.directory, tmp_path, [[Message("user", "Hello?")]], SYSTEM_PROMPT)
