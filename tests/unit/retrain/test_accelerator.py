"""What a processor decides; the checks of a GPU run where there is one."""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from retrain import accelerator
from retrain.base_models import BaseModel, load
from retrain.errors import Cancelled, NoQuantization
from retrain.reload import reload_equals
from retrain.types import Message, Method, TrainedAdapter, TrainingSpec
from tests.unit.retrain.conftest import SYSTEM_PROMPT, toy_rows
from tests.unit.retrain.test_lora import CancelAfter, all_bytes

Run = Callable[..., TrainedAdapter]
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
with_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes: pip install 'errata[gpu]'"
)


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.usefixtures("on_the_cpu")
def test_the_model_loads_in_what_the_processor_computes_in(
    tiny: BaseModel, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: dtype == torch.bfloat16)
    model, _ = load(tiny.directory)
    assert model.dtype == dtype


@pytest.mark.usefixtures("on_the_cpu")
def test_a_quantized_base_without_a_gpu_is_refused_before_anything_is_read(
    quick_run: Run, spec: TrainingSpec
):
    with pytest.raises(NoQuantization, match=r"base_bits 4: this machine has no GPU .* train with 16"):
        quick_run(replace(spec, base_bits=4))


def test_a_quantized_base_without_its_library_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(accelerator, "device", lambda: torch.device("cuda", 0))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NoQuantization, match=r"bitsandbytes is missing; pip install 'errata\[gpu\]'"):
        accelerator.quantization(4)


def test_a_spec_of_16_bits_keeps_its_bytes(spec: TrainingSpec):
    assert "base_bits" not in spec.to_json()
    assert TrainingSpec.from_json(replace(spec, base_bits=4).to_json()).base_bits == 4


@on_a_gpu
class TestOnAGpu:
    def test_the_base_is_there_in_bfloat16_and_attends_by_fused_kernels(self, tiny: BaseModel):
        model, _ = load(tiny.directory)
        assert (model.device.type, model.dtype) == ("cuda", torch.bfloat16)
        assert model.config._attn_implementation == "sdpa"

    @pytest.mark.parametrize("method", [Method.SFT, Method.DPO])
    def test_the_same_spec_gives_the_same_bytes(self, quick_run: Run, spec: TrainingSpec, method: Method):
        asked = {"rejected": ["no idea"] * 80 if method is Method.DPO else None}
        found = [quick_run(replace(spec, method=method), name=name, **asked) for name in ("one", "two")]
        assert all_bytes(found[0]) == all_bytes(found[1])

    def test_a_resumed_run_equals_an_undisturbed_one(self, quick_run: Run, spec: TrainingSpec):
        undisturbed = quick_run(spec, name="undisturbed")
        with pytest.raises(Cancelled):
            quick_run(spec, name="resumed", is_cancelled=CancelAfter(6))
        assert all_bytes(quick_run(spec, name="resumed")) == all_bytes(undisturbed)

    def test_the_curve_is_the_processors_but_for_rounding(
        self, quick_run: Run, spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch
    ):
        plain = replace(spec, dropout=0.0)
        here = quick_run(plain, name="here").losses
        monkeypatch.setattr(accelerator, "device", lambda: torch.device("cpu"))
        there = quick_run(plain, name="there").losses
        assert here == pytest.approx(there, rel=0.05)

    def test_a_new_process_answers_as_this_one(self, quick_run: Run, spec: TrainingSpec, tiny: BaseModel):
        adapter = Path(quick_run(spec).directory)
        asked = [[Message("user", text)] for text, _ in toy_rows(3)]
        assert reload_equals(tiny.directory, adapter, asked, SYSTEM_PROMPT)

    @with_bitsandbytes
    def test_four_bits_a_weight_teach_an_adapter_that_the_whole_base_takes(
        self, quick_run: Run, spec: TrainingSpec, tiny: BaseModel
    ):
        small = replace(spec, base_bits=4, epochs=4, dropout=0.0)
        trained = quick_run(small)
        assert math.isfinite(trained.losses[-1]) and trained.losses[-1] < 0.5 * trained.losses[0]
        assert all_bytes(trained) == all_bytes(quick_run(small, name="again"))
        asked = [[Message("user", text)] for text, _ in toy_rows(3)]
        assert reload_equals(tiny.directory, Path(trained.directory), asked, SYSTEM_PROMPT)
